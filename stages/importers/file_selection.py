"""Selection of the files of a source by patterns of their paths: `ingest.files`."""

import re
from collections.abc import Sequence
from dataclasses import replace

from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import is_image_path
from stages.importers.path_patterns import compile_pattern

NOT_SELECTED = "is not selected by ingest.files"
Rules = list[tuple[bool, re.Pattern[str]]]
"""Whether each pattern selects or excludes the paths that it matches."""


def select_files(files: SourceFiles, patterns: Sequence[str]) -> tuple[SourceFiles, list[Rejection]]:
    """Return the files that `ingest.files` selects, and the others as files that are not used.

    The last pattern that matches a path decides, and `!` in front of a pattern excludes. If the first pattern excludes,
    all files are selected before it. Files that are not images, such as tables, are excluded by such a pattern only.

    Args:
        files: files of the source.
        patterns: value of `ingest.files`.

    Raises:
        UserError: a pattern is invalid, or no image is selected.
    """
    if not patterns:
        return files, []
    rules = _compile(patterns)
    for text, (_, pattern) in zip(patterns, rules, strict=True):
        if not any(map(pattern.fullmatch, files)):
            print(f"ingest: no file matches {text} in ingest.files", flush=True)
    kept = {path: read for path, read in files.items() if _is_selected(path, rules)}
    images = [path for path in files if _is_image(path)]
    if images and not any(map(_is_image, kept)):
        raise UserError(
            f"ingest.files: {', '.join(patterns)} {'selects' if len(patterns) == 1 else 'select'} none of "
            f"{quantity(len(images), 'image')}, such as {images[0]}; paths are relative to ingest.source, * matches "
            "text without a slash, and ** any text"
        )
    return kept, [Rejection(path, NOT_SELECTED, is_unused=True) for path in files if path not in kept]


def unless_deselected(rejected: Sequence[Rejection], patterns: Sequence[str], folder: str) -> list[Rejection]:
    """Return the rejected files, of which those that `ingest.files` does not select are not used instead of rejected.

    Args:
        rejected: files or rows that an importer rejects, such as rows of a table whose image was not selected.
        patterns: value of `ingest.files`.
        folder: folder of the source that their paths are relative to; empty for the source.
    """
    if not patterns:
        return list(rejected)
    rules, deselected = _compile(patterns), []
    for one in rejected:
        is_selected = not _is_image(one.path) or _is_selected(f"{folder}/{one.path}".removeprefix("/"), rules)
        deselected.append(one if is_selected else replace(one, reason=NOT_SELECTED, is_unused=True))
    return deselected


def _compile(patterns: Sequence[str]) -> Rules:
    return [(text[0] != "!", compile_pattern(text.removeprefix("!"), "ingest.files")) for text in patterns]


def _is_selected(path: str, rules: Rules) -> bool:
    matching = [selects for selects, pattern in rules if pattern.fullmatch(path)]
    return matching[-1] if matching else not rules[0][0] or not _is_image(path)


def _is_image(path: str) -> bool:
    return is_image_path(path)
