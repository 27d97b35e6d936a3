"""Batch prediction in parts on Dask workers, of which one is killed: `make test-search`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from stages.batch_prediction import InputImage, PredictionJob, predict_images, predict_on_cluster
from stages.core.errors import UserError
from stages.images.archives import read_file
from stages.runtime import Model
from tests.conftest import ROOT
from tests.dask_cluster import Cluster, running_cluster
from tests.service_project import environment, eventually
from tests.shipped import colour_model

pytestmark = [pytest.mark.search, pytest.mark.timeout(600)]
IMAGES = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a model, 400 images of which two are damaged, and the rows of a run on one machine."""
    root = tmp_path_factory.mktemp("batch")
    colour_model(root / "model.onnx")
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        file = root / f"images/{number % 7}/{number:04}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 30, 3), dtype=np.uint8)).save(file)
        if number in (49, 333):
            file.write_bytes(file.read_bytes()[:200])
    run = predict(root, "one.jsonl")
    run.communicate(timeout=200)
    assert run.returncode == 1, "two images are damaged"
    return root


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(tmp_path) as started:
        yield started


def predict(root: Path, output: str, *options: str) -> subprocess.Popen[str]:
    command = ["predict", "model.onnx", "images", "--format", "jsonl", "--statistics", "--output", output, *options]
    variables = environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "stages", *command], cwd=root, env=variables, stderr=subprocess.PIPE, text=True
    )


def recorded(root: Path, output: str) -> int:
    """Return the number of rows that a killed run would keep."""
    record = root / f"{output}.part.json"
    try:
        return int(json.loads(record.read_text())["rows"])
    except FileNotFoundError:
        return 0


def test_rows_are_those_of_one_machine_although_a_worker_is_killed(folder: Path, cluster: Cluster) -> None:
    run = predict(folder, "killed-worker.jsonl", "--dask", cluster.address)
    lost = cluster.workers[0]
    assert eventually(lambda: recorded(folder, "killed-worker.jsonl") and lost.children(), 200)
    left = lost.children(recursive=True)
    lost.kill()
    assert not psutil.wait_procs(left, timeout=30)[1], "the processes of its part end with it"
    _, printed = run.communicate(timeout=300)
    assert run.returncode == 1 and "2 of 400 images could not be predicted" in printed
    assert (folder / "killed-worker.jsonl").read_bytes() == (folder / "one.jsonl").read_bytes()


def test_finished_parts_of_a_killed_run_are_kept(folder: Path, cluster: Cluster) -> None:
    run = predict(folder, "resumed.jsonl", "--dask", cluster.address)
    assert eventually(lambda: recorded(folder, "resumed.jsonl"), 200)
    run.kill()
    run.communicate()
    kept = recorded(folder, "resumed.jsonl")
    rows = (folder / "resumed.jsonl.part").read_bytes().splitlines()[:kept]
    assert 0 < kept < IMAGES
    resumed = predict(folder, "resumed.jsonl", "--dask", cluster.address)
    _, printed = resumed.communicate(timeout=300)
    assert resumed.returncode == 1, printed
    whole = (folder / "resumed.jsonl").read_bytes()
    assert whole == (folder / "one.jsonl").read_bytes() and whole.splitlines()[:kept] == rows


def test_an_image_that_crashes_its_process_and_a_killed_part_lose_no_other_row(folder: Path, cluster: Cluster) -> None:
    files = sorted((folder / "images/0").iterdir())
    images = [InputImage(file.name, file.name, partial(read_file, file)) for file in files]
    images[5] = InputImage("hostile.png", "hostile.png", partial(os._exit, 7))
    spec = Model(folder / "model.onnx", 1, "onnxruntime").spec
    job = PredictionJob(folder / "model.onnx", "csv", engine="onnxruntime")
    expected = [row for _, rows in predict_images(iter(images), job, spec) for row in rows]
    killed: list[int] = []

    def kill_a_part() -> Iterator[InputImage]:
        for number, image in enumerate(images):
            if number == 40:  # the first part of 32 images runs
                (part, *_) = eventually(cluster.children, 60)
                part.kill()
                killed.append(part.pid)
            yield image

    found = predict_on_cluster(kill_a_part(), job, spec, cluster.address, [])
    assert [row for _, rows in found for row in rows] == expected
    assert killed and b"crashed the worker process (exit status 7)" in expected[5].text
    assert [row.failed for row in expected].count(True) == 1


def test_a_cluster_that_cannot_be_used_is_named(folder: Path, cluster: Cluster) -> None:
    spec = Model(folder / "model.onnx", 1, "onnxruntime").spec
    job = PredictionJob(folder / "model.onnx", "csv", engine="onnxruntime")
    image = InputImage("a.png", "a.png", partial(read_file, folder / "a.png"))
    with pytest.raises(UserError, match=r"--dask: /nowhere does not exist on .*require the same files"):
        next(predict_on_cluster(iter([image]), job, spec, cluster.address, ["/nowhere"]))
    cluster.scheduler.kill()
    cluster.scheduler.wait()
    with pytest.raises(UserError, match=f"--dask: no Dask scheduler at {cluster.address}"):
        next(predict_on_cluster(iter([image]), job, spec, cluster.address, []))


def test_a_cluster_without_workers_ends_the_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.batch_prediction.cluster_pool.PATIENCE", 1.0)
    monkeypatch.setattr("stages.batch_prediction.cluster_pool.CHECK_SECONDS", 0.5)
    spec = Model(folder / "model.onnx", 1, "onnxruntime").spec
    image = InputImage("a.png", "a.png", partial(read_file, folder / "a.png"))
    with running_cluster(tmp_path, workers=0) as empty, pytest.raises(UserError, match="has had no worker for 1 s"):
        next(predict_on_cluster(iter([image]), PredictionJob(folder / "model.onnx", "csv"), spec, empty.address, []))
