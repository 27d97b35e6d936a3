"""The image of the server, made by its Dockerfile's own steps in bare folders, and what runs in it."""

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
from tests.containers import Stage, build, context_of, described, first_process, inside, run, start, why_not
from tests.shipped import colour_model, plain

KEY = "one-that-nobody-guesses"
POST = """
import sys
from urllib.request import Request, urlopen
answer = urlopen(Request("http://127.0.0.1:8000/v1/predict", sys.stdin.buffer.read(), {"X-API-Key": sys.argv[1]}))
print(answer.read().decode())
"""
LOOK = """
import importlib.util, json, os, sys
from pathlib import Path
status = dict(line.split(":\\t", 1) for line in Path("/proc/1/status").read_text().splitlines())
def written(place):
    try:
        Path(place).write_text("")
    except OSError as error:
        return os.strerror(error.errno)
    return "written"
print(json.dumps({
    "user": status["Uid"].split()[0], "name": status["Name"], "capabilities": int(status["CapBnd"], 16),
    "heavy": [name for name in ("torch", "pandas", "pytest", "pip") if importlib.util.find_spec(name)],
    "written": {place: written(place) for place in ("/opt/macula/x", "/models/x", "/x", "/tmp/x")},
}))
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Stage]:
    """Stages by name."""
    if reason := why_not():
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("image")
    context = context_of(ROOT, ROOT / "infra/serve.Dockerfile.dockerignore", folder / "context")
    (context / "data/export").mkdir(parents=True, exist_ok=True)
    model = colour_model(context / "data/export/colours.onnx")
    (context / "data/model_card").mkdir(exist_ok=True)
    (context / "data/model_card/colours.md").write_text(f"SHA-256 {sha256(model.read_bytes()).hexdigest()}\n")
    cache = Path.home() / ".cache/uv"
    cache.mkdir(parents=True, exist_ok=True)
    given = {"MODEL": "data/export/colours.onnx", "CARD": "data/model_card/colours.md"}
    return build(ROOT / "infra/serve.Dockerfile", context, ("mounted", "baked"), folder, cache, **given)


@pytest.fixture
def image(images: dict[str, Stage]) -> Stage:
    return images["mounted"]


@pytest.fixture
def models(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    colour_model(tmp_path / "model.onnx")
    return tmp_path


@contextmanager
def running(image: Stage, bound: dict[Path, str]) -> Iterator[int]:
    """The first process of a container, once that is healthy; ended by SIGTERM, and the end is looked at."""
    container = start(image, bound, MACULA_API_KEY=KEY)
    try:
        first = until(lambda: first_process(container))
        until(lambda: inside(first, image, image.health).returncode == 0)
        yield first
        asked = time.monotonic()
        assert inside(first, image, ["sh", "-c", "kill -TERM 1"]).returncode == 0
        said, _ = container.communicate(timeout=20)
    finally:
        container.kill()
    assert container.returncode in (0, 143, -15), said.decode()
    assert time.monotonic() - asked < 5
    assert b"Traceback" not in said
    assert KEY.encode() not in said


def until(done: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Call `done` until it returns a true value, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if given := done():
                return given
        except (IndexError, FileNotFoundError):
            pass
        time.sleep(0.05)
    raise AssertionError("not in time")


def test_a_container_is_healthy_answers_and_ends_when_told(image: Stage, models: Path) -> None:
    with running(image, {models: "/models"}) as first:
        posted = inside(first, image, ["python", "-c", POST, KEY], input=png(plain("blue")))
        assert posted.returncode == 0, posted.stderr
        answer = json.loads(posted.stdout)
        assert answer["task"] == "classification"
        assert answer["answer"]["label"] == "blue"
        refused = inside(first, image, ["python", "-c", POST, "another"], input=png(plain("blue")))
        assert refused.returncode == 1 and b"401" in refused.stderr


def test_what_runs_is_no_root_and_can_write_nothing_but_tmp(image: Stage, models: Path) -> None:
    with running(image, {models: "/models"}) as first:
        looked = inside(first, image, ["python", "-c", LOOK])
        assert looked.returncode == 0, looked.stderr
        found = json.loads(looked.stdout)
        assert found["name"] == "python", "no shell stands before the server"
        assert found["user"] == "65532" and found["capabilities"] == 0
        assert found["heavy"] == []
        shut = "Read-only file system"
        assert found["written"] == {"/opt/macula/x": shut, "/models/x": shut, "/x": shut, "/tmp/x": "written"}


def test_a_new_model_in_the_mounted_folder_is_taken_over(image: Stage, models: Path) -> None:
    with running(image, {models: "/models"}) as first:
        colour_model(models / "next.onnx", labels=("rouge", "vert", "bleu"), version="colours-2")
        (models / "next.onnx").replace(models / "model.onnx")

        def label() -> bool:
            posted = inside(first, image, ["python", "-c", POST, KEY], input=png(plain("blue")))
            assert posted.returncode == 0, posted.stderr
            return json.loads(posted.stdout)["answer"]["label"] == "bleu"

        until(label)


def test_without_a_key_it_does_not_open_itself_to_a_network(image: Stage, models: Path) -> None:
    container = start(image, {models: "/models"})
    said, _ = container.communicate(timeout=20)
    assert container.returncode == 1
    assert b"MACULA_API_KEY" in said


def test_the_image_holds_what_it_was_told_and_is_small(image: Stage) -> None:
    files = [file for file in (image.root / "opt/macula").rglob("*") if file.is_file() and not file.is_symlink()]
    assert sum(file.stat().st_size for file in files) < 320e6
    packages = image.root / "opt/macula/lib/python3.11/site-packages"
    stages = {file.relative_to(packages).parts[1] for file in (packages / "stages").rglob("*.py")}
    assert {"serve.py", "predict.py", "serving"} <= stages
    assert not {"train.py", "training", "networks"} & stages
    assert (packages / "stages/serving/__pycache__").is_dir(), "nothing can be compiled later"


def test_no_image_is_built_with_the_card_of_another_model(images: dict[str, Stage], tmp_path: Path) -> None:
    (check,) = [
        rest for word, rest in described((ROOT / "infra/serve.Dockerfile").read_text(), {})["baked"][1] if word == "RUN"
    ]
    shutil.copytree(images["baked"].root, tmp_path / "other", symlinks=True)
    other = replace(images["baked"], root=tmp_path / "other")
    run(other, ["sh", "-c", check])
    (other.root / "models/model-card.md").chmod(0o644)
    (other.root / "models/model-card.md").write_text("SHA-256 0123\n")
    with pytest.raises(subprocess.CalledProcessError):
        run(other, ["sh", "-c", check])


def test_the_model_can_be_inside_with_its_card(images: dict[str, Stage]) -> None:
    inside_it = images["baked"].root / "models"
    assert sha256((inside_it / "model.onnx").read_bytes()).hexdigest() in (inside_it / "model-card.md").read_text()
    with running(images["baked"], {}) as first:
        posted = inside(first, images["baked"], ["python", "-c", POST, KEY], input=png(plain("green")))
        assert json.loads(posted.stdout)["answer"]["label"] == "green", posted.stderr
