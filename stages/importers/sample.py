"""Samples of a source before they are read, and the folder names that denote splits."""

from collections.abc import Callable
from dataclasses import dataclass

from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles

SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)
Annotate = Callable[[int, int], Annotation]
"""(height, width) of the image -> its labels; raises `Unreadable` if they are invalid."""


@dataclass(frozen=True)
class Sample:
    """An image of a source, with functions that read its bytes and return its labels."""

    path: str
    """Path inside the source with forward slashes; unique."""
    annotate: Annotate
    group: str | None
    split: str | None
    """train, val or test if the source defines it, else None."""
    read: Callable[[], bytes]
    has_file: bool = True
    """False if `read` encodes the bytes from an array."""
    origin: str = ""
    """Origin of the image, for example real, simulated or a site; empty if unknown."""
    target: Callable[[int, int], bytes] | None = None
    """(height, width) of the image -> the file of its mask (PNG of class indices) or of its paired image; raises
    `Unreadable`."""


ImportResult = tuple[list[Sample], list[Rejection]]


def read_text(files: SourceFiles, path: str) -> str:
    """Read a small UTF-8 text file of a source.

    Raises:
        UserError: the file is not valid UTF-8.
    """
    try:
        return files[path]().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def fixed_annotation(annotation: Annotation) -> Annotate:
    """Return an annotate function for labels that do not depend on the size of the image."""
    return lambda height, width: annotation


def split_from_path(path: str) -> str | None:
    """Return the split that the outermost folder with the name of a split denotes; None if there is none."""
    return next((SPLIT_WORDS[part.lower()] for part in path.split("/")[:-1] if part.lower() in SPLIT_WORDS), None)
