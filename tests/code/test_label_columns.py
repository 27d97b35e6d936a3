"""Roles of the columns of a table: classes, numbers, groups, and columns that are asked about or not imported."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import pandas as pd
import pytest

from stages.config.schema import Params
from stages.importers import IMPORTERS
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.label_columns import find_class_separator
from stages.importers.table_columns import infer_columns

Rows = Iterable[Iterable[Any]]
CYCLE = ("red", "green", "blue")


def text(header: str, rows: Rows) -> str:
    return "\n".join([header, *(",".join(map(str, row)) for row in rows)])


def detect(params: Params, images: Iterable[str], **others: str) -> tuple[list[FormatCandidate], list[str]]:
    contents = dict.fromkeys(images, b"") | {name.replace("__", "."): text.encode() for name, text in others.items()}
    return find_formats({path: partial(bytes, data) for path, data in contents.items()}, params.ingest)


def columns(header: str, rows: Rows) -> tuple[dict[str, Any], dict[str, str]]:
    named = header.split(",")
    return infer_columns(pd.DataFrame([[str(cell) for cell in row] for row in rows], columns=named), ".")


TABLES: dict[str, tuple[str, list[tuple[Any, ...]], dict[str, Any]]] = {
    "sex, age and site describe the patient": (
        "lesion_id,dx,dx_type,age,sex,localization",
        [(f"L{n // 2}", CYCLE[n // 2 % 3], "ab"[n % 2], 20 + n % 50, "mf"[n % 2], "xyz"[n % 3]) for n in range(60)],
        {"label": "dx", "group": "lesion_id", "scalars": []},
    ),
    "the page is a number of the file": (
        "document,page,type",
        [(f"d{n // 3}", n % 3, CYCLE[n // 3 % 3]) for n in range(60)],
        {"label": "type", "group": "document", "scalars": []},
    ),
    "plate, well and site locate the image": (
        ",Metadata_Plate,Metadata_Well,Metadata_Site,Metadata_MoA",
        [(n, f"P{n // 10}", f"A{n % 10:02}", n % 2, CYCLE[n % 3]) for n in range(60)],
        {"label": "Metadata_MoA", "group": "Metadata_Plate", "scalars": []},
    ),
    "an attribute of the patient is not the patient": (
        "Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender",
        [(["none", "a|b", "a", "b|c", "c"][n % 5], n % 3, n // 3, 20 + n % 40, "MF"[n % 2]) for n in range(60)],
        {"label": "Finding Labels", "separator": "|", "group": "Patient ID"},
    ),
    "dates, counters and paths are not numbers to predict": (
        "index,taken,code,weight",
        [(n, f"2020-01-{1 + n % 28:02}", 20200101000 + n, 3 + n * n % 17) for n in range(60)],
        {"label": None, "scalars": ["weight"]},
    ),
    "measured numbers come before names": (
        "sample,fruit,size_mm",
        [(f"s{n}", CYCLE[n % 3], 10 + n / 7) for n in range(60)],
        {"label": None, "scalars": ["size_mm"]},
    ),
    "names come before whole numbers": (
        "animal_kind,legs",
        [(CYCLE[n % 3], n % 4) for n in range(60)],
        {"label": "animal_kind", "scalars": []},
    ),
    "age is predicted if there is nothing else": (
        "age,sex",
        [(20 + n % 50, "mf"[n % 2]) for n in range(60)],
        {"label": None, "scalars": ["age"]},
    ),
    "individuals that are mostly seen once are classes": (
        "Id",
        [(f"w_{n - n % 2 if n < 20 else n}",) for n in range(60)],
        {"label": "Id", "scalars": []},
    ),
    "a column of individuals is the class if there is no other": (
        "animal",
        [(f"{'abcdef'[n % 6]}{n % 12}",) for n in range(60)],
        {"label": "animal", "group": None},
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_the_columns_of_labels_and_groups_are_found_by_their_values(name: str) -> None:
    header, rows, expected = TABLES[name]
    found, _ = columns(header, rows)
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (
            "fruit,shop",
            [(CYCLE[n % 3], "xy"[n % 2]) for n in range(60)],
            "the labels are read from fruit (red, green, blue); shop (x, y) may be the labels too, for example by the "
            "line `label: shop`",
        ),
        (
            "variety,weight_g",
            [("ab"[n % 2], n / 7) for n in range(60)],
            "by the line `scalars: [weight_g]` and `label: null`",
        ),
        (
            "rust,severity",
            [(n % 4, n % 5) for n in range(60)],
            "all of rust (0, 1, 2 ...), severity (0, 1, 2 ...) are predicted as numbers: remove those from `scalars`",
        ),
        ("label,sex", [("ab"[n % 2], "mf"[n % 2]) for n in range(60)], "not used: sex (m, f); is one required?"),
        (
            "Id",
            [(f"w_{n // 2 if n < 20 else n}",) for n in range(60)],
            "has 50 values for 60 images, which is few per class",
        ),
    ],
)
def test_columns_that_may_be_the_labels_too_are_one_question(header: str, rows: Rows, message: str) -> None:
    assert message in columns(header, rows)[1]["columns"]


@pytest.mark.parametrize(
    ("cells", "separator"),
    [
        (["a|b", "b|c", "a", "c"], "|"),
        (["a;b", "b;c", "c;a", "none"], ";"),
        (["haze, water", "water, road", "road, haze"], ","),
        (["scab", "rust", "scab rust", "rust scab spot", "spot"], " "),
        (["red fox", "arctic fox", "red panda", "giant panda"], ""),
        (["Smith, Ann", "Jones, Bob", "Miller, Eve"], ""),
        (["a", "b"], ""),
    ],
)
def test_several_classes_in_a_cell_recur_in_other_cells(cells: list[str], separator: str) -> None:
    assert find_class_separator(pd.Series(cells * 4)) == separator


IMAGES = [f"img/{n}.png" for n in range(20)]
LABELLED = [(f"{n}.png", "ab"[n % 2]) for n in range(20)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            text("ImageId,ClassId,EncodedPixels", [(f"{n % 15}.png", 1 + n % 2, f"{n} 3 40 2") for n in range(20)]),
            "the column EncodedPixels contains run lengths of masks (such as 0 3 40 2)",
        ),
        (
            text("id,rle", [(f"{n}.png", f"{n} 3" if n % 2 else "") for n in range(20)]),
            "the column rle contains run lengths of masks (such as 1 3)",
        ),
        (
            text("key,EncodedPixels", [(f"{n}.png_1", "3 4") for n in range(20)]),
            "the column EncodedPixels contains run lengths",
        ),
        (
            text(
                "file,side,density,pathology", [(f"{n % 15}.png", "LR"[n % 2], n % 3, "ab"[n > 16]) for n in range(20)]
            ),
            "the table has several rows per image (5 rows repeat an image of the column file, such as 0.png, with "
            "other values of side, pathology)",
        ),
        (
            text("file,label", [*LABELLED, *LABELLED[:5]]),
            "5 rows repeat an image of the column file, such as 0.png, with",
        ),
        (
            text("file,x,y,w,h", [(f"{n % 15}.png", 1, 2, 3, 4) for n in range(20)]),
            "one box per row (columns x, y, w, h)",
        ),
        (text("file,class_a,class_b", [(f"{n}.png", n % 2, 1 - n % 2) for n in range(20)]), "one column per class"),
        (text("file,parts", [(f"{n}.png", f"[{n} 2]") for n in range(20)]), "the cells of the column parts are lists"),
        (text("0.png,cat", LABELLED[1:]), "the first row contains the path of an image (0.png)"),
        (
            text("Image,Id", [(f"{n}.png", f"w{n}") for n in range(20)]),
            "(Id (w0, w1, w2 ...): every value occurs once)",
        ),
        (
            text("file,label", [(f"{n}.png", "ab"[n % 2]) for n in range(15, 60)]),
            "file names 5 of 20 images, and 20.png is not in the source",
        ),
    ],
)
def test_a_table_that_is_not_imported_is_refused_with_its_reason(params: Params, table: str, message: str) -> None:
    found, failures = detect(params, IMAGES, t__csv=table)
    assert not found and any(failure.startswith("t.csv: ") and message in failure for failure in failures), failures


def test_an_exception_without_a_text_is_named(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ValueError

    monkeypatch.setattr("stages.importers.label_file_candidates.find_path_column", fail)
    failures = detect(params, IMAGES, t__csv=text("file,label", LABELLED))[1]
    assert "t.csv: cannot be read (ValueError: )" in failures


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels__xlsx", "PK", "labels.xlsx: a spreadsheet is not imported; export the sheet with the labels as CSV"),
        ("labels__ods", "PK", "labels.ods: a spreadsheet is not imported"),
        ("list__txt", "0.png cat\n1.png dog\n", "list.txt: the lines contain paths of images with labels (0.png cat)"),
    ],
)
def test_files_with_labels_that_are_not_tables_are_named(params: Params, name: str, content: str, message: str) -> None:
    found, failures = detect(params, IMAGES, **{name: content})
    assert not found and any(failure.startswith(message) for failure in failures)


def test_a_table_separated_by_tabs_is_read(params: Params) -> None:
    found, _ = detect(params, IMAGES, t__tsv=text("file\tlabel", [[f"{a}\t{b}"] for a, b in LABELLED]))
    assert (found[0].format, found[0].changes["columns"]["label"], len(found[0].samples)) == ("table", "label", 20)


@pytest.mark.parametrize("parts", [2, 3])
def test_images_of_a_table_are_found_in_several_folders(params: Params, parts: int) -> None:
    images = [f"part_{n % parts}/isic_{n}.jpg" for n in range(24)]
    found, _ = detect(params, images, m__csv=text("image_id,dx", [(f"isic_{n}", "ab"[n % 2]) for n in range(24)]))
    assert (found[0].format, len(found[0].samples), found[0].rejected) == ("table", 24, ())


def test_a_row_about_a_folder_applies_to_its_images_which_form_a_group(params: Params) -> None:
    images = [f"docs/doc_{n // 3}/page_{n % 3}.png" for n in range(30)]
    rows = [(f"doc_{n}", CYCLE[n % 3]) for n in range(10)]
    found, _ = detect(params, images, types__csv=text("document,kind", rows))
    samples = {item.path: (item.annotate(1, 1).labels, item.group) for item in found[0].samples}
    assert found[0].format == "table" and len(samples) == 30
    assert samples["docs/doc_1/page_2.png"] == (("green",), "docs/doc_1")
    assert "if the folders are the classes themselves" in found[0].asks[0]


def test_a_table_that_describes_the_classes_does_not_replace_their_folders(params: Params) -> None:
    images = [f"{name}/{n}.png" for name in CYCLE for n in range(8)]
    found, failures = detect(params, images, names__csv=text("folder,kind", [(name, f"a {name}") for name in CYCLE]))
    assert [one.format for one in found] == ["folders"]
    assert any(failure.startswith("names.csv: ") for failure in failures)


def camera_traps(extra: dict[str, Any]) -> str:
    images = [{"id": n, "file_name": f"{n}.png", "location": n % 5} for n in range(20)]
    entries = [{"id": n, "image_id": n, "category_id": n % 2, **extra} for n in range(20)]
    categories = [{"id": n, "name": name} for n, name in enumerate(("empty", "fox"))]
    return json.dumps({"images": images, "annotations": entries, "categories": categories})


def test_annotations_without_boxes_are_classes_of_images(params: Params) -> None:
    files = {path.removeprefix("img/"): bytes for path in IMAGES} | {"a.json": lambda: camera_traps({}).encode()}
    samples, rejected = IMPORTERS["coco"](files, "a.json", params.ingest, False)
    first, second = samples[0], samples[1]
    assert not rejected and (first.annotate(9, 9).labels, first.group) == (("empty",), "0")
    assert (second.annotate(9, 9).labels, second.group) == (("fox",), "1")
    boxes = camera_traps({"bbox": [1, 1, 2, 2]}).encode()
    item = IMPORTERS["coco"](files | {"a.json": lambda: boxes}, "a.json", params.ingest, False)[0][0]
    assert item.annotate(9, 9).labels is None and item.group is None


@pytest.mark.parametrize(
    ("keys", "group"),
    [
        ({"location": lambda n: n % 3}, "0"),
        ({"video": lambda n: f"v{n // 2}"}, "v0"),
        ({"site": lambda n: n // 2, "seq_id": lambda n: f"s{n // 2}-{n % 2}"}, "0"),
        ({"frame_num": lambda n: n % 4}, None),
        ({"location": lambda n: n}, None),  # every image has its own
    ],
)
def test_classes_of_whole_images_are_grouped_by_the_key_that_configure_would_propose(
    keys: dict[str, Callable[[int], Any]], group: str | None, params: Params
) -> None:
    content = json.loads(camera_traps({}))
    for image in content["images"]:
        image.pop("location")
        image |= {key: value(image["id"]) for key, value in keys.items()}
    files = {path.removeprefix("img/"): bytes for path in IMAGES} | {"a.json": lambda: json.dumps(content).encode()}
    samples, _ = IMPORTERS["coco"](files, "a.json", params.ingest, False)
    assert len(samples) == 20 and samples[0].group == group


def test_an_image_without_a_class_is_rejected(params: Params) -> None:
    content = json.loads(camera_traps({}))
    content["annotations"].pop()
    files = {path.removeprefix("img/"): bytes for path in IMAGES} | {"a.json": lambda: json.dumps(content).encode()}
    samples, rejected = IMPORTERS["coco"](files, "a.json", params.ingest, False)
    assert len(samples) == 19 and "no annotation gives the class of this image" in rejected[0].reason
