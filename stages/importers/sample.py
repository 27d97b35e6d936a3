"""Samples of a source before they are read, and the folder names that denote splits."""

from collections.abc import Callable
from dataclasses import dataclass

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.dataset.turned_annotations import SIDEWAYS, turn_annotation
from stages.images.archives import Rejection, SourceFiles
from stages.images.decode import Unreadable, read_orientation

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
    labelled_size: Callable[[], tuple[int, int] | None] = lambda: None
    """-> (height, width) of the image according to its label file, None if it does not state them; raises
    `Unreadable`."""


ImportResult = tuple[list[Sample], list[Rejection]]


def read_label_file(files: SourceFiles, path: str) -> bytes:
    """Read a label file of a source.

    Raises:
        Unreadable: the file cannot be read; the message names it.
    """
    try:
        return files[path]()
    except Unreadable as error:
        raise Unreadable(f"{path} {error}") from error
    except OSError as error:
        raise Unreadable(f"{path} cannot be read: {error.strerror or error}") from error


def read_text(files: SourceFiles, path: str) -> str:
    """Read a small UTF-8 text file of a source.

    Raises:
        Unreadable: the file cannot be read.
        UserError: the file is not valid UTF-8.
    """
    try:
        return read_label_file(files, path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not valid UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8") from None


def read_annotation(sample: Sample, data: bytes, height: int, width: int, turned: bool) -> Annotation:
    """Return the annotation of a sample in the upright image.

    If the label file states the size of the image, it shows whether the labels refer to the upright image or to the
    stored pixels of a photo with an EXIF orientation.

    Args:
        sample: sample to annotate.
        data: content of its image file.
        height: height of the upright image, pixels.
        width: width of the upright image, pixels.
        turned: whether the image was rotated or flipped according to its EXIF orientation.

    Raises:
        Unreadable: the labels are invalid, or refer to an image of another size or of unknown orientation.
    """
    stated = sample.labelled_size()
    orientation = read_orientation(data) if turned else 1
    is_stored = orientation in SIDEWAYS and stated == (width, height) != (height, width)
    if stated and stated != (height, width) and not is_stored:
        raise Unreadable(
            f"the label file states the size {stated[1]}x{stated[0]}, but the image is {width}x{height}; if its labels "
            "refer to this image, correct the size"
        )
    if is_stored:
        return turn_annotation(sample.annotate(width, height), orientation, width, height)
    annotation = sample.annotate(height, width)
    is_known = stated and orientation in SIDEWAYS and height != width
    if turned and not is_known and (annotation.points or annotation.shapes or sample.target):
        raise Unreadable(
            f"its EXIF orientation is {orientation}, and it is unknown whether its labels refer to the rotated image; "
            "if they do, rotate the stored pixels (mogrify -auto-orient FILE), else remove the orientation (exiftool "
            "-Orientation= FILE)"
        )
    return annotation


def unlabelled_samples(files: SourceFiles, images: dict[str, str], ingest: Ingest) -> ImportResult:
    """Return images without labels as samples without objects, or as rejected or unused files.

    Args:
        files: files of the source by path.
        images: reason for the rejection by path.
        ingest: parameters of `ingest`, of which `unlabelled` decides.
    """
    if ingest.unlabelled == "empty":
        return [without_objects(files, path) for path in images], []
    if ingest.unlabelled == "skip":
        return [], [Rejection(path, reason, is_unused=True) for path, reason in images.items()]
    advice = "if it contains no object, set ingest.unlabelled to empty"
    return [], [Rejection(path, f"{reason}; {advice}") for path, reason in images.items()]


def without_objects(files: SourceFiles, path: str) -> Sample:
    """Return the sample of an image without objects."""
    return Sample(path, fixed_annotation(Annotation(shapes=())), None, split_from_path(path), files[path])


def fixed_annotation(annotation: Annotation) -> Annotate:
    """Return an annotate function for labels that do not depend on the size of the image."""
    return lambda height, width: annotation


def split_from_path(path: str) -> str | None:
    """Return the split that the outermost folder with the name of a split denotes; None if there is none."""
    return next((SPLIT_WORDS[part.lower()] for part in path.split("/")[:-1] if part.lower() in SPLIT_WORDS), None)
