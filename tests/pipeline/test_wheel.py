"""Tests of the wheel with the serving code, installed into a separate environment."""

import json
import os
import re
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from stages.core.import_closure import CodeTree
from stages.core.source_digest import SourceCache
from tests.conftest import ROOT, png
from tests.shipped import colour_model, plain

UV = ROOT / ".uv/bin/uv"
LOCK = ROOT / "infra/locks/serving.txt"
HEAVY = {"torch", "torchvision", "pandas", "scikit-learn", "kornia", "prefect", "dvc"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    if not UV.exists():
        pytest.skip("uv is not installed; `make env` installs it")
    locked = ["--build-constraints", ROOT / "infra/locks/build.txt", "--require-hashes"]
    _run([UV, "build", "--quiet", "--wheel", *locked, "--out-dir", folder, ROOT])
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def python(wheel: Path) -> Path:
    """Return the Python of an environment into which the wheel was installed as the guide describes."""
    environment = wheel.parent / "environment"
    _run([sys.executable, "-m", "venv", environment])
    section = (ROOT / "docs/guides/shipping.md").read_text().split("## As a wheel")[1].split("## ")[0]
    lines = re.findall(r"^pip (install .*)$", section, re.MULTILINE)
    assert lines
    for line in lines:
        words = line.replace("work/dist/macula-*.whl", str(wheel)).split()
        _run([environment / "bin/pip", *words], cwd=ROOT, env={**os.environ, "PIP_NO_COMPILE": "1"})
    return environment / "bin/python"


def _run(command: list, **options: Any) -> str:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_wheel_contains_all_prediction_code_and_no_training_code(wheel: Path) -> None:
    files = set(zipfile.ZipFile(wheel).namelist())
    names = ("predict", "drift", "serve", "doctor")
    commands = ("stages.__main__", *(f"stages.command_line.{name}_command" for name in names))
    code = CodeTree(ROOT / "stages", SourceCache())
    served = {file for name in ("predict", "check_drift", "serve") for file in code.closure(f"stages.{name}")}
    needed = served | {file for command in commands for file in code.closure(command)}
    assert len(needed) > 30
    assert needed <= files
    assets = {str(f.relative_to(ROOT)) for f in (ROOT / "stages/web/server").iterdir() if f.is_file()}
    assert any(name.endswith(".html") for name in assets)
    assert assets <= files
    parts = {name.split("/")[1].removesuffix(".py") for name in files if name.startswith("stages/")}
    assert parts == {
        "__init__", "__main__", "batch_prediction", "check_drift", "command_line", "config", "core", "dataset", "drift",
        "images", "predict", "runtime", "serve", "serving", "tasks", "web",
    }  # fmt: skip
    imported = {
        name
        for file in served  # `doctor` looks for torch itself
        if file.endswith(".py")
        for name in re.findall(r"^\s*(?:import|from) (\w+)", (ROOT / file).read_text(), re.MULTILINE)
    }
    assert "onnxruntime" in imported
    assert not imported & HEAVY


def test_the_environment_contains_only_locked_serving_packages(python: Path) -> None:
    listed = json.loads(_run([UV, "pip", "list", "--format", "json", "--python", python]))
    installed = {package["name"]: package["version"] for package in listed}
    assert installed.pop("macula") and installed.pop("pip")
    installed.pop("setuptools", None)  # installed by `python -m venv`
    assert not HEAVY & set(installed)
    locked = re.findall(r"^([a-z0-9-]+)==([^\s;]+)", LOCK.read_text(), re.MULTILINE)
    assert installed.items() <= set(locked)


def test_macula_predicts_and_explains_missing_pipeline_commands(python: Path, tmp_path: Path) -> None:
    colour_model(tmp_path / "model.onnx")
    (tmp_path / "photo.png").write_bytes(png(plain("green")))
    macula = python.with_name("macula")
    done = subprocess.run(
        [macula, "predict", "model.onnx", "photo.png", "--json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert [row["label"] for row in json.loads(done.stdout)] == ["green"]
    for words in (
        ["run"],
        ["configure", "."],
        ["publish", "model.onnx", "out"],
        ["compare", "a.b=1", "a.b=2"],
        ["runs"],
    ):
        done = subprocess.run([macula, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 1, words
        assert done.stderr.startswith("error: this command is part of the pipeline"), done.stderr
        assert "`make env`" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([macula, "doctor", "--quick", "--json"], cwd=tmp_path, capture_output=True, text=True)
    assert {check["state"] for check in json.loads(done.stdout)} <= {"ok", "warning"}, done.stdout
    assert done.returncode == 0


def test_predict_works_in_any_folder(python: Path, tmp_path: Path) -> None:
    colour_model(tmp_path / "model.onnx")
    (tmp_path / "photo.png").write_bytes(png(plain("green")))
    command = [str(python), "-m", "stages.predict", "model.onnx", "photo.png", "--format", "json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (prediction,) = json.loads(done.stdout)
    assert prediction["label"] == "green"


def test_serve_works_in_any_folder(python: Path, tmp_path: Path) -> None:
    colour_model(tmp_path / "model.onnx")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "stages.serve", "model.onnx", "--port", str(port)]
    environment = {key: value for key, value in os.environ.items() if key != "MACULA_API_KEY"}
    server = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        response = _post(f"http://127.0.0.1:{port}/v1/predict", png(plain("red")))
        page = urlopen(f"http://127.0.0.1:{port}/").read().decode()
    finally:
        server.terminate()
        output = server.communicate(timeout=20)[1]
    assert response["answer"]["label"] == "red"
    assert "<title>Macula</title>" in page
    assert "Traceback" not in output


def _post(address: str, data: bytes) -> dict:
    for _ in range(200):
        try:
            return json.load(urlopen(Request(address, data)))
        except URLError:
            time.sleep(0.1)
    raise AssertionError(f"{address} cannot be reached")
