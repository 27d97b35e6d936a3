"""From a network and prepared images to answers at the size of the originals."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import torch

from stages.dataset.pixel_store import Store
from stages.networks.heads import HEADS, OUTPUTS
from stages.networks.mask_rcnn_export import at_original_size
from stages.tasks.postprocessing import decode, stitched
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Batch, plain_batches

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]


Seen = Callable[[Any, Batch], None]


def answers(
    model: Any, store: Store, spec: TaskSpec, batch_size: int, device: torch.device, seen: Seen | None = None
) -> list[Any]:
    """The answer to every original image of a store, in order; `seen` gets raw outputs with their batch."""
    return [decode(outputs, spec) for outputs in outputs_of(model, store, spec, batch_size, device, seen)]


def outputs_of(
    model: Any, store: Store, spec: TaskSpec, batch_size: int, device: torch.device, seen: Seen | None = None
) -> Iterator[Outputs]:
    """What the ONNX graph would give for every original image, by torch."""
    model.eval()
    singly = _by_working_image(model, store, spec, batch_size, device, seen)
    if spec.fit != "tile":
        yield from singly
        return
    frames = store.frames()
    for _, rows in store.originals():
        yield stitched([next(singly) for _ in frames[rows]], frames[rows])


def _by_working_image(
    model: Any, store: Store, spec: TaskSpec, batch_size: int, device: torch.device, seen: Seen | None
) -> Iterator[Outputs]:
    sizes = store.rows[["height", "width"]].to_numpy()
    finish = _finisher(spec)
    with torch.inference_mode():
        for batch in plain_batches(store, spec, batch_size, device):
            raw = model(batch.image_BCHW)
            if seen is not None:
                seen(raw, batch)
            for (height, width), members in groupby(enumerate(batch.index_B), key=lambda m: tuple(sizes[m[1]])):
                place = [i for i, _ in members]
                yield from finish(raw, slice(place[0], place[-1] + 1), int(height), int(width))


def _finisher(spec: TaskSpec) -> Callable[[Any, slice, int, int], Iterator[Outputs]]:
    """What makes outputs of raw ones, for neighbours in a batch whose originals have one size."""

    def boxes(raw: Any, place: slice, height: int, width: int) -> Iterator[Outputs]:
        for found in raw[place]:
            outputs = at_original_size(found, height, width, spec.size)
            arrays = {name: values.cpu().numpy() for name, values in outputs.items()}
            yield arrays | {"size": np.array([height, width])}

    def others(raw: Any, place: slice, height: int, width: int) -> Iterator[Outputs]:
        values = HEADS[spec.representation](raw[place].float(), height, width, spec).cpu().numpy()
        yield from ({OUTPUTS[spec.representation]: one} for one in values)

    return boxes if spec.representation == "boxes" else others
