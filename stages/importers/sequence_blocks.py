"""Blocks of consecutively numbered images, such as frames and slices, which a split keeps together."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from stages.core.errors import UserError
from stages.dataset.counters import NUMBER, SCOPES, counter_scope
from stages.importers.sample import Sample


def block_scope(samples: Sequence[Sample]) -> str:
    """Return the scope in which blocks count, a key of `SCOPES`; images whose group is known do not matter."""
    return counter_scope(sample.path for sample in samples if sample.group is None)


def group_blocks(samples: Sequence[Sample], length: int, scope: str) -> list[Sample]:
    """Return the samples, each in the group of its block of consecutive numbers; unchanged if `length` is 1.

    Images that are added later do not change the group as long as the scope is the same. Where groups are known, blocks
    lie within them.

    Args:
        samples: images of the source.
        length: value of `ingest.sequence_block`.
        scope: key of `SCOPES`.

    Raises:
        UserError: a path contains no number.
    """
    return [sample if length == 1 else _in_block(sample, length, scope) for sample in samples]


def ask_about_borders(one: str, other: str, series: int, share: float, guard: int) -> str:
    """Return the question about images beside a border of two blocks, which may be in training and validation.

    Args:
        one: path of the last image of a block.
        other: path of the first image of the next block.
        series: number of series, such as films and stacks.
        share: share of the images that resemble an image of another block.
        guard: suggested value of `split.guard`.
    """
    which = "one film or stack" if series == 1 else f"{series} films or stacks"
    return (
        f"the blocks are parts of {which}: {one} and {other} are consecutive, but may be in training and validation, "
        f"and {share:.0%} of the images have a similar one in another block. Scores for new films or stacks require "
        f"several of them, each as one group; `split.guard: {guard}` leaves out the training images within {guard} of "
        "validation and test images: is a score for other parts of the same one sufficient?"
    )


def near_held_out(groups: Sequence[str], paths: Sequence[str], splits: Sequence[str], guard: int) -> list[bool]:
    """Return True for training images whose number differs by at most `guard` from a held-out image of their series.

    Args:
        groups: block of each image, as returned by `group_blocks`.
        paths: path of each image.
        splits: split of each image.
        guard: value of `split.guard`.
    """
    held_out: dict[str, list[int]] = defaultdict(list)
    places = []
    for group, path, split in zip(groups, paths, splits, strict=True):
        match = NUMBER.fullmatch(path)
        assert match is not None  # checked by `group_blocks`
        places.append((group.rpartition("#")[0], int(match[2])))
        if split != "train":
            held_out[places[-1][0]].append(places[-1][1])
    known = {series: np.sort(numbers) for series, numbers in held_out.items()}
    return [
        split == "train" and series in known and bool((abs(known[series] - number) <= guard).any())
        for (series, number), split in zip(places, splits, strict=True)
    ]


def _in_block(sample: Sample, length: int, scope: str) -> Sample:
    match = NUMBER.fullmatch(sample.path)
    if match is None:
        raise UserError(
            f"ingest.sequence_block is {length}, but the path {sample.path} contains no number that orders the images; "
            "set ingest.sequence_block to 1"
        )
    return replace(sample, group=f"{sample.group or SCOPES[scope](match[1])}#{int(match[2]) // length * length}")
