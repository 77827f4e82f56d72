"""Ignite handlers and batch preparation where MONAI has none that fits."""
