"""Conversion of predictions that are or contain an image to pixels and files."""

import io
from typing import Any

import numpy as np
from PIL import Image

from stages.core.shapes import Array, Integer
from stages.dataset.annotations import decode_rle
from stages.tasks.image_to_image import as_bytes
from stages.tasks.task_spec import TaskSpec

PICTURED = ("segmentation", "image", "instances")
"""Tasks whose prediction is or contains an image."""


def picture_of(prediction: Any, spec: TaskSpec) -> Integer[Array, "H W ..."]:
    """Return a prediction of a task in `PICTURED` as an image.

    It shows class indices [H, W], the numbers of confident instances from 1 [H, W] (0: none), or the predicted image
    with the bit depth of the model.
    """
    match spec.task:
        case "segmentation":
            return prediction.index_HW
        case "image":
            levels = as_bytes(prediction, spec.depth)
            return levels[:, :, 0] if levels.shape[2] == 1 else levels
        case _:
            number_HW = np.zeros((prediction.height, prediction.width), np.uint16)
            sure = prediction.sure()
            for number, box in enumerate(sure.box_M4.round().astype(int)):
                if sure.mask_M is not None:
                    number_HW[decode_rle(sure.mask_M[number], sure.height, sure.width)] = number + 1
                else:
                    number_HW[box[1] : box[3], box[0] : box[2]] = number + 1
            return number_HW


def is_png(pixels: Integer[Array, "H W ..."]) -> bool:
    """Return True if the pixels are written as PNG: one channel of 8 or 16 bits, or RGB of 8 bits."""
    return pixels.ndim == 2 or (pixels.shape[2] == 3 and pixels.dtype == np.uint8)


def as_file(pixels: Integer[Array, "H W ..."]) -> tuple[bytes, str]:
    """Return the pixels as PNG, or as a NumPy file if `is_png` is False: the bytes and the file extension."""
    stream = io.BytesIO()
    if is_png(pixels):
        Image.fromarray(pixels).save(stream, "PNG")
        return stream.getvalue(), ".png"
    np.save(stream, pixels)
    return stream.getvalue(), ".npy"
