"""Trainings told to MLflow, beside what DVC keeps of every run."""

import os
from collections.abc import Mapping
from typing import Any

from stages.core.errors import UserError

NAMELESS = 250  # characters of a value that MLflow takes
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class Tracker:
    """One run in MLflow. What MLflow does not take is said once, and training goes on without it."""

    def __init__(self, uri: str, experiment: str, params: Mapping[str, Any], tags: Mapping[str, str]) -> None:
        """An empty `uri` tells nobody.

        Raises:
            UserError: the package is not installed.
        """
        self._client: Any = None
        if not uri:
            return
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except ImportError as error:
            raise UserError("tracking.mlflow needs the package mlflow-skinny: install the extra `mlflow`") from error

        def begin() -> None:
            client = MlflowClient(tracking_uri=uri)
            known = client.get_experiment_by_name(experiment)
            number = known.experiment_id if known else client.create_experiment(experiment)
            self._run = client.create_run(number, tags=dict(tags)).info.run_id
            self._client = client
            for key, value in params.items():
                client.log_param(self._run, key, str(value)[:NAMELESS])

        self._told(begin)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Numbers of an epoch."""

        def tell() -> None:
            for name, value in metrics.items():
                if isinstance(value, int | float):
                    self._client.log_metric(self._run, name, float(value), step=step)

        if self._client is not None:
            self._told(tell)

    def end(self, resolved: Mapping[str, Any]) -> None:
        """What `auto` came to, and that the run has ended well."""

        def tell() -> None:
            for key, value in resolved.items():
                self._client.set_tag(self._run, f"resolved {key}", str(value))
            self._client.set_terminated(self._run)

        if self._client is not None:
            self._told(tell)

    def _told(self, tell: Any) -> None:
        try:
            tell()
        except Exception as error:  # a server and the ways to it fail in as many ways as there are
            self._client = None
            print(f"train: MLflow is told no more of this run ({type(error).__name__}: {error})", flush=True)
