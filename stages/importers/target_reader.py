"""Read images and masks of a source, each of which is decoded and measured once although many pairings have it."""

from collections import OrderedDict
from functools import cached_property
from typing import Any

import numpy as np
from PIL import Image

from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable, open_with_pillow
from stages.images.image_statistics import count_values
from stages.images.label_images import LabelImage, decode_label_image
from stages.importers.label_image_files import read_levels
from stages.importers.label_regions import is_label_image
from stages.importers.mask_files import MaskFiles, Palettes
from stages.importers.pixel_evidence import has_few_colours, is_dotted, is_plain

Array = np.ndarray[Any, Any]
MAX_KEPT = 2**28  # bytes of decoded images that are kept


class MeasuredImage:
    """A decoded image or mask with its measurements, each of which is computed at most once."""

    def __init__(self, level: Array) -> None:
        self.level = level

    @cached_property
    def values(self) -> dict[int, int]:
        """Number of pixels by value; empty for a colour image."""
        return count_values(self.level) if self.level.ndim == 2 else {}

    @cached_property
    def is_plain(self) -> bool:
        """Return whether the image is grey and has as few values as a mask."""
        return is_plain(self.level)

    @cached_property
    def is_binary(self) -> bool:
        """Return whether the image is grey and has at most two values."""
        return is_plain(self.level, 2)

    @cached_property
    def is_dotted(self) -> bool:
        """Return whether the image shows small bright regions on black."""
        return is_dotted(self.level)

    @cached_property
    def is_label_image(self) -> bool:
        """Return whether the image consists of regions of few values, or of one value per region."""
        return is_label_image(self.level)

    @cached_property
    def has_few_colours(self) -> bool:
        """Return whether the image is in colour and has few colours."""
        return has_few_colours(self.level)


class TargetReader:
    """Images and masks of a source; the last decoded ones are kept, up to `MAX_KEPT` bytes."""

    def __init__(self, files: SourceFiles) -> None:
        self._files = files
        self._kept: OrderedDict[tuple[str, str], Any] = OrderedDict()
        self._bytes = 0
        self._counted: dict[str, dict[int, int]] = {}
        self.palettes: Palettes = {}
        """Palettes of masks, by path."""

    def image(self, path: str) -> MeasuredImage | None:
        """Return grey levels, palette indices or colours of a file; None if it is not readable."""
        return self._remember("image", path)

    def mask(self, path: str, masks: MaskFiles) -> MeasuredImage | None:
        """Return the values of a file as `ingest` reads those of a mask; if it is not a mask, as `image`.

        Args:
            path: path of the file.
            masks: all masks of the pairing, whose palettes decide what a value is.
        """
        found: tuple[LabelImage, MeasuredImage, bool] | None = self._remember("mask", path)
        if found is None:
            return self.image(path)
        label_image, measured, is_blurred = found
        try:
            values = masks.compare_palettes(label_image)
        except Unreadable:
            return self.image(path)
        if is_blurred:
            return self.image(path)  # no blurred mask: distances with many missing values
        return measured if values is label_image.value_HW else MeasuredImage(values)

    def count(self, path: str, masks: MaskFiles) -> dict[int, int]:
        """Return the number of pixels by value of a mask.

        Args:
            path: path of the file.
            masks: all masks of the pairing.
        """
        counts = self._counted.get(path)
        if counts is None:
            found = self.mask(path, masks)
            counts = found.values if found else {}
            if not masks.has_palettes:  # otherwise the values may depend on the palettes of the other masks
                self._counted[path] = counts
        return counts

    def _remember(self, kind: str, path: str) -> Any:
        """Return a decoded file, from memory if it is kept."""
        if (kind, path) in self._kept:
            self._kept.move_to_end((kind, path))
            return self._kept[kind, path]
        found = self._decode_image(path) if kind == "image" else self._decode_mask(path)
        self._kept[kind, path] = found
        self._bytes += _size(found)
        while self._bytes > MAX_KEPT and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return found

    def _decode_image(self, path: str) -> MeasuredImage | None:
        level = read_levels(self._files, path)
        return None if level is None else MeasuredImage(level)

    def _decode_mask(self, path: str) -> tuple[LabelImage, MeasuredImage, bool] | None:
        """Return a mask, and whether its two values were made from many levels of 16 bits; None if it is not a mask."""
        try:
            data = self._files[path]()
            label_image = decode_label_image(data)
        except (Unreadable, OSError):
            return None
        measured = MeasuredImage(label_image.value_HW)
        is_deep = measured.is_binary and not _has_8_bits(data) and self._is_deep(path)
        return label_image, measured, is_deep

    def _is_deep(self, path: str) -> bool:
        found = self.image(path)
        return found is not None and found.level.dtype == np.uint16 and not found.is_plain


def _size(found: MeasuredImage | tuple[LabelImage, MeasuredImage, bool] | None) -> int:
    """Return the bytes of the pixels of a decoded file."""
    if found is None:
        return 0
    return (found[1] if isinstance(found, tuple) else found).level.nbytes


def _has_8_bits(data: bytes) -> bool:
    """Return whether the header of an image states grey levels or palette indices of at most 8 bits."""
    try:
        with open_with_pillow(data) as file:
            return file.mode in ("1", "L", "P")
    except (Unreadable, OSError, SyntaxError, ValueError, OverflowError, Image.DecompressionBombError):
        return False
