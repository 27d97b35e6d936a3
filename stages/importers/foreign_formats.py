"""Recognize annotation files of tools whose formats are not imported, so that `configure` names them."""

import json
import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable

MAX_READ = 20  # files per folder and suffix that are read; the files of one folder have one format
CONVERT = "is not imported; export the labels from the tool as COCO, Pascal VOC or YOLO"


def describe_foreign_files(files: SourceFiles) -> list[str]:
    """Return one sentence per tool whose annotation files the source contains.

    Args:
        files: files of the source by path.
    """
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
    return [f"{paths[0]}: the format of {tool} {CONVERT}" for tool, paths in found.items()]


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
