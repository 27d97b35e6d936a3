"""Selection of the images of a source by patterns of their paths: `ingest.files`."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.images.archives import Rejection
from stages.images.decode import IMAGE_SUFFIXES
from stages.importers.path_patterns import compile_pattern
from stages.importers.sample import ImportResult

EXCLUDED = "is not selected by ingest.files"


def select_files(found: ImportResult, patterns: Sequence[str]) -> ImportResult:
    """Keep the samples that patterns select; the other images are listed as not used, and not as rejected.

    Args:
        found: samples and rejected files of an importer.
        patterns: value of `ingest.files`. The last pattern that matches a path decides, and `!` in front of a pattern
            excludes. If the first pattern excludes, all paths are selected before it.

    Returns:
        selected samples, and the other files.

    Raises:
        UserError: a pattern is invalid, or no sample is selected.
    """
    samples, rejected = found
    if not patterns or not samples:
        return found
    compiled = [
        (not text.startswith("!"), compile_pattern(text.removeprefix("!"), "ingest.files")) for text in patterns
    ]
    kept = [sample for sample in samples if _is_selected(sample.path, compiled)]
    if not kept:
        raise UserError(
            f"ingest.files: {', '.join(patterns)} {'selects' if len(patterns) == 1 else 'select'} none of "
            f"{quantity(len(samples), 'image')}, such as {samples[0].path}; paths are relative to ingest.inside, * "
            "matches text without a slash, and ** matches any text"
        )
    for text, (_, pattern) in zip(patterns, compiled, strict=True):
        if not any(pattern.fullmatch(sample.path) for sample in samples):
            print(f"ingest: no image matches {text} in ingest.files", flush=True)
    selected = {sample.path for sample in kept}
    excluded = [Rejection(sample.path, EXCLUDED, is_unused=True) for sample in samples if sample.path not in selected]
    return kept, excluded + [_unless_selected(one, compiled) for one in rejected]


def _is_selected(path: str, compiled: Sequence[tuple[bool, re.Pattern[str]]]) -> bool:
    matching = [selects for selects, pattern in compiled if pattern.fullmatch(path)]
    return matching[-1] if matching else not compiled[0][0]


def _unless_selected(rejection: Rejection, compiled: Sequence[tuple[bool, re.Pattern[str]]]) -> Rejection:
    """Return a rejected image that is not selected as not used, so that it does not count as rejected."""
    is_image = PurePosixPath(rejection.path).suffix.lower() in IMAGE_SUFFIXES
    if rejection.is_unused or not is_image or _is_selected(rejection.path, compiled):
        return rejection
    return replace(rejection, reason=EXCLUDED, is_unused=True)
