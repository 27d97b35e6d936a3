"""Expected number of images per class, and the rules of the data contract (`checks`) that the images will not meet."""

import math
from collections import Counter
from collections.abc import Iterator

import pandas as pd

from stages.config.schema_data import Checks
from stages.configuration.inspection import SourceFacts
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import class_names
from stages.dataset.splits import assign_splits
from stages.importers.format_candidate import FormatCandidate

MAX_CLASSES = 3  # classes that a message lists

PerClass = dict[str, dict[str, int]]
"""Number of images by split and class."""


def find_unmet_checks(facts: SourceFacts, counts: PerClass, checks: Checks) -> Iterator[str]:
    """Yield each rule of the contract that the images will not meet, with the line that would accept them.

    The rules are guards: they are never changed here, because only a person can decide that few images are enough or
    that a narrow image is complete.

    Args:
        facts: statistics of the images.
        counts: number of images by split and class.
        checks: current params.
    """
    for key, part, least in (
        ("min_train_per_class", "train", checks.min_train_per_class),
        ("min_validation_per_class", "val", checks.min_validation_per_class),
    ):
        # With known labels, a class without images is reported as missing, whatever the limit is.
        rare = sorted((n, name) for name, n in counts[part].items() if n < least and (n or not facts.labels))
        if rare:
            split = {"train": "training", "val": "validation"}[part]
            classes = list_names((f"{name} (about {number})" for number, name in rare), MAX_CLASSES)
            few = quantity(len(rare), "class has", "classes have")
            yield (
                f"validate: {few} fewer than {quantity(least, f'{split} image')} (checks.{key}): {classes}; collect "
                f"more images, or {accept(f'checks.{key}', max(1, rare[0][0]))}"
            )
    shortest, slim = int(facts.sides.min()), max_aspect_ratio(facts)
    if shortest < checks.min_side:
        side = quantity(shortest, "pixel")
        yield (
            f"validate: the shortest side of an image is {side}, below checks.min_side {checks.min_side}: is the image "
            f"complete? Crop or remove it, or {accept('checks.min_side', shortest)}"
        )
    if slim > checks.max_aspect:
        yield (
            f"validate: an image has the aspect ratio {slim:.3g}, above checks.max_aspect {checks.max_aspect:g}: is "
            f"the image complete? Crop or remove it, or {accept('checks.max_aspect', math.ceil(slim))}"
        )
    if facts.blank > checks.max_blank * len(facts.opened):
        share = math.ceil(100 * facts.blank / len(facts.opened)) / 100
        images = quantity(len(facts.opened), "opened image")
        yield (
            f"validate: {facts.blank} of {images} {'has' if facts.blank == 1 else 'have'} a single grey level, above "
            f"checks.max_blank {checks.max_blank:g}; remove such images, or {accept('checks.max_blank', share)}"
        )


def accept(key: str, value: float) -> str:
    """Return the line of the params that accepts what a guard would stop."""
    section, name = key.split(".")
    return f"accept this by the line `{name}: {value:g}` in section {section}"


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
            groups = facts.grouping.groups_of(reading.samples)
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
