"""The training loop: one network, one seed, the best epoch kept."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from stages.frame import UserError
from stages.images.annotations import IGNORE
from stages.images.store import Store
from stages.learning.answers import answers
from stages.learning.batches import Batch, load, step_seed, steps_per_epoch
from stages.learning.devices import fabric_on
from stages.learning.losses import LOSSES, Setting
from stages.learning.optimizers import Rates, optimizer_of, schedule_of
from stages.learning.plan import Plan
from stages.networks import build
from stages.networks.weights import Layer, load_weights, pretrained_parameters
from stages.tasks import TASKS
from stages.tasks.representations import REPRESENTATIONS

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to."""

    epoch: int
    train_loss: float
    """On augmented images, label smoothing included."""
    val_loss: float
    train_score: float
    """Of as many training images as there are validation images, unchanged."""
    val_score: float
    learning_rate: float
    """At the end of the epoch."""
    seconds: float


@dataclass(frozen=True)
class Fit:
    """The outcome of a training."""

    weights: dict[str, torch.Tensor]
    """Of the best epoch, on the CPU."""
    best: Epoch
    """Best val_score; among equals, lowest val_loss."""
    epochs: list[Epoch]
    device: str
    parameters: int
    pretrained: list[Layer]
    """What became of each layer where training began from given weights."""


@dataclass(frozen=True)
class _Machinery:
    """What moves during a training."""

    fabric: Fabric
    model: Any
    rates: Rates
    optimizer: Any
    schedule: Any
    setting: Setting


def fit(plan: Plan, report: Callable[[Epoch], None]) -> Fit:
    """Train a network; `report` hears of every epoch.

    Same plan, same device, same number of threads: same weights.

    Raises:
        UserError: the device is not there, given weights do not fit, or the loss is no longer a number.
    """
    network, layers, machinery = _set_up(plan)
    epochs: list[Epoch] = []
    weights: dict[str, torch.Tensor] = {}
    for epoch in range(1, plan.train.epochs + 1):
        started = time.perf_counter()
        machinery.rates.freeze(epoch <= plan.network.frozen_epochs)
        train_loss = _train_epoch(plan, machinery, epoch)
        val_loss = _validation_loss(plan, machinery)
        given = plan.material
        train_score = _score(plan, machinery, given.train_sample, given.train_truths)
        val_score = _score(plan, machinery, given.val_set, given.val_truths)
        rate, seconds = machinery.schedule.get_last_lr()[-1], time.perf_counter() - started
        epochs.append(Epoch(epoch, train_loss, val_loss, train_score, val_score, rate, seconds))
        if _best(epochs, plan) is epochs[-1]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        report(epochs[-1])
    parameters = sum(tensor.numel() for tensor in network.parameters())
    return Fit(weights, _best(epochs, plan), epochs, str(machinery.fabric.device), parameters, layers)


