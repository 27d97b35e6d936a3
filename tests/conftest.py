"""Fixtures of all tests: small real images, toy workspaces, and the developers' data sets if present."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML
from sklearn.datasets import load_digits

from flows.worktrees import change_params, example
from stages import resolve
from stages.config import load as params_module
from stages.config.edit import edited
from stages.config.resolved import RESOLVED
from stages.config.schema import Params
from stages.runner.stage import call
from tests.skips import pytest_runtest_makereport  # noqa: F401 - a hook of pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def params() -> Params:
    """params.yaml as it ships."""
    return params_module.load(ROOT / "params.yaml")


@pytest.fixture
def reference_data() -> Path:
    """Real data sets that are not part of the project."""
    folder = Path(os.environ.get("MACULA_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"reference data sets are not at {folder}; set MACULA_REFERENCE_DATA to test on them")
    return folder


def png(image: np.ndarray[Any, Any], **options: Any) -> bytes:
    """The bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def digit_images(per_class: int, classes: int = 10) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """(label, uint8 [8, 8]) of real handwritten digits, the same ones each time."""
    digits = load_digits()
    chosen = []
    for label in range(classes):
        images = digits.images[digits.target == label][:per_class]
        chosen += [(str(label), (image * 15).astype(np.uint8)) for image in images]
    return chosen


def kept_params(name: str) -> Params:
    """The params of docs/examples/NAME.yaml, as `make example` makes them."""
    with chdir(ROOT):
        text = change_params([example(name)], name)
    return params_module.check(YAML(typ="safe", pure=True).load(text))


def write_params(folder: Path, *changes: dict[str, Any]) -> None:
    """Write params.yaml as it ships with changes, and what the stage `resolve` makes of it."""
    (folder / "params.yaml").write_text(edited((ROOT / "params.yaml").read_text(), changes, "test"))
    (folder / "data").mkdir(exist_ok=True)
    resolve.main(folder / "params.yaml", folder / RESOLVED)


def write_folders(folder: Path, images: list[tuple[str, np.ndarray[Any, Any]]]) -> Path:
    """A folder per class of uncompressed PNGs."""
    for number, (label, image) in enumerate(images):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:04d}.png").write_bytes(png(image, compress_level=0))
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with params.yaml and a place for splits, made the current one."""
    write_params(tmp_path)
    (tmp_path / "splits").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


Ingest = Callable[..., Path]


@pytest.fixture
def ingest(workspace: Path, params: Params) -> Ingest:
    """Run the stage on a source: `ingest(source, inside=..., by=..., ...)` returns the folder it wrote."""
    from stages.ingest import main

    def run(source: Path, by: str = "hash", **changes: Any) -> Path:
        sections = {
            "ingest": params.ingest.model_copy(update={"source": str(source), **changes}),
            "split": params.split.model_copy(update={"by": by}),
        }
        call(main, [source, workspace / "splits", workspace / "sealed", workspace / "ingested"], sections)
        return workspace / "ingested"

    return run


def prepare_digits(
    folder: Path, splits: dict[str, list[tuple[str, np.ndarray[Any, Any]]]], size: int, **changes: Any
) -> tuple[Path, Path]:
    """Digits by split, ingested and prepared: (what ingest wrote, what prepare wrote)."""
    from stages import ingest as ingesting
    from stages import prepare as preparing

    params = params_module.load(ROOT / "params.yaml")
    for split, images in {**splits, "test": splits["val"][:1]}.items():
        write_folders(folder / "source" / split, images)
    (folder / "splits").mkdir()
    sections = {
        "ingest": params.ingest.model_copy(update={"source": "source"}),
        "split": params.split.model_copy(update={"by": "source"}),
    }
    places = [folder / name for name in ("source", "splits", "sealed", "ingested")]
    call(ingesting.main, places, sections)
    sections = {
        "task": params.task,
        "representation": params.representation,
        "prepare": params.prepare.model_copy(update={"size": size, **changes}),
    }
    call(preparing.main, [folder / "ingested", folder / "ingested", folder / "prepared"], sections)
    return folder / "ingested", folder / "prepared"
