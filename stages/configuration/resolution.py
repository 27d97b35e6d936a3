"""Proposal of the section `prepare`: working size, fit and channels of the images."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.inspection import SourceFacts
from stages.configuration.object_size import VISIBLE
from stages.core.plurals import quantity

SIDES = {"vector": (32, 64, 128), "map": (64, 128, 256), "boxes": (128, 256)}
"""Working sizes in pixels, by output type, with which two CPU cores can train a network in minutes."""
SIZE_STEP = 8  # pixels; multiple of the sizes that are proposed for small images
SLIM = 1.25  # aspect ratio from which stretching is a relevant distortion
OFTEN = 0.25  # share of such images from which letterboxing is proposed


def propose_prepare(facts: SourceFacts, gives: str, task: str, params: Params) -> Iterator[Choice]:
    """Propose the section `prepare`.

    Args:
        facts: statistics of the images.
        gives: output type of the network: vector, map or boxes.
        task: name of the task.
        params: current params.
    """
    height, width = np.median(facts.sides, axis=0).round().astype(int)
    middle = float(np.median(np.sqrt(facts.sides.prod(axis=1))))
    sizes = SIDES[gives]
    size = _nearest_size(sizes, middle, float(np.median(facts.sides.max(axis=1))))
    fit, why = _fit(facts, gives, task, size)
    shortest, longest = facts.sides.min(), facts.sides.max()
    sides = f"sides range from {shortest} to {longest}" if shortest < longest else "all images have this size"
    reason = (
        f"the median image has {width}x{height} pixels; {sides}; a larger size shows finer details and takes longer"
    )
    if facts.smallest:
        size, seen = _visible(facts, size, fit, sizes)
        reason += f"; {seen}"
    yield Choice("prepare.size", size, reason)
    yield Choice("prepare.fit", fit, why)
    yield Choice("prepare.overlap", params.prepare.overlap)
    yield Choice("prepare.articulated_parts", "auto")
    yield Choice("prepare.channels", *_channels(facts))


def _nearest_size(sizes: tuple[int, ...], middle: float, longest: float) -> int:
    """Return the size nearest to that of the images, but no larger: enlarging costs time and shows nothing more.

    Args:
        sizes: usual sizes; the first is the smallest that suits the network, also for smaller images.
        middle: median of the square root of the area of the images.
        longest: median of the longer side of the images.

    >>> [_nearest_size((32, 64, 128), side, side) for side in (28, 60, 100, 128, 640)]
    [32, 56, 96, 128, 128]
    """
    size = min(sizes, key=lambda side: abs(np.log(side / middle)))
    return size if size <= longest else max(sizes[0], int(longest) // SIZE_STEP * SIZE_STEP)


def smaller_size(facts: SourceFacts, gives: str, size: int, fit: str) -> int | None:
    """Return the next smaller working size at which the finest structure is visible; None if there is none.

    Args:
        facts: statistics of the images.
        gives: output type of the network: vector, map or boxes.
        size: current working size, pixels.
        fit: `prepare.fit`; smaller tiles do not take less time.
    """
    smaller = max((side for side in SIDES[gives] if side < size), default=None)
    if smaller is None or fit == "tile":
        return None
    if facts.smallest and _visible(facts, smaller, fit, SIDES[gives])[0] != smaller:
        return None
    return smaller


def _fit(facts: SourceFacts, gives: str, task: str, size: int) -> tuple[str, str]:
    if task in ("segmentation", "image") and facts.sides.max() > size:
        return "tile", f"images of up to {facts.sides.max()} pixels keep their scale in tiles"
    slim = float((facts.sides.max(axis=1) / facts.sides.min(axis=1) >= SLIM).mean())
    if slim >= OFTEN:
        return "letterbox", f"preserves shapes: {slim:.0%} of the images have an aspect ratio of at least {SLIM:g}"
    if gives != "vector" or task == "landmarks":
        return "letterbox", "preserves shapes"
    return "stretch", "most images are nearly square"


def _visible(facts: SourceFacts, size: int, fit: str, sizes: tuple[int, ...]) -> tuple[int, str]:
    """Return a size at which the finest structure is visible, and a sentence on how many pixels it covers.

    It is the smallest of `sizes` from `size` on; `size` if none suffices or the images are tiled.
    """
    what = Counter(name for _, name in facts.smallest).most_common(1)[0][0]
    pixels_N = np.array([size_ for size_, name in facts.smallest if name == what])
    original = float(np.percentile(pixels_N, 5))
    if fit == "tile":
        return size, f"{what} is {original:.0f} pixels, unchanged in tiles"
    shrunk = np.median(facts.sides.max(axis=1))
    scaled = {side: original * side / shrunk for side in sizes if size < side <= shrunk} | {
        size: original * size / shrunk
    }
    chosen = next((side for side in sorted(scaled) if scaled[side] >= VISIBLE[what]), size)
    text = f"{what} is {original:.3g} pixels in the image and {scaled[chosen]:.2g} at this size"
    if chosen > size:
        text += f", {scaled[size]:.2g} at {size}"
    if scaled[chosen] < VISIBLE[what]:
        enough = math.ceil(VISIBLE[what] / original * shrunk / 32) * 32
        work = (enough / chosen) ** 2
        text += f": hardly visible; size {enough} would show {VISIBLE[what]:.0f} pixels at {work:.1f} times the cost"
    return chosen, text


def _channels(facts: SourceFacts) -> tuple[int, str]:
    count, opened = facts.channels, len(facts.opened)
    if set(count) == {1}:
        grey = f", {facts.stored_grey} of them with three equal channels" if facts.stored_grey else ""
        return 1, f"all opened images ({opened}) are grey{grey}"
    if set(count) <= {1, 3}:
        faint = f", {facts.faint} of them with faint colours: 1 channel may suffice" if facts.faint else ""
        return 3, f"{count[3]} of {opened} opened images {'is' if count[3] == 1 else 'are'} in colour{faint}"
    usual = count.most_common(1)[0][0]
    listed = ", ".join(
        f"{images} {'has' if images == 1 else 'have'} {quantity(channels, 'channel')}"
        for channels, images in sorted(count.items())
    )
    others = "; prepare rejects images with another number of channels" if len(count) > 1 else ""
    return usual, f"of the opened images, {listed}{others}"
