"""Import images and labels from the arrays of an npz file, in the layout of MedMNIST."""

import io
import zipfile
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from stages.config.schema_data import Ingest
from stages.core.errors import UserError
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import Annotation
from stages.images.archives import MAX_UNPACKED_BYTES, Rejection, SourceFiles
from stages.importers.sample import SPLIT_WORDS, ImportResult, Sample, fixed_annotation, read_label_file
from stages.importers.table import cell_text

Array = np.ndarray[Any, Any]
READ = ("images", "labels")  # suffixes of the names of the arrays that are read
MAX_NAMED = 10  # arrays that a message names


def import_arrays(files: SourceFiles, name: str, ingest: Ingest, has_split: bool) -> ImportResult:
    """Import `train_images`, `train_labels`, `val_...`, `test_...` (MedMNIST), or `images` and `labels`.

    Labels [N] or [N, 1] of integers, integral floats or text are classes; [N, K] of 0 and 1 are multilabel classes;
    other floats, or [N, K] floats with values other than 0 and 1, are numbers (regression).

    Args:
        files: files of the source by path.
        name: path of the npz file.
        ingest: parameters of `ingest`; not used.
        has_split: True if the source defines the splits; they are read in any case.

    Raises:
        UserError: the npz is damaged or too large, contains no images, or its images or labels have a wrong type, shape
            or number.
    """
    arrays = _load_arrays(read_label_file(files, name), name)
    parts = [key.removesuffix("images") for key in arrays if key.endswith("images")]
    if not parts:
        known = f"the arrays {list_names(sorted(arrays), MAX_NAMED)}" if arrays else "no arrays"
        raise UserError(
            f"{name} contains {known}; name the arrays `images` and `labels`, or `train_images` and `train_labels`"
        )
    samples, rejected = [], []
    for part in parts:
        word = part.rstrip("_")
        images, labels = arrays[f"{part}images"], arrays.get(f"{part}labels")
        _check_shapes(name, part, images, labels)
        assert labels is not None
        numbers = _are_numbers(labels)
        for i, label in enumerate(labels):
            path = f"{word or 'images'}/{i:06d}{'.png' if _fits_png(images) else '.npy'}"
            if problem := _invalid_label(label):
                rejected.append(Rejection(path, f"{name}, array {part}labels: the label {problem}"))
                continue
            pixels, annotation = partial(_encode, images[i]), _annotation(np.atleast_1d(label), numbers)
            samples.append(
                Sample(path, fixed_annotation(annotation), None, SPLIT_WORDS.get(word), pixels, has_file=False)
            )
    return samples, rejected


def _load_arrays(data: bytes, name: str) -> dict[str, Array]:
    """Load images and labels; other arrays are replaced by empty ones, since only their names are used.

    Raises:
        UserError: the file is damaged, or unpacks to more than `MAX_UNPACKED_BYTES` or the memory can hold.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise UserError(
                f"{name} unpacks to {unpacked / 2**30:.1f} GiB, above the limit of "
                f"{MAX_UNPACKED_BYTES / 2**30:.0f} GiB; save the images as files in a folder instead"
            )
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] if key.endswith(READ) else np.zeros(0) for key in file.files}
    except MemoryError as error:
        raise UserError(f"{name} is damaged or too large for the memory: its arrays cannot be allocated") from error
    except UserError:
        raise
    except Exception as error:  # a damaged archive or header can raise almost any exception
        raise UserError(
            f"{name} cannot be read: {error}; save it again with numpy, without object arrays or encryption"
        ) from error


def _invalid_label(label: Any) -> str | None:
    """Return what is wrong with the label of an image; None if it is valid."""
    values = np.atleast_1d(label)
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        return f"is {values[~np.isfinite(values)][0]}, which is not a finite number"
    return "is empty" if values.dtype.kind in "US" and not values[0].strip() else None


def _annotation(label: Array, numbers: bool) -> Annotation:
    if numbers:
        return Annotation(scalars={f"value{i}" if len(label) > 1 else "value": float(v) for i, v in enumerate(label)})
    if len(label) == 1:
        return Annotation(labels=(cell_text(label[0]),))
    return Annotation(labels=tuple(str(k) for k in np.flatnonzero(label)))


def _are_numbers(labels: Array) -> bool:
    """Return whether labels are numbers: non-integer floats, or [N, K] floats with values other than 0 and 1.

    NaN and infinite values, which are rejected, do not count.
    """
    if labels.dtype.kind != "f":
        return False
    several = labels.ndim == 2 and labels.shape[1] > 1
    finite = labels[np.isfinite(labels)]
    return bool((finite != finite.round()).any()) or (several and not np.isin(finite, (0, 1)).all())


def _check_shapes(file: str, part: str, images: Array, labels: Array | None) -> None:
    name = f"{file}: the array {part}images"
    if images.dtype not in (np.uint8, np.uint16) or images.ndim not in (3, 4):
        found = f"{images.dtype} of shape {images.shape}"
        raise UserError(f"{name} is {found}; uint8 or uint16 of shape [N, H, W] or [N, H, W, C] is required")
    if labels is None or labels.ndim not in (1, 2) or 0 in labels.shape[1:] or len(labels) != len(images):
        number = quantity(len(images), "image")
        found = f"no labels (array {part}labels)" if labels is None else f"labels of shape {labels.shape} for {number}"
        raise UserError(f"{name} has {found}; one label per image is required")
    if labels.dtype.kind not in "biufUS" or (labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind in "US"):
        raise UserError(
            f"{name} has labels of type {labels.dtype} and shape {labels.shape}; integers, floats, or texts of shape "
            "[N] or [N, 1] are required"
        )
    if labels.ndim == 2 and labels.shape[1] > 1 and labels.dtype.kind != "f" and not np.isin(labels, (0, 1)).all():
        wrong = labels[~np.isin(labels, (0, 1))][0]
        raise UserError(
            f"{name} has labels of shape {labels.shape} with the value {wrong}; multilabel classes must be 0 or 1"
        )


def _fits_png(images: Array) -> bool:
    channels = images.shape[3] if images.ndim == 4 else 1
    return channels in (1, 3) and (images.dtype == np.uint8 or channels == 1)


def _encode(image: Array) -> bytes:
    buffer = io.BytesIO()
    if _fits_png(image[None]):
        Image.fromarray(image[:, :, 0] if image.shape[2:] == (1,) else image).save(buffer, "PNG", compress_level=1)
    else:
        np.save(buffer, image)
    return buffer.getvalue()
