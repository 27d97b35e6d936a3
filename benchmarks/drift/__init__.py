"""Benchmark of drift detection: false alarms and power."""
