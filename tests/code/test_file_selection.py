"""Selection of the images of a source by patterns: `ingest.files`."""

from pathlib import Path

import numpy as np
import pytest

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.images.archives import Rejection
from stages.importers import open_source
from stages.importers.file_selection import NOT_SELECTED
from tests.conftest import png

PATHS = ("birch/1.png", "birch/2.jpg", "birch/thumbs/1.png", "oak/2024/3.png", "oak/4.png", "thumbs/oak/4.png")


def images_of(params: Params, source: Path, **ingest: object) -> tuple[list[str], list[Rejection]]:
    changed = params.ingest.model_validate(params.ingest.model_dump() | {"format": "folders", "inside": ""} | ingest)
    with open_source(source, changed, has_split=False) as (samples, rejected):
        return sorted(sample.path for sample in samples), rejected


@pytest.fixture
def trees(tmp_path: Path) -> Path:
    for path in PATHS:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(png(np.zeros((8, 8), np.uint8)))
    return tmp_path


@pytest.mark.parametrize(
    ("patterns", "places"),
    [
        ([], (0, 1, 2, 3, 4, 5)),
        (["**"], (0, 1, 2, 3, 4, 5)),
        (["*/*"], (0, 1, 4)),
        (["birch/**"], (0, 1, 2)),
        (["**/4.png"], (4, 5)),
        (["**/2024/**"], (3,)),
        (["birch/*", "oak/*"], (0, 1, 4)),
        (["!**/thumbs/**"], (0, 1, 3, 4)),
        (["**", "!**/thumbs/**", "thumbs/oak/*"], (0, 1, 3, 4, 5)),
    ],
)
def test_the_last_pattern_that_matches_a_path_decides(
    patterns: list[str], places: tuple[int, ...], trees: Path, params: Params
) -> None:
    paths, rejected = images_of(params, trees, files=patterns)
    assert paths == [PATHS[place] for place in places]
    assert {one.path for one in rejected} == set(PATHS) - set(paths)
    assert all(one.is_unused and one.reason == NOT_SELECTED for one in rejected)


def test_patterns_select_among_the_images_of_a_table(trees: Path, params: Params) -> None:
    rows = "".join(f"{path},{path[0]}\n" for path in (*PATHS, "birch/lost.png", "oak/lost.png"))
    (trees / "labels.csv").write_text("path,label\n" + rows)
    paths, rejected = images_of(params, trees, format="table", inside="labels.csv", files=["birch/*"])
    assert paths == ["birch/1.png", "birch/2.jpg"]
    assert {one.path for one in rejected if not one.is_unused} == {"birch/lost.png"}
    assert {one.path for one in rejected if one.is_unused} == {*PATHS, "oak/lost.png"} - {*paths}


def test_patterns_are_relative_to_the_source(trees: Path, params: Params) -> None:
    assert images_of(params, trees, inside="oak", files=["oak/2024/*"])[0] == ["2024/3.png"]


def test_patterns_that_select_nothing_are_refused_with_an_example(trees: Path, params: Params) -> None:
    with pytest.raises(UserError, match=r"ingest\.files: \*\.tif selects none of 6 images, such as birch/1\.png"):
        images_of(params, trees, files=["*.tif"])


def test_a_pattern_without_effect_is_printed(trees: Path, params: Params, capsys: pytest.CaptureFixture[str]) -> None:
    images_of(params, trees, files=["!**/thumb/**", "!oak/**"])
    assert capsys.readouterr().out.splitlines() == ["ingest: no file matches !**/thumb/** in ingest.files"]
