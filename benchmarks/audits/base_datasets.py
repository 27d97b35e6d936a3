"""Real images into which faults are injected: scikit-learn's digits, and the reference data sets if available."""

import io
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

LabelledImages = list[tuple[np.ndarray, str]]
"""Pairs of an image (uint8, [H, W] or [H, W, 3]) and its class."""
LONGER_SIDE = 160  # pixels; larger photos are reduced, so that decoding does not dominate the run time
PER_CLASS = 300  # images of CIFAR-10


@dataclass(frozen=True)
class BaseDataset:
    """Set of real images, and the function that reads it."""

    description: str
    read: Callable[[Path], LabelledImages]
    """Function that reads the images from the folder of the reference data."""
    file: str = ""
    """File in that folder; empty if none is needed."""
    quality: int = 0
    """JPEG quality at which the images are written; 0 for PNG."""


def digits(folder: Path) -> LabelledImages:
    """Return 1,797 grey images of 8x8 pixels."""
    found = load_digits()
    return [((image * 255 / 16).astype(np.uint8), str(k)) for image, k in zip(found.images, found.target, strict=True)]


def cifar10(folder: Path) -> LabelledImages:
    """Return the first `PER_CLASS` training images of each class, in colour, 32x32 pixels."""
    images: LabelledImages = []
    with tarfile.open(folder / "cifar10.tar.xz") as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == "train" and int(Path(parts[3]).stem) < PER_CLASS:
                file = tar.extractfile(member)
                assert file is not None
                images.append((_decode_colour(file.read()), parts[2]))
    return images


def clothing10(folder: Path) -> LabelledImages:
    """Return 741 colour photos, reduced to at most `LONGER_SIDE` pixels on the longer side."""
    return _read_zip(folder / "clothing10.zip", _decode_colour)


def plankton121(folder: Path) -> LabelledImages:
    """Return 5,705 grey cut-outs of different sizes."""
    return _read_zip(folder / "plankton121.zip", lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("L")))


def usps(folder: Path) -> LabelledImages:
    """Return 7,291 grey images of 16x16 pixels."""
    with zipfile.ZipFile(folder / "digits_usps_mnist.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".npz"))
        with np.load(io.BytesIO(archive.read(name))) as arrays:
            images, labels = arrays["usps_train_images"], arrays["usps_train_labels"]
    return [(image, str(int(k))) for image, k in zip(images, labels.ravel(), strict=True)]


def _read_zip(file: Path, decode: Callable[[bytes], np.ndarray]) -> LabelledImages:
    with zipfile.ZipFile(file) as archive:
        names = [n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg"))]
        return [(decode(archive.read(name)), name.split("/")[-2]) for name in names]


def _decode_colour(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if max(image.size) > LONGER_SIDE:
        image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return np.asarray(image)


BASE_DATASETS = {
    "digits": BaseDataset("8x8, grey, PNG", digits),
    "usps": BaseDataset("16x16, grey, PNG", usps, "digits_usps_mnist.zip"),
    "cifar10": BaseDataset("32x32, colour, JPEG", cifar10, "cifar10.tar.xz", 95),
    "plankton121": BaseDataset("grey cut-outs of different sizes, JPEG", plankton121, "plankton121.zip", 95),
    "clothing10": BaseDataset(f"photos, longer side {LONGER_SIDE}, JPEG", clothing10, "clothing10.zip", 95),
}


@cache
def load_images(name: str, folder: Path) -> LabelledImages:
    """Return the images of a base data set; `folder` contains the reference data."""
    return BASE_DATASETS[name].read(folder)


def available(folder: Path | None) -> list[str]:
    """Return the names of the base data sets whose file is in `folder`, and of those that require no file."""
    return [n for n, c in BASE_DATASETS.items() if not c.file or (folder is not None and (folder / c.file).exists())]
