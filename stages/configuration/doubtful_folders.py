"""Questions about folders whose names say that their images are altered copies of others, or labels."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

from stages.core.path_parts import folders_of
from stages.core.plurals import list_names, quantity
from stages.importers.role_words import ALTERED, LABELS

MAX_LISTED = 3


def ask_about_altered_copies(paths: Sequence[str]) -> Iterator[str]:
    """Yield a question if some images lie in folders that are named as altered copies of the others.

    >>> list(ask_about_altered_copies(["ok/1.png", "ok_aug/aug_1.png"]))[0][:60]
    'ingest.files: 1 image lies in folders with the names of alte'
    """
    found = _folders(paths, lambda folder: not ALTERED.isdisjoint(re.findall("[a-z]+", folder.lower())))
    count = sum(map(len, found.values()))
    if not 0 < count < len(paths):
        return
    images = quantity(count, "image lies", "images lie")
    patterns = ", ".join(f'"!**/{folder}/**"' for folder in found)
    yield (
        f"ingest.files: {images} in folders with the names of altered copies ({_shown(found)}). Copies in another "
        f"split than their original make scores too high, and Macula alters training images itself: set files: "
        f"[{patterns}], unless these are not copies"
    )


def ask_about_folders_of_labels(paths: Sequence[str], classes: Sequence[str]) -> Iterator[str]:
    """Yield a question if images of classes lie in folders below them that usually contain labels.

    Args:
        paths: paths of the images.
        classes: names of the classes.
    """
    found = _folders(paths, lambda folder: folder.lower() in LABELS and folder not in classes)
    if count := sum(map(len, found.values())):
        images = quantity(count, "image lies", "images lie")
        yield (
            f"ingest.format: {images} in folders that usually contain the labels of other images ({_shown(found)}): "
            f"are the classes really {list_names(sorted(classes), MAX_LISTED)}, and are these images of them? If they "
            "are targets, such as clean images or masks, set ingest.images and ingest.targets: "
            "docs/guides/your-images.md"
        )


def _folders(paths: Sequence[str], is_meant: Callable[[str], bool]) -> dict[str, list[str]]:
    """Return the images by the first folder of their path whose name is meant."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        named = next(filter(is_meant, folders_of(path)), None)
        if named is not None:
            found[named].append(path)
    return dict(sorted(found.items()))


def _shown(found: dict[str, list[str]]) -> str:
    return list_names((f"{folder}, such as {paths[0]}" for folder, paths in found.items()), MAX_LISTED)
