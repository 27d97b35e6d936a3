"""The pixel store: images decoded once, at the working size, in files that are mapped into memory."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Store:
    """One split of the prepared images."""

    image_NHWC: np.ndarray[Any, np.dtype[np.uint8]]
    """uint8, mapped from disk, not read until used."""
    label_N: np.ndarray[Any, np.dtype[np.int64]]
    """Index into `about["labels"]`."""
    rows: pd.DataFrame
    """path, label, group of each image."""
    about: dict[str, Any]
    """name and version of the data, labels, size (pixels), channels."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> list[str]:
        """The classes, in the order of the network's outputs."""
        return list(self.about["labels"])


def write_split(
    folder: Path, split: str, images: Iterable[np.ndarray[Any, Any]], rows: pd.DataFrame, about: dict[str, Any]
) -> None:
    """Write images [size, size, channels] one by one, aligned with `rows`."""
    shape = (len(rows), about["size"], about["size"], about["channels"])
    mapped = np.lib.format.open_memmap(folder / f"{split}.npy", "w+", np.uint8, shape)
    if hasattr(os, "posix_fallocate"):  # a full disk is met here, as an error, and not in the mapping, as a signal
        with (folder / f"{split}.npy").open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, mapped.nbytes + mapped.offset)
    written = 0
    for image in images:
        mapped[written] = image
        written += 1
    assert written == len(rows), f"{written} images for {len(rows)} rows"
    mapped.flush()
    rows[["path", "label", "group"]].to_parquet(folder / f"{split}.parquet", index=False)
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")


def open_split(folder: Path, split: str) -> Store:
    """Open what `write_split` wrote."""
    about = json.loads((folder / "about.json").read_text())
    rows = pd.read_parquet(folder / f"{split}.parquet")
    index = {label: i for i, label in enumerate(about["labels"])}
    label_N = rows["label"].map(index).to_numpy(np.int64)
    return Store(np.load(folder / f"{split}.npy", mmap_mode="r"), label_N, rows, about)
