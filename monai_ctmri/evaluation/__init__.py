"""Decisions and truth become numbers: metrics, statistics, the benchmark."""
