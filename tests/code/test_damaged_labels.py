"""Damaged label files of every format are reported with the name of the file; no other exception ends a run."""

import io
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.images.decode import Unreadable
from stages.importers import open_source
from stages.importers.format_detection import find_formats
from tests.conftest import png

GREY = png(np.full((20, 30), 90, np.uint8))
BOX = "0 .5 .5 .2 .4\n"
XML = (
    "<annotation><object><name>{name}</name><bndbox>"
    "<xmin>{xmin}</xmin><ymin>4</ymin><xmax>7</xmax><ymax>9</ymax></bndbox></object></annotation>"
)
DLC = "scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\n"


def xml(xmin: str = "3", encoding: str = "", declared: str = "", name: str = "cat") -> dict[str, bytes]:
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    content = (head + XML.format(name=name, xmin=xmin)).encode(encoding or "utf-8")
    return {"Annotations/a.xml": content, "JPEGImages/a.png": GREY}


def coco(annotation: Any = None, image: Any = None, category: Any = None) -> dict[str, bytes]:
    content = {
        "images": [{"id": 1, "file_name": "a.png"} | (image or {})],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "bbox": [2, 3, 5, 6]} | (annotation or {})],
        "categories": [{"id": 3, "name": "cat", "keypoints": ["nose"]} | (category or {})],
    }
    return {"c.json": json.dumps(content).encode(), "a.png": GREY}


def yolo(classes: str = "names: [cat]", rows: str | bytes = BOX) -> dict[str, bytes]:
    content = rows if isinstance(rows, bytes) else rows.encode()
    return {"data.yaml": classes.encode(), "images/a.png": GREY, "labels/a.txt": content}


def npz(labels: Any) -> dict[str, bytes]:
    buffer = io.BytesIO()
    np.savez(buffer, images=np.zeros((len(labels), 20, 30), np.uint8), labels=labels)
    return {"a.npz": buffer.getvalue()}


def parquet(label: Any) -> dict[str, bytes]:
    buffer = io.BytesIO()
    pd.DataFrame({"path": ["a.png"], "label": [label]}).to_parquet(buffer)
    return {"t.parquet": buffer.getvalue(), "a.png": GREY}


def table(content: bytes) -> dict[str, bytes]:
    return {"t.csv": content, "a.png": GREY}


def runs(counts: Any) -> dict[str, Any]:
    return {"segmentation": {"size": [20, 30], "counts": counts}}


