"""Data sets with known faults: confounders, near-duplicates, label errors, drift and outliers in real images."""

from dataclasses import dataclass, field, replace

from benchmarks.audits.base_datasets import LabelledImages
from benchmarks.audits.fault_sample import FaultSample, Rng, Transform
from benchmarks.audits.fault_transforms import CAMERAS, COPIES, OUTLIERS, compression

DAYS = 30  # period in which the images were taken
VALIDATION = 0.2  # share of the images
OTHER_SPLIT = {"train": "val", "val": "train"}


@dataclass(frozen=True)
class FaultyDataset:
    """A data set and the faults that were injected."""

    samples: list[FaultSample]
    pairs: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    """Pairs of paths (original and copy) by kind of copy."""
    outliers: dict[str, list[str]] = field(default_factory=dict)
    """Paths by kind of outlier."""
    mislabelled: list[str] = field(default_factory=list)
    """Paths of the images with a wrong label."""


def clean(
    images: LabelledImages, quality: int, rng: Rng, classes: int, per_class: int, informative: bool = True
) -> FaultyDataset:
    """Draw images of some classes at random, without a fault; a fifth of each class is for validation.

    Args:
        images: images with their classes.
        quality: JPEG quality, 1 to 100; 0 for PNG.
        rng: random generator.
        classes: number of classes.
        per_class: number of images per class; classes with fewer images are used completely.
        informative: keep the labels. If false, labels are permuted, so that only an injected fault can predict them.

    Returns:
        The data set.
    """
    names = sorted({label for _, label in images})
    chosen = [str(name) for name in rng.permutation(names)[:classes]]
    drawn = []
    for name in chosen:
        own = [image for image, label in images if label == name]
        drawn += [(own[i], name) for i in rng.permutation(len(own))[:per_class]]
    labels = [label for _, label in drawn]
    if not informative:
        labels = [str(label) for label in rng.permutation(labels)]
    numbers = rng.permutation(len(drawn))
    samples, count = [], dict.fromkeys(chosen, 0)
    for (image, _), label, number in zip(drawn, labels, numbers, strict=True):
        count[label] += 1
        split = "val" if count[label] <= VALIDATION * labels.count(label) else "train"
        camera, day = str(rng.choice(CAMERAS)), float(rng.uniform(0, DAYS))
        suffix = "jpg" if quality else "png"
        samples.append(FaultSample(image, label, split, f"{label}/{number:05d}.{suffix}", quality, camera, day))
    return FaultyDataset(samples)


def with_confounder(data: FaultyDataset, transform: Transform, strength: float, rng: Rng) -> FaultyDataset:
    """Return a copy of a data set with a transform applied to all images of one class.

    Args:
        data: the data set.
        transform: the transform.
        strength: strength of the transform; 0 changes nothing.
        rng: random generator.
    """
    changed = data.samples[0].label
    return replace(data, samples=[transform(s, strength, rng) if s.label == changed else s for s in data.samples])


def with_copies(data: FaultyDataset, per_kind: int, rng: Rng) -> FaultyDataset:
    """Return a data set to which changed copies of different originals are added.

    The first, third, ... copy of each kind is in the other split, the others are in the split of their original.

    Args:
        data: the original data set.
        per_kind: number of copies of each kind in `COPIES`.
        rng: random generator.
    """
    originals = iter(rng.permutation(len(data.samples)))
    added: list[FaultSample] = []
    pairs: dict[str, list[tuple[str, str]]] = {}
    for kind, (transform, strength) in COPIES.items():
        pairs[kind] = []
        for number in range(per_kind):
            sample = data.samples[next(originals)]
            split = sample.split if number % 2 else OTHER_SPLIT[sample.split]
            stem, _, suffix = sample.path.rpartition(".")
            path = f"{stem}9.{'jpg' if transform is compression else suffix}"
            added.append(transform(replace(sample, split=split, path=path), strength, rng))
            pairs[kind].append((sample.path, path))
    return replace(data, samples=data.samples + added, pairs=pairs)


def with_label_errors(data: FaultyDataset, share: float, rng: Rng) -> FaultyDataset:
    """Return a copy in which a share of the images have labels drawn uniformly from the other classes.

    Args:
        data: the data set.
        share: share of the images, 0 to 1.
        rng: random generator.
    """
    names = sorted({sample.label for sample in data.samples})
    wrong = set(rng.permutation(len(data.samples))[: round(share * len(data.samples))].tolist())
    samples = [
        replace(s, label=str(rng.choice([n for n in names if n != s.label]))) if i in wrong else s
        for i, s in enumerate(data.samples)
    ]
    return replace(data, samples=samples, mislabelled=[data.samples[i].path for i in sorted(wrong)])


def with_drift(data: FaultyDataset, subset: str, transform: Transform, strength: float, rng: Rng) -> FaultyDataset:
    """Return a copy of a data set with a transform applied to a subset of the images.

    Args:
        data: the data set.
        subset: `validation` for all validation images; `arrival` or `origin` for about a fifth of all images, drawn at
            random, which then arrive later or come from another origin.
        transform: the transform.
        strength: strength of the transform; 0 changes nothing.
        rng: random generator.
    """
    samples = []
    for sample in data.samples:
        affected = sample.split == "val" if subset == "validation" else rng.random() < VALIDATION
        placed = sample
        if subset == "arrival":
            placed = replace(sample, arrival=1 + affected)
        elif subset == "origin":
            placed = replace(sample, origin="there" if affected else "here")
        samples.append(transform(placed, strength, rng) if affected else placed)
    return replace(data, samples=samples)


def with_outliers(data: FaultyDataset, per_kind: int, rng: Rng) -> FaultyDataset:
    """Return a copy of a data set in which single images are turned into outliers.

    Args:
        data: the data set.
        per_kind: number of images for each kind in `OUTLIERS`.
        rng: random generator.
    """
    samples, places = list(data.samples), iter(rng.permutation(len(data.samples)))
    outliers: dict[str, list[str]] = {}
    for kind, (transform, strength) in OUTLIERS.items():
        chosen = [int(next(places)) for _ in range(per_kind)]
        for i in chosen:
            samples[i] = transform(samples[i], strength, rng)
        outliers[kind] = [samples[i].path for i in chosen]
    return replace(data, samples=samples, outliers=outliers)
