"""Files of every form are recognized, and what is proposed for them passes ingest and prepare as it stands."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import configure, prepare
from stages import ingest as ingesting
from stages.frame.params import load
from stages.frame.sections import Params
from stages.frame.stage import call
from tests.conftest import png
from tests.toys import TOYS, things

Propose = Callable[..., Params]


@pytest.fixture
def propose(workspace: Path) -> Propose:
    """Configure for a source, and the params that come out."""

    def run(source: Path, *words: str) -> Params:
        configure.main([str(source), "--replace", *words])
        return load(workspace / "params.proposed.yaml")

    return run


def passes(proposed: Params, workspace: Path) -> dict[str, Any]:
    """Run ingest and prepare under the params; how many images came through."""
    shutil.rmtree(workspace / "splits")
    (workspace / "splits").mkdir()
    paths = [Path(proposed.ingest.source), *(workspace / name for name in ("splits", "sealed", "ingested"))]
    call(ingesting.main, paths, {"ingest": proposed.ingest, "split": proposed.split})
    sections = {name: getattr(proposed, name) for name in ("task", "representation", "prepare")}
    return call(prepare.main, [workspace / "ingested", workspace / "ingested", workspace / "prepared"], sections)


EXPECTED = {
    "classification": ("classification", "folders"),
    "multilabel": ("multilabel", "table"),
    "ordinal": ("classification", "folders"),  # that they are grades, only a person knows
    "regression": ("regression", "table"),
    "counting": ("instances", "coco"),
    "area": ("segmentation", "masks"),
    "landmarks": ("landmarks", "table"),
    "segmentation": ("segmentation", "masks"),
    "image": ("image", "pairs"),
    "instances": ("instances", "coco"),
}


@pytest.mark.parametrize("name", TOYS)
def test_each_toy_is_recognized_and_its_proposal_runs(name: str, propose: Propose, workspace: Path) -> None:
    source = workspace / "toy"
    source.mkdir()
    TOYS[name].write(source, np.random.default_rng(0))
    proposed = propose(source)
    assert (proposed.task.name, proposed.ingest.form) == EXPECTED[name]
    counted = passes(proposed, workspace)
    assert counted["train"] > 0 and counted["val"] > 0


def rows(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 250, (24, 30), dtype=np.uint8) for _ in range(count)]


def blot(number: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((24, 30), np.uint8)
    mask[4 + number % 5 : 14, 5:20] = value
    return mask


def specks(number: int) -> np.ndarray:
    mask = np.zeros((24, 30), np.uint8)
    for place in range(3 + number % 3):
        mask[3 + 4 * place, 5 + 3 * place] = 255
    return mask


@pytest.mark.parametrize(
    ("image", "target", "second", "form", "images", "targets"),
    [
        ("images/{}.png", "masks/{}.png", None, "masks", "images/{key}.png", "masks/{key}.png"),
        ("{}.png", "{}_mask.png", None, "masks", "{key}.png", "{key}_mask.png"),
        ("{}cell.png", "{}dots.png", None, "dots", "{key}cell.png", "{key}dots.png"),
        ("a{}/image.png", "a{}/mask.png", None, "masks", "{key}/image.png", "{key}/mask.png"),
        ("images/{}.png", "m/fat/{}.png", "m/bone/{}.png", "masks", "images/{key}.png", "m/{label}/{key}.png"),
        ("k{0}/images/k{0}.png", "k{0}/masks/1.png", "k{0}/masks/2.png", "instances", "{key}/images/{key}.png",
         "{key}/masks/*.png"),
        ("train/images/{}.png", "train/masks/{}.png", None, "masks", "train/images/{key}.png", "train/masks/{key}.png"),
        ("{split}/i/{}.png", "{split}/m/{}.png", None, "masks", "*/i/{key}.png", "*/m/{key}.png"),
    ],
)  # fmt: skip
def test_patterns_are_found_in_the_names_at_hand(
    image: str, target: str, second: str | None, form: str, images: str, targets: str, propose: Propose, workspace: Path
) -> None:
    source = workspace / "source"
    for number, pixels in enumerate(rows(8)):
        first = specks(number) if form == "dots" else blot(number)
        other = np.zeros_like(first)
        other[16:22, 3:9] = 255
        for name, content in ((image, pixels), (target, first), (second, other)):
            if name is not None:
                file = source / name.format(100 + number, split=("train", "val")[number % 2])
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(png(content))
    proposed = propose(source).ingest
    inside = f"{proposed.inside}/" if proposed.inside else ""
    assert (proposed.form, inside + proposed.images, inside + proposed.targets) == (form, images, targets)
    assert passes(load(workspace / "params.proposed.yaml"), workspace)["train"] > 0


def test_a_table_says_group_and_split_and_where_its_paths_begin(propose: Propose, workspace: Path) -> None:
    lines = ["file,patient,diagnosis,set,age"]
    for number, pixels in enumerate(rows(20)):
        file = workspace / "source" / "scans" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
        (workspace / "source" / f"logo{number}.png").write_bytes(png(pixels))
        lines.append(f"{number}.png,p{number % 6},{'ill' if number % 2 else 'well'},train,{40 + number}")
    (workspace / "source" / "list.csv").write_text("\n".join(lines))
    ingest = propose(workspace / "source").ingest
    columns = ingest.columns
    assert (columns.path, columns.folder, columns.label, columns.group) == ("file", "scans", "diagnosis", "patient")
    assert ingest.images == "scans/**", "images beside those of the table are none of the data set"
    assert columns.split == "set" and load(workspace / "params.proposed.yaml").split.by == "hash", "train alone"


def test_left_and_right_are_flip_pairs(propose: Propose, workspace: Path) -> None:
    lines = ["path,LeftEar_x,LeftEar_y,rightear_x,rightear_y,tail_x,tail_y"]
    for number, pixels in enumerate(rows(12)):
        (workspace / "source").mkdir(exist_ok=True)
        (workspace / "source" / f"{number}.png").write_bytes(png(pixels))
        lines.append(f"{number}.png,3,4,9,8,,")
    (workspace / "source" / "points.csv").write_text("\n".join(lines))
    assert propose(workspace / "source").task.flip_pairs == (("LeftEar", "rightear"),)


def test_reasons_rivals_and_questions_are_said_and_stand_in_the_file(
    propose: Propose, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = workspace / "source"
    source.mkdir()
    things(source, np.random.default_rng(0))
    for number, pixels in enumerate(rows(6)):
        file = source / "more" / ("a", "b")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
    propose(source)
    said, text = capsys.readouterr().out, (workspace / "params.proposed.yaml").read_text()
    assert "read as coco: it lists images, annotations and categories" in said
    assert "folders, 6 images, with --inside more" in said
    assert "Only you know" in said and "ingest.group" in said
    assert "  # single things are outlined\n  name: instances" in text
    assert "# peak of the one-cycle schedule" in text, "comments are kept"
    assert propose(source, "--inside", "more").ingest.form == "folders"


def test_a_file_is_written_over_only_where_that_is_asked(workspace: Path) -> None:
    with pytest.raises(SystemExit, match=r"params.yaml exists; name another --output, or say --replace"):
        configure.main([str(workspace), "--output", "params.yaml"])


def test_a_source_without_labels_is_told(workspace: Path) -> None:
    (workspace / "source").mkdir()
    (workspace / "source" / "a.png").write_bytes(png(blot(0)))
    with pytest.raises(SystemExit, match="holds no labelled images in a form that is known"):
        configure.main([str(workspace / "source")])


REAL = {
    "bccd": ("instances", "voc", 364),
    "cell_counting": ("regression", "dots", 200),
    "clothing10": ("classification", "folders", 741),
    "em_membranes": ("segmentation", "masks", 30),
    "fundus_dr600": ("classification", "table", 600),
    "mouse_joints": ("landmarks", "deeplabcut", 90),
    "nuclei_dsb2018": ("instances", "instances", 133),
    "plankton121": ("classification", "folders", 5705),
    "pneumoniamnist": ("classification", "arrays", 5856),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data_sets_are_recognized(
    name: str, propose: Propose, reference_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposed = propose(reference_data / f"{name}.zip")
    assert (proposed.task.name, proposed.ingest.form) == REAL[name][:2]
    assert f"{REAL[name][2]} images, read as" in capsys.readouterr().out
