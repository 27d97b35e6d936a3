"""Find files that repeat others: copied folders, thumbnails, and previews of the whole data set."""

import re
from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from stages.core.path_parts import folders_of, stem_of, suffix_of
from stages.core.plurals import quantity
from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable, decode_image, is_image_path
from stages.importers.pair_evidence import SCENE, measure_likeness, words_of
from stages.importers.path_patterns import compile_pattern

COPY = re.compile(r"(?i)[ _-]*(\(\d+\)|copy( ?\(?\d+\)?)?|kopie( ?\(?\d+\)?)?|copia|copie)$")
THUMBNAIL_WORDS = frozenset("thumb thumbs thumbnail thumbnails preview previews small tn icon icons".split())
THUMBNAIL_NAMES = re.compile("(?i)" + "|".join(sorted(THUMBNAIL_WORDS)))
OVERVIEW_WORDS = frozenset("preview overview sample samples example examples montage banner logo teaser cover".split())
MOST_STRAY = 3  # images above the folders of images; more are data
OPENED = 8  # files of a folder that are compared with their originals
MAX_SCALE = 0.7  # width of a thumbnail relative to that of its image
PATTERN_SIGNS = "{}*"


def find_redundant_files(files: SourceFiles) -> dict[str, str]:
    """Return patterns of files that repeat others, with the reason for each.

    Args:
        files: files of the source by path.
    """
    images = [path for path in files if is_image_path(path)]
    found = _copied_folders(files, images)
    rest = [path for path in images if not any(path.startswith(f"{folder}/") for folder in found)]
    patterns = {f"{folder}/**": reason for folder, reason in found.items()}
    patterns |= (thumbnails := _thumbnails(files, rest))
    matching = [_expression(pattern) for pattern in thumbnails]
    return patterns | _overviews([path for path in rest if not any(one.fullmatch(path) for one in matching)])


def _expression(pattern: str) -> re.Pattern[str]:
    return compile_pattern(pattern, "ingest.files")


def _is_plain(path: str) -> bool:
    return not any(sign in path for sign in PATTERN_SIGNS)


def _copied_folders(files: SourceFiles, images: list[str]) -> dict[str, str]:
    """Return the folders named as a copy of one beside them that has all of their files, with the reason."""
    found: dict[str, str] = {}
    for folder in sorted(_folders(images), key=lambda name: (name.count("/"), name)):
        above, _, own = folder.rpartition("/")
        bare = COPY.sub("", own)
        is_inner = any(folder.startswith(f"{outer}/") for outer in found)
        if bare in ("", own) or is_inner or not _is_plain(folder):
            continue
        original = f"{above}/{bare}".removeprefix("/")
        names = [path.removeprefix(f"{folder}/") for path in images if path.startswith(f"{folder}/")]
        if _are_equal(files, names, folder, original):
            copies = "1 file is a copy" if len(names) == 1 else f"{len(names):,} files are copies"
            found[folder] = f"the {copies} of those of the same names in {original}"
    return found


def _folders(paths: Iterable[str]) -> set[str]:
    """Return all folders that contain files, directly or in folders below them; not the source itself."""
    direct = {path.rpartition("/")[0] for path in paths}
    return {
        "/".join(parts[:end]) for parts in (one.split("/") for one in direct) for end in range(1, len(parts) + 1)
    } - {""}


def _are_equal(files: SourceFiles, names: list[str], folder: str, original: str) -> bool:
    """Return whether a folder has files of all names, and some of them, which are read, have the same content."""
    if not all(f"{original}/{name}" in files for name in names):
        return False
    try:
        return all(files[f"{folder}/{name}"]() == files[f"{original}/{name}"]() for name in _some(sorted(names)))
    except (Unreadable, OSError):  # reported by ingest
        return False


def _some(paths: list[str]) -> list[str]:
    """Return some of the paths, evenly spaced."""
    return [paths[i] for i in np.unique(np.linspace(0, len(paths) - 1, OPENED).round().astype(int))]


