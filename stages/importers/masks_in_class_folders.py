"""Find masks among the images of class folders that belong to no pair of patterns, and a pattern of these masks."""

import re
from collections.abc import Iterable, Iterator

from stages.core.path_parts import name_of, parent_of, stem_of, suffix_of
from stages.images.decode import is_image_path
from stages.importers.folder_names import name_parts
from stages.importers.indexed_files import IndexedFiles
from stages.importers.label_image_files import LabelImageFiles
from stages.importers.path_patterns import compile_pattern


def find_unpaired_masks(files: IndexedFiles, paired: frozenset[str]) -> frozenset[str]:
    """Return the files that are masks by measurement and have the name of an image that is none, besides an affix.

    Args:
        files: files of the source by path.
        paired: masks that a pattern pairs with images.
    """
    images = {path for path in files if is_image_path(path)} - paired
    masks = LabelImageFiles({path: files[path] for path in images}, files.measured_masks).find()
    stems = {stem_of(path) for path in images - masks}
    return frozenset(path for path in masks if not stems.isdisjoint(name_parts(stem_of(path))))


def pattern_of_masks(masks: Iterable[str], images: Iterable[str]) -> str:
    """Return a pattern that matches all masks and no image: a folder, a word of the names, or a suffix; else ''.

    >>> pattern_of_masks(["a/Label/1_l.png", "b/Label/2_l.png"], ["a/1.png"])
    '**/Label/*'
    >>> pattern_of_masks(["a/1_mask.png", "a/1_mask_2.png"], ["a/1.png"])
    '**mask*'
    """
    masks, images = list(masks), list(images)
    for pattern in _patterns(masks):
        expression = compile_pattern(pattern, "ingest.targets")
        if all(map(expression.fullmatch, masks)) and not any(map(expression.fullmatch, images)):
            return pattern
    return ""


def _patterns(masks: list[str]) -> Iterator[str]:
    folders = {name_of(parent_of(path)) for path in masks} - {""}
    if len(folders) == 1:
        yield from (f"{before}{folder}/*" for folder in folders for before in ("**/", "**", ""))
    words = (set(re.findall(r"[A-Za-z]+", stem_of(path))) for path in masks)
    yield from (f"**{word}*" for word in sorted(set.intersection(*words), key=lambda word: (-len(word), word)))
    suffixes = {suffix_of(path) for path in masks}
    yield from (f"**{suffix}" for suffix in suffixes if len(suffixes) == 1)
