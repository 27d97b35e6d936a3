"""Shared fixtures: small real images, toy workspaces, and the reference data sets if present."""

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
    """Return the folder of the project."""
    return ROOT


@pytest.fixture(scope="session")
def params() -> Params:
    """Return the params of the shipped params.yaml."""
    return params_module.load(ROOT / "params.yaml")


@pytest.fixture
def reference_data() -> Path:
    """Return the folder of real data sets, which are not part of the project."""
    folder = Path(os.environ.get("MACULA_REFERENCE_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"reference data sets are not at {folder}; set MACULA_REFERENCE_DATA to test on them")
    return folder


def png(image: np.ndarray[Any, Any], **options: Any) -> bytes:
    """Return the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", **options)
    return buffer.getvalue()


def digit_images(per_class: int, classes: int = 10) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return pairs of a label and a uint8 image [8, 8] of real handwritten digits; the same ones in each call."""
    digits = load_digits()
    chosen = []
    for label in range(classes):
        images = digits.images[digits.target == label][:per_class]
        chosen += [(str(label), (image * 15).astype(np.uint8)) for image in images]
    return chosen


def example_params(name: str) -> Params:
    """Return the params of docs/examples/NAME.yaml, as `make example` builds them."""
    with chdir(ROOT):
        text = change_params([example(name)], name)
    return params_module.check(YAML(typ="safe", pure=True).load(text))


def write_params(folder: Path, *changes: dict[str, Any]) -> None:
    """Write the shipped params.yaml with changes, and the output of the stage `resolve` for it."""
    (folder / "params.yaml").write_text(edited((ROOT / "params.yaml").read_text(), changes, "test"))
    (folder / "data").mkdir(exist_ok=True)
    resolve.main(folder / "params.yaml", folder / RESOLVED)


def write_folders(folder: Path, images: list[tuple[str, np.ndarray[Any, Any]]]) -> Path:
    """Write uncompressed PNG files in one folder per class; return the folder."""
    for number, (label, image) in enumerate(images):
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:04d}.png").write_bytes(png(image, compress_level=0))
    return folder


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to a new folder with params.yaml, its resolved copy and a folder for splits; return the folder."""
    write_params(tmp_path)
    (tmp_path / "splits").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


Ingest = Callable[..., Path]


@pytest.fixture
def ingest(workspace: Path, params: Params) -> Ingest:
    """Return `ingest(source, inside=..., by=..., ...)`, which runs the stage and returns the folder it wrote."""
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
    """Ingest and prepare digits by split; return the output folders of `ingest` and `prepare`."""
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
    paths = [folder / name for name in ("source", "splits", "sealed", "ingested")]
    call(ingesting.main, paths, sections)
    sections = {
        "task": params.task,
        "representation": params.representation,
        "prepare": params.prepare.model_copy(update={"size": size, **changes}),
    }
    call(preparing.main, [folder / "ingested", folder / "ingested", folder / "prepared"], sections)
    return folder / "ingested", folder / "prepared"
