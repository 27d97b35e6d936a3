"""Tests of the outputs of one complete run of the pipeline on a small set of real digits."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from PIL import Image

from benchmarks.pipeline import example_scores
from stages.config.edit import edited
from stages.reports.html_page import figure
from tests.conftest import ROOT, digit_images, png, write_folders
from tests.digit_plans import TINY

SMALL = {
    "ingest": {"name": "some", "source": "data/raw/some"},
    "network": {"name": TINY},
    "train": {"epochs": 12, "batch_size": 16, "learning_rate": 0.01},
    "tune": {"trials": 1, "epochs": 1},
    "evaluate": {"resamples": 100},
    "benchmark": {"seconds": 0.1},
    "checks": {"min_train_per_class": 5},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository of this project in which `dvc repro` has run on 600 digits and one broken file."""
    folder = tmp_path_factory.mktemp("pipeline") / "project"
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    change(folder / "params.yaml", SMALL)
    source = write_folders(folder / "data/raw/some", digit_images(per_class=60))
    (source / "7" / "broken.png").write_bytes(b"no image")
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    done = dvc(folder, "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def change(params: Path, changes: dict[str, Any]) -> None:
    params.write_text(edited(params.read_text(), [changes], "test"))


def environment(**more: str) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **more}


def dvc(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dvc", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment(**more))


def read(folder: Path, name: str) -> Any:
    return json.loads((folder / "data" / name).read_text())


def test_the_record_of_an_example_contains_its_scores(project: Path) -> None:
    record = example_scores.measure(project)
    assert record["data_set"] == "some" and record["test"] is None
    figures = [record["one_image_ms"], *(score["value"] for score in record["validation"].values())]
    assert all(np.isfinite(figures)) and min(figures) >= 0 < record["one_image_ms"]
    head, _, row = example_scores.table([record]).splitlines()
    assert row.count("|") == head.count("|") and "| still sealed |" in row


def test_the_model_reaches_the_expected_score(project: Path) -> None:
    score = read(project, "evaluate/scores.json")["scores"]["balanced_accuracy"]
    assert score["low"] <= score["value"] <= score["high"]
    assert score["value"] > 0.8


def test_the_exported_model_predicts_the_same_as_the_network(project: Path) -> None:
    parity = read(project, "benchmark/benchmark.json")["parity"]
    assert parity["images"] == read(project, "ingest/metrics.json")["val"] > 50
    assert parity["largest_difference"] < 1e-4
    assert parity["agreement"] == 1.0
    assert parity["score_torch"] == parity["score_onnx"]


def test_latency_is_measured_for_both_runtimes_and_batch_sizes(project: Path) -> None:
    rows = read(project, "benchmark/benchmark.json")["latency"]
    assert [(r["batch"], r["runtime"]) for r in rows] == [
        (1, "onnxruntime"), (1, "torch"), (16, "onnxruntime"), (16, "torch"),
    ]  # fmt: skip
    assert all(0 < r["median_ms"] <= r["p95_ms"] and r["threads"] == 1 for r in rows)


def test_the_graph_accepts_images_of_any_size_and_returns_probabilities(project: Path) -> None:
    session = onnxruntime.InferenceSession(project / "data/export/model.onnx")
    assert session.get_inputs()[0].type == "tensor(uint8)"
    for shape in ((1, 1, 1, 1), (1, 8, 8, 1), (3, 40, 25, 1), (1, 700, 300, 1)):
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        (probability,) = session.run(None, {"image": image})
        assert probability.shape == (shape[0], 10)
        assert np.allclose(probability.sum(axis=1), 1, atol=1e-5)


def test_the_model_file_contains_its_provenance(project: Path) -> None:
    session = onnxruntime.InferenceSession(project / "data/export/model.onnx")
    stored = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert stored["labels"] == [str(digit) for digit in range(10)]
    assert stored["task"] == "classification"
    assert stored["data_version"] == read(project, "ingest/dataset.json")["version"]
    assert stored["scores"] == read(project, "evaluate/scores.json")["scores"]
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True).stdout
    assert head.startswith(stored["commit"].removesuffix("-dirty"))


def test_weight_bytes_and_file_size_are_stated_correctly(project: Path) -> None:
    for file in (project / "data/export").glob("*.onnx"):
        model = onnx.load(file)
        stored = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
        assert stored["weight_bytes"] == sum(onnx.numpy_helper.to_array(t).nbytes for t in model.graph.initializer)
        assert 0.9 * file.stat().st_size < stored["weight_bytes"] < file.stat().st_size
    size = read(project, "export/metrics.json")["bytes"]
    assert f"({figure(size)} bytes)" in (project / "data/model_card/model-card.md").read_text()


