"""Label files of which there is one per split, such as `annotations/instances_train.json` and its siblings."""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import PurePosixPath

from stages.core.errors import UserError
from stages.images.archives import SourceFiles
from stages.images.decode import is_image_path
from stages.importers.path_patterns import compile_pattern
from stages.importers.sample import SPLIT_WORDS

WORD = re.compile(rf"(?i)(?<![a-z])({'|'.join(sorted(SPLIT_WORDS, key=len, reverse=True))})(?![a-z])")
"""Name of a split within a path: not a part of another word, but digits may follow, as in `train2017`."""


def split_in_name(path: str) -> str | None:
    """Return the split that a path names, by its last part that names one; None if there is none.

    >>> split_in_name("annotations/instances_val2017.json"), split_in_name("train/labels.json")
    ('val', 'train')
    """
    words = (WORD.search(part) for part in reversed(path.split("/")))
    return next((SPLIT_WORDS[word[1].lower()] for word in words if word), None)


def group_by_split(paths: Iterable[str]) -> dict[str, list[str]]:
    """Return the label files that differ only in the name of a split, by the pattern that matches exactly these.

    >>> group_by_split(["train/a.json", "val/a.json", "b.json"])
    {'*/a.json': ['train/a.json', 'val/a.json']}
    """
    all_paths, similar = list(paths), defaultdict(list)
    for path in all_paths:
        similar[WORD.sub("*", path)].append(path)
    return {
        pattern: found
        for pattern, found in similar.items()
        if len({split_in_name(path) for path in found}) == len(found) > 1
        and found == [path for path in all_paths if compile_pattern(pattern, "pattern").fullmatch(path)]
    }


def files_of_pattern(files: SourceFiles, pattern: str) -> list[str]:
    """Return the label files that match `ingest.targets`.

    Raises:
        UserError: the pattern matches no file.
    """
    expression = compile_pattern(pattern, "ingest.targets")
    if found := sorted(path for path in files if expression.fullmatch(path)):
        return found
    examples = ", ".join(sorted(path for path in files if path.endswith(".json"))[:3]) or "none"
    raise UserError(f"ingest.targets: {pattern} matches no file; JSON files of the source: {examples}")


def files_of_split(files: SourceFiles, name: str) -> list[str]:
    """Return the files among which the images of a label file are: in its folder, else those of its split, else all.

    Args:
        files: files of the source by path.
        name: path of the label file, one of several.
    """
    folder = f"{PurePosixPath(name).parent}/".removeprefix("./")
    split = split_in_name(name)
    for chosen in (
        [path for path in files if path.startswith(folder)] if folder else [],
        [path for path in files if split_in_name(path.rpartition("/")[0]) == split],
    ):
        if any(is_image_path(path) for path in chosen):
            return chosen
    return list(files)
