"""Log trainings to MLflow, in addition to what DVC records of every run."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from stages.core.errors import UserError

MAX_CHARACTERS = 250  # of a param's value in MLflow
FAIL_FAST = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class Tracker:
    """One run in MLflow. If MLflow fails, one message is printed and the training continues without it."""

    def __init__(self, uri: str, experiment: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """Create the run and log its params.

        Args:
            uri: tracking URI of MLflow; if it is empty, nothing is logged.
            experiment: name of the experiment, created if it does not exist.
            params: values by dotted key.
            tags: values by name.

        Raises:
            UserError: mlflow is not installed.
        """
        self._client: Any = None
        if not uri:
            return
        for name, value in FAIL_FAST.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UserError("tracking.mlflow requires the package mlflow-skinny; install the extra `mlflow`") from error

        def create_run() -> None:
            client = MlflowClient(tracking_uri=uri)
            known = client.get_experiment_by_name(experiment)
            number = known.experiment_id if known else client.create_experiment(experiment)
            self._run = client.create_run(number, tags=dict(tags)).info.run_id
            self._client = client
            for key, value in params.items():
                client.log_param(self._run, key, str(value)[:MAX_CHARACTERS])

        self._try(create_run)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log the metrics of an epoch that are numbers."""

        def log_metrics() -> None:
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    self._client.log_metric(self._run, name, float(value), step=step)

        if self._client is not None:
            self._try(log_metrics)

    def finish(self, resolved: Mapping[str, Any]) -> None:
        """Log the values chosen for `auto` as tags, and mark the run as finished."""

        def finish_run() -> None:
            for key, value in resolved.items():
                self._client.set_tag(self._run, f"resolved {key}", str(value))
            self._client.set_terminated(self._run)

        if self._client is not None:
            self._try(finish_run)

    def _try(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # servers and connections fail in many ways, and none may end a training
            self._client = None
            print(
                f"train: MLflow logging stopped for this run ({type(error).__name__}: {error}); the training continues",
                flush=True,
            )
