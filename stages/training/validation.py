"""How good a network is on images that do not change, shared out among the processes of a training."""

from typing import Any

import numpy as np
import torch
from torch import nn

from stages.dataset.pixel_store import Store
from stages.tasks import TASKS
from stages.training.batch_loader import Batch, plain_batches
from stages.training.devices import Crew
from stages.training.network_inference import answers
from stages.training.trainer_state import Training
from stages.training.training_plan import Plan


def judge(plan: Plan, training: Training, network: nn.Module, store: Store, truths: list[Any]) -> tuple[float, float]:
    """`task.score` and the mean loss over the images of a store; every process answers some, all know both."""
    spec, crew, total = plan.material.spec, training.crew, 0.0

    def add(raw: Any, batch: Batch) -> None:
        nonlocal total
        total += float(training.loss(raw.float(), batch.target, training.setting)) * len(batch.index_B)

    mine, boxes = _shard(store, crew) if crew.size > 1 else store, training.loss is None
    seen = None if boxes else add
    given = answers(network, mine, spec, plan.train.batch_size, training.device, seen) if len(mine) else []
    if boxes and len(mine):
        total = _loss_of_boxes(plan, training, network, mine)
    if crew.size > 1:
        shards: list[Any] = [None] * crew.size
        torch.distributed.all_gather_object(shards, (given, total))
        given, total = [answer for shard, _ in shards for answer in shard], sum(loss for _, loss in shards)
    score_R = TASKS[spec.task].scores(truths, given, np.ones((1, len(truths))), spec)[plan.score]
    return float(score_R[0]), total / len(store)


def _loss_of_boxes(plan: Plan, training: Training, network: nn.Module, store: Store) -> float:
    """The sum over images. The network gives losses in training only: it must not learn statistics meanwhile."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.Dropout):
            module.eval()
    total = 0.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        for batch in plain_batches(store, plan.material.spec, plan.train.batch_size, training.device):
            total += float(training.loss_of(network, batch)) * len(batch.index_B)
    return total


def _shard(store: Store, crew: Crew) -> Store:
    """Neighbouring originals, whole; of all shards each original is in one."""
    rows = [place for _, place in store.originals()]
    mine = np.array_split(np.arange(len(rows)), crew.size)[crew.rank]
    return store.some(np.concatenate([np.zeros(0, int), *(np.arange(len(store))[rows[i]] for i in mine)]))
