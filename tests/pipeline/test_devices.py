"""Training stages with several processes, started by the stage itself or by torchrun."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch

from infra.retrain_demo.demo_services import free_ports
from tests.conftest import ROOT, digit_images, prepare_digits, write_params

STAGE = ["-m", "stages.train", "../ingested", "../prepared", "../tuned", "../weights", "out"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
Train = Callable[..., Path]


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def prepare_run(folder: Path, train: dict[str, Any]) -> Path:
    """Create the folder of a run beside its inputs, with its params, and return it."""
    settings = {"epochs": 2, "device": "cpu", "optimizer": "sgd", "precision": "32-true", **train}
    folder.mkdir()
    write_params(folder, {"network": {"norm": "group"}, "train": settings})
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the inputs of the stage."""
    folder = tmp_path_factory.mktemp("project")
    images = digit_images(per_class=21, classes=5)
    prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16)
    (folder / "tuned").mkdir()
    (folder / "tuned/best.json").write_text("{}")
    (folder / "weights").mkdir()
    return folder


@pytest.fixture(scope="module")
def train(project: Path) -> Train:
    def run(name: str, *launchers: list[str], **train: Any) -> Path:
        """Train on one node per launcher, and return the output of the first."""
        folders = [prepare_run(project / f"{name}-{rank}", train) for rank in range(len(launchers))]
        nodes = [
            subprocess.Popen([sys.executable, *launcher, *STAGE], cwd=node, env=environment(), text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            for launcher, node in zip(launchers, folders, strict=True)
        ]  # fmt: skip
        printed = [node.communicate(timeout=300) for node in nodes]
        assert [node.returncode for node in nodes] == [0] * len(nodes), printed
        assert sum(out.count("epoch 1/2") for out, _ in printed) == 1, "only one process prints"
        left = [path.name for node in folders for path in node.glob("out*")]
        assert left == ["out"], "the outputs of the other processes are deleted"
        return folders[0] / "out"

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


def test_two_nodes_match_one_process_with_twice_the_batch_size(train: Train) -> None:
    single = train("single-node", [], batch_size=16)
    rendezvous = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1"]
    port = ["--master-port", str(free_ports(1)[0])]
    nodes = [[*TORCHRUN[:2], *rendezvous, *port, "--node-rank", str(rank)] for rank in range(2)]
    both = train("node", *nodes, batch_size=8)
    one, two = (torch.load(out / "model.pt", weights_only=True)["weights"] for out in (single, both))
    assert max(float((one[name] - two[name]).abs().max()) for name in one) < 1e-3


def test_a_killed_process_ends_the_stage_and_the_next_run_resumes(project: Path) -> None:
    folder = prepare_run(project / "killed", {"batch_size": 8, "epochs": 30, "checkpoint_seconds": 0.1})
    command = [sys.executable, *TORCHRUN, *STAGE]
    with psutil.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as run:
        for line in run.stdout:
            if line.startswith("epoch 3/"):
                break
        run.children()[1].kill()
        assert run.wait(120) != 0
    assert not (folder / "out").exists()
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "train: resumed from a checkpoint" in done.stdout
    assert len(pd.read_csv(folder / "out/curves.csv")) == 30
