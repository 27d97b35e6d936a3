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

from stages.augmentations import Policy
from stages.frame import UserError
from stages.frame.sections import Train
from stages.images.store import Store
from stages.learning.batches import step_seed, steps_per_epoch, training_batches, validation_batches
from stages.learning.checkpoints import Recipe
from stages.learning.devices import fabric_on
from stages.tasks import TASKS


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to. Losses are mean cross-entropies in nats."""

    epoch: int
    train_loss: float
    val_loss: float
    train_score: float
    val_score: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Fit:
    """The outcome of a training."""

    weights: dict[str, torch.Tensor]
    """Of the best epoch, on the CPU."""
    best: Epoch
    epochs: list[Epoch]
    device: str


@dataclass(frozen=True)
class Goal:
    """What is learned, and the score by which the best epoch is chosen."""

    task: str
    score: str


def fit(
    recipe: Recipe, train_set: Store, val_set: Store, policy: Policy, train: Train, goal: Goal, report: Callable[[Epoch], None]
) -> Fit:
    """Train a network from random weights; `report` hears of every epoch and may stop the training by raising.

    Raises:
        UserError: the loss is no longer a number.
    """
    torch.manual_seed(train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    fabric = fabric_on(train.device, train.precision)
    network = recipe.build()
    steps = train.epochs * steps_per_epoch(len(train_set), train.batch_size)
    model, optimizer = fabric.setup(network, _optimizer(network, train))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, train.learning_rate, total_steps=max(steps, 2))
    weight_K = _class_weights(train_set, train).to(fabric.device)
    epochs: list[Epoch] = []
    weights: dict[str, torch.Tensor] = {}
    for epoch in range(1, train.epochs + 1):
        started = time.perf_counter()
        rate = schedule.get_last_lr()[0]
        train_loss, train_score = _train_epoch(fabric, model, optimizer, schedule, train_set, policy, train, goal, weight_K, epoch)
        val_loss, val_score = _validate(model, val_set, train, goal, fabric.device)
        seconds = time.perf_counter() - started
        epochs.append(Epoch(epoch, train_loss, val_loss, train_score, val_score, rate, seconds))
        if _best(epochs) is epochs[-1]:
            weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        report(epochs[-1])
    return Fit(weights, _best(epochs), epochs, str(fabric.device))


def predict(model: nn.Module, store: Store, batch_size: int, device: torch.device) -> np.ndarray[Any, Any]:
    """Probabilities [N, K] of all images of a store, in order."""
    model.eval()
    with torch.inference_mode():
        batches = validation_batches(store, batch_size, device)
        return torch.cat([model(image_BCHW).float().softmax(dim=1).cpu() for image_BCHW, _ in batches]).numpy()


def _best(epochs: list[Epoch]) -> Epoch:
    return max(epochs, key=lambda e: (e.val_score, -e.val_loss))


def _train_epoch(
    fabric: Fabric, model: Any, optimizer: Any, schedule: Any, store: Store, policy: Policy, train: Train, goal: Goal,
    weight_K: torch.Tensor, epoch: int,
) -> tuple[float, float]:  # fmt: skip
    model.train()
    losses, probabilities, labels = [], [], []
    batches = training_batches(store, train.batch_size, policy, train.seed, epoch, fabric.device)
    total = steps_per_epoch(len(store), train.batch_size)
    for step, (image_BCHW, label_B) in enumerate(tqdm(batches, f"epoch {epoch}", total, leave=False, unit="step", disable=None)):
        torch.manual_seed(step_seed(train.seed, epoch, step, 1))  # dropout
        logit_BK = model(image_BCHW)
        loss = functional.cross_entropy(logit_BK, label_B, weight_K, label_smoothing=train.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        optimizer.step()
        schedule.step()
        losses.append(loss.detach() * len(label_B))
        probabilities.append(logit_BK.detach().float().softmax(dim=1))
        labels.append(label_B)
    mean_loss = float(torch.stack(losses).sum() / len(store))
    if not np.isfinite(mean_loss):
        raise UserError(
            f"epoch {epoch}: the training loss is {mean_loss}; lower train.learning_rate ({train.learning_rate:g}) "
            f"or use train.precision 32-true ({train.precision})"
        )
    probability_NK, label_N = torch.cat(probabilities).cpu().numpy(), torch.cat(labels).cpu().numpy()
    return mean_loss, TASKS[goal.task].score(goal.score, label_N, probability_NK)


def _validate(model: nn.Module, store: Store, train: Train, goal: Goal, device: torch.device) -> tuple[float, float]:
    probability_NK = predict(model, store, train.batch_size, device)
    true_N = probability_NK[np.arange(len(store)), store.label_N]
    loss = float(-np.log(np.maximum(true_N, np.finfo(np.float32).tiny)).mean())
    return loss, TASKS[goal.task].score(goal.score, store.label_N, probability_NK)


def _optimizer(network: nn.Module, train: Train) -> torch.optim.Optimizer:
    match train.optimizer:
        case "adamw":
            return torch.optim.AdamW(network.parameters(), train.learning_rate, weight_decay=train.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                network.parameters(), train.learning_rate, momentum=0.9, nesterov=True, weight_decay=train.weight_decay
            )


def _class_weights(store: Store, train: Train) -> torch.Tensor:
    """[K], mean 1 over the images."""
    counts_K = np.bincount(store.label_N, minlength=len(store.labels))
    if train.class_weights == "none":
        return torch.ones(len(counts_K))
    return torch.tensor(len(store) / (len(counts_K) * np.maximum(counts_K, 1)), dtype=torch.float32)
