"""Proposal of network and training: a simple standard network, trained within a time budget."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stages.config.schema_data import Prepare
from stages.configuration.choice import Choice
from stages.configuration.inspection import SourceFacts
from stages.configuration.orientation import MIN_COVERED, SECTORS, covered_sectors
from stages.configuration.source_proposal import FEW, SHARE, SHARE_OF_FEW
from stages.core.plurals import quantity
from stages.images.geometry import placements
from stages.importers.format_candidate import FormatCandidate

STEPS = 600  # optimizer steps of a first training
EPOCHS, BATCHES = (10, 60), (4, 64)
NETWORK = {
    "vector": ("resnet18", "one prediction per image"),
    "map": ("unet", "one prediction per pixel"),
    "boxes": ("mask_rcnn", "individual objects"),
}
UNEVEN = 3.0  # ratio of the largest to the smallest class from which the loss is weighted


@dataclass(frozen=True)
class DataAmount:
    """Number of working images for training and validation; each tile counts as an image."""

    training: float
    validation: float


def estimate_data_amount(reading: FormatCandidate, facts: SourceFacts, prepare: Prepare) -> DataAmount:
    """Estimate the number of working images under the proposed split and working size.

    Args:
        reading: chosen interpretation of the source.
        facts: statistics of its images.
        prepare: proposed section `prepare`.
    """
    size, fit, overlap = prepare.size, prepare.fit, prepare.overlap
    tiles = float(np.mean([len(placements(int(h), int(w), fit, size, overlap)) for h, w in facts.sides]))
    if reading.has_split:
        training, validation = (sum(item.split == part for item in reading.samples) for part in ("train", "val"))
    else:
        share = SHARE_OF_FEW if facts.count < FEW else SHARE
        training, validation = (1 - 2 * share) * facts.count, share * facts.count  # type: ignore[assignment]
    return DataAmount(max(1.0, training * tiles), max(1.0, validation * tiles))


def propose_training(
    facts: SourceFacts, gives: str, data: DataAmount, fit: str, per_class: dict[str, int]
) -> Iterator[Choice]:
    """Propose the sections `network`, `train`, `tune` and `augment`.

    Args:
        facts: statistics of the images.
        gives: output type of the network: vector, map or boxes.
        data: number of working images.
        fit: proposed `prepare.fit`.
        per_class: training images per class.
    """
    network, why = NETWORK[gives]
    yield Choice("network.name", network, f"{why}: a simple standard architecture first")
    yield Choice("network.encoder", "resnet18")
    yield Choice("network.weights", "none", "use default for published weights, which help with few images")
    batch = int(np.clip(2 ** round(math.log2(max(1, data.training / 12))), *BATCHES)) if gives != "boxes" else 2
    epochs = int(np.clip(math.ceil(STEPS * batch / data.training), *EPOCHS))
    amount = quantity(round(data.training), f"training {'tile' if fit == 'tile' else 'image'}")
    yield Choice("train.batch_size", batch, f"about {amount}; for small data sets, small batches allow enough steps")
    yield Choice("train.epochs", epochs, f"about {epochs * math.ceil(data.training / batch)} steps")
    yield Choice(
        "train.learning_rate", 0.001 if gives == "boxes" else 0.002, "peak of the schedule; suits most first runs"
    )
    yield Choice("train.loss", "auto")
    yield Choice("train.class_weights", *_weights(facts, per_class))
    yield Choice("tune.trials", 0, "search after inspecting the first run")
    yield Choice(
        "augment.preset", "auto", "suits the task and the images; the report lists the augmentations with reasons"
    )
    yield Choice("augment.padding", "auto")
    yield Choice("augment.amounts", *_rotation(facts))


def _rotation(facts: SourceFacts) -> tuple[dict[str, float], str]:
    """Return amounts that rotate by any angle if the annotated figures lie in every direction."""
    covered = covered_sectors(facts.annotations)
    if covered is None or covered < MIN_COVERED:
        return {}, ""
    return {"rotation": 180.0}, f"the annotated points lie in {covered} of {SECTORS} directions; presets rotate less"


def _weights(facts: SourceFacts, per_class: dict[str, int]) -> tuple[str, str]:
    if not facts.labels or min(per_class.values()) < 1:
        return "none", ""
    least, most = (pick(per_class.items(), key=lambda item: item[1]) for pick in (min, max))
    sizes = f"{most[0]} has {quantity(most[1], 'training image')}, {least[0]} has {least[1]}"
    if most[1] == least[1]:
        return "none", f"every class has {quantity(most[1], 'training image')}"
    if most[1] < UNEVEN * least[1]:
        return "none", f"the classes have similar sizes: {sizes}"
    return "balanced", f"{sizes}, and the score weights all classes equally"


def limit_epochs(choice: Choice, seconds: float, measured: str, minutes: float) -> Choice:
    """Limit `train.epochs` to the time budget, but not to fewer than `EPOCHS[0]`, which rarely train a network.

    Args:
        choice: proposed number of epochs.
        seconds: duration of an epoch in seconds.
        measured: description of the measurement.
        minutes: time budget.

    Returns:
        The proposed or reduced number of epochs, with the expected duration in its reason.
    """
    epochs = min(choice.value, max(EPOCHS[0], int(60 * minutes / seconds)))
    why = f"about {_duration(epochs * seconds)} for {quantity(epochs, 'epoch')}: {measured}"
    if epochs < choice.value:
        longer = _duration(choice.value * seconds)
        why += f"; {choice.value} epochs would be better but take {longer}"
        if suffices(choice.value, seconds, minutes):
            why += f"; --minutes allows {minutes:g}"
        why += "; half of prepare.size takes about a quarter of the time"
    if not suffices(choice.value, seconds, minutes):
        why += f"; the time budget does not suffice: --minutes allows {minutes:g}, but fewer epochs rarely train"
    return Choice(choice.key, epochs, f"{choice.why}; {why}" if epochs == choice.value else why)


def suffices(epochs: int, seconds: float, minutes: float) -> bool:
    """Return whether a time budget suffices for enough epochs to train: all that are proposed, or `EPOCHS[0]`.

    Args:
        epochs: proposed number of epochs.
        seconds: duration of an epoch in seconds.
        minutes: time budget.
    """
    return min(epochs, EPOCHS[0]) * seconds <= 60 * minutes


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} minutes"
        if seconds < 5400
        else f"{seconds / 3600:.1f} hours"
    )
