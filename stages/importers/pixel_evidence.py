"""Evidence in the pixels of decoded images: few values, few colours, dots, or the same scene."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

from stages.images.image_statistics import count_values, to_grey
from stages.importers.label_regions import MAX_VALUES, count_regions

Array = np.ndarray[Any, Any]
MIN_VOTES = 0.75  # share of the decoded images that must agree
FEWEST_DOTS = 3  # bright regions of a dot image, and nonzero values of a mask whose values may number objects
FEW_PIXELS = 1000  # pixels that usually suffice to show that an image has many colours
DARK = 16  # grey level up to which a dot image counts as black; JPEG ringing stays below it
MIN_CORRELATION_GAIN = 0.3  # correlation of paired images above that of unpaired images


def most_agree(votes: Iterable[bool]) -> bool:
    """Return whether at least `MIN_VOTES` of the votes are True."""
    return bool(np.mean(list(votes)) >= MIN_VOTES)


def is_plain(level: Array, values: int = MAX_VALUES) -> bool:
    """Return whether an image is grey and has at most so many values, as masks have."""
    return level.ndim == 2 and len(count_values(level)) <= values


def has_few_colours(image: Array) -> bool:
    """Return whether a colour image has as few colours as a mask has classes."""
    if image.ndim != 3:
        return False
    pixels = image.reshape(-1, image.shape[2])
    few = pixels[:: max(1, len(pixels) // FEW_PIXELS)]
    return all(len(np.unique(some, axis=0)) <= MAX_VALUES for some in (few, pixels))


def has_one_region_per_value(level_HW: Array) -> bool:
    """Return whether there are more than `FEWEST_DOTS` nonzero values, and each is one connected region."""
    found = count_values(level_HW).keys() - {0} if level_HW.ndim == 2 else set()
    return len(found) > FEWEST_DOTS and count_regions(level_HW) <= len(found)


def is_dotted(level: Array) -> bool:
    """Return whether an image shows at least `FEWEST_DOTS` bright regions on black, most of them small."""
    from scipy import ndimage

    level_HW = level if level.ndim == 2 else level.max(axis=2)
    bright_HW = level_HW > max(1, level_HW.max() / 2)
    if (level_HW > DARK).mean() > 0.1 or bright_HW.mean() > 0.05:
        return False
    piece_HW, count = ndimage.label(bright_HW, np.ones((3, 3)))
    return bool(count >= FEWEST_DOTS and np.median(np.bincount(piece_HW.ravel())[1:]) <= 30)


def show_same_scenes(pairs: list[tuple[Array, Array]]) -> bool:
    """Return whether paired images correlate clearly more than unpaired images, so that they show the same scene."""
    thumbs = [[_thumbnail(image) for image in pair] for pair in pairs]
    own = np.mean([np.dot(a, b) for a, b in thumbs])
    others = np.mean([np.dot(a, b) for (a, _), (_, b) in zip(thumbs, thumbs[1:] + thumbs[:1], strict=True)])
    return bool(own > others + MIN_CORRELATION_GAIN)


def _thumbnail(image: Array) -> Array:
    """Return a 16x16 grey thumbnail as a vector [256] of mean 0 and norm 1."""
    values = np.asarray(Image.fromarray(to_grey(image)).resize((16, 16)), np.float64).ravel()
    values -= values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-9))
