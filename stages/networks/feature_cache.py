"""Pretrained features of images, computed once and stored by the digest of the pixels: `work/features`."""

import hashlib
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Float
from stages.core.source_digest import parse
from stages.dataset.manifest import decode_images
from stages.images import decode, image_statistics
from stages.networks import classifiers, packaged_weights, pretrained_features
from stages.networks.pretrained_features import COUNT, NETWORK, SIDE
from stages.probes import image_features

CACHE_FOLDER = Path("work/features")
"""Folder of the cache, which all stages of a project share; it may be deleted."""
CODE = (classifiers, decode, image_features, image_statistics, packaged_weights, pretrained_features)
PACKAGES = ("numpy", "pillow", "timm", "torch")


def features_of_rows(rows: pd.DataFrame, folder: Path) -> Float[Array, "N 1280"]:
    """Return the pretrained features of the images of manifest rows, float32; only new images are decoded.

    Several processes may compute features at the same time: each file is complete before it has its name.

    Args:
        rows: N manifest rows.
        folder: output folder of ingest.

    Raises:
        UserError: the package with the weights is not installed, or its file is not the one that was reviewed.
    """
    cache = cache_folder()
    features_NF = np.empty((len(rows), COUNT), np.float32)
    missing: dict[str, int] = {}
    for place, pixels in enumerate(rows["pixels"]):
        stored_F = None if pixels in missing else _read(_file(cache, pixels))
        if stored_F is None:
            missing.setdefault(pixels, place)
        else:
            features_NF[place] = stored_F
    if missing:
        new = rows.iloc[list(missing.values())]
        found = dict(zip(missing, _compute(new, folder, cache), strict=True))
        for place, pixels in enumerate(rows["pixels"]):
            if pixels in found:
                features_NF[place] = found[pixels]
    return features_NF


def cache_folder() -> Path:
    """Return the folder of features of this network, size, weights, code and versions of packages."""
    digest = hashlib.sha256(packaged_weights.PACKAGES[NETWORK].sha256.encode())
    for module in CODE:  # digests without comments and docstrings
        digest.update(parse(Path(str(module.__file__)).read_bytes()).digest.encode())
    digest.update(repr([metadata.version(package) for package in PACKAGES]).encode())
    return CACHE_FOLDER / f"{NETWORK}-{SIDE}-{digest.hexdigest()[:16]}"


def _file(cache: Path, pixels: str) -> Path:
    return cache / pixels[:2] / f"{pixels}.npy"


def _read(file: Path) -> Float[Array, " 1280"] | None:
    """Return stored features; None if there are none, or if a disk failure has damaged the file."""
    try:
        stored_F: Float[Array, " 1280"] = np.load(file, allow_pickle=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, EOFError) as error:
        print(f"features: {file} cannot be read ({error}); they are computed again", flush=True)
        return None
    if stored_F.shape != (COUNT,) or stored_F.dtype != np.float32:
        print(f"features: {file} has the wrong shape {stored_F.shape}; they are computed again", flush=True)
        return None
    return stored_F


def _compute(rows: pd.DataFrame, folder: Path, cache: Path) -> Iterator[Float[Array, " 1280"]]:
    """Yield the features of each row, and store each batch when it is computed."""
    squares = (image_features.to_square(one.image, SIDE, 3) for one in decode_images(rows, folder))
    names, writable = iter(rows["pixels"]), True
    for batch_BF in pretrained_features.pretrained_features(squares):
        for features_F in batch_BF:
            writable = writable and _write(_file(cache, next(names)), features_F)
            yield features_F


def _write(file: Path, features_F: Float[Array, " 1280"]) -> bool:
    """Store features; if that is impossible, print the reason and return False."""
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as stream:
            np.save(stream, features_F, allow_pickle=False)
        part.replace(file)
    except OSError as error:  # only costs time at the next run
        print(f"features: {file} cannot be written ({error}); they are computed again next time", flush=True)
        return False
    return True
