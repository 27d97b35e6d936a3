"""Tests of the server image, built by the steps of its Dockerfile in folders without a container engine."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, png
from tests.containers import (
    Stage,
    build,
    create_context,
    execute,
    first_process,
    parse_stages,
    run,
    start,
    unsupported_reason,
)
from tests.shipped import colour_model, plain

KEY = "a-random-test-key"
POST = """
import sys
from urllib.request import Request, urlopen
response = urlopen(Request("http://127.0.0.1:8000/v1/predict", sys.stdin.buffer.read(), {"X-API-Key": sys.argv[1]}))
print(response.read().decode())
"""
INSPECT = """
import importlib.util, json, os, sys
from pathlib import Path
status = dict(line.split(":\\t", 1) for line in Path("/proc/1/status").read_text().splitlines())
def try_to_write(path):
    try:
        Path(path).write_text("")
    except OSError as error:
        return os.strerror(error.errno)
    return "written"
print(json.dumps({
    "user": status["Uid"].split()[0], "name": status["Name"], "capabilities": int(status["CapBnd"], 16),
    "heavy": [name for name in ("torch", "pandas", "pytest", "pip") if importlib.util.find_spec(name)],
    "written": {path: try_to_write(path) for path in ("/opt/macula/x", "/models/x", "/x", "/tmp/x")},
}))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """Built stages by name."""
    if reason := unsupported_reason():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("image")
    context = create_context(ROOT, ROOT / "infra/serve.Dockerfile.dockerignore", folder / "context")
    (context / "data/export").mkdir(parents=True, exist_ok=True)
    model = colour_model(context / "data/export/colours.onnx")
    (context / "data/model_card").mkdir(exist_ok=True)
    (context / "data/model_card/colours.md").write_text(f"SHA-256 {sha256(model.read_bytes()).hexdigest()}\n")
    cache = Path.home() / ".cache/uv"
    cache.mkdir(parents=True, exist_ok=True)
    arguments = {"MODEL": "data/export/colours.onnx", "CARD": "data/model_card/colours.md"}
    return build(ROOT / "infra/serve.Dockerfile", context, ("mounted", "baked"), folder, cache, **arguments)


@pytest.fixture
def image(images: dict[str, Stage]) -> Stage:
    return images["mounted"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    colour_model(tmp_path / "model.onnx")
    return tmp_path


@contextmanager
def running(image: Stage, volumes: dict[Path, str]) -> Iterator[int]:
    """Start a container, yield its first process when it is healthy, and check that SIGTERM stops it cleanly."""
    container = start(image, volumes, MACULA_API_KEY=KEY)
    try:
        pid = until(lambda: first_process(container))
        until(lambda: execute(pid, image, image.health).returncode == 0)
        yield pid
        stop_time = time.monotonic()
        assert execute(pid, image, ["sh", "-c", "kill -TERM 1"]).returncode == 0
        output, _ = container.communicate(timeout=20)
    finally:
        container.kill()
    assert container.returncode in (0, 143, -15), output.decode()
    assert time.monotonic() - stop_time < 5
    assert b"Traceback" not in output
    assert KEY.encode() not in output


def until(function: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Call a function until its result is true, and return the result."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if result := function():
                return result
        except (IndexError, FileNotFoundError):
            pass
        time.sleep(0.05)
    raise AssertionError(f"timeout after {seconds} s")


def test_a_container_becomes_healthy_responds_and_stops(image: Stage, models: Path) -> None:
    with running(image, {models: "/models"}) as pid:
        posted = execute(pid, image, ["python", "-c", POST, KEY], input=png(plain("blue")))
        assert posted.returncode == 0, posted.stderr
        response = json.loads(posted.stdout)
        assert response["task"] == "classification"
        assert response["answer"]["label"] == "blue"
        refused = execute(pid, image, ["python", "-c", POST, "another"], input=png(plain("blue")))
        assert refused.returncode == 1 and b"401" in refused.stderr


def test_the_server_is_unprivileged_and_writes_only_to_tmp(image: Stage, models: Path) -> None:
    with running(image, {models: "/models"}) as pid:
        inspected = execute(pid, image, ["python", "-c", INSPECT])
        assert inspected.returncode == 0, inspected.stderr
        found = json.loads(inspected.stdout)
        assert found["name"] == "python", "the first process is not the server"
        assert found["user"] == "65532" and found["capabilities"] == 0
        assert found["heavy"] == []
        denied = "Read-only file system"
        assert found["written"] == {"/opt/macula/x": denied, "/models/x": denied, "/x": denied, "/tmp/x": "written"}


def test_a_new_model_in_the_mounted_folder_is_loaded(image: Stage, models: Path) -> None:
    with running(image, {models: "/models"}) as pid:
        colour_model(models / "next.onnx", labels=("rouge", "vert", "bleu"), version="colours-2")
        (models / "next.onnx").replace(models / "model.onnx")

        def is_new_model() -> bool:
            posted = execute(pid, image, ["python", "-c", POST, KEY], input=png(plain("blue")))
            assert posted.returncode == 0, posted.stderr
            return json.loads(posted.stdout)["answer"]["label"] == "bleu"

        until(is_new_model)


def test_a_container_without_an_api_key_exits(image: Stage, models: Path) -> None:
    container = start(image, {models: "/models"})
    output, _ = container.communicate(timeout=20)
    assert container.returncode == 1
    assert b"MACULA_API_KEY" in output


def test_the_image_contains_only_serving_code_and_is_small(image: Stage) -> None:
    files = [file for file in (image.root / "opt/macula").rglob("*") if file.is_file() and not file.is_symlink()]
    assert sum(file.stat().st_size for file in files) < 330e6
    packages = image.root / "opt/macula/lib/python3.11/site-packages"
    stages = {file.relative_to(packages).parts[1] for file in (packages / "stages").rglob("*.py")}
    assert {"serve.py", "predict.py", "serving"} <= stages
    assert not {"train.py", "training", "networks"} & stages
    assert (packages / "stages/serving/__pycache__").is_dir(), (
        "modules cannot be compiled later, because the image is read-only"
    )


def test_the_build_fails_with_the_card_of_another_model(images: dict[str, Stage], tmp_path: Path) -> None:
    (check,) = [
        rest
        for word, rest in parse_stages((ROOT / "infra/serve.Dockerfile").read_text(), {})["baked"][1]
        if word == "RUN"
    ]
    shutil.copytree(images["baked"].root, tmp_path / "other", symlinks=True)
    other = replace(images["baked"], root=tmp_path / "other")
    run(other, ["sh", "-c", check])
    (other.root / "models/model-card.md").chmod(0o644)
    (other.root / "models/model-card.md").write_text("SHA-256 0123\n")
    with pytest.raises(subprocess.CalledProcessError):
        run(other, ["sh", "-c", check])


def test_an_image_can_contain_a_model_and_its_card(images: dict[str, Stage]) -> None:
    folder = images["baked"].root / "models"
    assert sha256((folder / "model.onnx").read_bytes()).hexdigest() in (folder / "model-card.md").read_text()
    with running(images["baked"], {}) as pid:
        posted = execute(pid, images["baked"], ["python", "-c", POST, KEY], input=png(plain("green")))
        assert json.loads(posted.stdout)["answer"]["label"] == "green", posted.stderr
