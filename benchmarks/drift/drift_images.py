"""Statistics of real images, of changed copies of them, and simulated statistics, for the drift benchmark."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.audits.base_datasets import LabelledImages, load_images
from stages.images.decode import DecodedImage
from stages.images.image_statistics import MONITORED, compute_statistics

ACCURACY = 0.8
"""Accuracy of the simulated predictions; the others are any class with equal chance."""
CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "brightness times 0.8": lambda image: (image * 0.8).astype(np.uint8),
    "brightness times 0.95": lambda image: (image * 0.95).astype(np.uint8),
    "blurred": lambda image: np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(blur_radius(image)))),
}


@dataclass(frozen=True)
class Statistics:
    """Values of N images by statistic, and their classes."""

    inputs: dict[str, np.ndarray]
    classes: np.ndarray

    def some(self, index: np.ndarray) -> "Statistics":
        """Return the values of the images with these numbers."""
        return Statistics({name: values[index] for name, values in self.inputs.items()}, self.classes[index])


def blur_radius(image: np.ndarray) -> float:
    """Return the standard deviation of the blur: 1 % of the longer side, at least 0.7 pixels."""
    return max(0.7, 0.01 * max(image.shape[:2]))


def describe(images: LabelledImages, change: Callable[[np.ndarray], np.ndarray] = lambda image: image) -> Statistics:
    """Return the statistics of images after a change, as ingest computes them."""
    rows = [compute_statistics(DecodedImage(change(image), "PNG", "")) for image, _ in images]
    inputs = {name: np.array([float(row[name]) for row in rows]) for name in MONITORED}
    return Statistics(inputs, np.array([label for _, label in images]))


def read(name: str, folder: Path, most: int) -> LabelledImages:
    """Return at most `most` random images of a data set.

    Args:
        name: name of a base data set, or `mnist`.
        folder: folder of the reference data sets.
        most: number of images.
    """
    images = mnist(folder) if name == "mnist" else load_images(name, folder)
    chosen = np.random.default_rng(0).permutation(len(images))[:most]
    return [images[i] for i in chosen]


def mnist(folder: Path) -> LabelledImages:
    """Return 10,000 grey images of 28x28 pixels, another camera than that of USPS for the same digits."""
    with zipfile.ZipFile(folder / "digits_usps_mnist.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".npz"))
        with np.load(io.BytesIO(archive.read(name))) as arrays:
            key = next(k for k in arrays if "mnist" in k and "image" in k)
            labels = arrays[key.replace("images", "labels")].ravel()
            return [(image, str(int(k))) for image, k in zip(arrays[key], labels, strict=True)]


def simulated(count: int, rng: np.random.Generator) -> Statistics:
    """Return correlated normal numbers, one of them with 70 % equal values, and ten classes of unequal frequency."""
    common = rng.normal(size=count)
    inputs = {name: 0.6 * common + 0.8 * rng.normal(size=count) for name in MONITORED}
    inputs["black"] = np.maximum(0.0, inputs["black"] - 0.52)
    share = np.arange(1, 11) / 55
    return Statistics(inputs, rng.choice([f"class {k}" for k in range(10)], count, p=share))


def predicted(classes: np.ndarray, names: np.ndarray, rng: np.random.Generator) -> dict[str, list[str] | list[float]]:
    """Return simulated predictions for images, which are independent of each other.

    Args:
        classes: true classes.
        names: names of all classes.
        rng: random number generator.
    """
    right = rng.random(len(classes)) < ACCURACY
    label = np.where(right, classes, rng.choice(names, len(classes)))
    confidence = np.where(right, rng.beta(8, 2, len(classes)), rng.beta(4, 3, len(classes)))
    return {"class": label.tolist(), "confidence": confidence.tolist()}
