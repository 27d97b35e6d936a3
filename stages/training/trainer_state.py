"""Objects that a training changes: network, optimizer, weight average and data, built from a plan."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn

from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.core.shapes import Float
from stages.networks import build
from stages.networks.surgery import Network
from stages.networks.weight_loading import Layer, load_weights, pretrained_parameters
from stages.training.batch_loader import Batch, BatchLoader, resident_on
from stages.training.class_weights import class_weights
from stages.training.devices import ProcessGroup, multi_process_fabric, process_count, single_process_fabric
from stages.training.ema import WeightAverage
from stages.training.gradient_checkpointing import checkpoint_blocks
from stages.training.linear_head import initialize_last_layer
from stages.training.loss_context import Loss, LossContext
from stages.training.losses import LOSSES
from stages.training.optimizers import ParameterGroups, build_optimizer, parameters_without_decay
from stages.training.precision import compute_small_maps_in_float32
from stages.training.training_plan import TrainingPlan

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
DETERMINISTIC_WORKSPACES = (":4096:8", ":16:8")
LAYOUTS = {"channels_first": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class TrainerState:
    """Network, optimizer, weight average and data of a running training."""

    fabric: Fabric
    processes: ProcessGroup
    network: nn.Module
    model: Any
    """The network as it is trained: compiled, and wrapped for several processes, if the plan requires this."""
    parameter_groups: ParameterGroups
    optimizer: Any
    average: WeightAverage
    loader: BatchLoader
    loss: Loss | None
    """Loss of raw outputs and targets; None where the network computes its own losses (boxes)."""
    memory_format: torch.memory_format
    layers: list[Layer]
    """Outcome of loading each weight array; empty without pretrained weights."""
    frozen_norms: bool
    """Whether pretrained batch normalizations keep their running statistics in all epochs."""

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return self.fabric.device

    def start_training(self, frozen: bool) -> None:
        """Select training mode; pretrained weights and running statistics do not change while they are frozen.

        A batch normalization in training mode updates its running statistics even if its weights are frozen.

        Args:
            frozen: whether pretrained layers are frozen.
        """
        self.parameter_groups.freeze_pretrained(frozen)
        self.model.train()
        if frozen or self.frozen_norms:
            known = {id(weights) for weights in self.parameter_groups.pretrained}
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(module.weight) in known:
                    module.eval()

    def batch_loss(self, model: Any, batch: Batch) -> Float[torch.Tensor, ""]:
        """Return the mean loss of a model over a batch; for boxes, the sum of the losses that the network computes."""
        image_BCHW = batch.image_BCHW.contiguous(memory_format=self.memory_format)
        if self.loss is None:
            return torch.stack(list(model(image_BCHW, batch.target).values())).sum()
        return self.loss(model(image_BCHW).float(), batch.target).mean()

    @contextmanager
    def validation_network(self) -> Iterator[nn.Module]:
        """Yield the network with averaged weights, if the plan has them, and with equal buffers in all processes.

        Autocast is enabled in the block if the precision of the plan requires it.
        """
        with self.average.applied_to(self.network), self.fabric.autocast():
            if self.processes.size > 1:
                for buffer in self.network.buffers():
                    torch.distributed.broadcast(buffer, 0)
            yield self.network

    def state_dict(self) -> dict[str, Any]:
        """Return the state of network, optimizer, weight average and loss scale."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": {"weights": self.average.weights, "updates": self.average.updates},
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, which is copied: later steps leave `state` unchanged."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # torch would keep and update its tensors
        self.fabric.strategy.precision.load_state_dict(state["precision"])
        self.average.updates = state["average"]["updates"]
        for name, values in state["average"]["weights"].items():
            self.average.weights[name].copy_(values)


def launch(plan: TrainingPlan) -> Fabric:
    """Set up the devices of a plan, and start the other processes if it requires several; each of them returns.

    Raises:
        UserError: the device is not available.
    """
    train = plan.train
    if process_count(train.devices) == 1:
        return single_process_fabric(train.device, train.precision)
    fabric = multi_process_fabric(
        train.device, train.precision, train.devices, unused_parameters=plan.network.frozen_epochs > 0
    )
    fabric.launch()
    return fabric


