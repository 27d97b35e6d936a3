"""What the manifest must keep, so far as these images can keep it; what they lower is said."""

import math
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from stages.configuration.choice import Choice
from stages.configuration.filename_patterns import pattern_groups
from stages.configuration.inspection import Facts
from stages.dataset.annotations import class_names
from stages.dataset.splits import assign_splits
from stages.importers.format_detection import FormatCandidate

TRAINING, VALIDATION = 10, 3  # images per class
SHORTEST, ASPECT = 8, 10  # pixels; longer over shorter side
LEAST_SIDE, MOST_ASPECT = 4, 50  # beyond which no image is proposed to pass

PerClass = dict[str, dict[str, int]]
"""Split, class: images."""


def held(facts: Facts, counts: PerClass) -> Iterator[Choice]:
    """The section `checks`."""
    for key, part, usual in (("train", "train", TRAINING), ("validation", "val", VALIDATION)):
        rarest = min(counts[part].items(), key=lambda one: one[1], default=("", usual))
        low = max(1, min(usual, rarest[1]))
        why = f"class {rarest[0]} will have some {rarest[1]} of them, and {usual} are usual: are so few enough for you?"
        yield Choice(f"checks.min_{key}_per_class", low, why if low < usual else "")
    shortest, slim = int(facts.sides.min()), aspect(facts)
    low = shortest if LEAST_SIDE <= shortest < SHORTEST else SHORTEST
    yield Choice("checks.min_side", low, f"an image has {shortest} pixels: is it whole?" if low < SHORTEST else "")
    wide = math.ceil(slim) if ASPECT < slim <= MOST_ASPECT else ASPECT
    why = f"an image is {slim:.3g} times as long as wide: is it whole?" if wide > ASPECT else ""
    yield Choice("checks.max_aspect", wide, why)


def aspect(facts: Facts) -> float:
    """Longer over shorter side of the slimmest image."""
    return float((facts.sides.max(axis=1) / facts.sides.min(axis=1)).max())


def per_class(reading: FormatCandidate, facts: Facts, shares: tuple[float, float]) -> PerClass:
    """Split, class: images that the class will have there; empty where images have no classes.

    Exact where every image has one and the source divides; as ingest would divide where it does not, but for images
    that are copies. Where only some images were opened, what they tell of all.

    Args:
        reading: as chosen.
        facts: of it.
        shares: of validation and test, where the images are divided anew.
    """
    if facts.labels:
        if reading.has_split:
            split = [str(item.split) for item in reading.samples]
        else:
            groups = pattern_groups(reading.samples, facts.belonging.group, facts.belonging.block)
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
