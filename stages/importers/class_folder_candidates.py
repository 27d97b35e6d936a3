"""Candidates in which folders are classes."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from stages.core.path_parts import folders_of
from stages.core.plurals import list_names, quantity
from stages.images.decode import is_image_path
from stages.importers.file_pairing import FilePairing
from stages.importers.folder_levels import find_class_level
from stages.importers.format_candidate import MAX_LISTED, FormatCandidate, image_paths
from stages.importers.indexed_files import IndexedFiles, folders_above, paths_by_folder
from stages.importers.masks_in_class_folders import find_unpaired_masks, pattern_of_masks
from stages.importers.role_words import DATA_FOLDERS
from stages.importers.sample import SPLIT_WORDS

MAX_FOLDERS = 500  # folders that are tried as the folder of all classes, the largest first
MAX_FOLDER_SHARE = 0.95  # share of the images in one folder above which folders are not classes


def class_folder_candidates(
    files: IndexedFiles, masks: list[FilePairing], failures: list[str]
) -> Iterator[FormatCandidate]:
    """Yield a candidate for each folder whose subfolders contain images and look like classes or splits.

    Args:
        files: files of the source by path.
        masks: images with masks or dot images. These are left out, and folders that separate them are not classes.
        failures: reasons against candidates; more are added.
    """
    named = frozenset(path for pairing in masks for path in pairing.named)
    unpaired = find_unpaired_masks(files, named)
    named |= unpaired
    roles = DATA_FOLDERS | _separating_folders(masks)
    if not masks:
        yield from _from_class_level(image_paths(files), roles)
    by_folder, largest = paths_by_folder(unpaired), _largest_by_folder(masks)
    inner: dict[str, Counter[str]] = defaultdict(Counter)
    found: dict[str, set[str]] = defaultdict(set)
    for path in files:
        parts = path.split("/")
        if is_image_path(path):
            for depth in range(len(parts) - 1):
                inner["/".join(parts[:depth])][parts[depth]] += path not in named
                found["/".join(parts[:depth])] |= {part.lower() for part in parts[depth + 1 : -1]} & roles
    for inside, counts in _largest(inner).items():
        counts = +counts  # noqa: PLW2901  # without the folders that contain only masks
        sizes = sorted(counts.values())
        splits = sorted(folder for folder in counts if folder.lower() in SPLIT_WORDS)
        changes, reasons = _without_masks(inside, largest)
        others = by_folder.get(inside, [])
        asks: tuple[str, ...] = ()
        if others:
            changes, reasons, asks = _without_unpaired(files, inside, named, others)
        if len(splits) > 1:
            found_here = _folders_of_splits(inside, counts, splits, changes, reasons, asks)
        elif len(sizes) < 2 or sizes[len(sizes) // 2] < 2 or sizes[-1] > MAX_FOLDER_SHARE * sum(sizes):
            continue  # one image per folder, or a few stray images next to the main folder
        elif len(found[inside]) < 2 and not {folder.lower() for folder in counts} & roles:
            why = f"{len(counts)} folders contain images, one class each"
            found_here = FormatCandidate("folders", inside, why, changes, reasons, asks=asks)
        else:
            continue
        if others and not changes:
            failures.append(f"folders in {inside or 'the source'}: {asks[0]}")
        else:
            yield found_here


def _largest(inner: dict[str, Counter[str]]) -> dict[str, Counter[str]]:
    """Return the folders with the most images, in their order, if there are more than `MAX_FOLDERS`."""
    kept = {*sorted(inner, key=lambda inside: -inner[inside].total())[:MAX_FOLDERS]}
    return {inside: counts for inside, counts in inner.items() if inside in kept}


def _folders_of_splits(
    inside: str,
    counts: Counter[str],
    splits: list[str],
    changes: dict[str, Any],
    reasons: dict[str, str],
    asks: tuple[str, ...],
) -> FormatCandidate:
    """Return the candidate of class folders in folders of splits; folders beside these are not used, with a question.

    Args:
        inside: folder of the splits.
        counts: number of images by folder.
        splits: folders of splits among these.
        changes: changes of the candidate.
        reasons: its reasons.
        asks: its questions.
    """
    if others := {folder: number for folder, number in counts.items() if folder not in splits}:
        named = list_names((f"{folder} ({quantity(number, 'image')})" for folder, number in others.items()), MAX_LISTED)
        changes = changes | {"files": [f"!{f'{inside}/{folder}'.removeprefix('/')}/**" for folder in others]}
        reasons = reasons | {"files": f"beside the folders of splits: {named}"}
        asks += (f"ingest.files: {named} beside the folders of splits: not used; which split are these images of?",)
    why = f"the folders {', '.join(splits)} denote splits"
    return FormatCandidate("folders", inside, why, changes, reasons, has_split=True, asks=asks)


def _without_unpaired(
    files: IndexedFiles, inside: str, masks: frozenset[str], unpaired: list[str]
) -> tuple[dict[str, Any], dict[str, str], tuple[str, ...]]:
    """Return the pattern by which masks among the images of class folders are left out, the reason, and a question.

    Args:
        files: files of the source by path.
        inside: folder of the class folders.
        masks: all masks of the source.
        unpaired: masks below the folder that no pattern pairs with images.
    """
    start = f"{inside}/".removeprefix("/")
    below = files.below(inside) if inside else files
    images = [path for path in below if start + path not in masks]
    pattern = pattern_of_masks([path for path in below if start + path in masks], images)
    number = quantity(len(unpaired), "file is a mask", "files are masks")
    seen = f"{number} by measurement (few values in large regions), such as {min(unpaired)}"
    if not pattern:
        return {}, {}, (f"{seen}, and no pattern separates them from the images; move them to a folder of their own",)
    ask = f"ingest.targets: {seen}, and left out: are they images of a class?"
    return {"targets": pattern}, {"targets": f"{seen}, and left out"}, (ask,)


def _from_class_level(images: list[str], roles: frozenset[str]) -> Iterator[FormatCandidate]:
    """Yield the candidate in which a level of nested folders names the class."""
    found = find_class_level(images, roles)
    if found is not None:
        tops = {path.removeprefix(f"{found.inside}/").split("/")[0].lower() for path in images}
        has_split = {SPLIT_WORDS.get(top) for top in tops} == {*SPLIT_WORDS.values()}
        reasons = {"images": found.reason}
        asks = (f"ingest.images: {found.question}",) if found.question else ()
        yield FormatCandidate(
            *("folders", found.inside, found.reason, {"images": found.pattern}, reasons), has_split=has_split, asks=asks
        )


def _separating_folders(masks: list[FilePairing]) -> set[str]:
    """Return the folder names in which the paths of images and of their masks differ, in lower case."""
    folders = {(folders_of(image), folders_of(target)) for pairing in masks for image, target in pairing.files}
    return {part.lower() for pair in folders for both in zip(*pair, strict=False) if len({*both}) > 1 for part in both}


def _largest_by_folder(masks: list[FilePairing]) -> dict[str, FilePairing]:
    """Return the pairing with the most masks below each folder, the first of several."""
    largest: dict[str, FilePairing] = {}
    for pairing in masks:
        for folder in folders_above(pairing.root):
            if folder not in largest or len(pairing.named) > len(largest[folder].named):
                largest[folder] = pairing
    return largest


def _without_masks(inside: str, largest: dict[str, FilePairing]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the patterns by which the importer of class folders leaves out most of the masks, and the reason."""
    if inside not in largest:
        return {}, {}
    best = largest[inside]
    changes = {"images": best.images, "targets": best.targets}
    changes = {key: pattern.removeprefix(f"{inside}/") for key, pattern in changes.items()}
    return changes, {"targets": f"{quantity(len(best.named), 'file is a mask', 'files are masks')} and left out"}
