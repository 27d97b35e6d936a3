"""Golden images: validation images with recorded predictions, by which a deployment checks a model where it runs.

A prediction is compared as named numbers (`comparable_values`), which are the same for a response of the server and for
a prediction in this process.
"""

import io
import json
import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.core.errors import UserError
from stages.core.plurals import quantity

GOLDEN_FILE = "golden.zip"
INDEX = "golden.json"
DATE = (2000, 1, 1, 0, 0, 0)
"""Time of the files in the archive, so that equal content gives equal bytes."""
MAX_SCORES = 10
"""Instances of each class whose scores are compared, the highest first."""
CONFIDENT = 0.5
BLOCKS = 8
"""Blocks per side in which the mean level of a predicted image is compared."""
MAX_SHOWN = 3
"""Failures that a message lists."""

Values = dict[str, float]


@dataclass(frozen=True)
class GoldenImage:
    """An image file with its recorded predictions, as `comparable_values`."""

    name: str
    data: bytes
    reason: str
    """Reason why the image was chosen."""
    float32: Values
    shipped: Values


@dataclass(frozen=True)
class GoldenSet:
    """Golden images of a model, and the differences that are accepted."""

    model: str
    """SHA-256 of the model file for which the images were recorded."""
    tolerance: float
    """Largest accepted difference of one number from the nearer of the two recorded predictions."""
    mean_tolerance: float
    """Largest accepted mean, over all images, of the largest difference from the float32 prediction."""
    deviation: dict[str, float]
    """Standard deviation of each scalar over the training images, the unit in which scalars are compared."""
    images: tuple[GoldenImage, ...]


@dataclass(frozen=True)
class Verdict:
    """Result of a comparison with golden images."""

    passed: bool
    message: str
    largest: float
    """Largest difference from the nearer recorded prediction; infinite if a prediction is missing."""
    mean: float
    """Mean over all images of the largest difference from float32."""


def comparable_values(
    answer: Mapping[str, Any],
    task: str,
    size: tuple[int, int],
    deviation: Mapping[str, float],
    picture: np.ndarray[Any, Any] | None = None,
) -> Values:
    """Return the numbers of a prediction by name, each in a unit in which 1 is a large difference.

    Probabilities and area shares are unchanged, points are relative to the diagonal of the image, scalars to their
    standard deviation, and levels of a predicted image to white.

    Args:
        answer: record of the prediction, as the server returns it.
        task: task of the model.
        size: height and width of the image, pixels.
        deviation: standard deviation of each scalar.
        picture: predicted image, for the task `image`.
    """
    diagonal = math.hypot(*size)
    match task:
        case "landmarks":
            return {
                f"{name} {key}": float(value) / (1 if key == "confidence" else diagonal)
                for name, point in answer.items()
                for key, value in point.items()
            }
        case "regression":
            return {name: float(value) / (deviation.get(name) or 1.0) for name, value in answer.items()}
        case "instances":
            return _instance_values(answer["things"], diagonal)
        case "image":
            assert picture is not None
            return _block_levels(picture)
        case "segmentation":
            return {name: float(value) for name, value in answer.items()}
        case _:
            return {name: float(value) for name, value in answer["probabilities"].items()}


def _instance_values(instances: Sequence[Mapping[str, Any]], diagonal: float) -> Values:
    """Return the highest scores of each class and the mean centre of its confident instances."""
    values: Values = {}
    for label in sorted({str(one["label"]) for one in instances}):
        mine = sorted((one for one in instances if one["label"] == label), key=lambda one: -one["score"])
        values |= {f"{label} score {i}": float(one["score"]) for i, one in enumerate(mine[:MAX_SCORES])}
        boxes = np.array([one["bbox"] for one in mine if one["score"] >= CONFIDENT], float).reshape(-1, 4)
        if len(boxes):
            x, y = (boxes[:, :2] + boxes[:, 2:] / 2).mean(axis=0) / diagonal
            values |= {f"{label} x": float(x), f"{label} y": float(y)}
    return values


def _block_levels(picture: np.ndarray[Any, Any]) -> Values:
    """Return the mean level of each of `BLOCKS` x `BLOCKS` blocks, white = 1."""
    levels_HWC = picture.reshape(*picture.shape[:2], -1) / np.iinfo(picture.dtype).max
    rows = np.array_split(levels_HWC, min(BLOCKS, len(levels_HWC)), axis=0)
    blocks = [np.array_split(row, min(BLOCKS, row.shape[1]), axis=1) for row in rows]
    return {f"block {i} {j}": float(block.mean()) for i, row in enumerate(blocks) for j, block in enumerate(row)}


