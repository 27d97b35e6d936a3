"""Choice of pretrained weights by `configure`: a linear probe on their features is compared with one on patches."""

from collections.abc import Iterator

import numpy as np

from stages.configuration import Choice, SourceFacts
from stages.core.shapes import Array, Integer
from stages.dataset.annotations import Annotation
from stages.images.decode import Unreadable, decode_image
from stages.importers.format_candidate import FormatCandidate
from stages.importers.sample import Sample, read_annotation
from stages.networks.packaged_weights import weights_file
from stages.networks.pretrained_features import NETWORK, SIDE
from stages.training.pretrained_comparison import FeatureComparison, compare_with_pretrained

TASKS = ("classification", "multilabel", "ordinal", "regression")
"""Tasks with one prediction per image, on which the probes are compared."""
MOST_IMAGES = 1000
MOST_MEGAPIXELS = 2000.0
"""Total size of the images that are read, 10^6 pixels: about a minute of decoding."""


def choose_weights(
    proposed: list[Choice], chosen: FormatCandidate, facts: SourceFacts, max_megapixels: float
) -> list[Choice]:
    """Return the choices with pretrained weights if a linear probe on their features is better by more than noise.

    Both scores are added to the reason. At most `MOST_IMAGES` random images are read. Nothing is compared if the task
    is not one of `TASKS`.

    Args:
        proposed: choices for a network with random weights.
        chosen: chosen interpretation of the source.
        facts: statistics of its images.
        max_megapixels: value of `ingest.max_megapixels`.

    Raises:
        UserError: the file with the weights is not the one that was reviewed.
    """
    value = {choice.key: choice.value for choice in proposed}
    why = {choice.key: choice.why for choice in proposed}
    if value["task.name"] not in TASKS:
        return proposed
    if weights_file(NETWORK) is None:
        return _explained(proposed, f"features of {NETWORK} were not compared: run `make weights` to compare")
    found = _compare(chosen, facts, max_megapixels)
    if isinstance(found, str):
        return _explained(proposed, f"features of {NETWORK} were not compared: {found}")
    if not found.is_better:
        return _explained(proposed, f"pretrained features are not clearly better: {found.describe()}")
    changed = {
        "network.name": Choice("network.name", NETWORK, f"one prediction per image; {found.describe()}"),
        "network.weights": Choice("network.weights", "default", "ImageNet weights, which `make weights` has installed"),
        "prepare.size": Choice(
            "prepare.size", SIDE, f"the size at which the pretrained features were compared; {why['prepare.size']}"
        ),
    }
    return [changed.get(choice.key, choice) for choice in proposed]


def _explained(proposed: list[Choice], reason: str) -> list[Choice]:
    """Return the choices with a reason added to that of `network.weights`."""
    key = "network.weights"
    return [Choice(one.key, one.value, f"{one.why}; {reason}") if one.key == key else one for one in proposed]


def _compare(chosen: FormatCandidate, facts: SourceFacts, max_megapixels: float) -> FeatureComparison | str:
    groups = facts.grouping.groups_of(chosen.samples)
    places = np.random.default_rng(0).permutation(len(chosen.samples))[:MOST_IMAGES]
    annotations: list[Annotation] = []
    group_of: list[str] = []

    def images() -> Iterator[Integer[Array, "H W *C"]]:
        for place, image, annotation in _read(chosen.samples, places, max_megapixels):
            annotations.append(annotation)
            group_of.append(groups[place])
            yield image

    return compare_with_pretrained(images(), annotations, group_of)


def _read(
    items: tuple[Sample, ...], places: Integer[Array, " N"], max_megapixels: float
) -> Iterator[tuple[int, Integer[Array, "H W *C"], Annotation]]:
    """Yield images with their labels, up to `MOST_MEGAPIXELS` in total; `ingest` reports those that are unreadable."""
    megapixels = 0.0
    for place in places.tolist():
        try:
            content = items[place].read()
            decoded = decode_image(content, max_megapixels)
            height, width = decoded.image.shape[:2]
            annotation = read_annotation(items[place], content, height, width, decoded.turned)
        except (Unreadable, OSError):
            continue
        yield place, decoded.image, annotation
        megapixels += height * width / 1e6
        if megapixels > MOST_MEGAPIXELS:
            return
