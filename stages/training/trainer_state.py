"""What moves during a training, set up from a plan."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.core.errors import UserError
from stages.dataset.annotations import IGNORE
from stages.networks import build
from stages.networks.weight_loading import Layer, load_weights, pretrained_parameters
from stages.tasks.representations import REPRESENTATIONS
from stages.training.batch_loader import Batch, Feed, resident
from stages.training.devices import Crew, crew_on, fabric_on, processes
from stages.training.ema import Average
from stages.training.losses import LOSSES, Setting
from stages.training.optimizers import Rates, optimizer_of
from stages.training.precision import in_full_where_small
from stages.training.training_plan import Plan

LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Training:
    """What moves during a training."""

    fabric: Fabric
    crew: Crew
    network: nn.Module
    model: Any
    """The network as it learns: compiled and shared among processes, where params say so."""
    rates: Rates
    optimizer: Any
    average: Average
    feed: Feed
    loss: Any
    """Of raw outputs and targets."""
    setting: Setting
    layout: torch.memory_format
    layers: list[Layer]
    """What became of each layer where training began from given weights."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.fabric.device

    def loss_of(self, model: Any, batch: Batch) -> torch.Tensor:
        """The mean over a batch."""
        image_BCHW = batch.image_BCHW.contiguous(memory_format=self.layout)
        if self.loss is None:  # the network holds its answers against the truth itself
            return torch.stack(list(model(image_BCHW, batch.target).values())).sum()
        return self.loss(model(image_BCHW).float(), batch.target, self.setting)

    @contextmanager
    def judged(self) -> Iterator[nn.Module]:
        """The network that is judged and kept: with averaged weights, where they are; the same in all processes."""
        with self.average.in_place(self.network), self.fabric.autocast():
            if self.crew.size > 1:
                for buffer in self.network.buffers():
                    torch.distributed.broadcast(buffer, 0)
            yield self.network

    def state(self) -> dict[str, Any]:
        """All that moves: weights, optimizer, average."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {"weights": self.average.weights, "updates": self.average.updates},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.updates = state["average"]["updates"]
        for name, one in state["average"]["weights"].items():
            self.average.weights[name].copy_(one)


def launched(plan: Plan) -> Fabric:
    """The devices of a plan; where there are several processes, all of them run from here on.

    Raises:
        UserError: the device is not there.
    """
    train = plan.train
    if processes(train.devices) == 1:
        return fabric_on(train.device, train.precision)
    fabric = crew_on(train.device, train.precision, train.devices, frozen=plan.network.frozen_epochs > 0)
    fabric.launch()
    return fabric


def set_up(plan: Plan, fabric: Fabric) -> Training:
    """Build the network with its weights, the optimizer and all that goes with them; nothing in params is `auto` still.

    Raises:
        UserError: given weights or weighted classes do not fit, or there are too few images for such steps.
    """
    train = plan.train
    assert not isinstance(train.learning_rate, str), "resolved before"
    torch.manual_seed(train.seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it costs, and shows bugs only
    crew = Crew(fabric.world_size, fabric.global_rank)
    network = build(plan.network_config)
    layers = load_weights(network, plan.network_config, plan.weights)
    if crew.size > 1 and fabric.device.type == "cuda":
        network = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    if train.precision != "32-true" and fabric.device.type == "cpu":
        in_full_where_small(network)
    layout = LAYOUTS[train.layout]
    network.to(memory_format=layout)
    rates = Rates(*pretrained_parameters(network, layers), plan.network.pretrained_rate)
    model: Any = torch.compile(network) if train.compile == "yes" else network
    model, optimizer = fabric.setup(model, optimizer_of(train, rates, train.learning_rate))
    spec = plan.material.spec
    setting = Setting(spec, _class_weights(plan).to(fabric.device), train.label_smoothing)
    loss = None if spec.representation == "boxes" else LOSSES[spec.representation][plan.loss]
    feed = _feed(plan, crew, fabric.device)
    average = Average(network, train.average)
    return Training(fabric, crew, network, model, rates, optimizer, average, feed, loss, setting, layout, layers)


def _feed(plan: Plan, crew: Crew, device: torch.device) -> Feed:
    train, images = plan.train, len(plan.material.train_set)
    pieces = train.accumulate * crew.size
    if images < 2 * pieces:
        raise UserError(
            f"train: {train.accumulate} batches a step on {crew.size} devices need at least {2 * pieces} training "
            f"images, of which there are {images}; lower train.accumulate or train.devices"
        )
    store = resident(plan.feed.store, device) if train.resident == "yes" else plan.feed.store
    return replace(plan.feed, store=store, pieces=pieces)


def _class_weights(plan: Plan) -> torch.Tensor:
    """[K]; `balanced`: inverse to the class's share, so that the mean over what is learned from is 1."""
    spec, target = plan.material.spec, plan.material.train_set.target
    classes = max(1, len(spec.labels))
    if plan.train.class_weights != "balanced":
        return torch.ones(classes)
    match REPRESENTATIONS[spec.representation].stores:
        case "index" | "labels":
            index = np.asarray(target).ravel()
            counts_K = np.bincount(index[index != IGNORE], minlength=classes)
            return torch.tensor(counts_K.sum() / (classes * np.maximum(counts_K, 1)), dtype=torch.float32)
        case "vector" if spec.task == "multilabel":  # how much rarer presence is than absence
            there_K = np.asarray(target, np.float64).mean(axis=0)
            return torch.tensor((1 - there_K) / np.maximum(there_K, 1 / len(np.asarray(target))), dtype=torch.float32)
        case _:
            raise UserError(f"train.class_weights: balanced needs classes, which task {spec.task} does not learn")
