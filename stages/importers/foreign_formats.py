"""Recognize annotation files of tools whose formats are not imported, so that `configure` names them."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from stages.images.archives import SourceFiles
from stages.images.decode import IMAGE_SUFFIXES, Unreadable

SPREADSHEETS = frozenset((".xlsx", ".xls", ".xlsm", ".xlsb", ".ods", ".numbers"))
MAX_READ = 20  # files per folder and suffix that are read; the files of one folder have one format
MAX_TEXT = 4000  # bytes of a text file that are searched
EXPORT = "a spreadsheet is not imported; export the sheet with the labels as CSV in UTF-8"
CONVERT = "is not imported; export the labels from the tool as COCO, Pascal VOC or YOLO"


def describe_foreign_files(files: SourceFiles) -> list[str]:
    """Return one sentence per tool whose annotation files the source contains.

    Args:
        files: files of the source by path.
    """
    sheets = [path for path in files if PurePosixPath(path).suffix.lower() in SPREADSHEETS]
    found: dict[str, list[str]] = defaultdict(list)
    read: dict[tuple[str, str], int] = defaultdict(int)
    for path in files:
        suffix = PurePosixPath(path).suffix.lower()
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
    foreign = [f"{paths[0]}: the format of {tool} {CONVERT}" for tool, paths in found.items()]
    return [*(f"{path}: {EXPORT}" for path in sheets), *foreign, *_describe_lists(files)]


def _describe_lists(files: SourceFiles) -> Iterator[str]:
    """Yield text files whose lines are paths of images with labels, which are tables without a header."""
    names = {PurePosixPath(path).name for path in files if PurePosixPath(path).suffix.lower() in IMAGE_SUFFIXES}
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
