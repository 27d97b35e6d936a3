"""Batch prediction: input images, worker processes and output formats."""

from stages.batch_prediction.cluster_pool import predict_on_cluster
from stages.batch_prediction.formats import FORMATS
from stages.batch_prediction.inputs import (
    InputImage,
    check_sources,
    count_images,
    describe_skipped,
    iterate_images,
    unique_source_names,
)
from stages.batch_prediction.prediction_images import write_legends
from stages.batch_prediction.resumable_output import open_output, read_run_settings
from stages.batch_prediction.worker_pool import OutputRow, PredictionJob, predict_images

__all__ = [
    "FORMATS",
    "InputImage",
    "OutputRow",
    "PredictionJob",
    "check_sources",
    "count_images",
    "describe_skipped",
    "iterate_images",
    "open_output",
    "predict_images",
    "predict_on_cluster",
    "read_run_settings",
    "unique_source_names",
    "write_legends",
]
