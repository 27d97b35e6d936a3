"""Batches of digits that arrive one after another: more of the same, a planted confounder, another scanner."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from stages.core.shapes import Array, UInt8

FIRST, SECOND, OTHER = slice(0, 700), slice(700, 740), slice(740, 1140)
"""Numbers of the digits in each labelled batch."""
UNLABELLED = slice(1140, 1297)
"""Numbers of the digits that `score` predicts."""
GREY_PER_LEVEL = 15
"""The levels of the digits are 0 to 16."""
BRIGHTER = 100
"""Grey levels that are added to the threes that are scanned again."""

Batch = Iterator[tuple[str, bytes]]
"""Names `<digit>/<number>.png` and PNG files."""


def first_batch() -> Batch:
    """Yield 700 digits."""
    return _files(FIRST, "a")


def second_batch() -> Batch:
    """Yield 40 further digits of the same kind, too few for a difference that exceeds the noise."""
    return _files(SECOND, "b")


def confounded_batch() -> Batch:
    """Yield the 740 digits again; the threes are brighter, as if they had been scanned on another day."""
    yield from _files(FIRST, "a", brighter=BRIGHTER)
    yield from _files(SECOND, "b", brighter=BRIGHTER)


def another_scanner() -> Batch:
    """Yield 400 labelled digits of a scanner that inverts grey levels."""
    return _files(OTHER, "c", inverted=True)


def unlabelled_of_another_scanner() -> Batch:
    """Yield 157 digits of the same scanner without labels: names contain no digit."""
    return ((name.partition("/")[2], content) for name, content in _files(UNLABELLED, "new", inverted=True))


def _files(numbers: slice, prefix: str, *, brighter: int = 0, inverted: bool = False) -> Batch:
    digits = load_digits()
    for number in range(*numbers.indices(len(digits.target))):
        label = int(digits.target[number])
        image = (digits.images[number] * GREY_PER_LEVEL).astype(np.int64)
        if label == 3:
            image = image + brighter
        image = np.clip(255 - image if inverted else image, 0, 255)
        yield f"{label}/{prefix}{number:04d}.png", _png(image.astype(np.uint8))


def _png(image: UInt8[Array, "H W"]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=0)  # so that the size does not depend on the digit
    return stream.getvalue()
