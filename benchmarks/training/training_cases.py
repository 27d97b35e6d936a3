"""Cases of `compare_training`: images, recipes and competitors."""

import shutil
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.audits.base_datasets import load_images

CIFAR_TRAIN, CIFAR_VAL, CIFAR_TEST = 500, 100, 20  # images per class
AUTO, EQUAL = "macula", "macula, 32 bits"

COMPETITORS = {
    AUTO: {},
    EQUAL: {"bits": 32},
    "macula, 16 bits": {"bits": 16},
    "torchvision": {"bits": 32},
    "lightning": {"bits": 32},
    "fastai": {"bits": 32},
    "ultralytics": {"bits": 32},
    "torchvision, 16 bits": {"bits": 16},
}
"""Competitors, with their changes of the recipe.

Lightning could use 16 bits, too, by torch's autocast; fastai and Ultralytics use them on CUDA only.
"""


def cifar(archive: Path, folder: Path) -> None:
    """Write a part of CIFAR-10 into the folders train, val and test, with a folder per class.

    Every n-th image of a class is taken, in the order of the file names: training images for train, and different test
    images for val and test.
    """
    with tarfile.open(archive) as packed:
        files: dict[tuple[str, str], list[tarfile.TarInfo]] = defaultdict(list)
        for member in sorted(packed.getmembers(), key=lambda one: one.name):
            if member.isfile() and member.name.count("/") == 3:
                _, split, label, _ = member.name.split("/")
                files[split, label].append(member)
        for (split, label), found in files.items():
            count = {"train": CIFAR_TRAIN, "test": CIFAR_VAL}[split]
            step = len(found) // count
            taken = found[::step][:count]
            parts = {"train": taken} if split == "train" else {"val": taken, "test": found[1::step][:CIFAR_TEST]}
            for part, members in parts.items():
                (folder / part / label).mkdir(parents=True)
                for member in members:
                    pixels = packed.extractfile(member)
                    assert pixels is not None, member.name
                    (folder / part / label / Path(member.name).name).write_bytes(pixels.read())


def clothing(archive: Path, folder: Path) -> None:
    """Write all images of clothing10 into the folders train, val and test, with its own splits."""
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as packed:
        packed.extractall(name)  # noqa: S202 - an archive of this project's reference data
        for split, origin in (("train", "train"), ("val", "validation"), ("test", "test")):
            shutil.copytree(Path(name) / "clothing10" / origin, folder / split)


def digits(archive: Path, folder: Path) -> None:
    """Write a few digits of two classes, enlarged to 32x32 pixels; `archive` is not used."""
    from PIL import Image

    counts: dict[str, int] = {}
    for image, label in load_images("digits", Path()):
        number = counts[label] = counts.get(label, 0) + 1
        if int(label) < 2 and number <= 24:
            split = "train" if number <= 16 else "val" if number <= 20 else "test"
            (folder / split / label).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).resize((32, 32)).convert("RGB").save(folder / split / label / f"{number}.png")


@dataclass(frozen=True)
class TrainingCase:
    """Images, and the recipe that all competitors follow."""

    archive: str
    unpack: Callable[[Path, Path], None]
    """Function that writes the images of an archive to a folder."""
    recipe: dict[str, Any]
    competitors: tuple[str, ...] = tuple(COMPETITORS)


CASES = {
    "cifar10, 32 px": TrainingCase(
        "cifar10.tar.xz",
        cifar,
        {"size": 32, "classes": 10, "batch": 64, "epochs": 6, "rate": 0.003, "decay": 0.01},
        competitors=tuple(name for name in COMPETITORS if "16 bits" not in name),  # 16 bits have no advantage at 32 px
    ),
    "clothing10, 128 px": TrainingCase(
        "clothing10.zip",
        clothing,
        {"size": 128, "classes": 10, "batch": 32, "epochs": 4, "rate": 0.002, "decay": 0.01},
    ),
}
TINY_CASE = TrainingCase(
    "",
    digits,
    {"size": 32, "classes": 2, "batch": 8, "epochs": 2, "rate": 0.003, "decay": 0.01},
    competitors=tuple(name for name in COMPETITORS if "," not in name or name == EQUAL),
)
"""Case that only checks that the benchmark runs."""
