"""One image that a source names, and the words that name splits."""

from collections.abc import Callable
from dataclasses import dataclass

from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.archives import Rejection, SourceFiles

SPLIT_WORDS = {"train": "train", "training": "train", "test": "test", "testing": "test"} | dict.fromkeys(
    ("val", "valid", "validation", "dev"), "val"
)
Annotate = Callable[[int, int], Annotation]
"""Height and width of the image to its labels; raises `reading.Unreadable` with what is wrong with them."""


@dataclass(frozen=True)
class Sample:
    """Not yet read."""

    path: str
    """Unique inside the source, with forward slashes."""
    annotate: Annotate
    group: str | None
    split: str | None
    """train, val or test where the source says so."""
    read: Callable[[], bytes]
    has_file: bool = True
    """False when the bytes are made by us out of an array."""
    origin: str = ""
    """Where the image comes from: real, simulated, a site; empty where the source does not say."""
    target: Callable[[int, int], bytes] | None = None
    """Height and width of the image to the file of its mask, as a PNG of indices, or of its paired image; raises
    `reading.Unreadable`."""


ImportResult = tuple[list[Sample], list[Rejection]]


def read_text(files: SourceFiles, path: str) -> str:
    """A small text file of a source.

    Raises:
        UserError: it is not in UTF-8.
    """
    try:
        return files[path]().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text in UTF-8 ({error.reason} at byte {error.start}); save it so") from None


def fixed_annotation(annotation: Annotation) -> Annotate:
    """Labels that do not depend on the size of the image."""
    return lambda height, width: annotation


def split_from_path(path: str) -> str | None:
    """The split that one of a path's folders names, the outermost first."""
    return next((SPLIT_WORDS[part.lower()] for part in path.split("/")[:-1] if part.lower() in SPLIT_WORDS), None)
