"""Tests that a training stage, killed at random times and restarted, gives the weights of an uninterrupted run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.conftest import ROOT, digit_images, prepare_digits, write_params
from tests.digit_plans import TINY

RECIPE = {
    "network": {"name": TINY, "dropout": 0.2},
    "train": {
        "epochs": 50, "batch_size": 16, "ema_decay": 0.9, "checkpoint_seconds": 0.5, "device": "cpu",
        "precision": "32-true", "memory_format": "channels_first",
    },
}  # fmt: skip
MAX_SECONDS = 300  # timeout of one run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    images = digit_images(per_class=40, classes=5)
    prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16)
    write_params(folder, RECIPE)
    (folder / "tuned").mkdir()
    (folder / "tuned/best.json").write_text("{}")
    (folder / "weights").mkdir()
    return folder


def start(project: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the stage as DVC does, which deletes the outputs of an earlier run."""
    shutil.rmtree(project / "out", ignore_errors=True)
    command = [sys.executable, "-m", "stages.train", "ingested", "prepared", "tuned", "weights", "out"]
    # hide an enclosing Git repository; use one thread, because the order of additions depends on the number of threads
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GIT_CEILING_DIRECTORIES": "/"}
    with log.open("ab") as file:
        return subprocess.Popen(command, cwd=project, env=environment, stdout=file, stderr=subprocess.STDOUT)


def results(project: Path) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    weights = torch.load(project / "out/model.pt", weights_only=True)["weights"]
    curves = pd.read_csv(project / "out/curves.csv").drop(columns=["seconds", "loading_share", "augmentation_share"])
    assert not list((project / "work/train").iterdir()), "no checkpoint is left"
    return weights, curves


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_training_killed_at_random_times_gives_the_same_weights(project: Path, kills: int) -> None:
    log, rng = project / "log.txt", random.Random(kills)
    began = time.monotonic()
    assert start(project, log).wait(MAX_SECONDS) == 0, log.read_text()
    (expected_weights, expected_curves), duration = results(project), time.monotonic() - began
    killed = finished = 0
    log.write_bytes(b"")
    while killed < kills or not finished:
        process, began_at = start(project, log), time.time()
        if killed % 3 != 2 and killed < kills:  # two of three kills after a checkpoint, the third at any time
            wait_until(lambda: process.poll() is not None or last_checkpoint(project) > began_at)  # noqa: B023, used at once
            timeout = rng.uniform(0, 2)
        else:
            timeout = rng.uniform(0, duration) if killed < kills else MAX_SECONDS
        try:
            assert process.wait(timeout) == 0, log.read_text()
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        finished += 1
        weights, curves = results(project)
        assert curves.equals(expected_curves), log.read_text()
        assert all(torch.equal(weights[name], expected_weights[name]) for name in expected_weights), log.read_text()
    resumed = log.read_text().count("resumed from a checkpoint")
    print(f"{killed} kills, {finished} trainings finished, resumed {resumed} times, {duration:.0f} s without kills")
    assert killed >= kills and resumed > 0


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(20 * MAX_SECONDS):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"no checkpoint within {MAX_SECONDS} s")


def last_checkpoint(project: Path) -> float:
    """Return the time of the last checkpoint, in seconds since 1970."""
    return max((file.stat().st_mtime for file in project.glob("work/train/*/checkpoint.pt")), default=0.0)