def build_state(plan: TrainingPlan, fabric: Fabric) -> TrainerState:
    """Build the network with its initial weights, the optimizer and the data loader of a plan without `auto`.

    It also seeds torch by `train.seed` and selects deterministic algorithms for the whole process.

    Raises:
        UserError: the network or the optimizer cannot be built, the network does not accept images of
            `train.early_size`, pretrained weights do not suit the network, class weights do not suit the task, or there
            are too few images.
    """
    train = plan.train
    assert not isinstance(train.learning_rate, str), "resolve_auto replaces auto"
    _make_deterministic(train.seed)
    processes = ProcessGroup(fabric.world_size, fabric.global_rank)
    synchronized = processes.size > 1 and fabric.device.type == "cuda"
    network = build(plan.network_config, synchronized)
    if train.early_epochs:
        _check_early_size(network, plan)
    layers = load_weights(network, plan.network_config, plan.weights)
    _normalize(network, plan)
    if train.precision != "32-true" and fabric.device.type == "cpu":
        compute_small_maps_in_float32(network)
    if train.gradient_checkpointing:
        checkpoint_blocks(network, plan.network_config.name)
    network.to(memory_format=LAYOUTS[train.memory_format])
    groups = ParameterGroups(
        *pretrained_parameters(network, layers),
        pretrained_lr_factor=plan.network.pretrained_lr_factor,
        first_layer_lr_factor=plan.network.first_layer_lr_factor,
        new_lr_factor=plan.network.pretrained_lr_factor if plan.network.head == "linear" else 1.0,
        without_decay=parameters_without_decay(network) if train.weight_decay_on == "weights" else frozenset(),
    )
    model: Any = torch.compile(network) if train.compile == "yes" else network
    optimizer = build_optimizer(
        train.optimizer,
        groups.with_rate(train.learning_rate),
        train.momentum,
        train.weight_decay,
        scaled=train.precision == "16-mixed",
    )
    model, optimizer = fabric.setup(model, optimizer)
    if plan.network.head == "linear":
        initialize_last_layer(network, plan.data, fabric.device)
    return TrainerState(
        fabric=fabric,
        processes=processes,
        network=network,
        model=model,
        parameter_groups=groups,
        optimizer=optimizer,
        average=WeightAverage(network, train.ema_decay),
        loader=_loader(plan, processes, fabric.device),
        loss=_loss(plan, fabric.device),
        memory_format=LAYOUTS[train.memory_format],
        layers=layers,
        frozen_norms=plan.network.pretrained_norms == "frozen",
    )


def _normalize(network: Network, plan: TrainingPlan) -> None:
    """Set the normalization of the pixels in a network, unless it is that of the pretrained weights."""
    channels = plan.network_config.channels
    if plan.network.normalize == "data":
        network.normalize(*plan.data.channel_statistics)
    elif plan.network.normalize == "none":
        network.normalize([0.0] * channels, [1.0] * channels)


def _check_early_size(network: nn.Module, plan: TrainingPlan) -> None:
    """Check that a network accepts images of `train.early_size`, by one prediction.

    Raises:
        UserError: the size of the images is fixed, as in most networks of patches.
    """
    size, config = plan.train.early_size, plan.network_config
    network.eval()
    try:
        with torch.no_grad():
            network(torch.zeros((1, config.channels, size, size)))
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"train.early_size: {size}: {config.name} does not accept images of {size} pixels if it is built for "
            f"prepare.size: {config.size} ({error}); set train.early_size and train.early_epochs to 0, or choose a "
            "convolutional network"
        ) from error


def _make_deterministic(seed: int) -> None:
    """Seed torch and select deterministic algorithms; torch warns where it has none for an operation.

    cuBLAS is deterministic only with a workspace of fixed size, which is set before its first use (NVIDIA, "cuBLAS",
    section "Results reproducibility"); torch reads the setting on every call.
    """
    if os.environ.get(CUBLAS_WORKSPACE) not in DETERMINISTIC_WORKSPACES:
        os.environ[CUBLAS_WORKSPACE] = DETERMINISTIC_WORKSPACES[0]
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # slow, for debugging only


def _loss(plan: TrainingPlan, device: torch.device) -> Loss | None:
    spec = plan.data.spec
    presence_K, absence_K = _weights(plan)
    if spec.representation == "boxes":
        return None
    context = LossContext(spec, presence_K.to(device), absence_K.to(device), plan.train.label_smoothing)
    return LOSSES[spec.representation][plan.loss](context)


def _weights(plan: TrainingPlan) -> tuple[Float[torch.Tensor, " K"], Float[torch.Tensor, " K"]]:
    """Return the weights of the presence and of the absence of each class; ones unless the classes are balanced."""
    spec = plan.data.spec
    if plan.train.class_weights != "balanced":
        return torch.ones(max(1, len(spec.labels))), torch.ones(max(1, len(spec.labels)))
    presence_K, absence_K = class_weights(plan.data.train_set.target, spec)
    return torch.from_numpy(presence_K).float(), torch.from_numpy(absence_K).float()


def _loader(plan: TrainingPlan, processes: ProcessGroup, device: torch.device) -> BatchLoader:
    train, images = plan.train, len(plan.data.train_set)
    micro_batches = train.gradient_accumulation * processes.size
    if images < 2 * micro_batches:
        keys = {"train.gradient_accumulation": train.gradient_accumulation, "train.devices": processes.size}
        devices = f"each of {processes.size} devices" if processes.size > 1 else "1 device"
        lower = "".join(f", or lower {key}" for key, value in keys.items() if value > 1)
        raise UserError(
            f"train: at least {2 * micro_batches} training images are required (2 for each batch of a step: "
            f"{quantity(train.gradient_accumulation, 'batch', 'batches')} on {devices}), "
            f"but there {'is' if images == 1 else 'are'} {images}; add images{lower}"
        )
    store = resident_on(plan.loader.store, device) if train.cache_on_device == "yes" else plan.loader.store
    return replace(plan.loader, store=store, micro_batches=micro_batches)
