"""A miniature folder in memory: files, and the truth about each image, from which a proposal is scored."""

import csv
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.layouts.synthetic_images import Picture, draw_picture

FORMATS = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF", "tiff": "TIFF"}  # others: the suffix in upper case
QUALITY = 92


@dataclass(frozen=True)
class ImageTruth:
    """Truth about an image: its label, and the images to which it is related."""

    label: Any = None
    """Class, a tuple of acceptable classes, a set of classes, a number, or the number of objects; None: not checked."""
    scene: str = ""
    """Name of the object, person or place that the image shows; such images must stay in one split."""
    film: str = ""
    """Name of the series; consecutive images of a series are similar."""
    frame: int = 0
    """Position in the series."""
    optional: bool = False
    """Whether a correct proposal may leave the image out."""


class Miniature:
    """Builder of a miniature folder; the same name gives the same files."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rng = np.random.default_rng(sum(name.encode()))
        self.files: dict[str, bytes] = {}
        self.truth: dict[str, ImageTruth] = {}

    def photo(
        self,
        path: str,
        label: Any = None,
        scene: str = "",
        film: str = "",
        frame: int | None = None,
        look: str | None = None,
        exposure: float = 0.0,
        objects: int = 3,
        size: tuple[int, int] = (44, 32),
        mode: str = "RGB",
        counts: bool = True,
        optional: bool = False,
        aligned: bool = False,
    ) -> Picture:
        """Add an image and return its picture, from which masks are made.

        Args:
            path: path in the folder.
            label: correct label, see `ImageTruth`.
            scene: name of what the image shows; empty: of this image alone.
            film: name of the series in which it is consecutive.
            frame: position in the series; without a film, only the picture changes slowly within the scene.
            look: class that is visible; default: the label, if it is text.
            exposure: change in grey levels.
            objects: number of objects in the picture.
            size: width and height in pixels.
            mode: mode of Pillow: RGB, L or I;16.
            counts: whether the file is an image of the data set, and not a thumbnail or mask.
            optional: whether a correct proposal may leave it out.
            aligned: whether all views of the scene show the same section, as copies and exposures do.
        """
        shown = look if look is not None else label if isinstance(label, str) else ""
        picture = draw_picture(f"{self.name}/{scene or film or path}", path, shown, frame, size, objects, aligned)
        image = (picture.image + exposure).clip(0, 255).astype(np.uint8)
        if mode != "RGB":
            image = image.mean(axis=2).astype(np.uint8)
        self.pixels(path, image.astype(np.uint16) * 200 if mode == "I;16" else image)
        if counts:
            self.truth[path] = ImageTruth(label, scene or path, film, frame or 0, optional)
        return picture

    def pixels(self, path: str, image: np.ndarray) -> None:
        """Add an image file of these pixels that is not an image of the data set, such as a mask."""
        suffix = PurePosixPath(path).suffix[1:].lower()
        buffer = io.BytesIO()
        options = {"quality": QUALITY} if FORMATS.get(suffix) == "JPEG" else {}
        Image.fromarray(image).save(buffer, FORMATS.get(suffix, suffix.upper()), **options)
        self.files[path] = buffer.getvalue()

    def text(self, path: str, content: str) -> None:
        """Add a text file."""
        self.files[path] = content.encode()

    def json(self, path: str, content: Any) -> None:
        """Add a JSON file."""
        self.text(path, json.dumps(content))

    def table(self, path: str, rows: list[dict[str, Any]], separator: str = ",") -> None:
        """Add a table with one row per dict.

        Args:
            path: path in the folder.
            rows: cells by column; the first row defines the columns.
            separator: separator of the cells.
        """
        buffer = io.StringIO()
        writer = csv.DictWriter(buffer, list(rows[0]), delimiter=separator)
        writer.writeheader()
        writer.writerows(rows)
        self.text(path, buffer.getvalue())

    def archive(self, path: str, inner: "Miniature") -> None:
        """Add a zip of the files of another miniature, whose truth is not used."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, data in inner.files.items():
                archive.writestr(name, data)
        self.files[path] = buffer.getvalue()

    def write(self, folder: Path) -> None:
        """Write all files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for path, data in self.files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
