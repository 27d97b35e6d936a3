"""Selection of golden images from validation images, and their recorded predictions."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from stages.deployment.golden_images import GoldenImage, GoldenSet, Values, comparable_values, difference
from stages.images.decode import decode_image
from stages.runtime import Model, compute_digest
from stages.runtime.engine_selection import PROBE_TOLERANCE
from stages.tasks import TASKS
from stages.tasks.image_outputs import picture_of
from stages.tasks.task_spec import TaskSpec

MAX_BYTES = 4_000_000
"""Maximum size of all golden images together; at least one image is kept."""
MEAN_FACTOR = 1.5
"""Ratio of the accepted mean difference to the largest one that an accepted variant had at export."""
GOLDEN_RATIO = 0.6180339887498949
Chosen = list[tuple[int, str]]
"""Number of each image, and the reason why it was chosen."""


def predicted_values(model: Model, data: bytes) -> Values:
    """Return the prediction for an image file as `comparable_values`.

    Raises:
        Unreadable: see `Model.decode_file`.
    """
    image, spec = model.decode_file(data), model.spec
    prediction = model.predict(image)
    picture = picture_of(prediction, spec) if spec.task == "image" else None
    answer = TASKS[spec.task].record(prediction, spec)
    return comparable_values(answer, spec.task, image.shape[:2], deviations(spec), picture)


def deviations(spec: TaskSpec) -> dict[str, float]:
    """Return the standard deviation of each scalar over the training images."""
    return dict(zip(spec.scalars, spec.deviation, strict=False))


def choose(values: Sequence[Values], has_classes: bool, count: int) -> Chosen:
    """Choose images from their predictions.

    Of each predicted class, the images with the highest and with the lowest probability of that class, then others
    between them; classes take turns until `count` is reached, and at most half of the images are the most confident
    ones. Without classes, images at evenly spaced ranks of the mean of their numbers.

    Args:
        values: prediction of each image.
        has_classes: whether the numbers are the probabilities of classes.
        count: number of images.
    """
    if not has_classes:
        rank_N = np.argsort([np.mean([*one.values(), 0.0]) for one in values], kind="stable")
        at = np.unique(np.linspace(0, len(values) - 1, min(count, len(values))).round().astype(int))
        return [(int(rank_N[i]), f"rank {i + 1} of {len(values)} by its prediction") for i in at]
    classes: dict[str, list[int]] = {}
    for number, one in enumerate(values):
        classes.setdefault(max(one, key=lambda name: one[name]), []).append(number)
    chosen: Chosen = []
    for turn in range(max(map(len, classes.values()))):
        items = []
        for name, members in sorted(classes.items()):
            if turn < len(members):
                rank = _rank(turn, len(members))
                number = sorted(members, key=lambda i: values[i][name], reverse=True)[rank]
                items.append((number, f"rank {rank + 1} of {len(members)} of class {name} by confidence"))
        room = (count + 1) // 2 if turn == 0 else count - len(chosen)
        chosen += _spread(items, room)
    return chosen


def _rank(turn: int, members: int) -> int:
    """Return the rank to choose in a turn: the first, the last, then ranks between them at low discrepancy."""
    if turn < 2:
        return [0, members - 1][turn]
    return sorted(range(1, members - 1), key=lambda rank: rank * GOLDEN_RATIO % 1)[turn - 2]


def _spread(items: Chosen, count: int) -> Chosen:
    """Return at most `count` items at even distances."""
    if not items or count <= 0:
        return []
    return [items[i] for i in np.unique(np.linspace(0, len(items) - 1, min(count, len(items))).astype(int))]


def golden_set(
    file: Path,
    reference: Model,
    models: dict[str, Model],
    shipped: str,
    files: Callable[[], Iterable[bytes]],
    count: int,
) -> GoldenSet:
    """Choose golden images and record the predictions of the float32 file and of the shipped variant.

    Args:
        file: the shipped file.
        reference: the float32 file in ONNX Runtime.
        models: the accepted variants by name, open.
        shipped: name of the shipped variant.
        files: returns the bytes of the candidates.
        count: maximum number of images.
    """
    spec = reference.spec
    all_values = [predicted_values(reference, data) for data in files()]
    chosen = choose(all_values, spec.task in ("classification", "ordinal", "multilabel"), count)
    wanted = dict(chosen)
    data_of = {number: data for number, data in enumerate(files()) if number in wanted}
    kept: Chosen = []
    total = 0
    for number, reason in sorted(chosen, key=lambda one: len(data_of[one[0]])):
        total += len(data_of[number])
        if kept and total > MAX_BYTES:
            break
        kept.append((number, reason))
    kept.sort()
    by_variant = {name: [predicted_values(model, data_of[n]) for n, _ in kept] for name, model in models.items()}
    means = [
        float(np.mean([difference(all_values[n], value) for (n, _), value in zip(kept, found, strict=True)]))
        for found in by_variant.values()
    ]
    images = tuple(
        GoldenImage(f"{i:02d}{_suffix(data_of[n])}", data_of[n], reason, all_values[n], by_variant[shipped][i])
        for i, (n, reason) in enumerate(kept)
    )
    precisions = [name.partition("/")[0] for name in models]
    tolerance = max(PROBE_TOLERANCE[precision] for precision in precisions)
    mean = PROBE_TOLERANCE["float32"] + MEAN_FACTOR * max(means)
    return GoldenSet(compute_digest(file), tolerance, round(mean, 6), deviations(spec), images)


def _suffix(data: bytes) -> str:
    return f".{decode_image(data).format.lower()}"
