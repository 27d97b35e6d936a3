"""Trainings that are killed at any moment, as a real stage in a process of its own, end with the same weights."""

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

RECIPE = {
    "network": {"dropout": 0.2},
    "train": {
        "epochs": 12, "batch_size": 16, "ema_decay": 0.9, "checkpoint_seconds": 0.5, "device": "cpu",
        "precision": "32-true", "memory_format": "channels_first",
    },
}  # fmt: skip
LONGEST = 300  # seconds of one run


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
    """As DVC does: what a run before wrote is deleted."""
    shutil.rmtree(project / "out", ignore_errors=True)
    command = [sys.executable, "-m", "stages.train", "ingested", "prepared", "tuned", "weights", "out"]
    # commits of the folder around it are not asked for, one thread: more would add in another order on another machine
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GIT_CEILING_DIRECTORIES": "/"}
    return subprocess.Popen(command, cwd=project, env=environment, stdout=log.open("ab"), stderr=subprocess.STDOUT)


def ended(project: Path) -> tuple[dict[str, torch.Tensor], pd.DataFrame]:
    weights = torch.load(project / "out/model.pt", weights_only=True)["weights"]
    curves = pd.read_csv(project / "out/curves.csv").drop(columns=["seconds", "reading", "changing"])
    assert not list((project / "work/train").iterdir()), "nothing is left to go on from"
    return weights, curves


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_a_training_that_was_killed_at_random_ends_with_the_same_weights(project: Path, kills: int) -> None:
    log, rng = project / "log.txt", random.Random(kills)
    began = time.monotonic()
    assert start(project, log).wait(LONGEST) == 0, log.read_text()
    whole, taken = ended(project), time.monotonic() - began
    killed = finished = 0
    log.write_bytes(b"")
    while killed < kills or not finished:
        process, began_at = start(project, log), time.time()
        if killed % 3 != 2 and killed < kills:  # two of three while it trains, the third at any moment
            until(lambda: process.poll() is not None or written(project) > began_at)  # noqa: B023, used at once
            patience = rng.uniform(0, 2)
        else:
            patience = rng.uniform(0, taken) if killed < kills else LONGEST
        try:
            assert process.wait(patience) == 0, log.read_text()
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        finished += 1
        weights, curves = ended(project)
        assert curves.equals(whole[1]), log.read_text()
        assert all(torch.equal(weights[name], whole[0][name]) for name in whole[0]), log.read_text()
    again = log.read_text().count("goes on where it was ended")
    print(f"{killed} kills, {finished} trainings ended, {again} times gone on from a checkpoint, {taken:.0f} s alone")
    assert killed >= kills and again > 0


def until(true: Callable[[], bool]) -> None:
    for _ in range(20 * LONGEST):
        if true():
            return
        time.sleep(0.05)
    pytest.fail(f"nothing happened in {LONGEST} s")


def written(project: Path) -> float:
    """When the last checkpoint was, in seconds since 1970."""
    return max((file.stat().st_mtime for file in project.glob("work/train/*/checkpoint.pt")), default=0.0)
