"""Blocks of consecutively numbered images, such as frames and slices, which a split keeps together."""

from collections.abc import Sequence
from dataclasses import replace

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


def _in_block(sample: Sample, length: int, scope: str) -> Sample:
    match = NUMBER.fullmatch(sample.path)
    if match is None:
        raise UserError(
            f"ingest.sequence_block is {length}, but the path {sample.path} contains no number that orders the images; "
            "set ingest.sequence_block to 1"
        )
    return replace(sample, group=f"{sample.group or SCOPES[scope](match[1])}#{int(match[2]) // length * length}")
