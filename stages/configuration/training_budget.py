"""Network and training: the simplest that is known to work first, for as long as this machine has time."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.config.schema_data import Prepare
from stages.configuration.choice import Choice
from stages.configuration.inspection import Facts
from stages.configuration.source_proposal import FEW, SHARE, SHARE_OF_FEW
from stages.images.geometry import placements
from stages.importers.format_detection import FormatCandidate

STEPS = 600  # of the optimizer that a first training should take
EPOCHS, BATCHES = (10, 60), (4, 64)
NETWORK = {
    "vector": ("resnet18", "an answer an image"),
    "map": ("unet", "an answer a pixel"),
    "boxes": ("mask_rcnn", "single things"),
}
UNEVEN = 3.0  # largest class over smallest, from which the loss weighs them


@dataclass(frozen=True)
class Amount:
    """How much there is to learn from."""

    training: float
    """Working images."""
    validation: float


def amount(reading: FormatCandidate, facts: Facts, prepare: Prepare) -> Amount:
    """As the split and the working size that are proposed have it."""
    size, fit, overlap = prepare.size, prepare.fit, prepare.overlap
    tiles = float(np.mean([len(placements(int(h), int(w), fit, size, overlap)) for h, w in facts.sides]))
    if reading.has_split:
        training, validation = (sum(item.split == part for item in reading.samples) for part in ("train", "val"))
    else:
        share = SHARE_OF_FEW if facts.count < FEW else SHARE
        training, validation = (1 - 2 * share) * facts.count, share * facts.count  # type: ignore[assignment]
    return Amount(max(1.0, training * tiles), max(1.0, validation * tiles))


def learning(facts: Facts, gives: str, given: Amount, fit: str, per_class: dict[str, int]) -> Iterator[Choice]:
    """The sections `network`, `train`, `tune` and `augment`."""
    network, why = NETWORK[gives]
    yield Choice("network.name", network, f"{why}: a simple standard architecture first")
    yield Choice("network.encoder", "resnet18")
    yield Choice("network.weights", "none", "default: published weights, which help where images are few")
    batch = int(np.clip(2 ** round(math.log2(max(1, given.training / 12))), *BATCHES)) if gives != "boxes" else 2
    epochs = int(np.clip(math.ceil(STEPS * batch / given.training), *EPOCHS))
    what = "tiles" if fit == "tile" else "images"
    yield Choice("train.batch_size", batch, f"some {given.training:.0f} {what} to learn from; small sets need steps")
    yield Choice("train.epochs", epochs, f"some {epochs * math.ceil(given.training / batch)} steps")
    yield Choice("train.learning_rate", 0.001 if gives == "boxes" else 0.002, "the peak, which suits most first runs")
    yield Choice("train.loss", "auto")
    yield Choice("train.class_weights", *_weights(facts, per_class))
    yield Choice("tune.trials", 0, "search when the first run has been looked at")
    yield Choice("augment.preset", "auto", "what suits task and images; the report says what that is, and why")
    yield Choice("augment.padding", "auto")
    yield Choice("augment.amounts", {})


def _weights(facts: Facts, per_class: dict[str, int]) -> tuple[str, str]:
    if not facts.labels or min(per_class.values()) < 1:
        return "none", ""
    least, most = (pick(per_class.items(), key=lambda one: one[1]) for pick in (min, max))
    told = f"of {most[0]} there are {most[1]} training images, of {least[0]} {least[1]}"
    if most[1] == least[1]:
        return "none", f"every class has {most[1]} training images"
    if most[1] < UNEVEN * least[1]:
        return "none", f"the classes are about as large: {told}"
    return "balanced", f"{told}, and the score counts every class the same"


def within_budget(choice: Choice, seconds: float, measured: str, minutes: float) -> Choice:
    """`train.epochs` as many as are wanted, or as the machine has time for.

    Args:
        choice: as wanted.
        seconds: an epoch takes.
        measured: how that is known.
        minutes: there are.
    """
    most = max(1, int(60 * minutes / seconds))
    epochs = min(choice.value, most)
    why = f"about {_duration(epochs * seconds)} for {epochs} epochs: {measured}"
    if epochs < choice.value:
        longer = _duration(choice.value * seconds)
        why += f"; {choice.value} would be better and take {longer}, of which --minutes allows {minutes:g}"
        why += "; at half of prepare.size each takes about a quarter"
    return Choice(choice.key, epochs, f"{choice.why}; {why}" if epochs == choice.value else why)


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} minutes"
        if seconds < 5400
        else f"{seconds / 3600:.1f} hours"
    )
