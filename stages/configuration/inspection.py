"""What is seen of images before anything is proposed for them."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from stages.configuration.group_similarity import Glance, glance
from stages.configuration.grouping import Belonging, belonging
from stages.configuration.object_size import smallest
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.decode import PILLOW_FORMATS, Unreadable, decode_image
from stages.images.image_statistics import to_grey
from stages.importers.format_detection import FormatCandidate
from stages.importers.sample import Sample

Array = np.ndarray[Any, Any]
LOOKED_AT = 64  # images that are opened with their labels
MOST_MEGAPIXELS = 400.0  # opened for that, at most, once a few were
FEWEST = 8
WHOLE_LABELS = ("folders", "table", "arrays", "deeplabcut")
"""Forms of which the labels are known without opening images."""
MOST_HEADERS, MOST_BYTES = 10_000, 2**29  # files of which the size in pixels is read, and their bytes
FAINT = 6  # grey levels between the channels of a pixel, 99 in 100, up to which a picture is grey with a tinge


@dataclass(frozen=True)
class Facts:
    """What was seen of the images."""

    count: int
    sides: Array
    """[images, 2]: height and width in pixels; of all images where their headers are quickly read."""
    opened: Array
    """[opened, 2]: of those that were opened."""
    channels: Counter[int]
    """How many of the opened ones have so many: 1 where all are equal."""
    depths: Counter[int]
    """Likewise bits of a value."""
    stored_grey: int
    """Opened images of three equal channels."""
    faint: int
    """Opened images in colour of which the colours are faint."""
    levels: Array
    """[opened, 2]: mean and 99th percentile of the grey levels, 0 to 255."""
    smallest: list[tuple[float, str]]
    """Pixels at the scale of the original, and what; of opened images where something has a size."""
    annotations: list[Annotation]
    """Of all images where that is known without opening them, else of those that were opened."""
    labels: list[str]
    """The one class of each image; empty where they have none, or several."""
    unusable: dict[str, str]
    """Path: why."""
    copies: int
    """Of the images that were opened: the same picture as an earlier one."""
    glances: int
    belonging: Belonging


def looked_at(reading: FormatCandidate, max_megapixels: float) -> Facts:
    """Open some of the images, and what belongs to them.

    Raises:
        UserError: none of them can be used.
    """
    items, known = reading.samples, dict[int, Glance]()
    annotations, levels, sizes, unusable = [], [], [], {}
    sides: list[tuple[int, ...]] = []
    channels, depths, greys, megapixels = Counter[int](), Counter[int](), Counter[str](), 0.0
    for place in np.unique(np.linspace(0, len(items) - 1, LOOKED_AT).round().astype(int)).tolist():
        if megapixels > MOST_MEGAPIXELS and len(sides) >= FEWEST:
            break
        item = items[place]
        try:
            image = decode_image(item.read(), max_megapixels).image
            annotation = item.annotate(*image.shape[:2])
            target = None if item.target is None else decode_image(item.target(*image.shape[:2])).image
            if target is not None and target.shape[:2] != image.shape[:2]:
                raise Unreadable("what belongs to it has another size")
        except (Unreadable, OSError) as error:
            unusable[item.path] = str(error)
            continue
        known[place] = glance(image)
        megapixels += known[place].megapixels
        annotations.append(annotation)
        sides.append(image.shape[:2])
        if size := smallest(annotation, target):
            sizes.append(size)
        look = _look(image)
        greys[look] += 1
        channels[1 if look in ("grey", "stored grey") else image.shape[2]] += 1
        depths[8 * image.dtype.itemsize] += 1
        grey = to_grey(image)
        levels.append((grey.mean(), np.percentile(grey, 99)))
    if not sides:
        first, why = next(iter(unusable.items()))
        raise UserError(f"none of {len(unusable)} images that were opened can be used; {first}: {why}")
    if reading.format in WHOLE_LABELS:
        annotations = [item.annotate(*sides[0]) for item in items]
    whole = len(annotations) == len(items) and all(len(a.labels or ()) == 1 for a in annotations)
    labels = [(a.labels or ("",))[0] for a in annotations] if whole else []
    found = belonging(items, labels or [""] * len(items), known, reading.has_split)
    pictures = {one.pixels for one in known.values()}
    return Facts(
        count=len(items),
        sides=_sides(items, np.array(sides), max_megapixels),
        opened=np.array(sides),
        channels=channels,
        depths=depths,
        stored_grey=greys["stored grey"],
        faint=greys["faint"],
        levels=np.array(levels),
        smallest=sizes,
        annotations=annotations,
        labels=labels,
        unusable=unusable,
        copies=len(known) - len(pictures),
        glances=len(known),
        belonging=found,
    )


def _look(image: Array) -> str:
    """grey, stored grey, faint, colour, or channels."""
    if image.ndim == 2 or image.shape[2] != 3:
        return "grey" if image.ndim == 2 else "channels"
    apart = image.max(axis=2) - image.min(axis=2)
    if not apart.any():
        return "stored grey"
    return "faint" if image.dtype == np.uint8 and np.percentile(apart, 99) <= FAINT else "colour"


def _sides(items: Sequence[Sample], seen: Array, max_megapixels: float) -> Array:
    """[images, 2]: of all images by the headers of their files; as seen where that would take long."""
    if len(items) > MOST_HEADERS or not all(item.has_file for item in items):
        return seen
    sides, read_ = [], 0
    for item in items:
        try:
            data = item.read()
            with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as file:
                if file.height * file.width <= max_megapixels * 1e6:
                    sides.append((file.height, file.width))
        except Exception:  # noqa: S112  # Pillow raises six types; whether a file can be read is ingest's to say
            continue
        read_ += len(data)
        if read_ > MOST_BYTES:
            return seen
    return np.array(sides) if len(sides) >= len(seen) else seen