def test_the_card_states_the_score_and_digest_of_its_model(project: Path) -> None:
    text = (project / "data/model_card/model-card.md").read_text()
    score = read(project, "evaluate/scores.json")["scores"]["balanced_accuracy"]
    assert f"Balanced accuracy {score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}] on" in text
    assert sha256((project / "data/export/model.onnx").read_bytes()).hexdigest() in text
    assert read(project, "export/metadata.json")["commit"] in text and "1 file was rejected" in text


def test_the_broken_file_is_listed_and_shown(project: Path) -> None:
    rejected = pd.read_csv(project / "data/ingest/rejected.csv")
    assert rejected["path"].tolist() == ["7/broken.png"]
    assert "7/broken.png" in (project / "data/report/index.html").read_text()


def test_the_pages_make_no_network_requests(project: Path) -> None:
    pages = [project / "data" / name for name in ("report/index.html", "validate/page.html", "audit/page.html")]
    for page in pages:
        text = page.read_text()
        assert "default-src 'none'" in text
        assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", text)


def test_a_second_repro_runs_no_stage(project: Path) -> None:
    again = dvc(project, "repro")
    assert again.returncode == 0
    assert "Running stage" not in again.stdout
    assert "Data and pipelines are up to date." in again.stdout


def test_the_flow_after_repro_finds_everything_unchanged(project: Path, tmp_path: Path) -> None:
    before = (project / "dvc.lock").read_bytes()
    flow = subprocess.run(
        [sys.executable, "-m", "flows.pipeline"],
        cwd=project, capture_output=True, text=True, timeout=280, env=environment(PREFECT_HOME=str(tmp_path)),
    )  # fmt: skip
    assert flow.returncode == 0, flow.stdout + flow.stderr
    assert "16 stages up to date" in flow.stdout
    assert " Ran " not in flow.stdout and " Restored " not in flow.stdout
    assert (project / "dvc.lock").read_bytes() == before


def test_predict_runs_without_torch(project: Path, tmp_path: Path) -> None:
    label, image = digit_images(per_class=1)[4]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "good.png").write_bytes(png(image))
    (tmp_path / "in" / "bad.png").write_bytes(b"bad")
    program = (
        "import sys\nfrom stages.command_line.app import application\n"
        f"paths = {[str(tmp_path / 'in'), '--output', str(tmp_path / 'out.csv')]}\n"
        "words = ['predict', 'data/export/model.onnx', *paths]\n"
        "code = application(['predict'])(words, standalone_mode=False)\n"
        "imported = {'torch', 'pandas', 'sklearn', 'scipy', 'pydantic', 'onnx'} & set(sys.modules)\n"
        "assert not imported, imported\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=project, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "1 of 2 images could not be predicted" in done.stderr
    with (tmp_path / "out.csv").open() as stream:
        bad, good = csv.DictReader(stream)
    assert "not a BMP, GIF, JPEG" in bad["error"] and bad["label"] == ""
    assert good["label"] == label and float(good["confidence"]) > 0.3 and good["error"] == ""


def test_predict_runs_in_the_serving_environment(project: Path, tmp_path: Path) -> None:
    python = ROOT / ".venv-serving/bin/python"
    assert python.exists(), "`make env` builds it"
    file = tmp_path / "4.png"
    file.write_bytes(png(digit_images(per_class=1)[4][1]))
    command = [str(python), "-m", "stages.predict", "data/export/model.onnx", str(file), "--format", "json"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (prediction,) = json.loads(done.stdout)
    assert prediction["label"] == "4"
    assert sum(prediction["probabilities"].values()) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.onnx", "data"], "absent.onnx does not exist"),
        (["params.yaml", "data"], "cannot be opened: it is damaged"),
        (["data/export/model.onnx", "nowhere"], "nowhere does not exist"),
        (["data/export/model.onnx", "flows"], "contains no image"),
    ],
)
def test_predict_reports_invalid_arguments(project: Path, arguments: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "stages.predict", *arguments], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and message in done.stderr and "Traceback" not in done.stderr


@pytest.fixture
def copied(project: Path, tmp_path: Path) -> Iterator[Path]:
    """Return a copy of the repository after its run, for tests that modify it."""
    yield shutil.copytree(project, tmp_path / "copied", symlinks=True)


