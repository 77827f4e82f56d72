"""Kaggle, its credentials and archives, kept at arm's length."""
