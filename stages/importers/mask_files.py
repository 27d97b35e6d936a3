"""Read the mask files of a source by one rule, also if their palettes differ."""

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from threading import Lock
from typing import Any

import numpy as np

from stages.images.archives import SourceFiles
from stages.images.decode import Unreadable
from stages.images.label_images import Colour, LabelImage, Size, decode_label_image, read_palette
from stages.images.sandbox import run_isolated

Array = np.ndarray[Any, Any]
Palettes = dict[str, dict[int, Colour]]
"""Colour of each index of the palette of a file, by path."""


class MaskFiles:
    """The mask files of a source.

    The value of a palette image is its index. If an index has another colour in another file, indices cannot be
    compared: the value is then the grey level of the colour, and a file that uses such an index is refused if a palette
    has colours. The palettes are read only if there is a palette image.
    """

    def __init__(self, files: SourceFiles, palettes: Palettes | None = None) -> None:
        """Take the files.

        Args:
            files: files of the source by path.
            palettes: palettes that were read before; more are added.
        """
        self._files = files
        self._palettes = {} if palettes is None else palettes
        self._paths: list[str] = []
        self._lock = Lock()

    def add(self, paths: Iterable[str]) -> None:
        """Add masks; all must be added before the first is decoded."""
        self._paths.extend(paths)

    @property
    def has_palettes(self) -> bool:
        """Return whether a decoded mask has a palette."""
        return "_colours" in self.__dict__

    def decode(self, path: str, size: Size | None) -> Array:
        """Decode a mask in a child process and return its values [height, width].

        Args:
            path: path of the mask in the source.
            size: required height and width, pixels; None: any.

        Raises:
            Unreadable: see `decode_label_image`; or the palettes differ and are coloured.
        """
        try:
            label_image: LabelImage = run_isolated(decode_label_image, self._files[path](), size)
            return self.compare_palettes(label_image)
        except Unreadable as error:
            raise Unreadable(f"the mask {path} {error}") from None

    def compare_palettes(self, label_image: LabelImage) -> Array:
        """Return the values of a decoded mask, by the rule for palettes.

        Raises:
            Unreadable: the palettes differ and are coloured.
        """
        if label_image.colours is None:
            return label_image.value_HW
        with self._lock:
            known = self._colours
        disputed = {index for index, colours in known.items() if len({colour[:3] for colour in colours}) > 1}
        if not disputed:
            return label_image.value_HW
        if all(_is_grey(colour) for colours in known.values() for colour in colours):
            table = np.zeros(max(label_image.colours) + 1, np.uint8)
            for index, colour in label_image.colours.items():
                table[index] = colour[0]
            return table[label_image.value_HW]
        for index in sorted(disputed & label_image.colours.keys()):
            (one, first), *others = known[index].items()
            other, second = next((colour, path) for colour, path in others if colour[:3] != one[:3])
            raise Unreadable(
                f"uses the palette index {index}, which is #{bytes(one[:3]).hex()} in {first} but "
                f"#{bytes(other[:3]).hex()} in {second}; save the masks with the same palette, or as grey images"
            )
        return label_image.value_HW

    @cached_property
    def _colours(self) -> dict[int, dict[Colour, str]]:
        """The colours of each index, each with the first file that has it; of grey files, black for 0."""
        known: dict[int, dict[Colour, str]] = defaultdict(dict)
        for path in sorted(set(self._paths)):
            if path not in self._palettes:
                self._palettes[path] = _read_palette(self._files, path)
            for index, colour in self._palettes[path].items():
                known[index].setdefault(colour, path)
        return known


def _read_palette(files: SourceFiles, path: str) -> dict[int, Colour]:
    try:
        palette: dict[int, Colour] = run_isolated(read_palette, files[path]())
    except (Unreadable, OSError):  # reported when the file is decoded
        return {}
    return palette


def _is_grey(colour: Colour) -> bool:
    return colour[0] == colour[1] == colour[2] and colour[3] == 255
