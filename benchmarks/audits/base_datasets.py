"""Real images in which faults are planted: digits that scikit-learn ships, and reference data where they are given."""

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

Pool = list[tuple[np.ndarray, str]]
"""Images, uint8, with their classes."""
LONGER_SIDE = 160  # pixels, of photos that are larger: decoding must not eat the time
PER_CLASS = 300  # of CIFAR-10


@dataclass(frozen=True)
class Carrier:
    """A kind of images."""

    words: str
    read: Callable[[Path], Pool]
    """From the folder of the reference data."""
    file: str = ""
    """Its file in that folder; empty where none is needed."""
    quality: int = 0
    """Of its JPEGs; 0: PNG."""


def digits(folder: Path) -> Pool:
    """1,797 grey images of 8x8 pixels."""
    found = load_digits()
    return [((image * 255 / 16).astype(np.uint8), str(k)) for image, k in zip(found.images, found.target, strict=True)]


def cifar10(folder: Path) -> Pool:
    """The first few training images of every class, colour, 32x32."""
    pool: Pool = []
    with tarfile.open(folder / "cifar10.tar.xz") as tar:
        for member in tar:
            parts = member.name.split("/")
            if len(parts) == 4 and parts[1] == "train" and int(Path(parts[3]).stem) < PER_CLASS:
                file = tar.extractfile(member)
                assert file is not None
                pool.append((_colour(file.read()), parts[2]))
    return pool


def clothing10(folder: Path) -> Pool:
    """741 colour photos, the longer side reduced."""
    return _zipped(folder / "clothing10.zip", _colour)


def plankton121(folder: Path) -> Pool:
    """5,705 grey cut-outs of any size."""
    return _zipped(folder / "plankton121.zip", lambda data: np.asarray(Image.open(io.BytesIO(data)).convert("L")))


def usps(folder: Path) -> Pool:
    """7,291 grey images of 16x16 pixels."""
    with zipfile.ZipFile(folder / "digits_usps_mnist.zip") as archive:
        name = next(n for n in archive.namelist() if n.endswith(".npz"))
        with np.load(io.BytesIO(archive.read(name))) as arrays:
            images, labels = arrays["usps_train_images"], arrays["usps_train_labels"]
    return [(image, str(int(k))) for image, k in zip(images, labels.ravel(), strict=True)]


def _zipped(file: Path, decode: Callable[[bytes], np.ndarray]) -> Pool:
    with zipfile.ZipFile(file) as archive:
        names = [n for n in archive.namelist() if n.lower().endswith((".jpg", ".jpeg"))]
        return [(decode(archive.read(name)), name.split("/")[-2]) for name in names]


def _colour(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if max(image.size) > LONGER_SIDE:
        image.thumbnail((LONGER_SIDE, LONGER_SIDE))
    return np.asarray(image)


CARRIERS = {
    "digits": Carrier("8x8, grey, PNG", digits),
    "usps": Carrier("16x16, grey, PNG", usps, "digits_usps_mnist.zip"),
    "cifar10": Carrier("32x32, colour, JPEG", cifar10, "cifar10.tar.xz", 95),
    "plankton121": Carrier("grey cut-outs of any size, JPEG", plankton121, "plankton121.zip", 95),
    "clothing10": Carrier(f"photos, longer side {LONGER_SIDE}, JPEG", clothing10, "clothing10.zip", 95),
}


@cache
def pool(name: str, folder: Path) -> Pool:
    """The images of a carrier."""
    return CARRIERS[name].read(folder)


def available(folder: Path | None) -> list[str]:
    """The carriers that can be read."""
    return [n for n, c in CARRIERS.items() if not c.file or (folder is not None and (folder / c.file).exists())]
