"""Layouts of sources that `configure` has to tell apart by structure: masks beside images, stacks, several tables."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages import ingest as ingest_stage
from stages.config.load import load
from stages.config.schema import Params
from stages.core.errors import UserError
from stages.importers import IMPORTERS, open_source
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.runner.stage import call
from tests.command_line import macula
from tests.conftest import png

Files = dict[str, bytes]
POINTS = "scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\n"
HEIGHT, WIDTH = 24, 30


def grey(number: int) -> bytes:
    return png(np.random.default_rng(number).integers(60, 250, (HEIGHT, WIDTH), dtype=np.uint8))


def blob(number: int, row: int = 4) -> bytes:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[row : row + 4, 3 + number % 5 : 20] = 255
    return png(mask)


def detect(params: Params, files: Mapping[str, bytes | str]) -> list[FormatCandidate]:
    contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    return find_formats({path: partial(bytes, data) for path, data in contents.items()}, params.ingest)[0]


def beside(image: str, mask: str, *folders: str) -> Files:
    """Return eight images per folder, each with a mask."""
    files: Files = {}
    for place, folder in enumerate(folders):
        for number in range(8):
            names = {"folder": folder, "n": number, "type": ("jpg", "JPG", "jpeg")[number % 3]}
            files |= {image.format(**names): grey(10 * place + number), mask.format(**names): blob(number)}
    return files


@pytest.mark.parametrize(
    ("files", "inside", "images", "targets"),
    [
        (beside("{folder}/c{n}.jpg", "{folder}/c{n}.png", "crack"), "crack", "{key}.jpg", "{key}.png"),
        (beside("{folder}/c{n}.{type}", "{folder}/c{n}.png", "crack"), "crack", "{key}.*", "{key}.png"),
        (beside("{folder}/{n}.jpg", "{folder}/{n}.png", "crack", "rust"), "", "{folder}/{key}.jpg",
         "{folder}/{key}.png"),
        (beside("{folder}/{n}.{type}", "{folder}/{n}.png", "crack", "rust"), "", "{folder}/{key}.*",
         "{folder}/{key}.png"),
        (beside("{folder}/{n}.png", "{folder}/{n}_mask.png", "a", "b", "c"), "", "{folder}/{key}.png",
         "{folder}/{key}_mask.png"),
        (beside("d/{folder}/{n}.jpg", "d/{folder}/{n}.png", "train/a", "train/b", "val/a", "val/b"),
         "d", "{part}/{folder}/{key}.jpg", "{part}/{folder}/{key}.png"),
    ],
)  # fmt: skip
def test_masks_beside_images_are_masks_and_no_images_of_a_class(
    files: Files, inside: str, images: str, targets: str, params: Params
) -> None:
    best, *rivals = detect(params, files)
    found = best.format, best.inside, best.changes["images"], best.changes["targets"]
    assert found == ("masks", inside, images, targets)
    assert len(best.samples) == len(files) / 2 and not best.rejected
    of_images = {f"{inside}/{sample.path}" for sample in best.samples}
    of_classes = [rival for rival in rivals if rival.format == "folders"]
    assert len(of_classes) > 0 or inside == "crack"
    assert all(f"{rival.inside}/{one.path}" in of_images for rival in of_classes for one in rival.samples)


def test_one_folder_of_masks_beside_that_of_the_images_is_not_one_class(params: Params) -> None:
    files = beside("d/images/{n}.png", "d/masks/{n}.png", "")
    changes = detect(params, files)[0].changes
    assert (changes["images"], changes["targets"]) == ("images/{key}.png", "masks/{key}.png")
    files = beside("{folder}/images/{n}.png", "{folder}/masks/{n}.png", "p1", "p2")
    assert detect(params, files)[0].changes["targets"] == "{folder}/masks/{key}.png"


def test_a_pair_of_patterns_may_leave_the_suffix_of_the_images_open(params: Params) -> None:
    files = beside("{n}.{type}", "{n}.png", "") | {"7.tif": grey(1)}
    with pytest.raises(UserError, match=r"ingest.images: 7.JPG and 7.tif have the same key '7'"):
        importing = params.ingest.model_copy(update={"images": "{key}.*", "targets": "{key}.png"})
        IMPORTERS["masks"]({path: partial(bytes, data) for path, data in files.items()}, "", importing, False)


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data if isinstance(data, bytes) else data.encode())
    return folder


def test_it_is_asked_whether_folders_of_images_with_masks_are_classes(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = beside("{folder}/c{n}.jpg", "{folder}/c{n}.png", "crack") | {
        f"none/{n}.jpg": grey(20 + n) for n in range(8)
    }
    write(workspace / "source", files)
    macula("configure", str(workspace / "source"), "--quick")
    assert (
        "task.name: the images with masks lie in the folders crack, none: are these classes; 8 images have no mask? "
        "--inside . --format folders classifies the images, without masks"
    ) in capsys.readouterr().out
    macula("configure", str(workspace / "source"), "--quick", "--replace", "--inside", ".", "--format", "folders")
    with open_source(workspace / "source", load(workspace / "params.proposed.yaml").ingest, False) as (
        samples,
        refused,
    ):
        assert len(samples) == 16 and all(one.is_unused for one in refused)
        assert {sample.annotate(1, 1).labels for sample in samples} == {("crack",), ("none",)}


def videos(folders: int, table: str, head: str, row: str) -> dict[str, bytes | str]:
    """Return six images per folder and a table about the first five of them."""
    files: dict[str, bytes | str] = {}
    for place in range(folders):
        folder = f"labeled-data/v{place}"
        files |= {f"{folder}/img{n}.png": grey(10 * place + n) for n in range(6)}
        files[f"{folder}/{table}"] = head + "".join(row.format(folder=folder, n=n, kind="ab"[n % 2]) for n in range(5))
    return files


@pytest.mark.parametrize(
    ("files", "source_format"),
    [
        (videos(3, "CollectedData_me.csv", POINTS, "{folder}/img{n}.png,3,{n}\n"), "deeplabcut"),
        (videos(3, "labels.csv", "file,class\n", "img{n}.png,{kind}\n"), "table"),
    ],
)
def test_tables_of_several_folders_are_one_data_set_of_groups(
    files: dict[str, bytes | str], source_format: str, params: Params
) -> None:
    best = detect(params, files)[0]
    assert (best.format, best.inside) == (source_format, "labeled-data")
    assert {sample.path: sample.group for sample in best.samples} == {
        f"v{place}/img{n}.png": f"v{place}" for place in range(3) for n in range(5)
    }
    assert not best.rejected and sorted(one.path for one in best.unused) == [f"v{v}/img5.png" for v in range(3)]


def test_tables_of_different_columns_are_not_joined(params: Params) -> None:
    files = videos(2, "labels.csv", "file,class\n", "img{n}.png,{kind}\n")
    files["labeled-data/v1/labels.csv"] = str(files["labeled-data/v1/labels.csv"]).replace("class", "label")
    tables = [one.inside for one in detect(params, files) if one.format == "table"]
    assert tables == ["labeled-data/v0/labels.csv", "labeled-data/v1/labels.csv"]


def test_tables_of_different_points_are_not_joined(params: Params) -> None:
    files = videos(2, "CollectedData_me.csv", POINTS, "{folder}/img{n}.png,3,{n}\n")
    path = "labeled-data/v1/CollectedData_me.csv"
    files[path] = str(files[path]).replace("nose", "tail")
    assert {one.inside for one in detect(params, files) if one.format == "deeplabcut"} == {
        "labeled-data/v0/CollectedData_me.csv", path,
    }  # fmt: skip


def test_two_videos_are_divided_into_blocks_and_ingested(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = videos(2, "CollectedData_me.csv", POINTS, "{folder}/img{n}.png,3,{n}\n")
    macula("configure", str(write(workspace / "source", files)), "--quick")
    assert "2 groups cannot be divided into training, validation and test" in capsys.readouterr().out
    proposed = load(workspace / "params.proposed.yaml")
    assert (proposed.task.name, proposed.ingest.sequence_block) == ("landmarks", 2)
    paths = [workspace / name for name in ("source", "splits", "sealed", "ingested")]
    call(ingest_stage.main, paths, {"ingest": proposed.ingest, "split": proposed.split})
    manifest = pd.read_parquet(workspace / "ingested" / "manifest.parquet")
    assert set(manifest["group"].str[:3]) == {"v0#", "v1#"} and set(manifest["split"]) == {"train", "val"}
    unused = pd.read_csv(workspace / "ingested" / "unused.csv")
    assert sorted(unused["path"]) == ["v0/img5.png", "v1/img5.png"]


def test_files_that_may_contain_labels_are_a_question_and_no_rejected_images(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files: dict[str, bytes | str] = {f"{kind}/{n}.png": grey(n + ord(kind)) for kind in "ab" for n in range(20)}
    notes = {"a/points.csv": "x,y\n1,2", "b/1.json": "{}", "b/2.xml": "<x/>", "3.txt": "cat"}
    notes |= {"README.txt": "", "b/a.md": ""}
    macula("configure", str(write(workspace / "source", files | notes)), "--quick")
    output = capsys.readouterr().out
    assert "ingest.format: 4 files that may contain labels are not used (" in output
    assert "40 images, read as folders" in output and "6 files are not used" in output
    assert "Will stop the pipeline" not in output and "rejected" not in output


def test_a_table_may_select_a_part_of_the_images(params: Params) -> None:
    files: dict[str, bytes | str] = {f"i/{n}.png": grey(n) for n in range(12)}
    files["t.csv"] = "file,class\n" + "".join(f"i/{n}.png,{'ab'[n % 2]}\n" for n in range(5)) + "i/99.png,a\n"
    best = detect(params, files)[0]
    assert (best.format, len(best.samples), [one.path for one in best.rejected]) == ("table", 5, ["i/99.png"])
    assert len(best.unused) == 7 and {one.reason for one in best.unused} == {"is not listed in t.csv"}


def stacks(second: tuple[str, ...], above: str = "") -> Files:
    """Return two stacks of sections: the first with three folders of masks and one of label images."""
    files: Files = {}
    for n in range(8):
        for name in ("stack1", "stack2"):
            files[f"{above}{name}/raw/{n:02d}.png"] = grey(n + 10 * len(name))
            masks = ("membranes", "mitochondria", "synapses") if name == "stack1" else second
            files |= {f"{above}{name}/{kind}/{n:02d}.png": blob(n, 4 + 6 * i) for i, kind in enumerate(masks)}
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        labels[2:20, n : n + 9] = np.repeat([32, 128, 200], 6)[:, None]
        files[f"{above}stack1/labels/labels{n:08d}.png"] = png(labels)
    return files


@pytest.mark.parametrize("above", ["", "vnc/", "a/b/"])
def test_stacks_are_not_classes_and_masks_belong_to_their_own_stack(above: str, params: Params) -> None:
    found = detect(params, stacks((), above))
    best = found[0]
    assert (best.format, best.inside, best.changes["targets"]) == ("masks", f"{above}stack1", "{label}/{key}.png")
    assert len(best.samples) == 8 and not best.rejected, "label images are other data, not a class without images"
    mask = best.samples[0].annotate(HEIGHT, WIDTH).mask
    assert mask == ("background", "membranes", "mitochondria", "synapses")
    assert {one.format for one in found} == {"masks"}, "neither stacks nor raw and masks are classes"
    assert {one.inside for one in found} == {f"{above}stack1"}, "no raw image of stack2 has a mask of stack1"


def test_masks_of_several_stacks_are_read_together(params: Params) -> None:
    best = detect(params, stacks(("membranes", "mitochondria", "synapses")))[0]
    assert (best.inside, best.changes["images"]) == ("", "{folder}/raw/{key}.png")
    assert best.changes["targets"] == "{folder}/{label}/{key}.png" and len(best.samples) == 16


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("raw/{0:02d}.png", "labels/labels{0:08d}.png"),
        ("raw/{0}.png", "labels/{0:03d}.png"),
        ("t{0:03d}.png", "man_seg{0}.png"),
        ("p1/raw/{0:02d}.png", "p1/gt/{0}.png"),
    ],
)
def test_numbers_with_other_padding_are_the_same_key(image: str, mask: str, params: Params) -> None:
    files = {image.format(n): grey(n) for n in range(12)} | {mask.format(n): blob(n) for n in range(12)}
    best = detect(params, files)[0]
    assert (best.format, len(best.samples), best.rejected) == ("masks", 12, ())
    assert best.samples[0].target is not None and best.samples[0].target(HEIGHT, WIDTH)


def test_numbers_that_differ_only_in_padding_are_not_mixed_up(params: Params) -> None:
    files = {f"i/{n}.png": grey(k) for k, n in enumerate(("1", "01", "2", "3"))}
    files |= {f"m/{n}.png": blob(k) for k, n in enumerate(("1", "01", "2", "003"))}
    importing = params.ingest.model_copy(update={"images": "i/{key}.png", "targets": "m/{key}.png"})
    source: dict[str, Callable[[], bytes]] = {path: partial(bytes, data) for path, data in files.items()}
    samples, rejected = IMPORTERS["masks"](source, "", importing, False)
    assert sorted(one.path for one in samples) == ["i/01.png", "i/1.png", "i/2.png", "i/3.png"] and not rejected
    del source["m/01.png"]
    rejected = IMPORTERS["masks"](source, "", importing, False)[1]
    assert [one.path for one in rejected] == ["i/01.png"], "1 has a mask of its own, which is not that of 01"


def cells(number: int, step: int, pieces: bool) -> bytes:
    """Return a label image of numbered cells, whose numbers have gaps if `step` is above 1."""
    label_HW = np.zeros((48, 48), np.uint16)
    for k in range(12 + number % 4):
        y, x = 2 + 9 * (k // 5), 2 + 9 * (k % 5)
        label_HW[y : y + 5, x : x + 5] = 1 + step * k + number % 2 * (step > 1)
    if pieces:
        label_HW[-4:, -4:] = label_HW[-4:, :4] = label_HW.max()
    return png(label_HW)


@pytest.mark.parametrize(("step", "pieces"), [(1, False), (3, False), (1, True), (3, True)])
def test_numbered_label_images_are_objects(step: int, pieces: bool, params: Params) -> None:
    rng = np.random.default_rng(0)
    files = {f"i/{n}.png": png(rng.integers(60, 250, (48, 48), dtype=np.uint8)) for n in range(6)}
    best = detect(params, files | {f"m/{n}.png": cells(n, step, pieces) for n in range(6)})[0]
    assert (best.format, len(best.samples)) == ("instances", 6)


BOX = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>7</xmax><ymax>9</ymax></bndbox>"


@pytest.mark.parametrize(
    ("image", "xml"),
    [
        ("images/{}.png", "annotations/{}.xml"),
        ("images/{}.png", "ANNOTATIONS/xmls/{}.xml"),
        ("d/jpegimages/{}.png", "d/annotations/{}.xml"),
        ("images/{folder}/{}.png", "annotations/{folder}/{}.xml"),
        ("{folder}/images/{}.png", "{folder}/annotations/xmls/{}.xml"),
    ],
)
def test_folders_of_voc_may_have_other_names(image: str, xml: str, params: Params) -> None:
    text = f"<annotation><object><name>cat</name>{BOX}</object></annotation>"
    names = [(folder, n) for folder in ("a", "b") for n in range(4)]
    files = {image.format(n, folder=folder): grey(n) for folder, n in names}
    best = detect(params, files | {xml.format(n, folder=folder): text for folder, n in names})[0]
    assert (best.format, len(best.samples), best.rejected) == ("voc", len(files), ())