def test_unsealing_requires_consent_and_every_opening_is_recorded(copied: Path) -> None:
    unseal = ("repro", "--single-item", "data/sealed/dvc.yaml:unseal")
    sealed = dvc(copied, *unseal)
    assert sealed.returncode != 0
    assert "error: the test set is sealed" in sealed.stderr
    record = copied / "data/openings.csv"
    assert len(record.read_text().splitlines()) == 1
    opened = dvc(copied, *unseal, MACULA_UNSEAL="yes")
    assert opened.returncode == 0, opened.stderr
    (entry,) = csv.DictReader(io.StringIO(record.read_text()))
    assert entry["score"] == "balanced_accuracy"
    assert float(entry["low"]) <= float(entry["value"]) <= float(entry["high"])
    assert int(entry["images"]) == read(copied, "ingest/metrics.json")["test"]
    assert "opened 1 time" in opened.stdout and "test: The best constant prediction, " in opened.stdout
    dvc(copied, *unseal, MACULA_UNSEAL="yes")
    assert len(record.read_text().splitlines()) == 2, "the same model is not scored again on the same test"
    about = copied / "data/sealed/test/dataset.json"
    about.write_text(about.read_text().replace(entry["version"], "another0ne00"))
    stale = dvc(copied, *unseal, MACULA_UNSEAL="yes")
    assert "the model may have been trained on these images" in stale.stderr
    assert len(record.read_text().splitlines()) == 2
    assert "Never opened" in (copied / "data/model_card/model-card.md").read_text()
    assert dvc(copied, "repro", "--single-item", "report", "model_card").returncode == 0
    assert entry["model"] in (copied / "data/report/index.html").read_text()
    card = (copied / "data/model_card/model-card.md").read_text()
    assert "opened once, for this model once" in card
    assert f"{float(entry['value']):.3f} [{float(entry['low']):.3f}, {float(entry['high']):.3f}]" in card


def test_a_brightness_shift_of_one_class_stops_the_pipeline(copied: Path) -> None:
    for file in (copied / "data/raw/some/3").glob("*.png"):
        brighter = np.asarray(Image.open(file)).astype(int) + 40
        file.write_bytes(png(np.clip(brighter, 0, 255).astype(np.uint8), compress_level=0))
    (copied / "data/splits/some.json").unlink()  # the changed images form other groups
    stopped = dvc(copied, "repro")
    assert stopped.returncode != 0
    assert "error: the gate stopped the pipeline" in stopped.stderr
    assert "alone separates class `3`" in stopped.stderr
    assert not (copied / "data/gate").exists()
    assert "confounder/statistics" in (copied / "work/gate/blocked.md").read_text()
    assert (copied / "work/gate/blocked.png").exists()
    change(copied / "params.yaml", {"gate": {"waive": {"confounder/statistics": "injected by a test"}}})
    waived = dvc(copied, "repro", "gate")
    assert waived.returncode == 0, waived.stderr
    assert read(copied, "gate/gate.json")["waived"] == [{"id": "confounder/statistics", "reason": "injected by a test"}]


def test_a_run_is_saved_once_and_saved_runs_are_compared(copied: Path) -> None:
    def python(module: str) -> str:
        command = [sys.executable, "-m", module]
        done = subprocess.run(command, cwd=copied, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    before = {file: (copied / file).read_bytes() for file in ("params.yaml", "dvc.lock")}
    # The flow of another test may have saved this run already.
    first = re.search(r"experiment  (some-[0-9a-f]{8})[;,]", python("flows.experiments"))
    assert first and "saved before" in python("flows.experiments")
    assert all((copied / file).read_bytes() == text for file, text in before.items())
    change(copied / "params.yaml", {"evaluate": {"calibration_bins": 5}})
    assert dvc(copied, "repro").returncode == 0
    second = re.search(r"experiment  (some-[0-9a-f]{8});", python("flows.experiments"))
    assert second and second[1] != first[1]
    table = dvc(copied, "exp", "show", "--csv").stdout
    assert first[1] in table and second[1] in table and "val_score" in table
    page = Path(python("stages.compare_runs").split()[-1]).read_text()
    assert f"<code>{first[1]}</code>" in page and f"<code>{second[1]}</code>" in page and "workspace" in page
    assert "evaluate.calibration_bins" in page and "train.epochs" not in page, "only params that differ are shown"
    # The exit status is not checked: the outputs of the unseal stage, which never ran, are missing.
    dvc(copied, "exp", "apply", first[1])
    assert "calibration_bins" not in (copied / "params.yaml").read_text()
    assert (copied / "dvc.lock").read_bytes() == before["dvc.lock"], "`dvc repro` restores the outputs from the cache"


def test_failing_to_save_an_experiment_is_not_an_error(tmp_path: Path) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    command = [sys.executable, "-m", "flows.experiments"]
    options: dict[str, Any] = {
        "cwd": tmp_path,
        "capture_output": True,
        "text": True,
        "env": environment(PYTHONPATH=str(ROOT)),
    }
    assert "no run has finished yet" in subprocess.run(command, **options, check=True).stdout
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\n")
    assert "experiment  not saved: " in subprocess.run(command, **options, check=True).stdout
