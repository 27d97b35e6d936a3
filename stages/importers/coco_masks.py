"""Masks of COCO as run lengths: a list of numbers, or the compressed text of the COCO API."""

from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool
from stages.dataset.annotations import decode_rle
from stages.images.decode import Unreadable

MAX_SHIFT = 60  # bits; a longer number exceeds any image


def decode_coco_mask(data: dict[str, Any], height: int, width: int, where: str) -> Bool[Array, "{height} {width}"]:
    """Return the mask of a run-length encoding, compressed or not.

    Args:
        data: `segmentation` of an annotation, with `size` and `counts`.
        height: height of the image, pixels.
        width: width of the image, pixels.
        where: position in the source, for the error messages.

    Raises:
        Unreadable: the size is not that of the image, the runs are not integers or do not add up to its pixels, or the
            mask is empty.
    """
    size, counts = data.get("size"), data.get("counts")
    if size != [height, width]:
        raise Unreadable(
            f"{where}: the mask has size {str(size)[:60]} (height, width), but the image has size [{height}, {width}]"
        )
    if not isinstance(counts, list | str):
        raise Unreadable(
            f"{where}: `counts` of the mask is {str(counts)[:60]}; a list of integers or a text is required"
        )
    try:
        mask_HW = decode_rle(decompress_runs(counts) if isinstance(counts, str) else _integers(counts), height, width)
    except ValueError as error:
        raise Unreadable(f"{where}: the mask cannot be decoded: {error}") from None
    if not mask_HW.any():
        raise Unreadable(f"{where}: the mask covers no pixel")
    return mask_HW


def _integers(counts: list[Any]) -> list[int]:
    for count in counts:
        if isinstance(count, bool) or not isinstance(count, int | float) or not np.isfinite(count) or count % 1:
            raise ValueError(f"`counts` contains {str(count)[:60]!r}, which is not an integer")
    return [int(count) for count in counts]


def decompress_runs(text: str) -> list[int]:
    """Return the run lengths of the compressed text of the COCO API, whose decoder reads beyond incomplete text.

    Each character holds 5 bits of a signed number, the lowest first, and a bit that announces another character. From
    the fourth number on, the number is the difference to the run before the last (`rleToString` in maskApi.c).

    Raises:
        ValueError: a character is invalid, the text ends within a number, or a number is too large.

    >>> decompress_runs("[16>0Y>")
    [43, 6, 14, 6, 471]
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64 or shift > MAX_SHIFT:
            problem = "is invalid" if shift <= MAX_SHIFT else "continues a number that is too large"
            raise ValueError(f"the character {character!r} of `counts` {problem}")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value = shift = 0
    if shift:
        raise ValueError("`counts` ends within a number")
    return runs
