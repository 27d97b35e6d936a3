"""Questions about a split that the source defines: related images in training and in validation or test."""

from collections.abc import Iterator, Sequence

from stages.configuration.look_alikes import LookAlikes
from stages.core.plurals import quantity
from stages.importers.sample import Sample

MIN_SHARE, FEWEST = 0.05, 2  # share and number of images with a similar one in another split, which are reported
LINE = "set `split.by: hash` to split again, if they are related"


def ask_about_split(items: Sequence[Sample], groups: Sequence[str], similar: LookAlikes | None) -> Iterator[str]:
    """Yield a question if groups, or else similar images, are in several splits of the source, with two files.

    Args:
        items: images of the source, with their splits.
        groups: group of each image; its path if it has none.
        similar: images that are far nearer than distinct images are.
    """
    first: dict[str, int] = {}
    divided: dict[str, tuple[int, int]] = {}
    for place, group in enumerate(groups):
        if items[first.setdefault(group, place)].split != items[place].split:
            divided.setdefault(group, (first[group], place))
    if len(divided) >= FEWEST:
        count, shown = quantity(len(set(groups)), "group"), _example(items, *next(iter(divided.values())))
        yield f"{len(divided)} of {count} are in several splits of the source, such as {shown}"
        return
    across = [
        (one, next(other for other in others if items[other].split != items[one].split))
        for one, others in (similar.pairs if similar else [])
        if any(items[other].split != items[one].split for other in others)
    ]
    if similar and len(across) >= max(FEWEST, MIN_SHARE * similar.compared):
        count, shown = quantity(similar.compared, "compared image"), _example(items, *across[0])
        yield f"{len(across)} of {count} have a far nearer image in another split of the source, such as {shown}"


def _example(items: Sequence[Sample], one: int, other: int) -> str:
    """Return two files with their splits, and the line to change."""
    named = " and ".join(f"{items[place].path} ({items[place].split})" for place in (one, other))
    return f"{named}: do they show the same object? The scores are then too high; {LINE}"
