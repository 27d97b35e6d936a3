"""Tests of `configure`: every source format is detected, and proposals pass ingest and prepare unchanged."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages import ingest as ingesting
from stages import prepare
from stages.config.load import load
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.runner.stage import call
from tests.command_line import macula
from tests.conftest import png
from tests.toys import TOYS, objects

Propose = Callable[..., Params]


@pytest.fixture
def propose(workspace: Path) -> Propose:
    """Return a function that runs configure without timing and returns the proposed params."""

    def run(source: Path, *arguments: str) -> Params:
        macula("configure", str(source), "--replace", "--quick", *arguments)
        return load(workspace / "params.proposed.yaml")

    return run


def run_stages(proposed: Params, workspace: Path) -> dict[str, Any]:
    """Run ingest and prepare with the params; return the number of images."""
    shutil.rmtree(workspace / "splits")
    (workspace / "splits").mkdir()
    paths = [Path(proposed.ingest.source), *(workspace / name for name in ("splits", "sealed", "ingested"))]
    call(ingesting.main, paths, {"ingest": proposed.ingest, "split": proposed.split})
    sections = {name: getattr(proposed, name) for name in ("task", "representation", "prepare")}
    return call(prepare.main, [workspace / "ingested", workspace / "ingested", workspace / "prepared"], sections)


EXPECTED = {
    "classification": ("classification", "folders"),
    "multilabel": ("multilabel", "table"),
    "ordinal": ("classification", "folders"),  # files do not show that classes are ordinal
    "regression": ("regression", "table"),
    "counting": ("instances", "coco"),
    "area": ("segmentation", "masks"),
    "landmarks": ("landmarks", "table"),
    "objects_as_mask": ("instances", "coco"),
    "segmentation": ("segmentation", "masks"),
    "overlapping": ("segmentation", "masks"),
    "image": ("image", "pairs"),
    "instances": ("instances", "coco"),
    "discs": ("instances", "coco"),
}


@pytest.mark.parametrize("name", TOYS)
def test_toy_sources_are_detected_and_proposals_run(name: str, propose: Propose, workspace: Path) -> None:
    source = workspace / "toy"
    source.mkdir()
    TOYS[name].write(source, np.random.default_rng(0))
    proposed = propose(source)
    assert (proposed.task.name, proposed.ingest.format) == EXPECTED[name]
    assert proposed.ingest.overlaps == ("combine" if name == "overlapping" else "reject")
    counts = run_stages(proposed, workspace)
    assert counts["train"] > 0 and counts["val"] > 0


def grey_images(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(60, 250, (24, 30), dtype=np.uint8) for _ in range(count)]


def blob(number: int, value: int = 255) -> np.ndarray:
    mask = np.zeros((24, 30), np.uint8)
    mask[4 + number % 5 : 14, 5:20] = value
    return mask


def specks(number: int) -> np.ndarray:
    mask = np.zeros((24, 30), np.uint8)
    for spot in range(3 + number % 3):
        mask[3 + 4 * spot, 5 + 3 * spot] = 255
    return mask


@pytest.mark.parametrize(
    ("image", "target", "second", "source_format", "images", "targets"),
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
        ("{part}/images/{}.png", "{part}/masks/{}.png", None, "masks", "{folder}/images/{key}.png",
         "{folder}/masks/{key}.png"),
        ("X_{part}_{}.png", "X_{part}_dots_{}.png", None, "dots", "{name}_{key}.png", "{name}_dots_{key}.png"),
    ],
)  # fmt: skip
def test_file_name_patterns_are_detected(
    image: str,
    target: str,
    second: str | None,
    source_format: str,
    images: str,
    targets: str,
    propose: Propose,
    workspace: Path,
) -> None:
    source = workspace / "source"
    for number, pixels in enumerate(grey_images(8)):
        first = specks(number) if source_format == "dots" else blob(number)
        other = np.zeros_like(first)
        other[16:22, 3:9] = 255
        for name, content in ((image, pixels), (target, first), (second, other)):
            if name is not None:
                again = 2 if "{part}" in image else 1  # the same numbers in every part
                file = source / name.format(
                    100 + number // again, split=("train", "val")[number % 2], part=f"p{number % 2}"
                )
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(png(content))
    proposed = propose(source).ingest
    inside = f"{proposed.inside}/" if proposed.inside else ""
    assert (proposed.format, inside + proposed.images, inside + proposed.targets) == (source_format, images, targets)
    assert run_stages(load(workspace / "params.proposed.yaml"), workspace)["train"] > 0


def test_table_defines_group_split_and_path_prefix(propose: Propose, workspace: Path) -> None:
    lines = ["file,patient,diagnosis,set,age"]
    for number, pixels in enumerate(grey_images(20)):
        file = workspace / "source" / "scans" / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
        (workspace / "source" / f"logo{number}.png").write_bytes(png(pixels))
        lines.append(f"{number}.png,p{number % 6},{'ill' if number % 2 else 'well'},train,{40 + number}")
    (workspace / "source" / "list.csv").write_text("\n".join(lines))
    ingest = propose(workspace / "source").ingest
    columns = ingest.columns
    assert (columns.path, columns.folder, columns.label, columns.group) == ("file", "scans", "diagnosis", "patient")
    assert ingest.images == "scans/**.png", "images that the table does not list are excluded"
    assert columns.split == "set" and load(workspace / "params.proposed.yaml").split.by == "hash", (
        "a column that contains only train defines no split"
    )


def test_left_and_right_points_are_flip_pairs(propose: Propose, workspace: Path) -> None:
    lines = ["path,LeftEar_x,LeftEar_y,rightear_x,rightear_y,tail_x,tail_y"]
    for number, pixels in enumerate(grey_images(12)):
        (workspace / "source").mkdir(exist_ok=True)
        (workspace / "source" / f"{number}.png").write_bytes(png(pixels))
        lines.append(f"{number}.png,3,4,9,8,,")
    (workspace / "source" / "points.csv").write_text("\n".join(lines))
    assert propose(workspace / "source").task.flip_pairs == (("LeftEar", "rightear"),)


def test_reasons_alternatives_and_questions_are_reported(
    propose: Propose, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = workspace / "source"
    source.mkdir()
    objects(source, np.random.default_rng(0))
    for number, pixels in enumerate(grey_images(6)):
        file = source / "more" / ("a", "b")[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(pixels))
    propose(source)
    output, text = capsys.readouterr().out, (workspace / "params.proposed.yaml").read_text()
    assert "read as coco: the file lists images, annotations and categories" in output
    assert "--inside more --format folders: 6 images" in output
    assert "Questions that only you can answer" in output and "ingest.group_regex" in output
    assert "  # individual objects are outlined\n  name: instances" in text
    assert "# name of the data set: a-z 0-9 _ -" in text, "comments are preserved"
    assert propose(source, "--inside", "more").ingest.format == "folders"


FOUR_MASKS = [blob(n) for n in range(4)]


def write(source: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        file = source / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else str(content).encode())
    return source


def noise_images(*names: str, count: int = 6) -> dict[str, bytes]:
    """Return noise images by file names with {} for a number."""
    rng = np.random.default_rng(0)
    return {
        name.format(number): png(rng.integers(40, 250, (24, 30), dtype=np.uint8))
        for number in range(count)
        for name in names
    }


@pytest.mark.parametrize(
    "name", ["ca\nt: [", "a\n  name: regression", "a\u2028b", "a\x07b", "a: b # c", "'\"", "a {b}*[c]"]
)
def test_special_characters_in_names_are_escaped(name: str, propose: Propose, workspace: Path) -> None:
    files = noise_images(name.replace("{", "{{").replace("}", "}}") + "/{}.png", "other/{}.png")
    proposed = propose(write(workspace / "source", files))
    assert proposed.task.name == "classification" and proposed.ingest.format == "folders"


def test_values_of_another_data_set_are_reset(propose: Propose, workspace: Path) -> None:
    params, text = workspace / "params.yaml", (workspace / "params.yaml").read_text()
    text = text.replace("  units: {}", "  units: {weight: kg}").replace("  values: {} ", "  values: {0: a, 7: cell} ")
    text = text.replace("  waive: {}", "  waive: {a/b: of other data}").replace('images: "" ', 'images: "x/{key}.png" ')
    text = text.replace("class_weights: none", "class_weights: balanced").replace("tolerance: 0.05", "tolerance: 3.0")
    params.write_text(
        re.sub(r"objective:\n  at_least: 0.95.*\n.*\n", "objective: {at_least: 0.95, at_most: null}\n", text)
    )
    load(params)
    source = write(
        workspace / "source", noise_images("i/{}.png") | {f"m/{n}.png": png(mask) for n, mask in enumerate(FOUR_MASKS)}
    )
    proposed = propose(source)
    assert (proposed.task.units, proposed.gate.waive, proposed.train.class_weights) == ({}, {}, "none")
    assert proposed.ingest.mask_values == {0: "background", 255: "foreground"} and proposed.task.tolerance == 2.0
    lines = ["path,weight", *(f"i/{n}.png,{n}.5" for n in range(6))]
    table = propose(write(workspace / "other", noise_images("i/{}.png") | {"t.csv": "\n".join(lines)}))
    assert table.ingest.format == "table" and table.ingest.images == ""


def tinted(mask: np.ndarray) -> np.ndarray:
    return np.stack([mask, mask // 2, 255 - mask], axis=2)


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ([tinted(mask) for mask in FOUR_MASKS], "few colours, as coloured masks of classes do"),
        ([np.random.default_rng(n).integers(0, 255, (24, 30), dtype=np.uint8) for n in range(4)], "32 grey levels"),
        ([mask[:20] for mask in FOUR_MASKS], "the sizes of image and target differ"),
    ],
)
def test_invalid_masks_are_not_interpreted_as_classes(
    targets: list[np.ndarray], message: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = noise_images("images/{}.png", count=4) | {f"masks/{n}.png": png(mask) for n, mask in enumerate(targets)}
    with pytest.raises(UserError, match=message):
        macula("configure", str(write(workspace / "source", files)))


def test_masks_are_detected_despite_one_invalid_pair(propose: Propose, workspace: Path) -> None:
    targets = {f"masks/{n}.png": blob(n, 1) for n in range(30)}
    targets["masks/17.png"][20:22, 20:25] = 2
    targets["masks/18.png"][20:22, 20:25] = 255
    files = noise_images("images/{}.png", count=30) | {path: png(mask) for path, mask in targets.items()}
    files["images/0.png"] = png(np.zeros((24, 30), np.uint8))
    proposed = propose(write(workspace / "source", files)).ingest
    assert (proposed.format, proposed.mask_values) == ("masks", {0: "background", 1: "class1", 2: "class2"})
    assert proposed.ignore_values == (255,), "values out of sequence are probably void"


@pytest.mark.parametrize(
    ("files", "source_format", "inside"),
    [
        (noise_images("img/a/{}.png", "img/b/{}.png", count=12) | noise_images("docs/x.png", count=1),
         "folders", "img"),
        (noise_images("train/a/{}.png", "train/b/{}.png", "val/a/{}.png", "val/b/{}.png"), "folders", ""),
        (noise_images("train/images/{}.png", "valid/images/v{}.png")
         | {f"{prefix}{n}.txt": "0 .5 .5 .2 .2" for n in range(6) for prefix in ("train/labels/", "valid/labels/v")}
         | {"data.yaml": "names: [cell]"}, "yolo", ""),
        (noise_images("img_{}.png") | {f"mask_{n}.png": png(blob(n)) for n in range(6)}, "masks", ""),
        (noise_images("i/{}_training.png") | {f"m/{n}_manual1.png": png(blob(n)) for n in range(6)}, "masks", ""),
        (noise_images("low_raw/i/{}.png") | {f"low_raw/m/{n}.png": png(blob(n)) for n in range(6)}, "masks", "low_raw"),
    ],
)  # fmt: skip
def test_folder_of_the_data_set_is_found(
    files: dict[str, Any], source_format: str, inside: str, propose: Propose, workspace: Path
) -> None:
    proposed = propose(write(workspace / "source", files)).ingest
    assert (proposed.format, proposed.inside) == (source_format, inside)


def test_unused_images_are_reported(propose: Propose, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = noise_images("img/a/{}.png", "img/b/{}.png", count=24) | noise_images("docs/{}.png", count=2)
    propose(write(workspace / "source", files | {"img/LICENSE": "free"}))
    output = capsys.readouterr().out
    assert "2 images are elsewhere in the source (such as docs/0.png)" in output
    assert "1 file is not used (LICENSE: is not an image)" in output and "will be rejected" not in output


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"t.csv": "path,label"}, "t.csv: no column contains paths"),
        ({"t.csv": "path,label\n1.jpeg,a\n2.jpeg,b"}, "t.csv: no column contains paths of the images"),
        ({"t.json": '{"images": [{"id": [1]}], "annotations": [], "categories": []}'}, "coco in t.json"),
        ({"t.json": "[" * 100_000}, "t.json"),
        ({"t.npz": b"no array"}, "arrays in t.npz: t.npz cannot be read"),
        (
            {"1.json": '{"shapes": [], "imagePath": "..\\\\1.png"}'},
            "1.json: the format of LabelMe is not imported; export",
        ),
    ],
)
def test_rejected_interpretations_are_reported(files: dict[str, Any], message: str, workspace: Path) -> None:
    with pytest.raises(UserError, match=message):
        macula("configure", str(write(workspace / "source", files | noise_images("{}.png"))))


def test_refused_files_are_counted(propose: Propose, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(workspace / "source", noise_images("a/{}.png", "b/{}.png"))
    (source / "a" / "link.png").symlink_to(workspace / "params.yaml")
    propose(source)
    printed = capsys.readouterr()
    assert "1 file is refused, 'a/link.png': is a link to " in printed.out
    started = [line.partition(" the ")[0] for line in printed.err.splitlines() if "running for" not in line]
    assert started == ["configure: listing", "configure: reading", "configure: inspecting images"], (
        "progress is reported while configure runs"
    )


def test_alternative_can_be_chosen_by_options(
    propose: Propose, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files: dict[str, Any] = dict(noise_images("ill/{}.png", "well/{}.png"))
    files["t.csv"] = "\n".join(
        ["path,age", *(f"{kind}/{n}.png,{30 + n}" for n in range(6) for kind in ("ill", "well"))]
    )
    source = write(workspace / "source", files)
    assert propose(source).ingest.format == "table"
    assert "--inside . --format folders: 12 images" in capsys.readouterr().out
    assert propose(source, "--inside", ".", "--form", "folders").ingest.format == "folders"


def test_unwritable_output_is_reported(workspace: Path) -> None:
    with pytest.raises(UserError, match="--output no/p.yaml cannot be written: No such file"):
        macula("configure", str(write(workspace / "s", noise_images("a/{}.png", "b/{}.png"))), "--output", "no/p.yaml")


def test_existing_file_is_replaced_only_on_request(workspace: Path) -> None:
    with pytest.raises(UserError, match=r"params.yaml exists; use another --output, or --replace to overwrite it"):
        macula("configure", str(workspace), "--output", "params.yaml")


def test_source_without_labels_is_reported(workspace: Path) -> None:
    (workspace / "source").mkdir()
    (workspace / "source" / "a.png").write_bytes(png(blob(0)))
    with pytest.raises(UserError, match="contains no labelled images in a known format"):
        macula("configure", str(workspace / "source"))


def test_images_of_an_unsupported_format_are_reported_with_a_conversion(workspace: Path) -> None:
    write(workspace / "source", {"a/1.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "b/2.txt": "no image"})
    with pytest.raises(UserError, match=r"and 2 other files\. 'a/1\.heic' is a HEIC file, .*; convert it to PNG"):
        macula("configure", str(workspace / "source"))


REAL = {
    "bccd": ("instances", "voc", 364, "source", None, 1),
    "cell_counting": ("regression", "dots", 200, "hash", None, 1),
    "clothing10": ("classification", "folders", 741, "source", None, 1),
    "em_membranes": ("segmentation", "masks", 30, "hash", None, 3),
    "fundus_dr600": ("classification", "table", 600, "hash", "patient", 1),
    "mouse_joints": ("landmarks", "deeplabcut", 90, "hash", None, 1),
    "nuclei_dsb2018": ("instances", "instances", 133, "hash", None, 1),
    "plankton121": ("classification", "folders", 5705, "hash", None, 1),
    "pneumoniamnist": ("classification", "arrays", 5856, "source", None, 1),
}


@pytest.mark.parametrize("name", REAL)
def test_real_data_sets_are_detected_and_grouped(
    name: str, propose: Propose, reference_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proposed = propose(reference_data / f"{name}.zip")
    task, source_format, images, by, group, block = REAL[name]
    ingest = proposed.ingest
    assert (proposed.task.name, ingest.format, proposed.split.by) == (task, source_format, by)
    assert (ingest.columns.group, ingest.sequence_block) == (group, block)
    assert f"{images:,} images, read as" in capsys.readouterr().out
