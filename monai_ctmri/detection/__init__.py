"""Scores and features become decisions: one-class detectors and calibration."""
