"""Score and loss of a network on unaugmented images, computed by all processes of a training together."""

from typing import Any

import numpy as np
import torch
from torch import nn

from stages.dataset.pixel_store import PixelStore
from stages.networks.mask_rcnn import enable_losses
from stages.tasks import TASKS
from stages.training.batch_loader import Batch, load_batch
from stages.training.devices import ProcessGroup
from stages.training.network_inference import predict_store
from stages.training.trainer_state import TrainerState
from stages.training.training_plan import TrainingPlan


def validate(
    plan: TrainingPlan, state: TrainerState, network: nn.Module, store: PixelStore, truths: list[Any]
) -> tuple[float, float]:
    """Return the score and the mean loss over the images of a store, the same in all processes.

    Args:
        plan: plan of the training, which names the score.
        state: state of the running training.
        network: network of `TrainerState.validation_network`.
        store: images, of which each process predicts a part.
        truths: ground truth, one per original image.
    """
    spec, loss, processes, total = plan.data.spec, state.loss, state.processes, 0.0

    def add_loss(raw: Any, batch: Batch) -> None:
        nonlocal total
        assert loss is not None
        total += float(loss(raw.float(), batch.target).sum())

    own = _shard(store, processes) if processes.size > 1 else store
    on_batch = None if loss is None else add_loss
    predictions = predict_store(network, own, spec, plan.train.batch_size, state.device, on_batch) if len(own) else []
    if loss is None and len(own):
        total = _total_box_loss(plan, state, network, own)
    if processes.size > 1:
        shards: list[Any] = [None] * processes.size
        torch.distributed.all_gather_object(shards, (predictions, total))
        predictions = [prediction for shard, _ in shards for prediction in shard]
        total = sum(shard_loss for _, shard_loss in shards)
    score_R = TASKS[spec.task].scores(truths, predictions, np.ones((1, len(truths))), spec)[plan.score]
    return float(score_R[0]), total / len(store)


def _total_box_loss(plan: TrainingPlan, state: TrainerState, network: nn.Module, store: PixelStore) -> float:
    """Return the sum of the loss over the images.

    The candidates that are scored are a random sample, and the losses are means over the sample of a batch: each image
    is a batch with the same random numbers, so that its loss depends on no other image.
    """
    enable_losses(network)
    total = 0.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for row in range(len(store)):
            torch.manual_seed(plan.train.seed)
            batch = load_batch(store, plan.data.spec, np.array([row]), state.device)
            total += float(state.batch_loss(network, batch))
    return total


def _shard(store: PixelStore, processes: ProcessGroup) -> PixelStore:
    """Return the consecutive original images that this process predicts, with all their tiles."""
    rows = [rows_of_original for _, rows_of_original in store.rows_by_original()]
    own = np.array_split(np.arange(len(rows)), processes.size)[processes.rank]
    return store.select(np.concatenate([np.zeros(0, int), *(np.arange(len(store))[rows[i]] for i in own)]))
