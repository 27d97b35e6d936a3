"""Comparison of new images and their predictions with the training and validation images of a model."""

from stages.drift.drift_report import DriftReport, compare_with_reference
from stages.drift.drift_tests import FALSE_ALARM_RATE, MIN_IMAGES, Comparison
from stages.drift.prediction_summary import summarize_prediction
from stages.drift.reference_statistics import build_reference

__all__ = [
    "FALSE_ALARM_RATE",
    "MIN_IMAGES",
    "Comparison",
    "DriftReport",
    "build_reference",
    "compare_with_reference",
    "summarize_prediction",
]
