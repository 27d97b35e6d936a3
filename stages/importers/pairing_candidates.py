"""Candidates in which images have files of their own: masks, objects, dots or paired images."""

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

from stages.core.path_parts import parent_of, stem_of
from stages.dataset.annotations import IGNORE_INDEX
from stages.importers.file_pairing import FilePairing
from stages.importers.format_candidate import FormatCandidate
from stages.importers.indexed_files import IndexedFiles
from stages.importers.label_image_files import read_values
from stages.importers.name_fields import NameReading
from stages.importers.side_by_side import (
    Inspected,
    explain_names,
    explain_two_images,
    find_several_inputs,
    judge,
)
from stages.importers.target_choice import Target, Verdict, judge_targets
from stages.importers.target_inspection import TargetInspection, marks_unknown

MAX_DECODED = 200  # masks that are kept in memory
CHOICE_OF_INPUT = (
    "which of them is the image to predict from? ingest.images names it; the others are not used. If all are required, "
    "such as the channels of one image, join them in one file"
)


def pairing_candidates(files: IndexedFiles, inspected: Inspected, failures: list[str]) -> Iterator[FormatCandidate]:
    """Yield the candidates of images with target files; add the reasons why others are none to `failures`.

    Args:
        files: files of the source by path.
        inspected: pairings with the detected formats of their targets.
        failures: reasons against candidates; more are added.
    """
    reported = set()
    refused: dict[str, str] = {}
    questions: dict[str, str] = {}
    for rivals, is_refused, images in find_several_inputs(inspected):
        if is_refused:
            refused.setdefault("two images", explain_two_images(images))
        for one in rivals:
            questions[f"{one.images} {one.targets}"] = "" if is_refused else f"{images}: {CHOICE_OF_INPUT}"
    verdicts = _judge_targets(files, inspected)
    for pairing, found in inspected:
        question = questions.get(f"{pairing.images} {pairing.targets}")
        if question == "":
            continue
        reason, is_doubtful = found.reason, False
        if found.format == "pairs":
            judgement = judge(pairing, found, inspected)
            if judgement.verdict == "refused":
                refused.setdefault(judgement.reason, " and ".join(pairing.files[0]) + f" {judgement.reason}")
                continue
            reason, question = judgement.reason, question or judgement.question
            is_doubtful = judgement.verdict != "named"
        if is_readable(files, pairing, found):
            changes, reasons = _describe_pairing(pairing, found)
            verdict = verdicts.get(id(pairing), Verdict())
            reasons["targets"] = "; ".join((reasons["targets"], *verdict.notes))
            yield FormatCandidate(
                found.format, pairing.root, f"{reason}; but {verdict.doubt}" if verdict.doubt else reason,
                changes, reasons, targets=pairing.named, question=question or "", is_doubtful=is_doubtful,
                doubt=verdict.doubt, asks=tuple(filter(None, (found.ask, verdict.ask))),
            )  # fmt: skip
            continue
        if reason := explain_names(pairing, found):
            refused.setdefault(reason, " and ".join(pairing.files[0]) + f" {reason}")
        if (pairing.root, found.reason) not in reported:
            reported.add((pairing.root, found.reason))
            failures.append(f"{pairing.images} with {pairing.targets}: {_explain(files, pairing, found)}")
    failures[:0] = refused.values()


def without_measured_objects(inspected: Inspected, measured: NameReading | None) -> Inspected:
    """Return the pairings, of which none are image pairs if a measured number in the names makes them one object."""
    if measured is None:
        return inspected
    views = TargetInspection("", f"{measured.reason}, so that these are several images of one object", {})
    return [(pairing, views if found.format == "pairs" else found) for pairing, found in inspected]


def is_readable(files: IndexedFiles, pairing: FilePairing, found: TargetInspection) -> bool:
    """Return whether the targets have a known format, and belong to no other image.

    Args:
        files: files of the source by path.
        pairing: images and their targets.
        found: detected format of the targets.
    """
    return bool(found.format) and not (pairing.several and _target_of_another_image(pairing, files))


def _explain(files: IndexedFiles, pairing: FilePairing, found: TargetInspection) -> str:
    other = _target_of_another_image(pairing, files) if found.format else ""
    return f"{other} has the name of another image, to which it belongs" if other else found.reason


def _judge_targets(files: IndexedFiles, inspected: Inspected) -> dict[int, Verdict]:
    """Return which of several target files of the same images are the annotation, by the id of the pairing."""
    annotated = [
        one for one, found in inspected if found.format in ("masks", "instances") and is_readable(files, one, found)
    ]
    read = lru_cache(MAX_DECODED)(partial(read_values, files))
    return dict(zip(map(id, annotated), judge_targets([_as_target(one) for one in annotated], read), strict=True))


def _as_target(pairing: FilePairing) -> Target:
    files_of = {image: paths for (image, _), paths in zip(pairing.files, pairing.targets_of, strict=True)}
    return Target(pairing.targets, files_of)


def _target_of_another_image(pairing: FilePairing, files: IndexedFiles) -> str:
    """Return a target file that has the name of another image beside its image, as masks of slices have; else ''."""
    image_folder = {parent_of(target): parent_of(image) for image, target in pairing.files}
    used = {*pairing.named, *(image for image, _ in pairing.files)}
    for path in sorted(pairing.named):
        parent = parent_of(path)
        folder = image_folder.get(parent, parent)
        if folder != parent and any(other not in used for other in files.by_stem.get((folder, stem_of(path)), ())):
            return path
    return ""


def _describe_pairing(pairing: FilePairing, found: TargetInspection) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the patterns and mask values of a pairing, and the reasons for them."""
    images, targets = (p.removeprefix(f"{pairing.root}/") for p in (pairing.images, pairing.targets))
    changes: dict[str, Any] = {"images": images, "targets": targets}
    reasons = {"targets": f"{len(pairing.files)} images have a matching file"}
    if found.overlaps:
        changes["overlaps"] = "combine"
        reasons["overlaps"] = f"{found.overlaps}; set it to reject if overlaps are errors of the annotation"
    if set(found.values) - {0}:
        has_ignore = marks_unknown(found.values)
        shares = ", ".join(f"{value} covers {100 * share:.3g}%" for value, share in found.values.items())
        known = [value for value in found.values if not (has_ignore and value == IGNORE_INDEX)]
        other = "foreground" if len(known) == 2 else "class{}"
        changes["mask_values"] = {value: "background" if value == 0 else other.format(value) for value in known}
        reasons["mask_values"] = f"replace the names of the classes; of the pixels, {shares}"
        if has_ignore:
            changes["ignore_values"] = [IGNORE_INDEX]
            reasons["ignore_values"] = "the other values count up from 0, so 255 may mark unknown pixels"
    return changes, reasons