DAMAGED: dict[str, tuple[dict[str, bytes], str]] = {
    "voc: wrong encoding": (xml(name="中", encoding="gbk"), "a.xml cannot be decoded as utf-8"),
    "voc: other encoding": (xml(name="猫", encoding="utf-8", declared="ascii"), "a.xml cannot be decoded as ascii"),
    "voc: unknown encoding": (xml(declared="klingon"), "a.xml cannot be decoded as klingon"),
    "voc: encoding of bytes": (xml(declared="hex"), "a.xml cannot be decoded as hex"),
    "voc: surrogates": (xml(declared="unicode_escape", name="\\ud800"), "a.xml cannot be decoded|is not valid XML"),
    "voc: nan": (xml("nan"), "a.xml, object 1 .* are nan, 4, 7, 9, which are not four finite numbers"),
    "voc: inf": (xml("-inf"), "a.xml, object 1 .* not four finite numbers"),
    "voc: entity in UTF-16": (
        {**xml(), "Annotations/a.xml": "<!DOCTYPE a><annotation/>".encode("utf-16")},
        "a.xml contains a DOCTYPE",
    ),
    "voc: not XML": ({**xml(), "Annotations/a.xml": b"\x00\x01"}, "a.xml is not valid XML"),
    "voc: no file": ({**xml(), "Annotations/a.xml": b""}, "a.xml is not valid XML"),
    "coco: nested too deeply": ({"c.json": b"[" * 100_000, "a.png": GREY}, "c.json is not valid JSON"),
    "coco: not UTF-8": ({"c.json": '"é"'.encode("latin-1"), "a.png": GREY}, "c.json is not valid JSON"),
    "coco: id of an annotation": (coco({"id": [7]}), r"c.json: `annotations` contains the id \[7\], which is not a"),
    "coco: id of an image": (coco(image={"id": {}}), "c.json: `images` contains the id {}"),
    "coco: id of a category": (coco(category={"id": [3]}), "c.json: `categories` contains the id"),
    "coco: image_id": (coco({"image_id": [1]}), r"c.json: annotation 7 has image_id \[1\]"),
    "coco: category_id": (coco({"category_id": [3]}), "c.json, annotation 7: category"),
    "coco: name of a category": (coco(category={"name": None}), "c.json: category 3 has no name"),
    "coco: file_name": (coco(image={"file_name": None}), "c.json: image 1 has no file_name"),
    "coco: bbox": (coco({"bbox": {"x": 1}}), "c.json, annotation 7: the bbox is"),
    "coco: segmentation": (coco({"segmentation": "x"}), "c.json, annotation 7: the segmentation is 'x'"),
    "coco: polygon": (coco({"segmentation": [[1, 2, None, 4, 5, 6]]}), "c.json, annotation 7: the polygon"),
    "coco: counts": (coco(runs(5)), "c.json, annotation 7: `counts` of the mask is 5"),
    "coco: counts of a mapping": (coco(runs({"a": 1})), "annotation 7: `counts` of the mask is {'a': 1}"),
    "coco: counts of lists": (coco(runs([[600]])), r"annotation 7: .* contains '\[600\]', which is not an integer"),
    "coco: counts of nothing": (coco(runs([None, 600])), "annotation 7: .* contains 'None', which is not an integer"),
    "coco: counts of fractions": (coco(runs([0.5, 599.5])), "annotation 7: .* contains '0.5', which is not an integer"),
    "coco: counts of text": (coco(runs("é")), "annotation 7: the mask cannot be decoded: the character 'é'"),
    "coco: key point of text": (
        coco({"keypoints": ["x", 2, 2]}),
        "annotation 7: `keypoints` contains 'x', which is not",
    ),
    "coco: key point of nothing": (coco({"keypoints": [None, 2, 2]}), "annotation 7: `keypoints` contains 'None'"),
    "coco: key point nan": (coco({"keypoints": [float("nan"), 2, 2]}), "annotation 7: `keypoints` contains 'nan'"),
    "coco: key points in a text": (coco({"keypoints": "xyz"}), "annotation 7: `keypoints` contains xyz, but"),
    "coco: key points in a number": (coco({"keypoints": 5}), "annotation 7: `keypoints` contains 5, but"),
    "coco: names in a text": (coco({"keypoints": [1, 2, 2]}, category={"keypoints": "a"}), "a list of different names"),
    "coco: names in a number": (coco({"keypoints": [1, 2, 2]}, category={"keypoints": 1}), "a list of different names"),
    "coco: equal names": (
        coco({"keypoints": [1, 2, 2] * 2}, category={"keypoints": ["a", "a"]}),
        "a list of different names",
    ),
    "yolo: names in a text": (yolo("names: cat"), "data.yaml: `names` is 'cat'; a list"),
    "yolo: no name": (yolo("names: [cat, null]"), "data.yaml: `names` is invalid"),
    "yolo: names of lists": (yolo("names: &a [*a]"), "data.yaml: `names` is invalid"),
    "yolo: numbers of text": (yolo("names: {a: b}"), "data.yaml: `names` is invalid"),
    "yolo: a tag": (yolo("names: !!int x"), "data.yaml is not valid YAML"),
    "yolo: nested too deeply": (yolo("names: " + "[" * 5000), "data.yaml is not valid YAML"),
    "yolo: kpt_shape": (yolo("names: [cat]\nkpt_shape: 3"), "data.yaml: `kpt_shape` is invalid"),
    "yolo: kpt_names": (yolo("names: [cat]\nkpt_shape: [2, 3]\nkpt_names: [a, a]"), "data.yaml: `kpt_names` must be"),
    "yolo: nan": (yolo(rows="0 nan .5 .2 .4"), "labels/a.txt line 1: nan is not between 0 and 1"),
    "yolo: bytes": (yolo(rows=b"\xff\x00"), "labels/a.txt line 1: .* is not a list of numbers"),
    "yolo: outside": (yolo(rows="0 -.001 .5 .001 .4"), "labels/a.txt line 1: the box has width 0.001"),
    "yolo: names of two kinds": ({**yolo(), "classes.txt": b"dog\n"}, "classes.txt and data.yaml contain different"),
    "arrays: nan": (npz(np.array([np.nan])), "the label is nan, which is not a finite number"),
    "arrays: nan beside numbers": (npz(np.array([[1.5, np.nan]])), "the label is nan"),
    "arrays: inf": (npz(np.array([np.inf])), "the label is inf"),
    "arrays: empty text": (npz(np.array([""])), "the label is empty"),
    "arrays: complex": (npz(np.array([1j])), "labels of type complex128"),
    "arrays: dates": (npz(np.array(["2001-01-01"], "M8[D]")), "labels of type datetime64"),
    "arrays: no columns": (npz(np.zeros((1, 0))), r"labels of shape \(1, 0\)"),
    "table: cut Parquet": (table(b"PAR1") | {"t.parquet": b"PAR1xxxxPAR1"}, "t.parquet cannot be read as a table"),
    "table: lists": (parquet(["x", "y"]), "t.parquet cannot be read as a table: a cell contains several values"),
    "table: bytes": (parquet(b"\xff"), "t.parquet cannot be read as a table"),
    "table: not UTF-8": (table(b"path,label\na.png,\xe9\n"), "t.csv cannot be read as a table"),
    "table: cut quotes": (table(b'path,label\n"a.png,x\n'), "t.csv cannot be read as a table"),
    "table: cut UTF-16": (table(b"\xff\xfep"), "t.csv cannot be read as a table"),
    "deeplabcut: not UTF-8": (table(DLC.encode() + b"a.png,\xe9,1"), "t.csv cannot be read as a table"),
    "deeplabcut: text": (table(DLC.encode() + b"a.png,\x00,1"), "t.csv line 4: the point nose is .* not two finite"),
}
"""Files of a source, and a pattern of the message, by format and damage."""


