"""Inspection of the images of a source before params are proposed."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stages.configuration.appearance_groups import AppearanceOptions
from stages.configuration.group_similarity import ImageSignature, compute_signature, decode_for_signature
from stages.configuration.grouping import ImageGrouping, detect_grouping
from stages.configuration.object_size import smallest_structure
from stages.configuration.time_sessions import MIN_TIMED
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Integer
from stages.dataset.annotations import Annotation
from stages.images.decode import Unreadable, decode_image, open_with_pillow, read_capture_time
from stages.images.image_statistics import moments, to_grey
from stages.importers.format_candidate import FormatCandidate
from stages.importers.sample import Sample, read_annotation

LOOKED_AT = 64  # maximum number of images opened with their labels
MOST_MEGAPIXELS = 40.0  # limit of opened megapixels of images and targets, applied after FEWEST images
FEWEST = 4
WHOLE_LABELS = ("folders", "table", "arrays", "deeplabcut", "names")
"""Formats whose labels are known without opening images."""
MOST_HEADERS, MOST_BYTES = 10_000, 2**29  # limits of reading image headers: files, bytes
MOST_DATED, MOST_BYTES_DATED = 2_000, 2**31  # the same for capture times of more images: files, bytes
FAINT, FAINT_SHARE = 6, 0.99  # difference of the channels in grey levels of most pixels, up to which colours are faint


@dataclass(frozen=True)
class SourceFacts:
    """Statistics of the inspected images."""

    count: int
    """Number of images in the source."""
    sides: Integer[Array, "N 2"]
    """Height and width in pixels; of all images if reading their headers is fast."""
    opened: Integer[Array, "M 2"]
    """Height and width of the opened images."""
    channels: Counter[int]
    """Number of opened images by channels; images with equal channels count as 1."""
    depths: Counter[int]
    """Number of opened images by bits per value."""
    stored_grey: int
    """Number of opened images with three equal channels."""
    faint: int
    """Number of opened colour images with faint colours."""
    levels: Float[Array, "M 2"]
    """Mean and 99th percentile of the grey levels of the opened images, 0 to 255."""
    blank: int
    """Number of opened images with a single grey level."""
    smallest: list[tuple[float, str]]
    """Smallest structure of opened images: size in original pixels and key of `VISIBLE`."""
    annotations: list[Annotation]
    """Annotations of all images if known without opening them, else of the opened images."""
    labels: list[str]
    """Class of each image; empty unless every image is known to have exactly one."""
    unusable: dict[str, str]
    """Reason by path of images that cannot be used."""
    copies: int
    """Number of images with a signature and the same pixels as an earlier one."""
    inspected: int
    """Number of images with a signature: the opened ones, and those that `detect_grouping` has compared."""
    grouping: ImageGrouping


def inspect_images(
    reading: FormatCandidate, max_megapixels: float, appearance: AppearanceOptions | None = None
) -> SourceFacts:
    """Open a sample of the images with their labels, and compute statistics.

    Args:
        reading: interpretation of the source.
        max_megapixels: value of `ingest.max_megapixels`.
        appearance: limits of the comparison of all images, and the table of groups that was accepted before.

    Raises:
        UserError: none of the opened images can be used.
    """
    items, known = reading.samples, dict[int, ImageSignature]()
    annotations, levels, blanks, sizes, unusable = [], [], [], [], {}
    sides: list[tuple[int, ...]] = []
    channels, depths, colours, megapixels = Counter[int](), Counter[int](), Counter[str](), 0.0
    dated = 0
    for place in np.unique(np.linspace(0, len(items) - 1, LOOKED_AT).round().astype(int)).tolist():
        if megapixels > MOST_MEGAPIXELS and len(sides) >= FEWEST:
            break
        item = items[place]
        try:
            data = item.read()
            decoded = decode_for_signature(data, max_megapixels)
            image, (height, width) = decoded.image, decoded.size
            annotation = read_annotation(item, data, height, width, decoded.turned)
            target = None if item.target is None else decode_image(item.target(height, width)).image
            if target is not None and target.shape[:2] != (height, width):
                raise Unreadable(
                    f"has a target of {target.shape[1]}x{target.shape[0]}, but the image is {width}x{height}"
                )
        except (Unreadable, OSError) as error:
            unusable[item.path] = str(error)
            continue
        known[place] = compute_signature(decoded, data)
        megapixels += known[place].megapixels + (0 if target is None else height * width / 1e6)
        dated += bool(decoded.taken)
        annotations.append(annotation)
        sides.append((height, width))
        if size := smallest_structure(annotation, target):
            sizes.append(size)
        colour = _colour_type(image)
        colours[colour] += 1
        channels[1 if colour in ("grey", "stored grey") else image.shape[2]] += 1
        depths[8 * image.dtype.itemsize] += 1
        counts = np.bincount(to_grey(image).ravel(), minlength=256)
        levels.append((moments(counts)[0], float(np.searchsorted(np.cumsum(counts), 0.99 * counts.sum()))))
        blanks.append(bool(counts.max() == counts.sum()))
    if not sides:
        first, why = next(iter(unusable.items()))
        raise UserError(f"none of {quantity(len(unusable), 'opened image')} can be used; {first}: {why}")
    if reading.format in WHOLE_LABELS or annotations[0].labels is not None:
        annotations = [item.annotate(*sides[0]) for item in items]
    whole = len(annotations) == len(items) and all(len(a.labels or ()) == 1 for a in annotations)
    labels = [(a.labels or ("",))[0] for a in annotations] if whole else []
    headers = _read_headers(items, np.array(sides), max_megapixels, dated >= MIN_TIMED * len(sides))
    found = detect_grouping(items, labels or [""] * len(items), known, reading.has_split, headers.taken, appearance)
    pictures = {one.pixels for one in known.values()}
    return SourceFacts(
        count=len(items),
        sides=headers.sides,
        opened=np.array(sides),
        channels=channels,
        depths=depths,
        stored_grey=colours["stored grey"],
        faint=colours["faint"],
        levels=np.array(levels),
        blank=sum(blanks),
        smallest=sizes,
        annotations=annotations,
        labels=labels,
        unusable=unusable,
        copies=len(known) - len(pictures),
        inspected=len(known),
        grouping=found,
    )


def _colour_type(image: Integer[Array, "H W *C"]) -> str:
    """Return the colour type of an image: grey, stored grey, faint, colour, or channels."""
    if image.ndim == 2 or image.shape[2] != 3:
        return "grey" if image.ndim == 2 else "channels"
    red, green, blue = (image[:, :, channel] for channel in range(3))
    highest, lowest = np.maximum(np.maximum(red, green), blue), np.minimum(np.minimum(red, green), blue)
    apart = highest - lowest
    if not apart.any():
        return "stored grey"
    return "faint" if image.dtype == np.uint8 and (apart <= FAINT).mean() >= FAINT_SHARE else "colour"


@dataclass(frozen=True)
class _Headers:
    """Sizes and capture times that the headers of the files state."""

    sides: Integer[Array, "N 2"]
    """Height and width in pixels."""
    taken: dict[int, str]
    """EXIF time by index of the images whose header was read."""


def _read_headers(items: Sequence[Sample], seen: Integer[Array, "M 2"], max_megapixels: float, dated: bool) -> _Headers:
    """Return the sizes of all images, `seen` if reading them is slow or not possible, and the capture times.

    Images whose header cannot be read, or which exceed `max_megapixels`, are left out. Of more than `MOST_HEADERS`
    images, the times of `MOST_DATED` are read, evenly spread.

    Args:
        items: all images.
        seen: sizes of the opened images.
        max_megapixels: value of `ingest.max_megapixels`.
        dated: whether the opened images have capture times.
    """
    are_all = len(items) <= MOST_HEADERS
    if not all(item.has_file for item in items) or not (are_all or dated):
        return _Headers(seen, {})
    places = range(len(items)) if are_all else np.linspace(0, len(items) - 1, MOST_DATED).astype(int).tolist()
    sides, taken, read_ = [], {}, 0
    for place in places:
        try:
            data = items[place].read()
            with open_with_pillow(data) as file:
                if file.height * file.width <= max_megapixels * 1e6:
                    sides.append((file.height, file.width))
                if dated:
                    taken[place] = read_capture_time(file)
        except Exception:  # noqa: S112  # Pillow raises many types; ingest reports unreadable files
            continue
        read_ += len(data)
        if read_ > (MOST_BYTES_DATED if dated else MOST_BYTES):
            are_all = False
            break
    return _Headers(np.array(sides) if are_all and len(sides) >= len(seen) else seen, taken)
