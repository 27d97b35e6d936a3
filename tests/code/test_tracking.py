"""Tests of logging to MLflow: to a real file, and to a server that does not exist."""

import sys
import time
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.training.tracking import Tracker

METRICS = {"loss": 0.5, "val_score": 0.9, "name": "not a number"}


def test_params_metrics_and_tags_are_logged(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for run in range(2):
        tracker = Tracker(uri, "digits", {"train.epochs": 3, "long": "x" * 9_000}, {"commit": f"abc{run}"})
        for step in (1, 2):
            tracker.log(METRICS | {"loss": 0.5 / step}, step)
        tracker.finish({"train.precision": "32-true"})
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2 and {run.data.tags["commit"] for run in runs} == {"abc0", "abc1"}
    assert runs[0].info.status == "FINISHED" and runs[0].data.params["train.epochs"] == "3"
    assert runs[0].data.tags["resolved train.precision"] == "32-true"
    history = client.get_metric_history(runs[0].info.run_id, "loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 0.5), (2, 0.25)]


def test_a_missing_server_is_reported_once_and_training_continues(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    tracker = Tracker("http://127.0.0.1:9", "digits", {"a": 1}, {})
    tracker.log(METRICS, 1)
    tracker.finish({})
    assert capsys.readouterr().out.count("MLflow logging stopped for this run") == 1
    assert time.monotonic() - began < 60


def test_nothing_is_logged_without_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tracker = Tracker("", "digits", {"a": 1}, {})
    tracker.log(METRICS, 1)
    tracker.finish({})
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_reported_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UserError, match="tracking.mlflow requires the package mlflow-skinny"):
        Tracker("sqlite:///x.db", "digits", {}, {})
