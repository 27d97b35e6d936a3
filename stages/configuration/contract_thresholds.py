"""Thresholds of the data contract (`checks`), relaxed and explained where the images do not meet the usual ones."""

import math
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from stages.configuration.choice import Choice
from stages.configuration.filename_patterns import assign_groups
from stages.configuration.inspection import SourceFacts
from stages.core.plurals import quantity
from stages.dataset.annotations import class_names
from stages.dataset.splits import assign_splits
from stages.importers.format_detection import FormatCandidate

TRAINING, VALIDATION = 10, 3  # usual minimum number of images per class
SHORTEST, ASPECT = 8, 10  # minimum side in pixels; maximum aspect ratio
LEAST_SIDE, MOST_ASPECT = 4, 50  # limits beyond which the threshold is not relaxed

PerClass = dict[str, dict[str, int]]
"""Number of images by split and class."""


def propose_checks(facts: SourceFacts, counts: PerClass) -> Iterator[Choice]:
    """Propose the thresholds in section `checks`."""
    for key, part, usual in (("train", "train", TRAINING), ("validation", "val", VALIDATION)):
        rarest = min(counts[part].items(), key=lambda item: item[1], default=("", usual))
        low = max(1, min(usual, rarest[1]))
        number = quantity(rarest[1], f"{'training' if key == 'train' else key} image")
        why = f"class {rarest[0]} will have about {number}, fewer than the usual {usual}: are these enough?"
        yield Choice(f"checks.min_{key}_per_class", low, why if low < usual else "")
    shortest, slim = int(facts.sides.min()), max_aspect_ratio(facts)
    low = shortest if LEAST_SIDE <= shortest < SHORTEST else SHORTEST
    yield Choice(
        "checks.min_side",
        low,
        f"the shortest side of an image is {quantity(shortest, 'pixel')}: is the image complete?"
        if low < SHORTEST
        else "",
    )
    wide = math.ceil(slim) if ASPECT < slim <= MOST_ASPECT else ASPECT
    why = f"an image has the aspect ratio {slim:.3g}: is the image complete?" if wide > ASPECT else ""
    yield Choice("checks.max_aspect", wide, why)


def max_aspect_ratio(facts: SourceFacts) -> float:
    """Return the largest aspect ratio (longer over shorter side) of the images."""
    return float((facts.sides.max(axis=1) / facts.sides.min(axis=1)).max())


def count_per_class(reading: FormatCandidate, facts: SourceFacts, shares: tuple[float, float]) -> PerClass:
    """Return the expected number of training and validation images per class; no classes if images have none.

    If every image is known to have one class, images are counted by the split of the source, which is exact, or by the
    split that `ingest` would compute, except that copies of an image are not kept together. Otherwise the numbers are
    extrapolated from the images whose labels are known.

    Args:
        reading: chosen interpretation of the source.
        facts: statistics of its images.
        shares: shares of validation and test if the images are split again, 0 to 1.
    """
    if facts.labels:
        if reading.has_split:
            split = [str(item.split) for item in reading.samples]
        else:
            groups = assign_groups(reading.samples, facts.grouping.group, facts.grouping.block)
            by = {"train": 1 - sum(shares), "val": shares[0], "test": shares[1]}
            split = list(assign_splits(pd.Series(groups), pd.Series(facts.labels), by, {}))
        both = Counter(zip(split, facts.labels, strict=True))
        return {part: {label: both[part, label] for label in sorted(set(facts.labels))} for part in ("train", "val")}
    present = Counter(name for annotation in facts.annotations for name in class_names(annotation))
    scale = facts.count / len(facts.annotations)
    known = Counter(item.split for item in reading.samples)
    part_of = {
        part: known[part] / facts.count if reading.has_split else share
        for part, share in (("train", 1 - sum(shares)), ("val", shares[0]))
    }
    return {part: {name: int(n * scale * share) for name, n in present.items()} for part, share in part_of.items()}
