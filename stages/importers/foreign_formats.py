"""Recognize files with labels or images that are not imported, so that `configure` names them with a conversion."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from stages.core.path_parts import name_of, stem_of, suffix_of
from stages.core.plurals import list_names, quantity
from stages.images.archives import ARCHIVE_SUFFIXES, SourceFiles
from stages.images.decode import Unreadable, is_image_path

MAX_NAMED = 3  # files or keys that a sentence names
SPREADSHEETS = frozenset((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"))
MAX_READ = 20  # files per folder and suffix that are read; the files of one folder have one format
MAX_TEXT = 4000  # bytes of a text file that are searched
EXPORT = "a spreadsheet is not imported; export the sheet with the labels as CSV in UTF-8"
CONVERT = "is not imported; export the labels from the tool as COCO, Pascal VOC or YOLO"
PACKED = (*ARCHIVE_SUFFIXES, ".7z", ".rar")
NUMBER = r"[-+]?\d+(\.\d*)?"
ROTATED_BOX = re.compile(rf"\s*({NUMBER}[\s,]+){{8}}[^\s,\d.+-][^\s,]*([\s,]+\d+)?\s*")
"""Line of a rotated box: x and y of four corners, the class, and often the difficulty."""
HEADER = re.compile(r"\s*([A-Za-z_]+\s*:.*)?")  # `imagesource:GoogleEarth` and `gsd:0.15`, or an empty line


def describe_foreign_files(files: SourceFiles) -> list[str]:
    """Return one sentence per kind of file that may contain labels or images but is not imported.

    These are the annotation files of other tools, rotated boxes, JSON files in an unknown form with the names of
    images, and archives inside the source.

    Args:
        files: files of the source by path.
    """
    sheets = [path for path in files if suffix_of(path).lower() in SPREADSHEETS]
    return [
        *_describe_archives(files),
        *(f"{path}: {EXPORT}" for path in sheets),
        *_describe_tools(files),
        *_describe_lists(files),
        *_describe_rotated_boxes(files),
        *_describe_unknown_json(files),
    ]


def _describe_tools(files: SourceFiles) -> list[str]:
    found: dict[str, list[str]] = defaultdict(list)
    read: dict[tuple[str, str], int] = defaultdict(int)
    for path in files:
        suffix = suffix_of(path).lower()
        place = (path.rpartition("/")[0], suffix)
        if suffix not in (".json", ".geojson", ".xml") or read[place] >= MAX_READ:
            continue
        read[place] += 1
        try:
            tool = _tool_of_json(json.loads(files[path]())) if suffix != ".xml" else _tool_of_xml(files[path]())
        except (ValueError, RecursionError, OSError, Unreadable):  # candidates that read the file report this
            continue
        if tool:
            found[tool].append(path)
    return [f"{paths[0]}: the format of {tool} {CONVERT}" for tool, paths in found.items()]


def _describe_lists(files: SourceFiles) -> Iterator[str]:
    """Yield text files whose lines are paths of images with labels, which are tables without a header."""
    names = {name_of(path) for path in files if is_image_path(path)}
    texts = [path for path in files if path.lower().endswith(".txt")]
    for path in texts if len(texts) <= MAX_READ else ():  # more are label files of single images
        try:
            lines = files[path]()[:MAX_TEXT].decode("utf-8-sig", errors="replace").splitlines()[:MAX_READ]
        except (OSError, Unreadable):  # candidates that read the file report this
            continue
        rows = [re.split(r"[\s,;]+", line.strip()) for line in lines[:-1] if line.strip()]
        if rows and all(len(row) > 1 and PurePosixPath(row[0]).name in names for row in rows):
            yield (
                f"{path}: the lines contain paths of images with labels ({lines[0][:60]}), which is not imported from "
                "a text file; save it as CSV with a first row such as path,label"
            )


def _describe_archives(files: SourceFiles) -> list[str]:
    packed = [path for path in files if path.lower().endswith(PACKED)]
    if not packed:
        return []
    them = "an archive inside the source is" if len(packed) == 1 else f"{len(packed)} archives inside the source are"
    return [
        f"{list_names(packed, MAX_NAMED)}: {them} not opened; unpack here, or name an archive (zip or tar) itself as "
        "the source"
    ]


def _describe_rotated_boxes(files: SourceFiles) -> list[str]:
    texts = _named_like_images(files, ".txt")
    boxes = [path for path in texts[:MAX_READ] if _has_rotated_boxes(files, path)]
    if not boxes:
        return []
    return [
        f"{list_names(texts, MAX_NAMED)}: rotated boxes (eight coordinates, a class and a difficulty per line, as in "
        "labelTxt of DOTA) are not imported; write each as a polygon of COCO (`segmentation` with the eight "
        "coordinates)"
    ]


def _has_rotated_boxes(files: SourceFiles, path: str) -> bool:
    try:
        lines = files[path]().decode("utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError, Unreadable):  # importers that read the file report this
        return False
    rows = [line for line in lines if not HEADER.fullmatch(line)]
    return bool(rows) and all(ROTATED_BOX.fullmatch(row) for row in rows)


def _describe_unknown_json(files: SourceFiles) -> list[str]:
    """Return a sentence about JSON files with the names of images whose tool is not known."""
    named = _named_like_images(files, ".json")
    keys: list[str] = []
    for path in named[:MAX_READ]:
        try:
            content = json.loads(files[path]())
        except (ValueError, RecursionError, OSError, Unreadable):  # candidates that read the file report this
            continue
        if not _tool_of_json(content) and isinstance(content, dict):
            keys += [key for key in content if key not in keys]
    if not keys:
        return []
    number = quantity(len(named), "JSON file has the name of an image", "JSON files have the names of images")
    return [
        f"{list_names(named, MAX_NAMED)}: {number}, in a form that is not imported (keys "
        f"{list_names(map(str, keys), MAX_NAMED)}); write the labels as COCO, or numbers to a table with one row per "
        "image"
    ]


def _named_like_images(files: SourceFiles, suffix: str) -> list[str]:
    """Return the files of a suffix that have the name of an image in any folder."""
    stems = {stem_of(path) for path in files if is_image_path(path)}
    return [path for path in files if path.lower().endswith(suffix) and stem_of(path) in stems]


def _tool_of_json(content: Any) -> str:
    """Return the tool that writes such JSON, by the keys that its format requires; empty if unknown."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if "data" in first and first.keys() & {"annotations", "completions", "predictions"}:
            return "Label Studio"
        return "CreateML" if "annotations" in first and first.keys() & {"image", "imagefilename"} else ""
    if not isinstance(content, dict):
        return ""
    if {"shapes", "imagePath"} <= content.keys():
        return "LabelMe"
    if content.get("type") == "FeatureCollection":
        return "GeoJSON (QuPath)"
    if {"assets", "tags"} <= content.keys() or {"asset", "regions"} <= content.keys():
        return "VoTT"
    if {"objects", "size"} <= content.keys():
        return "Supervisely"
    entries = content.get("_via_img_metadata", content)
    entry = next(iter(entries.values()), None) if isinstance(entries, dict) else None
    return "VGG Image Annotator (VIA)" if isinstance(entry, dict) and {"filename", "regions"} <= entry.keys() else ""


def _tool_of_xml(data: bytes) -> str:
    """Return CVAT if the root element is `annotations`; that of Pascal VOC is `annotation`."""
    return (
        "CVAT for images"
        if re.match(rb"\s*(<\?xml[^>]*\?>\s*)?<annotations[\s>]", data.removeprefix(b"\xef\xbb\xbf"))
        else ""
    )
