"""Page of a drift report as Markdown, with a picture of the images that are furthest from the reference."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.batch_prediction.inputs import iterate_images
from stages.drift.drift_report import DriftReport
from stages.images.archives import ARCHIVE_SUFFIXES, read_file
from stages.images.contact_sheet import contact_sheet
from stages.images.decode import Unreadable, decode_image
from stages.images.image_statistics import to_grey, to_uint8
from stages.images.sandbox import run_isolated

PICTURE, PAGE = "furthest.png", "drift.md"
SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&#]")
MAX_REASONS = 20


def write_page(report: DriftReport, folder: Path, model: str, notes: Sequence[str]) -> None:
    """Write `drift.md` and, if an image can be read, `furthest.png`.

    Args:
        report: report to show.
        folder: folder to write to.
        model: description of the model.
        notes: further sentences.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shown = draw_furthest(report.furthest, folder / PICTURE)
    lines = [f"# Drift of new images: {report.verdict}", "", escaped(report.sentence), ""]
    lines += [f"Model: {escaped(model)}. {' '.join(map(escaped, notes))}".strip(), ""]
    if report.comparisons:
        lines += _table(report)
    if report.furthest:
        lines += ["## Images furthest from the reference", ""]
        lines += [f"![furthest images]({PICTURE})", ""] if shown else []
        lines += [_furthest_line(number, image) for number, image in enumerate(report.furthest, 1)] + [""]
    if report.not_checked:
        more = len(report.not_checked) - MAX_REASONS
        lines += ["## Not checked", "", *(f"- {escaped(reason)}" for reason in report.not_checked[:MAX_REASONS])]
        lines += [f"- and {more} more" if more > 0 else "", ""]
    (folder / PAGE).write_bytes("\n".join(lines).encode(errors="replace"))


def _table(report: DriftReport) -> list[str]:
    rows = [
        f"| {escaped(one.name)} | {one.of} | {escaped(one.before)} | {escaped(one.now)} | {one.distance:.2f} | "
        f"{one.adjusted_p:.2g} | {'**drift**' if one.drifted else ''} |"
        for one in report.comparisons
    ]
    return [
        "| statistic | of | reference | new images | distance | corrected p | |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *rows,
        "",
        f"Batches of independent images from the distribution of the reference are reported in at most "
        f"{report.false_alarm_rate:.0%} of cases. Images of one series, such as frames of a video, are not "
        "independent: then false alarms are more frequent.",
        "",
    ]


def _furthest_line(number: int, image: Mapping[str, Any]) -> str:
    return (
        f"{number}. {escaped(image['path'])}: {escaped(image['statistic'])} {image['value']:.4g} (median of the "
        f"reference {image['reference_median']:.4g})"
    )


def draw_furthest(furthest: Sequence[Mapping[str, Any]], file: Path) -> bool:
    """Write a contact sheet of the images that can still be read; return False if there are none.

    Args:
        furthest: images of a report, whose paths are relative to the current folder.
        file: PNG file to write.
    """
    numbers, pictures = [], []
    contents = _read_images([str(image["path"]) for image in furthest])
    for number, image in enumerate(furthest, 1):
        data = contents.get(str(image["path"]))
        if data is None:
            continue
        try:
            pictures.append(run_isolated(_small, data))
        except Unreadable:
            continue
        numbers.append(number)
    if not pictures:
        return False
    captions = [f"{number} {furthest[number - 1]['statistic']}" for number in numbers]
    contact_sheet(pictures, captions, columns=4).save(file)
    return True


def _small(data: bytes) -> np.ndarray[Any, Any]:
    """Return an image as 8-bit grey or RGB for a thumbnail."""
    image = decode_image(data, least_side=256).image
    if image.ndim == 3 and image.shape[2] not in (1, 3):
        return to_grey(image)
    step = max(1, max(image.shape[:2]) // 1024)
    return np.ascontiguousarray(to_uint8(image)[::step, ::step])


def _read_images(paths: Sequence[str]) -> dict[str, bytes]:
    """Return the contents of those paths that can be read; a path may be that of a member of an archive."""
    found: dict[str, bytes] = {}
    members: dict[str, set[str]] = {}
    for path in paths:
        try:
            if Path(path).is_file():
                found[path] = read_file(Path(path))
            elif archive := _archive_of(path):
                members.setdefault(archive, set()).add(path)
        except (OSError, ValueError):  # Unreadable is a ValueError
            continue
    for archive, wanted in members.items():
        for image in iterate_images([archive]):
            if image.path in wanted:
                try:
                    found[image.path] = image.read()
                except (OSError, ValueError):
                    continue
    return found


def _archive_of(path: str) -> str:
    """Return the archive that contains a member; empty if there is none."""
    parents = [str(parent) for parent in Path(path).parents if str(parent).lower().endswith(ARCHIVE_SUFFIXES)]
    return next((parent for parent in parents if Path(parent).is_file()), "")


def escaped(text: str) -> str:
    r"""Return text for a line or a table cell of Markdown; file names and class names are untrusted.

    >>> print(escaped("a|b <x>"))
    a\|b \<x\>
    """
    return SPECIAL.sub(r"\\\g<0>", " ".join(str(text).split()))