@pytest.fixture
def write(tmp_path: Path) -> Callable[[dict[str, bytes]], Path]:
    """Return a function that writes files and returns their folder."""

    def run(files: dict[str, bytes]) -> Path:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(content)
        return tmp_path

    return run


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_label_file_is_reported_with_its_name(
    write: Callable[[dict[str, bytes]], Path], params: Params, case: str
) -> None:
    files, message = DAMAGED[case]
    folder = write(files)
    single = [name for name in ("c.json", "a.npz", "t.parquet", "t.csv") if name in files]
    form = {"yolo": "yolo", "voc": "voc"}.get(case.partition(":")[0], "auto")
    ingest = params.ingest.model_copy(update={"inside": single[-1] if len(single) == 1 else "", "format": form})
    if "t.parquet" in files:
        ingest = ingest.model_copy(update={"inside": "t.parquet"})
    with (
        pytest.raises((Unreadable, UserError), match=message),
        open_source(folder, ingest, False) as (items, _),
    ):
        for item in items:
            item.annotate(20, 30).to_json()


@pytest.mark.parametrize("case", DAMAGED)
def test_configure_survives_a_damaged_label_file(params: Params, case: str) -> None:
    files, _ = DAMAGED[case]
    found, failures = find_formats({path: partial(bytes, data) for path, data in files.items()}, params.ingest)
    for reading in found:
        for item in reading.samples:
            try:
                item.annotate(20, 30).to_json()
            except Unreadable as error:
                failures.append(str(error))
    assert failures or any(reading.rejected for reading in found)


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("gb2312", "gb2312"),
        ("gb18030", "GB2312"),  # as Windows writes it
        ("gbk", "gbk"),
        ("big5hkscs", "big5-hkscs"),
        ("cp932", "Shift_JIS"),
        ("euc-jp", "euc-jp"),
        ("cp949", "euc-kr"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16"),
        ("utf-8", "utf-16"),  # as some programs write a text that they built in memory
        ("utf-8-sig", "utf-8"),
        ("utf-8", ""),
    ],
)
def test_annotation_xml_is_read_in_its_declared_encoding(
    write: Callable[[dict[str, bytes]], Path], params: Params, encoding: str, declared: str
) -> None:
    name = "犬"
    folder = write(xml(encoding=encoding, declared=declared, name=name))
    with open_source(folder, params.ingest, False) as (items, _):
        assert [shape.label for item in items for shape in item.annotate(20, 30).shapes or ()] == [name]


@pytest.mark.parametrize(("files", "inside"), [(xml(), ""), (yolo(), ""), (coco(), "c.json"), (table(b""), "t.csv")])
@pytest.mark.parametrize("error", [Unreadable("cannot be unpacked: bad CRC"), OSError(5, "Input/output error")])
def test_a_label_file_that_cannot_be_read_is_reported_with_its_name(
    params: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: dict[str, bytes], inside: str, error: Any
) -> None:
    def fail() -> bytes:
        raise error

    listed = {path: partial(bytes, data) if path.endswith(".png") else fail for path, data in files.items()}
    monkeypatch.setattr("stages.importers.list_source_files", lambda source, stack: (listed, []))
    ingest = params.ingest.model_copy(update={"inside": inside})
    with (
        pytest.raises((Unreadable, UserError), match=r"(a\.xml|data\.yaml|c\.json|t\.csv) cannot be"),
        open_source(tmp_path, ingest, False) as (items, _),
    ):
        items[0].annotate(20, 30)


def test_text_labels_of_arrays_and_tables_may_be_bytes(
    write: Callable[[dict[str, bytes]], Path], params: Params
) -> None:
    for files, inside in ((npz(np.array([b"cat"])), "a.npz"), (parquet(b"cat"), "t.parquet")):
        ingest = params.ingest.model_copy(update={"inside": inside})
        with open_source(write(files), ingest, False) as (items, _):
            assert [item.annotate(20, 30).labels for item in items] == [("cat",)]
