"""What is trained on in `benchmarks.training.compare_training`, by which recipe, and who trains."""

import shutil
import tarfile
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CIFAR_TRAIN, CIFAR_VAL, CIFAR_TEST = 500, 100, 20  # images a class
AUTO, EQUAL = "macula", "macula, 32 bits"

CONTESTANTS = {
    AUTO: {},
    EQUAL: {"bits": 32},
    "macula, 16 bits": {"bits": 16},
    "torchvision": {"bits": 32},
    "lightning": {"bits": 32},
    "fastai": {"bits": 32},
    "ultralytics": {"bits": 32},
    "torchvision, 16 bits": {"bits": 16},
}
"""Lightning would have 16 bits as well, as its autocast is torch's; fastai and Ultralytics have them on CUDA alone."""


def cifar(archive: Path, folder: Path) -> None:
    """Some of CIFAR-10, evenly spread, as folders train, val and test of classes."""
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
    """All of clothing10, with its own splits."""
    with tempfile.TemporaryDirectory() as name, zipfile.ZipFile(archive) as packed:
        packed.extractall(name)  # noqa: S202, an archive of our own
        for split, origin in (("train", "train"), ("val", "validation"), ("test", "test")):
            shutil.copytree(Path(name) / "clothing10" / origin, folder / split)


@dataclass(frozen=True)
class Case:
    """Images and a recipe."""

    archive: str
    unpack: Callable[[Path, Path], None]
    recipe: dict[str, Any]
    contestants: tuple[str, ...] = tuple(CONTESTANTS)


CASES = {
    "cifar10, 32 px": Case(
        "cifar10.tar.xz",
        cifar,
        {"size": 32, "classes": 10, "batch": 64, "epochs": 6, "rate": 0.003, "decay": 0.01},
        contestants=tuple(name for name in CONTESTANTS if "16 bits" not in name),  # which gain nothing at 32 px
    ),
    "clothing10, 128 px": Case(
        "clothing10.zip",
        clothing,
        {"size": 128, "classes": 10, "batch": 32, "epochs": 4, "rate": 0.002, "decay": 0.01},
    ),
}