def _set_up(plan: Plan) -> tuple[nn.Module, list[Layer], _Machinery]:
    torch.manual_seed(plan.train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    fabric = fabric_on(plan.train.device, plan.train.precision)
    network = build(plan.blueprint)
    layers = load_weights(network, plan.blueprint, plan.weights)
    known, new = pretrained_parameters(network, layers)
    rates = Rates(known, new, plan.network.pretrained_rate)
    model, optimizer = fabric.setup(network, optimizer_of(plan.train, rates))
    steps = plan.train.epochs * steps_per_epoch(len(plan.material.train_set), plan.train.batch_size)
    schedule = schedule_of(plan.train, rates, optimizer, steps)
    outline = plan.material.outline
    setting = Setting(outline, _class_weights(plan).to(fabric.device), plan.train.label_smoothing)
    return network, layers, _Machinery(fabric, model, rates, optimizer, schedule, setting)


def _train_epoch(plan: Plan, machinery: _Machinery, epoch: int) -> float:
    """Mean loss over the augmented images."""
    train = plan.train
    machinery.model.train()
    batches = plan.feed.batches(epoch, machinery.fabric.device)
    total = steps_per_epoch(len(plan.material.train_set), train.batch_size)
    losses = []
    for step, batch in enumerate(tqdm(batches, f"epoch {epoch}", total, leave=False, unit="step", disable=None)):
        torch.manual_seed(step_seed(train.seed, epoch, step, 1))  # dropout, and proposals of mask_rcnn
        loss = _loss(plan, machinery, batch)
        machinery.optimizer.zero_grad(set_to_none=True)
        machinery.fabric.backward(loss)
        machinery.optimizer.step()
        machinery.schedule.step()
        losses.append(loss.detach() * len(batch.index_B))
    mean_loss = float(torch.stack(losses).sum() / len(plan.material.train_set))
    if not np.isfinite(mean_loss):
        raise UserError(
            f"epoch {epoch}: the training loss is {mean_loss}; lower train.learning_rate ({train.learning_rate:g}) "
            f"or use train.precision 32-true (now {train.precision})"
        )
    return mean_loss


def _loss(plan: Plan, machinery: _Machinery, batch: Batch) -> torch.Tensor:
    representation = plan.material.outline.representation
    if representation == "boxes":
        parts = machinery.model(batch.image_BCHW, batch.target)
        return torch.stack(list(parts.values())).sum()
    raw = machinery.model(batch.image_BCHW).float()
    return LOSSES[representation][plan.loss](raw, batch.target, machinery.setting)


def _validation_loss(plan: Plan, machinery: _Machinery) -> float:
    """Mean over the validation images, unchanged."""
    store, outline = plan.material.val_set, plan.material.outline
    machinery.model.eval()
    if outline.representation == "boxes":  # the network gives losses in training only: without learning statistics
        machinery.model.train()
        for module in machinery.model.modules():
            if isinstance(module, nn.BatchNorm2d | nn.Dropout):
                module.eval()
    total = 0.0
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        for index_B in np.array_split(np.arange(len(store)), steps_per_epoch(len(store), plan.train.batch_size)):
            batch = load(store, outline, index_B, machinery.fabric.device)
            total += float(_loss(plan, machinery, batch)) * len(index_B)
    return total / len(store)


def _score(plan: Plan, machinery: _Machinery, store: Store, truths: list[Any]) -> float:
    outline, one = plan.material.outline, np.ones((1, len(truths)))
    given = answers(machinery.model, store, outline, plan.train.batch_size, machinery.fabric.device)
    return float(TASKS[outline.task].scores(truths, given, one, outline)[plan.score][0])


def _best(epochs: list[Epoch], plan: Plan) -> Epoch:
    sign = 1 if TASKS[plan.material.outline.task].SCORES[plan.score].better == "higher" else -1

    def order(epoch: Epoch) -> tuple[float, float]:  # an undefined score is worse than any
        return (sign * epoch.val_score if math.isfinite(epoch.val_score) else -math.inf, -epoch.val_loss)

    return max(epochs, key=order)


def _class_weights(plan: Plan) -> torch.Tensor:
    """[K]; `balanced`: inverse to the class's share, so that the mean over what is learned from is 1."""
    outline, target = plan.material.outline, plan.material.train_set.target
    classes = max(1, len(outline.labels))
    if plan.train.class_weights != "balanced":
        return torch.ones(classes)
    match REPRESENTATIONS[outline.representation].stores:
        case "index" | "labels":
            index = np.asarray(target).ravel()
            counts_K = np.bincount(index[index != IGNORE], minlength=classes)
            return torch.tensor(counts_K.sum() / (classes * np.maximum(counts_K, 1)), dtype=torch.float32)
        case "vector" if outline.task == "multilabel":  # how much rarer presence is than absence
            there_K = np.asarray(target, np.float64).mean(axis=0)
            return torch.tensor((1 - there_K) / np.maximum(there_K, 1 / len(np.asarray(target))), dtype=torch.float32)
        case _:
            raise UserError(f"train.class_weights: balanced needs classes, which task {outline.task} does not learn")
