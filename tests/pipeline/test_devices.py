"""Training stages with several processes, started by the stage itself or by torchrun."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.conftest import ROOT, digit_images, prepare_digits, write_params

STAGE = ["-m", "stages.train", "../ingested", "../prepared", "../tuned", "../weights", "out"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
Train = Callable[..., Path]


@pytest.fixture(scope="module")
def train(tmp_path_factory: pytest.TempPathFactory) -> Train:
    folder = tmp_path_factory.mktemp("project")
    images = digit_images(per_class=21, classes=5)
    prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16)
    (folder / "tuned").mkdir()
    (folder / "tuned/best.json").write_text("{}")
    (folder / "weights").mkdir()

    def run(name: str, launcher: list[str], **train: Any) -> Path:
        settings = {"epochs": 2, "device": "cpu", "optimizer": "sgd", "precision": "32-true", **train}
        (folder / name).mkdir()
        write_params(folder / name, {"network": {"norm": "group"}, "train": settings})
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, *launcher, *STAGE], cwd=folder / name, env=environment, timeout=300,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("epoch 1/2") == 1, "only one process prints"
        assert [path.name for path in (folder / name).glob("out*")] == ["out"], (
            "the outputs of the other processes are deleted"
        )
        return folder / name / "out"

    return run


def test_two_processes_match_one_with_twice_the_batch_size(train: Train) -> None:
    single = train("single", [], batch_size=16)
    parallel = train("parallel", [], batch_size=8, devices=2)
    by_torchrun = train("torchrun", TORCHRUN, batch_size=8)
    weights = [torch.load(out / "model.pt", weights_only=True)["weights"] for out in (single, parallel, by_torchrun)]
    curves = [pd.read_csv(out / "curves.csv") for out in (single, parallel, by_torchrun)]
    for other, curve in zip(weights[1:], curves[1:], strict=True):
        for column in ("train_loss", "val_loss"):
            assert curve[column].to_numpy() == pytest.approx(curves[0][column].to_numpy(), rel=1e-3)
        for column in ("train_score", "val_score"):
            assert curve[column].to_numpy() == pytest.approx(curves[0][column].to_numpy(), abs=0.05)
        assert max(float((other[name] - weights[0][name]).abs().max()) for name in other) < 1e-3
    assert json.loads((parallel / "metrics.json").read_text())["best_epoch"] in (1, 2)
