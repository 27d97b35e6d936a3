"""Manifest values of an image that depend only on the bytes of its file."""

import hashlib
from typing import Any

import numpy as np

from stages.core.shapes import Array, Integer
from stages.images.decode import DecodedImage, decode_image
from stages.images.image_statistics import compute_statistics


def describe_image(data: bytes, max_megapixels: float) -> dict[str, Any]:
    """Return the manifest values that depend only on the bytes of the file, and `turned` of `DecodedImage`.

    Raises:
        Unreadable: see `decode_image`.
    """
    picture = decode_image(data, max_megapixels)
    image = picture.image
    return {
        **compute_statistics(picture),
        "pixels": pixel_digest(image),
        "channels": 1 if image.ndim == 2 else image.shape[2],
        "depth": 8 * image.dtype.itemsize,
        "turned": picture.turned,
    }


def pixel_digest(image: Integer[Array, "H W *C"]) -> str:
    """Return the first 16 hex digits of the SHA-256 of the shape and the pixels."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:16]


DESCRIPTION_KEYS = [
    *compute_statistics(DecodedImage(np.zeros((1, 1), np.uint8), "", "")),
    "pixels",
    "channels",
    "depth",
    "turned",
]
"""Keys of the result of `describe_image`."""