def difference(one: Values, other: Values) -> float:
    """Return the largest difference between two predictions; a missing number counts as 0, NaN as infinite.

    >>> difference({"cat": 0.75, "dog": 0.25}, {"cat": 0.5})
    0.25
    """
    names = one.keys() | other.keys()
    largest = max((abs(one.get(name, 0.0) - other.get(name, 0.0)) for name in names), default=0.0)
    finite = all(math.isfinite(value) for value in [*one.values(), *other.values()])
    return largest if finite else math.inf


def judge(golden: GoldenSet, found: Sequence[Values | str]) -> Verdict:
    """Compare predictions with the recorded ones.

    Args:
        golden: golden images.
        found: for each image, in order, its prediction, or the reason why there is none.
    """
    assert golden.images and len(found) == len(golden.images), "one prediction per golden image is required"
    failures, largest, mean = [], 0.0, 0.0
    for image, values in zip(golden.images, found, strict=True):
        if isinstance(values, str):
            far = from_float32 = math.inf
            failures.append(f"{image.name}: {values}")
        else:
            from_float32 = difference(image.float32, values)
            far = min(from_float32, difference(image.shipped, values))
            if far > golden.tolerance:
                failures.append(f"{image.name} ({image.reason}): differs by {far:.3g}, tolerance {golden.tolerance:g}")
        largest, mean = max(largest, far), mean + from_float32 / len(found)
    count = quantity(len(found), "golden image")
    if failures:
        more = f"; and {len(failures) - MAX_SHOWN} more" if len(failures) > MAX_SHOWN else ""
        message = f"{len(failures)} of {count} failed: {'; '.join(failures[:MAX_SHOWN])}{more}"
    elif mean > golden.mean_tolerance:
        message = (
            f"{count} differ from float32 by {mean:.3g} on average, above the tolerance {golden.mean_tolerance:.3g}"
        )
    else:
        return Verdict(True, f"{count} within the tolerance: largest difference {largest:.2g}", largest, mean)
    return Verdict(False, message, largest, mean)


def write_golden(file: Path, golden: GoldenSet) -> None:
    """Write golden images and their recorded predictions as a zip file; equal content gives equal bytes."""
    index = {
        "format": 1,
        "model": golden.model,
        "tolerance": golden.tolerance,
        "mean_tolerance": golden.mean_tolerance,
        "deviation": golden.deviation,
        "images": [
            {"name": image.name, "reason": image.reason, "float32": image.float32, "shipped": image.shipped}
            for image in golden.images
        ],
    }
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(zipfile.ZipInfo(INDEX, DATE), json.dumps(index, indent=1, allow_nan=False) + "\n")
        for image in golden.images:
            archive.writestr(zipfile.ZipInfo(image.name, DATE), image.data)


def read_golden(file: Path) -> GoldenSet:
    """Read golden images.

    Raises:
        UserError: the file does not exist, is damaged, or contains no image.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            index = json.loads(archive.read(INDEX))
            images = tuple(
                GoldenImage(row["name"], archive.read(row["name"]), row["reason"], row["float32"], row["shipped"])
                for row in index["images"]
            )
        golden = GoldenSet(
            index["model"], float(index["tolerance"]), float(index["mean_tolerance"]), index["deviation"], images
        )
    except FileNotFoundError:
        raise UserError(
            f"golden images: {file} does not exist; the stage export writes it beside the model: export again "
            "(`export.golden_images` must be above 0), or name the file"
        ) from None
    except (OSError, zipfile.BadZipFile, zlib.error, KeyError, TypeError, ValueError) as error:
        raise UserError(f"golden images: {file} cannot be read: {error}; export the model again") from None
    if not golden.images:
        raise UserError(f"golden images: {file} contains no image; export the model again")
    return golden


def read_picture(data: bytes) -> np.ndarray[Any, Any]:
    """Return the pixels of a predicted image, the bytes of a PNG or NumPy file."""
    from PIL import Image

    stream = io.BytesIO(data)
    return np.load(stream) if data[:6] == b"\x93NUMPY" else np.asarray(Image.open(stream))
