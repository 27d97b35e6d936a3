"""Annotation files of other tools are named, and other files are not mistaken for them."""

import json

import pytest

from stages.config.schema import Params
from stages.images.archives import SourceFiles
from stages.importers.foreign_formats import describe_foreign_files
from stages.importers.format_detection import find_formats

REGION = {"filename": "a.png", "size": 9, "regions": [], "file_attributes": {}}
FOREIGN = {
    "LabelMe": {"version": "5.0.1", "shapes": [], "imagePath": "a.png", "imageData": None},
    "VGG Image Annotator (VIA)": {"a.png9": REGION},
    "Label Studio": [{"id": 1, "data": {"image": "/a.png"}, "annotations": []}],
    "CreateML": [{"image": "a.png", "annotations": []}],
    "VoTT": {"assets": {}, "tags": []},
    "Supervisely": {"size": {"height": 8, "width": 8}, "objects": []},
    "GeoJSON (QuPath)": {"type": "FeatureCollection", "features": []},
    "CVAT for images": '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version></annotations>',
}


@pytest.mark.parametrize("tool", FOREIGN)
def test_the_tool_of_a_foreign_annotation_file_is_named(tool: str) -> None:
    text = content if isinstance(content := FOREIGN[tool], str) else json.dumps(content)
    ending = "xml" if isinstance(content, str) else "json"
    files: SourceFiles = {f"a/{number:02d}.{ending}": text.encode for number in range(30)}
    (sentence,) = describe_foreign_files(files)
    assert sentence.startswith(f"a/00.{ending}: the format of {tool} is not imported; export the labels")


def test_a_via_project_file_is_recognized() -> None:
    (sentence,) = describe_foreign_files({"p.json": json.dumps({"_via_img_metadata": {"a": REGION}}).encode})
    assert "(VIA)" in sentence


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[" * 100_000,
        "[]",
        "{}",
        "3",
        '["a"]',
        '{"images": [], "annotations": [], "categories": []}',
        '{"a": 1}',
    ],
)
def test_other_json_files_name_no_tool(text: str) -> None:
    assert describe_foreign_files({"a.json": text.encode}) == []


@pytest.mark.parametrize("text", ["<annotation><object/></annotation>", "no XML", "<svg/>", "<annotationset/>"])
def test_other_xml_files_name_no_tool(text: str) -> None:
    assert describe_foreign_files({"a.xml": text.encode}) == []


BOX = "10.0 9 20 8.5 21 18 11 19 small-vehicle 0\n"
DISH = {"sample_id": 3, "colonies_number": 2, "labels": [{"x": 1, "y": 2, "width": 3, "height": 4}]}


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("labelTxt/{k}.txt", f"imagesource:GoogleEarth\ngsd:0.1\n{2 * BOX}", ("rotated boxes", "labelTxt", "polygon")),
        ("images/{k}.txt", BOX.replace(" ", ","), ("rotated boxes", "eight coordinates")),
        ("images/{k}.json", json.dumps(DISH), ("8 JSON files", "not imported (keys sample_id", "COCO")),
        ("set{k}/data.ZIP", "PK", ("archives inside the source", "not opened; unpack")),
    ],
)
def test_labels_and_archives_that_are_not_imported_are_named_with_a_conversion(
    path: str, text: str, words: tuple[str, ...], params: Params
) -> None:
    files: SourceFiles = {f"images/{k}.png": bytes for k in range(8)} | {
        path.format(k=k): text.encode for k in range(8)
    }
    found, failures = find_formats(files, params.ingest)
    (sentence,) = (one for one in failures if path.format(k=0) in one)
    assert not found and all(word in sentence for word in (*words, path.format(k=1)))


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.1 0.1\n", "0 .1 .1 .2 .1 .2 .2 .1 .2\n", "a note\n", "", "gsd:0.1\n"])
def test_other_text_files_are_not_rotated_boxes(text: str) -> None:
    assert describe_foreign_files({"a.png": bytes, "a.txt": text.encode}) == []


IMAGES = {f"{k}.png": bytes for k in range(8)}


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        (
            "filename,width,height,class,xmin,ymin,xmax,ymax",
            "{k}.png,30,20,cat,1,2,9,9",
            "one box per row (columns xmin",
        ),
        ("image_id,width,bbox,source", '{k},30,"[1, 2, 8, 7]",{odd}', "one box per row (column bbox)"),
        ("filename,cat,dog", "{k}.png,{odd},1", "one column per class with 0 or 1 (cat, dog)"),
        ("filename,class", "{half}.png,{odd}", "several rows per image (4 rows repeat an image of the column filename"),
    ],
)
def test_the_layout_of_a_table_that_is_not_imported_is_named(
    params: Params, header: str, row: str, message: str
) -> None:
    rows = [row.format(k=k, half=k // 2, odd=k % 2) for k in range(8)]
    table = "\n".join([header, *rows]).encode()
    found, failures = find_formats({**IMAGES, "t.csv": lambda: table}, params.ingest)
    assert not found and any(message in failure and "which is not imported" in failure for failure in failures)


@pytest.mark.parametrize("rows", ["{k}.png,{k}.5,0", "{k}.png,1,{k}"])
def test_a_table_of_numbers_is_not_taken_for_another_layout(params: Params, rows: str) -> None:
    table = "\n".join(["file,size_mm,weight", *(rows.format(k=k) for k in range(8))]).encode()
    found, _ = find_formats({**IMAGES, "t.csv": lambda: table}, params.ingest)
    assert found[0].format == "table"
