"""Tests that params, waivers and a model of the last commit before the renaming still work."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from stages import gate
from stages.config import aliases
from stages.config.load import load
from stages.core.findings import Finding, write_findings
from stages.runner.stage import call
from stages.runtime import Model
from stages.serving.app import create_app
from stages.serving.settings import Settings
from tests.conftest import ROOT

BEFORE = ROOT / "tests/data/before-renaming"
"""Files written by commit 181666e; the model is an untrained network that its `export` wrote."""


def test_an_old_params_file_is_read_and_current_names_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    params = load(BEFORE / "params.yaml")
    output = capsys.readouterr().err.splitlines()
    assert len(output) == len(aliases.PARAMS) + 2
    for old, new in aliases.PARAMS.items():
        assert f"{BEFORE / 'params.yaml'}: {old} is now {new}; rename it" in output
    assert any("gate.waive: oddities/long is now outliers/elongated" in line for line in output)
    assert params.train.checkpoint_seconds == 30 and params.export.max_score_drop == 0.02


def test_a_waiver_with_an_old_id_waives_the_finding(tmp_path: Path) -> None:
    waive = load(BEFORE / "params.yaml").gate
    folders = [tmp_path / name for name in ("ingested", "validated", "audited")]
    for folder in folders:
        folder.mkdir()
        write_findings([], folder / "findings.json")
    found = Finding("leakage/same-image", "blocking", "One image is in training and validation.")
    write_findings([found], tmp_path / "audited/findings.json")
    metrics = call(gate.main, [*folders, tmp_path / "gated"], {"gate": waive})
    assert metrics["waived"] == 1
    gate_result = json.loads((tmp_path / "gated/gate.json").read_text())
    assert gate_result["waived"] == [{"id": "leakage/same-image", "reason": "the published split is kept"}]
    assert gate_result["unused_waivers"] == ["outliers/elongated"]


def test_predictions_of_an_old_model_are_byte_identical(tmp_path: Path) -> None:
    for name in ("model.onnx", "0.png", "1.png"):
        shutil.copy(BEFORE / name, tmp_path)
    command = [sys.executable, "-m", "stages", "predict", "model.onnx", "0.png", "1.png", "--format", "json"]
    done = subprocess.run([*command, "--engine", "onnxruntime"], cwd=tmp_path, capture_output=True, env=environment())
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == (BEFORE / "predictions.json").read_bytes()
    assert b"truth is now target" in done.stderr


def test_responses_with_an_old_model_are_byte_identical() -> None:
    settings = Settings(model=str(BEFORE / "model.onnx"), engine="onnxruntime")
    with TestClient(create_app(settings)) as client:
        image = (BEFORE / "0.png").read_bytes()
        response = client.post("/v1/answer", content=image, headers={"content-type": "image/png"})
        batch_response = client.post("/v1/answers", files={"images": ("0.png", image)})
    assert response.status_code == 200
    assert response.content == (BEFORE / "response.json").read_bytes()
    assert batch_response.json()["answers"][0]["answer"] == response.json()["answer"]


def test_metadata_of_an_old_model_is_converted_to_current_keys(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        metadata = Model(BEFORE / "model.onnx", 1, "onnxruntime").metadata
    (record,) = caplog.records
    for old, new in aliases.METADATA.items():
        assert old not in metadata and new in metadata
        assert f"{old} is now {new}" in record.getMessage()
    assert metadata["target"] == "area"


def test_old_finding_ids_are_unused_and_current_ones_documented() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "stages/audits").rglob("*.py"))
    page = (ROOT / "docs/reference/findings.md").read_text()
    assert len(aliases.FINDINGS) > 20
    for old, new in aliases.FINDINGS.items():
        assert f'"{old}"' not in code and f"`{old}`" not in page
        group = new.partition("/")[0]
        assert f"`{new}`" in page or f"`{group}/...`" in page or new.endswith("/not-checked")


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}
