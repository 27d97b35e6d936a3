"""The training loop: one network, one seed, the best epoch kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn import functional
from tqdm import tqdm

from stages.frame import UserError
from stages.frame.sections import Train
from stages.images.store import Store
from stages.learning.batches import step_seed, steps_per_epoch, training_batches, validation_batches
from stages.learning.devices import fabric_on
from stages.learning.plan import Plan
from stages.tasks import TASKS


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to. Losses are mean cross-entropies in nats."""

    epoch: int
    train_loss: float
    """On augmented images, label smoothing included."""
    val_loss: float
    train_score: float
    """On augmented images, as the network changed from step to step."""
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
    """Highest val_score; among equals, lowest val_loss."""
    epochs: list[Epoch]
    device: str


@dataclass(frozen=True)
class _Machinery:
    """What moves during a training."""

    fabric: Fabric
    model: Any
    optimizer: Any
    schedule: Any
    weight_K: torch.Tensor


def fit(plan: Plan, report: Callable[[Epoch], None]) -> Fit:
    """Train a network from random weights; `report` hears of every epoch.

    Same plan, same device, same number of threads: same weights.

    Raises:
        UserError: the device is not there, or the loss is no longer a number.
    """
    network, machinery = _set_up(plan)
    epochs: list[Epoch] = []
    weights: dict[str, torch.Tensor] = {}
    for epoch in range(1, plan.train.epochs + 1):
        started = time.perf_counter()
        train_loss, train_score = _train_epoch(plan, machinery, epoch)
        val_loss, val_score = _validate(plan, machinery)
        rate, seconds = machinery.schedule.get_last_lr()[0], time.perf_counter() - started
        epochs.append(Epoch(epoch, train_loss, val_loss, train_score, val_score, rate, seconds))
        if _best(epochs) is epochs[-1]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        report(epochs[-1])
    return Fit(weights, _best(epochs), epochs, str(machinery.fabric.device))


def predict(model: nn.Module, store: Store, batch_size: int, device: torch.device) -> np.ndarray[Any, Any]:
    """Probabilities [N, K] of all images of a store, in order."""
    model.eval()
    with torch.inference_mode():
        batches = validation_batches(store, batch_size, device)
        return torch.cat([model(image_BCHW).float().softmax(dim=1).cpu() for image_BCHW, _ in batches]).numpy()


def _set_up(plan: Plan) -> tuple[nn.Module, _Machinery]:
    torch.manual_seed(plan.train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    fabric = fabric_on(plan.train.device, plan.train.precision)
    network = plan.recipe.build()
    model, optimizer = fabric.setup(network, _optimizer(network, plan.train))
    steps = plan.train.epochs * steps_per_epoch(len(plan.train_set), plan.train.batch_size)
    peak = plan.train.learning_rate
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=steps + 1, cycle_momentum=False)
    return network, _Machinery(fabric, model, optimizer, schedule, _class_weights(plan).to(fabric.device))


def _train_epoch(plan: Plan, machinery: _Machinery, epoch: int) -> tuple[float, float]:
    """Mean loss and score over the augmented images."""
    train, store = plan.train, plan.train_set
    machinery.model.train()
    batches = training_batches(store, train.batch_size, plan.policy, train.seed, epoch, machinery.fabric.device)
    total = steps_per_epoch(len(store), train.batch_size)
    losses, probabilities, labels = [], [], []
    for step, (image_BCHW, label_B) in enumerate(
        tqdm(batches, f"epoch {epoch}", total, leave=False, unit="step", disable=None)
    ):
        torch.manual_seed(step_seed(train.seed, epoch, step, 1))  # dropout
        logit_BK = machinery.model(image_BCHW)
        loss = functional.cross_entropy(logit_BK, label_B, machinery.weight_K, label_smoothing=train.label_smoothing)
        machinery.optimizer.zero_grad(set_to_none=True)
        machinery.fabric.backward(loss)
        machinery.optimizer.step()
        machinery.schedule.step()
        losses.append(loss.detach() * len(label_B))
        probabilities.append(logit_BK.detach().float().softmax(dim=1))
        labels.append(label_B)
    mean_loss = float(torch.stack(losses).sum() / len(store))
    if not np.isfinite(mean_loss):
        raise UserError(
            f"epoch {epoch}: the training loss is {mean_loss}; lower train.learning_rate ({train.learning_rate:g}) "
            f"or use train.precision 32-true (now {train.precision})"
        )
    return mean_loss, _score(plan, torch.cat(labels).cpu().numpy(), torch.cat(probabilities).cpu().numpy())


def _validate(plan: Plan, machinery: _Machinery) -> tuple[float, float]:
    store = plan.val_set
    probability_NK = predict(machinery.model, store, plan.train.batch_size, machinery.fabric.device)
    true_N = probability_NK[np.arange(len(store)), store.label_N]
    loss = float(-np.log(np.maximum(true_N, np.finfo(np.float32).tiny)).mean())
    return loss, _score(plan, store.label_N, probability_NK)


def _score(plan: Plan, label_N: np.ndarray[Any, Any], probability_NK: np.ndarray[Any, Any]) -> float:
    return TASKS[plan.task.name].score(plan.task.score, label_N, probability_NK)


def _best(epochs: list[Epoch]) -> Epoch:
    return max(epochs, key=lambda e: (e.val_score, -e.val_loss))


def _optimizer(network: nn.Module, train: Train) -> torch.optim.Optimizer:
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(network.parameters(), train.learning_rate, weight_decay=train.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                network.parameters(), train.learning_rate, momentum=0.9, nesterov=True, weight_decay=train.weight_decay
            )


def _class_weights(plan: Plan) -> torch.Tensor:
    """[K]; `balanced`: inverse to the class's share, so that the mean over the images is 1."""
    counts_K = np.bincount(plan.train_set.label_N, minlength=plan.recipe.classes)
    if plan.train.class_weights == "none":
        return torch.ones(len(counts_K))
    return torch.tensor(len(plan.train_set) / (len(counts_K) * np.maximum(counts_K, 1)), dtype=torch.float32)
