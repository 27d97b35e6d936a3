"""Annotation files of other tools are named, and other files are not mistaken for them."""

import json

import pytest

from stages.images.archives import SourceFiles
from stages.importers.foreign_formats import describe_foreign_files

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
