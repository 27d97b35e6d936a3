"""Run a torch network on prepared images and return predictions at the size of the original images."""

from collections.abc import Callable, Iterator
from itertools import groupby
from typing import Any

import numpy as np
import torch

from stages.dataset.pixel_store import PixelStore
from stages.networks.heads import HEADS, OUTPUTS
from stages.networks.mask_rcnn_export import at_original_size
from stages.tasks.postprocessing import decode, stitched
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Batch, unaugmented_batches

Array = np.ndarray[Any, Any]
Outputs = dict[str, Array]
"""Outputs of the ONNX graph by name, for one image; for boxes also `size`, its height and width in pixels."""
OnBatch = Callable[[Any, Batch], None]
"""Callback that receives the raw outputs of each batch, and the batch."""


def predict_store(
    model: Any,
    store: PixelStore,
    spec: TaskSpec,
    batch_size: int,
    device: torch.device,
    on_batch: OnBatch | None = None,
) -> list[Any]:
    """Return the prediction for every original image of a store, in order.

    Args:
        model: network on `device`; it is put into evaluation mode.
        store: prepared images.
        spec: the task.
        batch_size: largest size of a batch.
        device: where the network computes.
        on_batch: called with the raw outputs of each batch, and the batch.
    """
    return [decode(outputs, spec) for outputs in graph_outputs(model, store, spec, batch_size, device, on_batch)]


def graph_outputs(
    model: Any,
    store: PixelStore,
    spec: TaskSpec,
    batch_size: int,
    device: torch.device,
    on_batch: OnBatch | None = None,
) -> Iterator[Outputs]:
    """Yield for every original image what the exported ONNX graph would output, computed by torch.

    Outputs for the tiles of an image are stitched.

    Args:
        model: network on `device`; it is put into evaluation mode.
        store: prepared images.
        spec: the task.
        batch_size: largest size of a batch.
        device: where the network computes.
        on_batch: called with the raw outputs of each batch, and the batch.
    """
    model.eval()
    by_row = _outputs_by_row(model, store, spec, unaugmented_batches(store, spec, batch_size, device), on_batch)
    if spec.fit != "tile":
        yield from by_row
        return
    placements = store.placements()
    for _, rows in store.rows_by_original():
        yield stitched([next(by_row) for _ in placements[rows]], placements[rows])


def _outputs_by_row(
    model: Any, store: PixelStore, spec: TaskSpec, batches: Iterator[Batch], on_batch: OnBatch | None
) -> Iterator[Outputs]:
    sizes = store.rows[["height", "width"]].to_numpy()
    finish = _finish_boxes if spec.representation == "boxes" else _finish_head
    with torch.inference_mode():
        for batch in batches:
            raw = model(batch.image_BCHW)
            if on_batch is not None:
                on_batch(raw, batch)
            for (height, width), members in groupby(enumerate(batch.index_B), key=lambda m: tuple(sizes[m[1]])):
                position = [i for i, _ in members]
                yield from finish(raw[position[0] : position[-1] + 1], int(height), int(width), spec)


def _finish_boxes(raw: Any, height: int, width: int, spec: TaskSpec) -> Iterator[Outputs]:
    """Yield the graph outputs of a detector for images whose originals have the same size."""
    for found in raw:
        outputs = at_original_size(found, height, width, spec.size)
        arrays = {name: values.cpu().numpy() for name, values in outputs.items()}
        yield arrays | {"size": np.array([height, width])}


def _finish_head(raw: Any, height: int, width: int, spec: TaskSpec) -> Iterator[Outputs]:
    """Yield the graph outputs of a head for images whose originals have the same size."""
    values = HEADS[spec.representation](raw.float(), height, width, spec).cpu().numpy()
    yield from ({OUTPUTS[spec.representation]: one} for one in values)
