"""Label files lead to the right images: by paths, beside the images, in every orientation, and for every exporter."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation, ObjectAnnotation, annotate_mask
from stages.dataset.turned_annotations import turn_annotation
from stages.images.archives import SourceFiles
from stages.images.decode import TURNS, Unreadable, decode_image
from stages.importers import open_source
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.image_paths import ImageFinder
from stages.importers.sample import read_annotation
from stages.importers.yolo import import_yolo
from tests.conftest import Ingest, digit_images, png

GREY = png(np.full((20, 30), 90, np.uint8))
BOX = "0 .5 .5 .2 .4\n"
Files = dict[str, str | bytes]
Labels = dict[str, Annotation]
Read = Callable[..., tuple[Labels, dict[str, str]]]


@pytest.fixture
def read(params: Params, tmp_path: Path) -> Read:
    """Write files and read them; return annotations and reasons of rejections by path."""

    def run(files: Files, columns: dict[str, Any] | None = None, **changes: Any) -> Any:
        for name, content in files.items():
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        changes["columns"] = params.ingest.columns.model_copy(update=columns or {})
        ingest = params.ingest.model_copy(update=changes)
        with open_source(tmp_path / "source", ingest, False) as (items, rejected):
            found = {}
            for item in items:
                picture = decode_image(item.read())
                height, width = picture.image.shape[:2]
                found[item.path] = read_annotation(item, item.read(), height, width, picture.turned)
            return found, {one.path: one.reason for one in rejected}

    return run


def detect(params: Params, files: Files) -> FormatCandidate:
    contents = {path: data if isinstance(data, bytes) else data.encode() for path, data in files.items()}
    found, _ = find_formats({path: partial(bytes, data) for path, data in contents.items()}, params.ingest)
    return found[0]


def coco(*file_names: str, iscrowd: int = 0, **image: Any) -> str:
    box = {"category_id": 1, "bbox": [2, 3, 5, 6], "iscrowd": iscrowd}
    return json.dumps(
        {
            "images": [{"id": i, "file_name": name} | image for i, name in enumerate(file_names)],
            "annotations": [{"id": i, "image_id": i} | box for i in range(len(file_names))],
            "categories": [{"id": 1, "name": "cat"}],
        }
    )


@pytest.mark.parametrize(
    ("files", "written", "found"),
    [
        (["x/a.png", "y/b.png"], "a.png", "x/a.png"),
        (["x/a.png"], "/home/me/data/x/a.png", "x/a.png"),
        (["x/a.png"], "C:\\Users\\me\\x\\a.png", "x/a.png"),
        (["x/a.png"], "file:///data/x/a.png", "x/a.png"),
        (["x/a.png"], "X/A.PNG", "x/a.png"),
        (["a.png", "A.png"], "A.png", "A.png"),
        (["x/my a.png"], "x/my%20a.png", "x/my a.png"),
        (["x/my%20a.png", "x/my a.png"], "x/my%20a.png", "x/my%20a.png"),
        (["caf\u00e9.png"], "cafe\u0301.png", "caf\u00e9.png"),
        (["x/a.png", "y/a.png"], "/data/y/a.png", "y/a.png"),
        (["x/a.png", "x/a.txt"], "a", "x/a.png"),
        (["x/a.png", "y/a.jpg"], "y/a", "y/a.jpg"),
        (["x/a.1.png"], "a.1", "x/a.1.png"),
        (["images/a.png", "data/notes"], "/home/data/images/a.png", "images/a.png"),
    ],
)
def test_a_written_path_leads_to_its_only_file(files: list[str], written: str, found: str) -> None:
    assert ImageFinder(files).find(written) == found


@pytest.mark.parametrize(
    ("files", "written", "message"),
    [
        (["x/a.png", "y/a.png"], "a.png", "2 files match this path: x/a.png, y/a.png"),
        (["x/a.png", "x/A.png"], "x/a.PNG", "2 files match this path: x/A.png, x/a.png"),
        (["x/a.png", "y/b.png"], "y/a.png", "does not exist; of the same name: x/a.png"),
        (["val/a.png"], "train/a.png", "does not exist; of the same name: val/a.png"),
        (["s/1/a.png", "s/2/b.png"], "s/2/a.png", "does not exist; of the same name: s/1/a.png"),
        (["data/x2/a.png"], "/home/data/x/a.png", "does not exist; of the same name"),
        (["x/a.png", "x/a.jpg"], "a", "2 files match this path: x/a.jpg, x/a.png"),
        (["x/a.png", "y/a.png"], "a", "2 files match this path: x/a.png, y/a.png"),
        (["a.png"], "", "does not exist"),
    ],
)
def test_an_ambiguous_or_contradicting_path_lists_the_candidates(files: list[str], written: str, message: str) -> None:
    with pytest.raises(Unreadable, match=message):
        ImageFinder(files).find(written)


IDS = {f"train/{k}f{k}.png": GREY for k in range(20)}


def id_table(column: str, names: list[str]) -> str:
    rows = (f"{row},{name},{row % 2}\n" for row, name in enumerate(names))
    return f"number,{column},diagnosis\n" + "".join(rows)


def test_a_table_may_name_images_without_their_suffix(params: Params, read: Read) -> None:
    files: Files = {**IDS, "train.csv": id_table("id_code", [f"{k}f{k}" for k in range(20)])}
    found = detect(params, files)
    columns = found.changes["columns"]
    assert (found.format, columns["path"], columns["label"]) == ("table", "id_code", "diagnosis")
    labels, rejected = read(
        {**files}, columns, format="table", inside="train.csv", images=found.changes.get("images", "")
    )
    assert labels == {f"train/{k}f{k}.png": Annotation(labels=(str(k % 2),)) for k in range(20)} and not rejected


def test_row_numbers_are_not_names_of_images_if_a_column_has_names_with_suffix(params: Params) -> None:
    files = {f"{k}.png": GREY for k in range(20)}
    names = [f"/home/me/{19 - k}.png" for k in range(20)]
    assert detect(params, {**files, "t.csv": id_table("file", names)}).changes["columns"]["path"] == "file"
    contents = {**files, "t.csv": id_table("id", [str(19 - k) for k in range(20)]).encode()}
    found, failures = find_formats({path: partial(bytes, data) for path, data in contents.items()}, params.ingest)
    assert not found
    assert "the columns number and id both contain names of images without a suffix" in "".join(failures)


@pytest.mark.parametrize(
    ("image", "xml"),
    [("{}.png", "{}.xml"), ("d/{}.png", "d/{}.xml"), ("d/images/{}.png", "d/annotations/{}.xml")],
)
def test_voc_files_of_the_same_name_as_images_are_detected(params: Params, read: Read, image: str, xml: str) -> None:
    box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>7</xmax><ymax>9</ymax></bndbox>"
    text = f"<annotation><object><name>cat</name>{box}</object></annotation>"
    files: Files = {image.format(k): GREY for k in range(4)} | {xml.format(k): text for k in range(4)}
    found = detect(params, files)
    assert (found.format, found.inside, len(found.samples), found.rejected) == ("voc", "", 4, ())
    labels, rejected = read(files)
    assert labels[image.format(0)].shapes == (ObjectAnnotation("cat", (2, 3, 7, 9)),)
    assert len(labels) == 4 and not rejected


def test_paths_that_lead_to_one_file_are_not_found_unless_exact() -> None:
    found, failed = ImageFinder(["x/a.png"]).find_all(["p/a.png", "q/a.png", "x/a.png"])
    assert found == {"x/a.png": "x/a.png"} and set(failed) == {"p/a.png", "q/a.png"}
    assert "p/a.png both match x/a.png" in failed["q/a.png"]


def test_absolute_paths_of_another_machine_are_found_in_every_format(params: Params, read: Read) -> None:
    images = {"x/a.png": GREY, "x/b.png": GREY}
    paths = ["/home/me/my data/x/a.png", "C:\\d\\x\\b.png"]
    table = "file,label\n" + "".join(f"{path},{k}\n" for k, path in enumerate(paths))
    found, rejected = read(images | {"t.csv": table}, {"path": "file"}, inside="t.csv")
    assert {path: one.labels for path, one in found.items()} == {"x/a.png": ("0",), "x/b.png": ("1",)} and not rejected
    assert detect(params, images | {"t.csv": table}).changes["columns"]["path"] == "file"
    found, _ = read({"c.json": coco(*paths)}, inside="c.json")
    assert set(found) == set(images)
    header = "scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\n"
    found, _ = read({"d.csv": header + "".join(f"{path},1,2\n" for path in paths)}, inside="d.csv")
    assert set(found) == set(images)


def test_a_coco_file_with_ambiguous_names_lists_the_files(read: Read) -> None:
    found, rejected = read(
        {"c.json": coco("a.png", "b.png"), "x/a.png": GREY, "y/a.png": GREY, "x/b.png": GREY}, inside="c.json"
    )
    assert set(found) == {"x/b.png"} and "2 files match this path: x/a.png, y/a.png" in rejected["a.png"]


DARKNET: Files = {"d/a.png": GREY, "d/a.txt": BOX, "d/b.png": GREY, "d/b.txt": "", "d/c.png": GREY, "d/c.txt": BOX}


@pytest.mark.parametrize("classes", ["d/classes.txt", "classes.txt", "obj.names", "d/_darknet.labels"])
def test_yolo_labels_beside_the_images_are_read_and_proposed(params: Params, read: Read, classes: str) -> None:
    files: Files = {**DARKNET, classes: "cat\n", "train.txt": "d/a.png\n"}
    found, rejected = read(files)
    assert {path: len(one.shapes or ()) for path, one in found.items()} == {"d/a.png": 1, "d/b.png": 0, "d/c.png": 1}
    assert not rejected
    reading = detect(params, files)
    assert (reading.format, len(reading.samples)) == ("yolo", 3)


def test_lists_of_images_of_darknet_define_the_splits(params: Params) -> None:
    lists = {"train.txt": "data/d/a.png\nother/e.png\n", "valid.txt": "C:\\x\\d\\c.png\n\n", "test.txt": "./d/b.png"}
    files: Files = {**DARKNET, "obj.names": "cat\n", **lists}
    reading = detect(params, files)
    assert {sample.path: sample.split for sample in reading.samples} == {
        "d/a.png": "train",
        "d/c.png": "val",
        "d/b.png": "test",
    }
    files["val.txt"] = "d/a.png"
    contents = {path: data if isinstance(data, bytes) else data.encode() for path, data in files.items()}
    twice: SourceFiles = {path: partial(bytes, data) for path, data in contents.items()}
    with pytest.raises(UserError, match="val.txt: d/a.png is in both train and val; remove it from one of them"):
        import_yolo(twice, "", params.ingest, has_split=True)
    assert len(import_yolo(twice, "", params.ingest, has_split=False)[0]) == 3


def test_a_yolo_folder_without_label_files_says_what_is_required(read: Read) -> None:
    with pytest.raises(UserError, match="none of 1 image has a label file: images/NAME.jpg requires labels/NAME.txt"):
        read({"classes.txt": "cat", "d/a.png": GREY, "d/x.txt": BOX}, format="yolo")


def test_images_without_labels_are_negatives_on_request(params: Params, read: Read) -> None:
    names = [f"{k}.png" for k in range(4)]
    files: Files = {"data.yaml": "names: [cat]", **{f"images/{name}": GREY for name in names}}
    files |= {f"labels/{k}.txt": BOX for k in range(3)}
    found, rejected = read(files)
    assert len(found) == 3 and "set ingest.unlabelled to empty" in rejected["images/3.png"]
    found, rejected = read(files, unlabelled="empty")
    assert found["images/3.png"] == Annotation(shapes=()) and not rejected
    reading = detect(params, files)
    assert reading.changes["unlabelled"] == "empty" and "images/3.png" in reading.reasons["unlabelled"]
    few = {path: data for path, data in files.items() if path not in ("labels/1.txt", "labels/2.txt")}
    assert "unlabelled" not in detect(params, few).changes, "most images are not labelled yet"


def test_images_without_coco_or_voc_entries_are_negatives_on_request(read: Read) -> None:
    found, _ = read({"c.json": coco("a.png"), "a.png": GREY, "b.png": GREY}, inside="c.json", unlabelled="empty")
    assert found["b.png"] == Annotation(shapes=())
    found, _ = read({"Annotations/a.xml": "<annotation/>"}, format="voc", unlabelled="empty")
    assert set(found) == {"a.png", "b.png"}


@pytest.mark.parametrize(
    ("shape", "row", "points"),
    [
        ("[2, 2]", "0 .5 .5 .2 .4 .1 .2 0 0", {"nose": (3, 4), "tail": None}),
        ("[2, 3]", "0 .5 .5 .2 .4 .1 .2 2 .3 .4 0", {"nose": (3, 4), "tail": None}),
        ("[2, 3]", "", {"nose": None, "tail": None}),
    ],
)
def test_yolo_pose_rows_are_key_points(read: Read, shape: str, row: str, points: dict[str, Any]) -> None:
    names = f"names: [cat]\nkpt_shape: {shape}\nkpt_names: {{0: [nose, tail]}}"
    found, _ = read({"data.yaml": names, "images/a.png": GREY, "labels/a.txt": row})
    assert found["images/a.png"] == Annotation(points=points)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (BOX, "4 numbers after the class; a box and 1 key point of 3 numbers require 7"),
        ("0 .5 .5 .2 .4 .1 .2 5", "the visibility of point0 is 5"),
        ("0 .5 .5 .2 .4 1.2 .2 2", "1.2 is not between 0 and 1"),
        ("0 .5 .5 .2 .4 .1 .2 2\n" * 2, "contains 2 objects, but only one is supported"),
    ],
)
def test_invalid_yolo_pose_rows_are_reported(read: Read, rows: str, message: str) -> None:
    files = {"data.yaml": "names: [cat]\nkpt_shape: [1, 3]", "images/a.png": GREY, "labels/a.txt": rows}
    with pytest.raises(Unreadable, match=message):
        read(files)


def test_a_table_with_semicolons_has_decimal_commas(params: Params, read: Read) -> None:
    table = "path;label;size\na.png;x, y;1,5\nb.png;x;2,25\n;;\n"
    files: Files = {"a.png": GREY, "b.png": GREY, "t.csv": table}
    found, rejected = read(files, {"scalars": ("size",)}, inside="t.csv")
    assert found == {"a.png": Annotation(("x, y",), {"size": 1.5}), "b.png": Annotation(("x",), {"size": 2.25})}
    assert not rejected, "blank rows of a spreadsheet are not images"
    columns = detect(params, {**files, "t.csv": "path;mass\na.png;1,5\nb.png;2,25\n"}).changes["columns"]
    assert columns["scalars"] == ["mass"]
    with pytest.raises(UserError, match="'1,5' with a comma and '2.25' with a point, which is ambiguous"):
        read({"t.csv": table.replace("2,25", "2.25")}, {"scalars": ("size",)}, inside="t.csv")


def test_a_deeplabcut_table_may_have_semicolons_and_blank_rows(read: Read) -> None:
    table = "scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\na.png,1.5,2\n,,\n\n,,\n"
    for text in (table, table.replace(",", ";").replace(".5", ",5")):
        found, rejected = read({"a.png": GREY, "d.csv": text}, inside="d.csv")
        assert found == {"a.png": Annotation(points={"nose": (1.5, 2.0)})} and not rejected


def photo(orientation: int, height: int = 20, width: int = 30) -> bytes:
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.full((height, width), 90, np.uint8)).save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


VOC = (
    "<annotation><size><width>{}</width><height>{}</height></size><object><name>cat</name><bndbox>"
    "<xmin>3</xmin><ymin>4</ymin><xmax>7</xmax><ymax>9</ymax></bndbox></object></annotation>"
)


@pytest.mark.parametrize(("size", "box"), [((20, 30), (2, 3, 7, 9)), ((30, 20), (11, 2, 17, 7))])
def test_the_size_in_the_labels_shows_which_orientation_is_meant(
    read: Read, size: tuple[int, int], box: tuple[float, ...]
) -> None:
    width, height = size
    files = {"c.json": coco("a.jpg", width=width, height=height), "a.jpg": photo(6)}
    found, _ = read(files, inside="c.json")
    assert [shape.box for shape in found["a.jpg"].shapes or ()] == [box]
    found, _ = read({"a.xml": VOC.format(width, height)}, format="voc")
    assert [shape.box for shape in found["a.jpg"].shapes or ()] == [box]


@pytest.mark.parametrize(
    ("image", "size", "message"),
    [
        (photo(3), {"width": 30, "height": 20}, "its EXIF orientation is 3, and it is unknown"),
        (photo(6, 20, 20), {"width": 20, "height": 20}, "its EXIF orientation is 6, and it is unknown"),
        (photo(6), {}, "its EXIF orientation is 6, and it is unknown"),
        (photo(6), {"width": 60, "height": 40}, "states the size 60x40, but the image is 20x30"),
        (photo(1), {"width": 60, "height": 40}, "states the size 60x40, but the image is 30x20"),
        (photo(1), {"width": 20, "height": 30}, "states the size 20x30, but the image is 30x20"),
    ],
)
def test_labels_of_unknown_orientation_or_another_size_are_rejected(
    read: Read, image: bytes, size: dict[str, int], message: str
) -> None:
    with pytest.raises(Unreadable, match=message):
        read({"c.json": coco("a.jpg", **size), "a.jpg": image}, inside="c.json")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_turned_annotations_cover_the_turned_pixels(orientation: int) -> None:
    mask_HW = np.zeros((20, 30), bool)
    mask_HW[3:9, 2:7] = True
    upright = np.asarray(Image.fromarray(mask_HW).transpose(TURNS[orientation]))
    boxed = ObjectAnnotation("cat", (2, 3, 7, 9))
    stored = Annotation(points={"corner": (2, 3), "none": None}, shapes=(annotate_mask("cat", mask_HW), boxed))
    turned = turn_annotation(stored, orientation, 20, 30)
    expected = annotate_mask("cat", upright)
    assert turned.shapes == (expected, ObjectAnnotation("cat", expected.box))
    dot_HW = np.zeros((20, 30), bool)
    dot_HW[3, 2] = True
    ((y, x),) = np.argwhere(np.asarray(Image.fromarray(dot_HW).transpose(TURNS[orientation])))
    assert turned.points == {"corner": (x, y), "none": None}


@pytest.mark.parametrize(
    "labels",
    [
        {"images/0.png": GREY, "labels/0.txt": "", "classes.txt": "cat\n"},
        {"JPEGImages/0.png": GREY, "Annotations/0.xml": "<annotation></annotation>"},
    ],
    ids=["yolo", "voc"],
)
def test_labels_without_any_object_are_refused(ingest: Ingest, tmp_path: Path, labels: Files) -> None:
    for name, content in labels.items():
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="the labels of 1 image contain no object, so that nothing can be learned"):
        ingest(tmp_path / "source")


def test_objects_that_are_all_marked_as_crowd_are_refused(
    ingest: Ingest, params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = [f"{k}.png" for k in range(20)]
    for name, (_, image) in zip(names, digit_images(2), strict=True):
        (source / name).write_bytes(png(np.kron(image, np.ones((3, 4), np.uint8))))
    (source / "c.json").write_text(coco(*names, iscrowd=1))
    with pytest.raises(UserError, match="20 of 20 objects are marked as iscrowd .* set ingest.crowd to objects"):
        ingest(source, inside="c.json", format="coco")
    ingest(source, inside="c.json", format="coco", crowd="objects")
    content = json.loads(coco(*names))
    content["annotations"][0]["iscrowd"] = 1
    (source / "c.json").write_text(json.dumps(content))
    capsys.readouterr()
    ingest(source, inside="c.json", format="coco")
    assert "1 of 20 objects is marked as iscrowd" in capsys.readouterr().out
    contents = {path.name: path.read_bytes() for path in source.iterdir()}
    assert "crowd" not in detect(params, {**contents}).changes
    assert detect(params, {**contents, "c.json": coco(*names, iscrowd=1)}).changes["crowd"] == "objects"


def test_combinations_of_overlapping_objects_are_found_in_all_images(ingest: Ingest, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    names = [f"{k}.png" for k in range(20)]
    for name, (_, image) in zip(names, digit_images(2), strict=True):
        (source / name).write_bytes(png(np.kron(image, np.ones((3, 4), np.uint8))))
    content = json.loads(coco(*names))
    content["categories"] = [{"id": 1, "name": "cell"}, {"id": 2, "name": "nucleus"}]
    for number in range(20):
        content["annotations"].append({"id": 20 + number, "image_id": number, "category_id": 2, "bbox": [3, 4, 2, 2]})
    (source / "c.json").write_text(json.dumps(content))
    for overlaps, expected in {"combine": ["background", "cell", "cell + nucleus"], "reject": []}.items():
        ingested = ingest(source, inside="c.json", format="coco", overlaps=overlaps)
        for folder in (ingested, ingested.parent / "sealed"):
            assert json.loads((folder / "dataset.json").read_text())["combinations"] == expected
    content["categories"][1]["name"] = "cell + core"
    (source / "c.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="the class 'cell \\+ core' contains ' \\+ '"):
        ingest(source, inside="c.json", format="coco", overlaps="combine")


def test_masks_of_other_slices_are_not_proposed_as_objects(params: Params) -> None:
    rng = np.random.default_rng(0)
    files: Files = {}
    for patient in range(4):
        for slice_ in range(6):
            mask = np.zeros((24, 30), np.uint8)
            mask[4 + slice_ : 14, 5 + patient : 20] = 255
            image = rng.integers(60, 250, (24, 30), dtype=np.uint8)
            files |= {f"patient{patient}/images/{slice_:03d}.png": png(image)}
            files |= {f"patient{patient}/masks/{slice_:03d}.png": png(mask)}
    reading = detect(params, files)
    assert reading.format == "masks", "neither objects of other slices nor patients as classes"
