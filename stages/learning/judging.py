"""How good a network is on images that do not change, shared out among the processes of a training."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import nn

from stages.images.store import Store
from stages.learning.answers import answers
from stages.learning.batches import load, steps_per_epoch
from stages.learning.devices import Crew
from stages.learning.plan import Plan
from stages.learning.training import Training
from stages.tasks import TASKS


def validation_loss(plan: Plan, training: Training, network: nn.Module) -> float:
    """Mean over the validation images, unchanged."""
    store, crew = plan.material.val_set, training.crew
    network.eval()
    if training.loss is None:  # the network gives losses in training only: without learning statistics
        network.train()
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Dropout):
                module.eval()
    total = 0.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        batches = np.array_split(np.arange(len(store)), steps_per_epoch(len(store), plan.train.batch_size))
        for index_B in batches[crew.rank :: crew.size]:
            batch = load(store, plan.material.outline, index_B, training.device)
            total += float(training.loss_of(network, batch)) * len(index_B)
    if crew.size > 1:
        total = float(training.fabric.all_reduce(torch.tensor(total, dtype=torch.float64), reduce_op="sum"))  # type: ignore[arg-type]
    return total / len(store)


def score(plan: Plan, training: Training, network: nn.Module, store: Store, truths: list[Any]) -> float:
    """`task.score` over the images of a store; every process answers some, all know the score."""
    outline, crew = plan.material.outline, training.crew
    mine = _shard(store, crew) if crew.size > 1 else store
    given = answers(network, mine, outline, plan.train.batch_size, training.device) if len(mine) else []
    if crew.size > 1:
        shards: list[list[Any]] = [[] for _ in range(crew.size)]
        torch.distributed.all_gather_object(shards, given)
        given = [answer for shard in shards for answer in shard]
    one = np.ones((1, len(truths)))
    return float(TASKS[outline.task].scores(truths, given, one, outline)[plan.score][0])


def _shard(store: Store, crew: Crew) -> Store:
    """Neighbouring originals, whole; of all shards each original is in one."""
    rows = [place for _, place in store.originals()]
    mine = np.array_split(np.arange(len(rows)), crew.size)[crew.rank]
    index_B = np.concatenate([np.zeros(0, int), *(np.arange(len(store))[rows[i]] for i in mine)])
    return replace(store, image_NHWC=store.image_NHWC[index_B], rows=store.rows.iloc[index_B].reset_index(drop=True))
