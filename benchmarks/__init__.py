"""Ratios against rivals: ``python -m benchmarks [names]``."""
