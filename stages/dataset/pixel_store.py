"""The pixel store: decoded images at the working size in memory-mapped files."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.core.shapes import Array, Bool, Float, Integer, Shaped, UInt8
from stages.images.geometry import Placement

PLACEMENT_COLUMNS = ("height", "width", "top", "left", "inner_height", "inner_width", "scale_y", "scale_x")
ROW_COLUMNS = ("path", "label", "group", *PLACEMENT_COLUMNS)


def _ragged_rows(
    first: Integer[Array, " _"], index_B: Integer[Array, " B"]
) -> tuple[Integer[Array, " T"], Integer[Array, " B+1"]]:
    """Return the rows of the selected images in concatenated arrays, and the index of the first one of each image."""
    ranges = [np.arange(first[i], first[i + 1]) for i in index_B]
    return np.concatenate([np.zeros(0, int), *ranges]), np.cumsum([0, *map(len, ranges)])


@dataclass(frozen=True)
class RaggedObjects:
    """Objects of all images, any number per image."""

    box_T4: Float[Array, "T 4"]
    """Boxes (edges x0, y0, x1, y1, working pixels) in float32, concatenated over the images."""
    label_T: Integer[Array, " T"]
    mask_TX: UInt8[Array, "T X"] | None
    """Packed bits of a mask [size, size] per object; None if only boxes are known."""
    first: Integer[Array, " _"]
    """Index of the first object of each image, followed by the number of objects, [N + 1]."""

    def select(self, index_B: Integer[Array, " B"]) -> "RaggedObjects":
        """Return the objects of the selected images."""
        index_T, first = _ragged_rows(self.first, index_B)
        masks = None if self.mask_TX is None else self.mask_TX[index_T]
        return RaggedObjects(self.box_T4[index_T], self.label_T[index_T], masks, first)


@dataclass(frozen=True)
class RaggedBones:
    """Bones of all images, in the format of `stages.articulation.skeleton`."""

    bone_T7: Float[Array, "T 7"]
    """Bones in float32, concatenated over the images."""
    first: Integer[Array, " _"]
    """Index of the first bone of each image, followed by the number of bones, [N + 1]."""

    def select(self, index_B: Integer[Array, " B"]) -> "RaggedBones":
        """Return the bones of the selected images."""
        index_T, first = _ragged_rows(self.first, index_B)
        return RaggedBones(self.bone_T7[index_T], first)

    def padded(self, index_B: Integer[Array, " B"]) -> Float[Array, "B K 7"]:
        """Return the bones of the selected images, padded with NaN to their largest number of bones K, at least 1."""
        counts_B = self.first[index_B + 1] - self.first[index_B]
        bone_BK7 = np.full((len(index_B), max(1, int(counts_B.max())), 7), np.nan, np.float32)
        for row, (index, count) in enumerate(zip(index_B, counts_B, strict=True)):
            bone_BK7[row, :count] = self.bone_T7[self.first[index] : self.first[index] + count]
        return bone_BK7


@dataclass(frozen=True)
class SelectedRows:
    """Rows of an array, which are read from disk when they are indexed."""

    values: Any
    """Memory-mapped array."""
    index_N: Integer[Array, " N"]

    def __getitem__(self, index: Any) -> Any:
        """Return the rows of the selection at an index, slice or array of indices."""
        return self.values[self.index_N[index]]

    def __len__(self) -> int:
        return len(self.index_N)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return all rows of the selection."""
        return np.asarray(self.values[self.index_N], dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the selection."""
        return (len(self.index_N), *self.values.shape[1:])

    @property
    def dtype(self) -> Any:
        """Type of the values."""
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        """Size of the selection, bytes."""
        return int(np.prod(self.shape)) * self.values.dtype.itemsize


@dataclass(frozen=True)
class PixelStore:
    """One split of the prepared data. Each row is a working image: a whole original, or a tile."""

    image_NHWC: Integer[Any, "N H W C"]
    """uint8 or uint16: a memory-mapped array, or a tensor on the device of the training."""
    target: Shaped[Any, "N ..."] | RaggedObjects
    """Training targets, aligned with the images; an array or a tensor like `image_NHWC`, or objects."""
    rows: pd.DataFrame
    """Path, label, group and placement of each image."""
    about: dict[str, Any]
    """Name and version of the data, and the task spec."""
    bones: RaggedBones | None = None
    """Bones, if `prepare` computed them."""

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, index_B: Integer[Array, " B"]) -> "PixelStore":
        """Return a store of the selected working images, without bones."""
        rows = self.rows.iloc[index_B].reset_index(drop=True)
        target = self.target.select(index_B) if isinstance(self.target, RaggedObjects) else self.target[index_B]
        return PixelStore(self.image_NHWC[index_B], target, rows, self.about)

    def subset(self, index_B: Integer[Array, " B"]) -> "PixelStore":
        """Return a store of the selected working images, with their bones.

        Images, and targets that are images, are not loaded but read from disk when they are used.
        """
        rows = self.rows.iloc[index_B].reset_index(drop=True)
        target: Any
        if isinstance(self.target, RaggedObjects):
            target = self.target.select(index_B)
        else:
            target = self.target[index_B] if self.target.ndim < 3 else SelectedRows(self.target, index_B)
        bones = None if self.bones is None else self.bones.select(index_B)
        return PixelStore(SelectedRows(self.image_NHWC, index_B), target, rows, self.about, bones)

    def placements(self) -> list[Placement]:
        """Return the placement of each working image in its original."""
        return [Placement(*values) for values in self.rows[list(PLACEMENT_COLUMNS)].itertuples(index=False, name=None)]

    def rows_by_original(self) -> Iterator[tuple[str, slice]]:
        """Yield the path of each original image with the slice of its rows."""
        paths = self.rows["path"].to_numpy()
        begins = np.flatnonzero(np.concatenate([[True], paths[1:] != paths[:-1]]))
        for begin, end in zip(begins, [*begins[1:], len(paths)], strict=True):
            yield str(paths[begin]), slice(int(begin), int(end))


class ArrayWriter:
    """Writer of a known number of arrays of one shape, one by one, to a .npy file that can be memory-mapped."""

    def __init__(self, file: Path, count: int) -> None:
        """Set the file and the number of arrays; the first array determines shape and type."""
        self.file, self.count, self.written = file, count, 0
        self.mapped: np.memmap[Any, Any] | None = None

    def add(self, values: Shaped[Array, "..."]) -> None:
        """Write the next array.

        Raises:
            OSError: the disk is full.
        """
        if self.mapped is None:
            shape = (self.count, *values.shape)
            self.mapped = np.lib.format.open_memmap(self.file, "w+", values.dtype, shape)
            if hasattr(os, "posix_fallocate"):  # a full disk raises an error here instead of a signal in the mapping
                with self.file.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, self.mapped.nbytes + self.mapped.offset)
        self.mapped[self.written] = values
        self.written += 1

    def close(self) -> None:
        """Flush the file; all arrays must have been written."""
        assert self.mapped is not None and self.written == self.count, f"{self.written} of {self.count} written"
        self.mapped.flush()


def write_rows(folder: Path, split: str, rows: pd.DataFrame) -> None:
    """Write the rows of the working images.

    Args:
        folder: folder of the store.
        split: train or val.
        rows: table with the columns `ROW_COLUMNS`.
    """
    rows[list(ROW_COLUMNS)].to_parquet(folder / f"{split}.parquet", index=False)


def write_about(folder: Path, about: dict[str, Any]) -> None:
    """Write the metadata that all splits share."""
    (folder / "about.json").write_text(json.dumps(about, indent=1) + "\n")


def write_objects(
    folder: Path,
    split: str,
    objects: Iterable[tuple[Float[Array, "_ 4"], Integer[Array, " _"], Bool[Array, "_ S S"] | None]],
) -> None:
    """Write the objects of each image.

    Args:
        folder: folder of the store.
        split: train or val.
        objects: (box_M4, label_M, mask_MSS or None) per image.
    """
    boxes, labels, masks, first = [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int64)], [], [0]
    for box_M4, label_M, mask_MSS in objects:
        boxes.append(box_M4)
        labels.append(label_M)
        first.append(first[-1] + len(label_M))
        if mask_MSS is not None:
            masks.append(np.packbits(mask_MSS.reshape(len(label_M), mask_MSS[0].size if len(label_M) else 8), axis=1))
    arrays = {"box_T4": np.concatenate(boxes), "label_T": np.concatenate(labels), "first": np.array(first)}
    if masks:
        arrays["mask_TX"] = np.concatenate([m for m in masks if len(m)] or masks[:1])
    np.savez(folder / f"{split}.things.npz", **arrays)  # type: ignore[arg-type]


def write_bones(folder: Path, split: str, bones: Sequence[Float[Array, "_ 7"]]) -> None:
    """Write the bones of each image.

    Args:
        folder: folder of the store.
        split: train or val.
        bones: bones of each image, in the format of `stages.articulation.skeleton`.
    """
    first = np.concatenate([[0], np.cumsum([len(bone_K7) for bone_K7 in bones])])
    bone_T7 = np.concatenate([np.zeros((0, 7), np.float32), *bones])
    np.savez(folder / f"{split}.bones.npz", bone_T7=bone_T7, first=first)


def open_split(folder: Path, split: str) -> PixelStore:
    """Open one split of a pixel store."""
    about = json.loads((folder / "about.json").read_text())
    rows = pd.read_parquet(folder / f"{split}.parquet")
    target: Array | RaggedObjects
    if (folder / f"{split}.things.npz").exists():
        arrays = dict(np.load(folder / f"{split}.things.npz"))
        target = RaggedObjects(arrays["box_T4"], arrays["label_T"], arrays.get("mask_TX"), arrays["first"])
    else:
        target = np.load(folder / f"{split}.target.npy", mmap_mode="r")
    file = folder / f"{split}.bones.npz"
    bones = RaggedBones(**np.load(file)) if file.exists() else None
    return PixelStore(np.load(folder / f"{split}.npy", mmap_mode="r"), target, rows, about, bones)
