"""What is known of an image from the bytes of its file alone."""

import hashlib
from typing import Any

import numpy as np

from stages.images.decode import Picture, read
from stages.images.image_statistics import statistics


def described(data: bytes, max_megapixels: float) -> dict[str, Any]:
    """Everything in a manifest's row that follows from a file's bytes; and `turned`, see `Picture`.

    Raises:
        Unreadable: see `read`.
    """
    picture = read(data, max_megapixels)
    image = picture.image
    return {
        **statistics(picture),
        "pixels": digest_of(image),
        "channels": 1 if image.ndim == 2 else image.shape[2],
        "depth": 8 * image.dtype.itemsize,
        "turned": picture.turned,
    }


def digest_of(image: np.ndarray[Any, Any]) -> str:
    """SHA-256 of shape and pixels, 16 hex digits; in two steps, since to join them would copy the pixels twice."""
    digest = hashlib.sha256(repr(image.shape).encode())
    digest.update(np.ascontiguousarray(image).data)
    return digest.hexdigest()[:16]


DESCRIBED = [*statistics(Picture(np.zeros((1, 1), np.uint8), "", "")), "pixels", "channels", "depth", "turned"]
"""The keys of what `described` answers."""
