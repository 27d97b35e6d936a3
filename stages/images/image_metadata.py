"""What is known of an image from the bytes of its file alone."""

import hashlib
from typing import Any

import numpy as np

from stages.images.decode import DecodedImage, decode_image
from stages.images.image_statistics import compute_statistics


def describe_image(data: bytes, max_megapixels: float) -> dict[str, Any]:
    """Everything in a manifest's row that follows from a file's bytes; and `turned`, see `Picture`.

    Raises:
        Unreadable: see `read`.
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


def pixel_digest(image: np.ndarray[Any, Any]) -> str:
    """SHA-256 of shape and pixels, 16 hex digits; in two steps, since to join them would copy the pixels twice."""
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
"""The keys of what `described` answers."""
