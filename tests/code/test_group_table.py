"""Groups of images from a table beside images and masks."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.manifest import read_manifest
from stages.images.archives import list_source_files
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from tests.conftest import Ingest, png

MASKS = {"format": "masks", "images": "images/{key}.png", "targets": "masks/{key}.png", "group_table": "metadata.csv"}


def write_masks(folder: Path, header: str, rows: list[str], count: int = 40) -> Path:
    """Write random images with masks of a disc, and metadata.csv."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:32, :32]
    for number in range(count):
        inside = (y - rng.integers(10, 22)) ** 2 + (x - rng.integers(10, 22)) ** 2 < rng.integers(20, 60)
        image = (rng.integers(0, 90, (32, 32)) + 120 * inside).astype(np.uint8)
        (folder / "images" / f"scan{number:03}.png").write_bytes(png(image))
        (folder / "masks" / f"scan{number:03}.png").write_bytes(png((255 * inside).astype(np.uint8)))
    (folder / "metadata.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def patients(suffix: str = ".png", count: int = 40) -> list[str]:
    return [f"scan{n:03}{suffix},P{n * 7 % 10},{50 + n * 7 % 10},{'AB'[n % 2]}" for n in range(count)]


def best(source: Path, params: Params) -> FormatCandidate:
    with ExitStack() as stack:
        return find_formats(list_source_files(source, stack)[0], params.ingest)[0][0]


@pytest.mark.parametrize("suffix", [".png", ""], ids=["names", "names without suffix"])
def test_a_column_of_patients_beside_masks_is_proposed_as_groups(
    suffix: str, tmp_path: Path, params: Params, ingest: Ingest
) -> None:
    source = write_masks(tmp_path / "scans", "image,patient,age,scanner", patients(suffix))
    found = best(source, params)
    assert found.format == "masks"
    assert found.changes["group_table"] == "metadata.csv"
    assert (found.changes["columns"]["path"], found.changes["columns"]["group"]) == ("image", "patient")
    assert {sample.group for sample in found.samples} == {f"P{n}" for n in range(10)}
    changes = MASKS | {"columns": params.ingest.columns.model_validate(found.changes["columns"])}
    rows = pd.concat([read_manifest(ingest(source, **changes)), read_manifest(tmp_path / "sealed")])
    expected = {f"images/scan{n:03}.png": f"P{n * 7 % 10}" for n in range(40)}
    assert dict(zip(rows["path"], rows["group"], strict=True)) == expected
    assert rows.groupby("group")["split"].nunique().max() == 1


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("image,age,scanner,patient", patients()),
        ("image,patient,age,scanner", patients()[:30]),
        ("file,kind,age,scanner", patients()),
    ],
    ids=["a column of two values", "images without a row", "no word for a group"],
)
def test_columns_that_do_not_group_all_images_are_not_proposed(
    header: str, rows: list[str], tmp_path: Path, params: Params
) -> None:
    found = best(write_masks(tmp_path / "scans", header, rows), params)
    assert found.format == "masks"
    assert "group_table" not in found.changes


@pytest.mark.parametrize(
    ("changes", "rows", "message"),
    [
        ({"group_table": "metadat.csv"}, patients(), "metadat.csv is not in the source; did you mean `metadata.csv`"),
        ({}, patients()[:38], r"2 images have no group in metadata.csv \(images/scan038.png, images/scan039.png\)"),
        ({"column": "patiant"}, patients(), "no column 'patiant' .*did you mean `patient`"),
    ],
)
def test_a_table_that_does_not_suit_is_refused(
    changes: dict[str, str], rows: list[str], message: str, tmp_path: Path, params: Params, ingest: Ingest
) -> None:
    source = write_masks(tmp_path / "scans", "image,patient,age,scanner", rows)
    columns = params.ingest.columns.model_copy(update={"path": "image", "group": changes.get("column", "patient")})
    with pytest.raises(UserError, match=message):
        ingest(source, **MASKS | {"group_table": changes.get("group_table", "metadata.csv"), "columns": columns})
