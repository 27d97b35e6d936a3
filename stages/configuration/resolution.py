"""The working size, and how an image comes to it."""

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.inspection import Facts
from stages.configuration.object_size import VISIBLE

SIDES = {"vector": (32, 64, 128), "map": (64, 128, 256), "boxes": (128, 256)}
"""Working sizes that two CPU cores train in minutes, in pixels."""
SLIM = 1.25  # longer over shorter side, from which stretching is not nothing
OFTEN = 0.25  # share of the images that are so


def pixels(facts: Facts, gives: str, task: str, params: Params) -> Iterator[Choice]:
    """The section `prepare`."""
    height, width = np.median(facts.sides, axis=0).round().astype(int)
    middle = float(np.median(np.sqrt(facts.sides.prod(axis=1))))
    sizes = SIDES[gives]
    size = min(sizes, key=lambda side: abs(np.log(side / middle)))
    fit, why = _fit(facts, gives, task, size)
    shortest, longest = facts.sides.min(), facts.sides.max()
    sides = f"sides from {shortest} to {longest}" if shortest < longest else f"all of {longest}"
    reason = f"the middle image has {width}x{height}, {sides}; more shows finer things and takes longer"
    if facts.smallest:
        size, seen = _visible(facts, size, fit, sizes)
        reason += f"; {seen}"
    yield Choice("prepare.size", size, reason)
    yield Choice("prepare.fit", fit, why)
    yield Choice("prepare.overlap", params.prepare.overlap)
    yield Choice("prepare.articulated_parts", "auto")
    yield Choice("prepare.channels", *_channels(facts))


def _fit(facts: Facts, gives: str, task: str, size: int) -> tuple[str, str]:
    if task in ("segmentation", "image") and facts.sides.max() > size:
        return "tile", f"images of up to {facts.sides.max()} pixels keep their scale in tiles"
    slim = float((facts.sides.max(axis=1) / facts.sides.min(axis=1) >= SLIM).mean())
    if slim >= OFTEN:
        return "letterbox", f"shapes are kept: {slim:.0%} of the images are at least {SLIM:g} times as long as wide"
    if gives != "vector" or task == "landmarks":
        return "letterbox", "shapes are kept"
    return "stretch", "the images are nearly square"


def _visible(facts: Facts, size: int, fit: str, sizes: tuple[int, ...]) -> tuple[int, str]:
    """Of these sizes one at which the smallest is still to be seen, where there is one, and what is said of it."""
    what = Counter(name for _, name in facts.smallest).most_common(1)[0][0]
    pixels_N = np.array([found for found, name in facts.smallest if name == what])
    original = float(np.percentile(pixels_N, 5))
    if fit == "tile":
        return size, f"{what} is {original:.0f} pixels, in tiles as in the image"
    shrunk = np.median(facts.sides.max(axis=1))
    there = {side: original * side / shrunk for side in sizes if side >= size}
    taken = next((side for side in there if there[side] >= VISIBLE[what]), size)
    says = f"{what}, {original:.3g} pixels in the image, has {there[taken]:.2g} there"
    if taken > size:
        says += f", at {size} it would have {there[size]:.2g}"
    if there[taken] < VISIBLE[what]:
        enough = math.ceil(VISIBLE[what] / original * shrunk / 32) * 32
        work = (enough / taken) ** 2
        says += f": few to be seen; {enough} would give it {VISIBLE[what]:.0f}, for {work:.1f} times the work"
    return taken, says


def _channels(facts: Facts) -> tuple[int, str]:
    count, opened = facts.channels, len(facts.opened)
    if set(count) == {1}:
        grey = f", of three equal channels {facts.stored_grey}" if facts.stored_grey else ""
        return 1, f"all {opened} images that were opened are grey{grey}"
    if set(count) <= {1, 3}:
        faint = f", in {facts.faint} it is faint: 1 may do" if facts.faint else ""
        return 3, f"{count[3]} of {opened} images that were opened are in colour{faint}"
    usual = count.most_common(1)[0][0]
    told = ", ".join(f"{images} have {channels}" for channels, images in sorted(count.items()))
    others = ": prepare will stop at the others" if len(count) > 1 else ""
    return usual, f"of the images that were opened {told}{others}"
