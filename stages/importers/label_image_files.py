"""Files of a source that are measured to be masks, a few of each folder and form of name."""

import re
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable, decode_image, is_image_path, open_with_pillow
from stages.images.label_images import decode_label_image
from stages.importers.label_regions import is_label_image

Array = np.ndarray[Any, Any]
PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".webp")
"""Suffixes of lossy compression, which masks rarely have; such files are not opened."""
MAX_OPENED = 300  # files that are opened
OPENED_OF_EACH = 3  # files that are opened of each folder and form of name


class LabelImageFiles:
    """The files of a source that are masks, by measurement of some files of each folder and form of name."""

    def __init__(self, files: SourceFiles, measured: dict[str, bool] | None = None) -> None:
        """Take the files.

        Args:
            files: files of the source by path.
            measured: whether files that were opened before are masks, by path; more are added.
        """
        self._files = files
        self._measured = {} if measured is None else measured
        self._opened = 0
        self.is_one = cache(self._is_one)

    def _is_one(self, path: str) -> bool:
        """Return whether a file is a mask; False if too many files have been opened."""
        if path.lower().endswith(PHOTOS) or self._opened >= MAX_OPENED:
            return False
        self._opened += 1
        if path not in self._measured:
            level = read_values(self._files, path)
            self._measured[path] = level is not None and is_label_image(level)
        return self._measured[path]

    def find(self) -> frozenset[str]:
        """Return all files of those folders and forms of name of which the opened files are masks, and none is not."""
        alike: dict[tuple[str, str], list[str]] = {}
        for path in self._files:
            if is_image_path(path):
                alike.setdefault(_form(path), []).append(path)
        masks = [paths for paths in alike.values() if self._are_masks(paths)]
        return frozenset(path for paths in masks for path in paths)

    def _are_masks(self, paths: list[str]) -> bool:
        places = np.unique(np.linspace(0, len(paths) - 1, OPENED_OF_EACH).round().astype(int))
        return all(self.is_one(paths[place]) for place in places)


def _form(path: str) -> tuple[str, str]:
    """Return the folder of a path, and its name with all numbers replaced."""
    folder, _, name = path.rpartition("/")
    return folder, re.sub(r"\d+", "0", name)


def read_values(files: SourceFiles, path: str) -> Array | None:
    """Return the values of a mask [H, W] as `ingest` reads them; if the file is not a mask, as `read_levels`."""
    try:
        return decode_label_image(files[path]()).value_HW
    except (Unreadable, OSError):
        return read_levels(files, path)


def read_levels(files: SourceFiles, path: str) -> Array | None:
    """Return the grey levels or palette indices [H, W], or colours [H, W, C]; None if the file is not readable."""
    try:
        data = files[path]()
        with open_with_pillow(data) as file:
            if file.mode in ("1", "P"):
                return np.asarray(file.convert("L") if file.mode == "1" else file)
        image = decode_image(data).image
    except (Unreadable, OSError, SyntaxError, ValueError, OverflowError, Image.DecompressionBombError):
        return None
    return image[:, :, 0] if image.ndim == 3 and (image == image[:, :, :1]).all() else image