def _thumbnails(files: SourceFiles, images: list[str]) -> dict[str, str]:
    """Return patterns of smaller versions of images, by words in their folder or name, with the reason."""
    named = [path for path in images if THUMBNAIL_NAMES.search(path)]
    if not named:
        return {}
    by_stem: dict[str, list[str]] = defaultdict(list)
    for path in images:
        by_stem[stem_of(path)].append(path)
    original_of: dict[str, dict[str, str]] = defaultdict(dict)
    for path in named:
        pattern, stem = _thumbnail_pattern(path)
        candidates = [one for one in by_stem.get(stem, ()) if one != path and not _thumbnail_pattern(one)[0]]
        if pattern and candidates:
            original_of[pattern][path] = max(candidates, key=lambda one: _shared_folders(one, path))
    found = {}
    for pattern, originals in original_of.items():
        expression = _expression(pattern)
        matched = [path for path in images if expression.fullmatch(path)]
        if len(originals) == len(matched) and _are_smaller(files, originals):
            number = quantity(len(matched), "file is a smaller version", "files are smaller versions")
            example, original = min(originals.items())
            found[pattern] = f"{number} of other images, such as {example} of {original}"
    return found


def _thumbnail_pattern(path: str) -> tuple[str, str]:
    """Return the pattern of files like a thumbnail, and the stem of its image; both empty if no word denotes one.

    >>> _thumbnail_pattern("trees/birch/thumbs/a1_thumb.jpg")
    ('*/*/thumbs/*.jpg', 'a1')
    """
    if not _is_plain(path):
        return "", ""
    *folders, name = path.split("/")
    stem, suffix = stem_of(name), suffix_of(name)
    parts = re.split(r"([_\-. ]+)", stem)
    bare = stem
    if len(parts) > 2 and parts[-1].lower() in THUMBNAIL_WORDS:
        bare, end = "".join(parts[:-2]), f"*{parts[-2]}{parts[-1]}{suffix}"
    elif len(parts) > 2 and parts[0].lower() in THUMBNAIL_WORDS:
        bare, end = "".join(parts[2:]), f"{parts[0]}{parts[1]}*{suffix}"
    else:
        end = ""
    marked = [bool(THUMBNAIL_WORDS.intersection(words_of(f"{folder}/"))) for folder in folders]
    if any(marked):
        places = [folder if is_marked else "*" for folder, is_marked in zip(folders, marked, strict=True)]
        return "/".join((*places, f"*{suffix}")), bare
    return ("/".join((*("*" for _ in folders), end)), bare) if end else ("", "")


def _shared_folders(one: str, other: str) -> tuple[int, int]:
    folders, others = folders_of(one), folders_of(other)
    return len(set(folders) & set(others)), -len(folders)


def _are_smaller(files: SourceFiles, originals: dict[str, str]) -> bool:
    """Return whether some thumbnails are smaller than their images and show the same."""
    pairs = []
    for path in _some(sorted(originals)):
        try:
            pairs.append((decode_image(files[path]()).image, decode_image(files[originals[path]]()).image))
        except (Unreadable, OSError):  # reported by ingest
            continue
    smaller = all(small.shape[1] <= MAX_SCALE * image.shape[1] for small, image in pairs)
    return bool(pairs) and smaller and measure_likeness(pairs).correlation >= SCENE


def _overviews(images: list[str]) -> dict[str, str]:
    """Return single images above folders of images whose name denotes a preview of the data set, with the reason."""
    folders = {path.rpartition("/")[0] for path in images}
    above = {"", *_folders(folders)}  # as `_folders` takes its arguments for files
    stray = [path for path in images if path.rpartition("/")[0] in above] if folders != {""} else []
    named = [path for path in stray if OVERVIEW_WORDS.intersection(words_of(stem_of(path)))]
    reason = "by its name, it shows the data set, and it lies above the folders of images"
    return {path: reason for path in named if _is_plain(path)} if len(stray) <= MOST_STRAY else {}
