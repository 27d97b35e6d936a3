"""Name patterns that a path matches, with the texts of their placeholders: {key}, {folder}, {part}, {name}, {label}."""

import re
from collections.abc import Iterator

from stages.core.path_parts import folders_of, stem_of, suffix_of
from stages.importers.folder_names import affixed_folder, without_split
from stages.importers.frequent_patterns import Key, Pattern
from stages.importers.sample import SPLIT_WORDS

MAX_PARTS = 4  # separators of a name, from either end, at which a key may begin


def patterns_of_one_key(has_one_suffix: bool, path: str) -> Iterator[tuple[Pattern, Key]]:
    """Yield (pattern, key) for a path: images/{key}.png, {key}_mask.png, {key}/masks/*.png, masks/{label}/{key}.png.

    Args:
        has_one_suffix: whether all images have one suffix, so that patterns of any suffix match the same files.
        path: path of an image.
    """
    if any(sign in path for sign in "{}*"):
        return  # placeholder characters cannot be escaped in a pattern
    folders, stem, suffix = folders_of(path), stem_of(path), suffix_of(path)
    free = tuple("*" if part.lower() in SPLIT_WORDS else part for part in folders)
    keys = [*_keys(stem)]
    for ending in (suffix,) if has_one_suffix else (suffix, ".*"):
        for places in dict.fromkeys((folders, free)):
            inside = "/".join((*places, ""))
            yield (f"{inside}{{key}}{ending}", 0), (stem,)
            if len(places) > 1:
                yield ("/".join((*places[:-1], "{label}", f"{{key}}{ending}")), 0), (stem,)
            for before, key, after in keys:
                if places is not folders:
                    before, after = without_split(before), without_split(after)  # noqa: PLW2901
                yield (f"{inside}{before}{{key}}{after}{ending}", 0), (key,)
    for depth in range(1, min(2, len(folders)) + 1):  # one folder per image
        key, *rest = folders[-depth:]
        for name in dict.fromkeys(("{key}" if stem == key else stem, "*")):
            yield ("/".join((*folders[:-depth], "{key}", *rest, f"{name}{suffix}")), 0), (key,)


def patterns_of_several_keys(heads: frozenset[str], path: str) -> Iterator[tuple[Pattern, Key]]:
    """Yield patterns in which folders and the name, or two parts of the name, identify the image.

    {folder}/images/{key}.png with {folder}/masks/{key}_mask.png or {folder}/{label}/{key}.png;
    {folder}/t{key}.tif with {folder}_GT/SEG/man_seg{key}.tif; {part}/{folder}/{key}.jpg with {part}/{folder}/{key}.png;
    {name}_{key}.png with {name}_dots_{key}.png.

    Args:
        heads: folder names, or parts of them, that several folders share.
        path: path of an image.
    """
    if any(sign in path for sign in "{}*"):
        return
    folders, stem, suffix = folders_of(path), stem_of(path), suffix_of(path)
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    if len(folders) > 1:
        places = "/".join((*folders[:-2], "{folder}", "{label}"))
        yield (f"{places}/{{key}}{suffix}", 0), (folders[-2], stem)
    for places, values in _folders_as_keys(folders, heads):
        for before, key, after in _parts_of_name(stem, cuts):
            yield (f"{places}/{before}{{key}}{after}{suffix}", 0), (*values, key)
        yield (f"{places}/{{key}}.*", 0), (*values, stem)
    inside = "/".join((*folders, ""))
    for number, cut in enumerate(cuts[:MAX_PARTS], 1):
        left, right = stem[:cut], stem[cut + 1 :]
        if not (left and right):
            continue
        yield (f"{inside}{{name}}{stem[cut]}{{key}}{suffix}", number), (left, right)
        word = re.match(r"([^_\-. ]*[A-Za-z][^_\-. ]*)([_\-. ])(.+)", right)
        if word:
            yield (f"{inside}{{name}}{stem[cut]}{word[1]}{word[2]}{{key}}{suffix}", number), (left, word[3])


def _folders_as_keys(folders: tuple[str, ...], heads: frozenset[str]) -> Iterator[tuple[str, Key]]:
    """Yield the folders of a path with placeholders, and their texts: one of the last two, or two consecutive ones."""
    for place in range(max(0, len(folders) - 2), len(folders)):
        for pattern, value in affixed_folder(folders[place], heads):
            yield "/".join((*folders[:place], pattern, *folders[place + 1 :])), (value,)
    for end in (1, 2) if len(folders) > 2 else (1,) if len(folders) > 1 else ():
        first = len(folders) - end - 1
        yield "/".join((*folders[:first], "{part}", "{folder}", *folders[first + 2 :])), folders[first : first + 2]


def _parts_of_name(stem: str, cuts: list[int]) -> dict[tuple[str, str, str], None]:
    """Return (prefix, key, suffix) of a file stem: whole, without an end or the beginning, or its last number."""
    ends = [("", stem, ""), *(("", stem[:cut], stem[cut:]) for cut in cuts[-2:])]
    ends += [(stem[: cut + 1], stem[cut + 1 :], "") for cut in cuts[:1]]
    if numbered := re.fullmatch(r"(.*\D)(\d+)", stem):
        ends.append((numbered[1], numbered[2], ""))
    ends += [(without_split(before), key, without_split(after)) for before, key, after in ends]
    return dict.fromkeys(parts for parts in ends if parts[1])


def _keys(stem: str) -> Iterator[tuple[str, str, str]]:
    """Yield (prefix, key, suffix) of a file stem: split at separators, at letters, or before the last number.

    >>> list(_keys("001cell"))
    [('', '001', 'cell')]
    >>> list(_keys("img_7"))
    [('img_', '7', ''), ('', 'img', '_7')]
    """
    cuts = [found.start() for found in re.finditer(r"[_\-. ]", stem)]
    keys: dict[tuple[str, str, str], None] = {}
    for cut in dict.fromkeys((*cuts[:MAX_PARTS], *cuts[-MAX_PARTS:])):
        if stem[cut + 1 :] and stem[:cut]:
            keys |= {(stem[: cut + 1], stem[cut + 1 :], ""): None, ("", stem[:cut], stem[cut:]): None}
    for pattern in (
        r"()(.*?[^A-Za-z_\-. ])([A-Za-z]+)",
        r"([A-Za-z]+)([^A-Za-z_\-. ].*)()",
        r"(.*\D)(\d+)()",
        r"()(.+)(x\d)",
    ):
        if found := re.fullmatch(pattern, stem):
            keys[found[1], found[2], found[3]] = None
    yield from keys
