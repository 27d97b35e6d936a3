"""Import images whose paths contain the labels, which a regular expression with named groups extracts."""

import math
import re

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import is_image_path
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, fixed_annotation

LABEL, GROUP, SPLIT, ORIGIN = "label", "group", "split", "origin"


def import_names(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import images with the class (`label`) and numbers (other names) that `ingest.name_regex` finds in their paths.

    The names `group`, `split` and `origin` have the same meaning as in a table.

    Args:
        files: files of the source by path.
        name: not used; the paths contain the labels.
        ingest: parameters of `ingest`.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: the expression matches no image.
    """
    pattern = re.compile(ingest.name_regex)
    samples, rejected, unmatched = [], [], []
    for path, read in files.items():
        if not is_image_path(path):
            rejected.append(Rejection(path, "is not an image", is_unused=True))
            continue
        found = pattern.search(path)
        if found is None:
            unmatched.append(path)
            rejected.append(Rejection(path, f"does not match ingest.name_regex {ingest.name_regex}"))
            continue
        try:
            values = {key: value or "" for key, value in found.groupdict().items()}
            annotation, split = _annotation(values), _split(values.get(SPLIT))
        except ValueError as error:
            rejected.append(Rejection(path, f"ingest.name_regex: {error}"))
            continue
        samples.append(
            Sample(
                *(path, fixed_annotation(annotation), values.get(GROUP) or None, split, read),
                origin=values.get(ORIGIN, ""),
            )
        )
    if unmatched and not samples:
        raise UserError(
            f"ingest.name_regex: {ingest.name_regex!r} matches no image, for example not {unmatched[0]}; correct the "
            "expression, which is searched in the path of each image"
        )
    return samples, rejected


def _annotation(values: dict[str, str]) -> Annotation:
    """Return the class and the numbers among the values of the named groups."""
    numbers = {key: _number(key, value) for key, value in values.items() if key not in (LABEL, GROUP, SPLIT, ORIGIN)}
    if LABEL in values and not values[LABEL]:
        raise ValueError("the group label matches no text")
    return Annotation(labels=(values[LABEL],) if LABEL in values else None, scalars=numbers or None)


def _number(key: str, text: str) -> float:
    try:
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"the group {key} matches {text!r}, which is not a number")
    return value


def _split(text: str | None) -> str | None:
    if text is None:
        return None
    if text.lower() not in SPLIT_WORDS:
        raise ValueError(f"the group split matches {text!r}, which is not one of {', '.join(SPLIT_WORDS)}")
    return SPLIT_WORDS[text.lower()]
