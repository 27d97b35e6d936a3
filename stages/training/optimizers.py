"""Optimizers by name, with separate learning rates for pretrained layers and weight decay on weights only."""

from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from torch import nn

from stages.core.errors import UserError, did_you_mean

FUSED = ("cpu", "cuda", "mps")  # device types where torch updates all weights in one kernel, in a third of the time
BETAS = (0.9, 0.999)  # of the optimizers of timm that state no betas


RATE_LEVELS = 10
"""Number of different learning rates of pretrained layers: few groups are updated faster than one per layer."""


@dataclass(frozen=True)
class ParameterGroups:
    """Parameters by learning rate, pretrained or new, and by weight decay."""

    pretrained: list[nn.Parameter]
    """Pretrained parameters in the order of the layers, the first layer first."""
    new: list[nn.Parameter]
    pretrained_lr_factor: float = 1.0
    """Learning rate of the last pretrained parameters, as a share of `learning_rate`."""
    first_layer_lr_factor: float = 1.0
    """Learning rate of the first pretrained parameters, as a share of that of the last."""
    new_lr_factor: float = 1.0
    """Learning rate of new parameters, as a share of `learning_rate`; lower if they are not random at the start."""
    without_decay: frozenset[int] = frozenset()
    """`id` of each parameter without weight decay: see `parameters_without_decay`."""

    def with_rate(self, learning_rate: float) -> list[dict[str, Any]]:
        """Return the groups for an optimizer, with their highest rate as `peak`; the new parameters come last.

        Args:
            learning_rate: `train.learning_rate`.
        """
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for place, parameter in enumerate(self.pretrained):
            rate = learning_rate * self._pretrained_factor(place)
            groups.setdefault((rate, id(parameter) in self.without_decay), []).append(parameter)
        listed = list(groups.items())
        for bare in (True, False):
            new = [parameter for parameter in self.new if (id(parameter) in self.without_decay) == bare]
            listed += [((learning_rate * self.new_lr_factor, bare), new)] if new else []
        return [
            {"params": parameters, "lr": rate, "peak": rate} | ({"weight_decay": 0.0} if bare else {})
            for (rate, bare), parameters in listed
        ]

    def _pretrained_factor(self, place: int) -> float:
        """Return the rate of a pretrained parameter as a share of `learning_rate`, in `RATE_LEVELS` steps."""
        depth = int(RATE_LEVELS * place / len(self.pretrained)) / (RATE_LEVELS - 1)  # 0 first, 1 last
        return self.pretrained_lr_factor * self.first_layer_lr_factor ** (1 - depth)

    def freeze_pretrained(self, frozen: bool) -> None:
        """Exclude the pretrained weights from training, or include them again."""
        for weights in self.pretrained:
            weights.requires_grad_(not frozen)


def parameters_without_decay(network: nn.Module) -> frozenset[int]:
    """Return the `id` of each parameter without weight decay: biases, normalizations and position embeddings.

    Position embeddings are those that the networks of timm name in `no_weight_decay`.
    """
    named = {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if callable(listed := getattr(module, "no_weight_decay", None))
        for name in listed()
    }
    return frozenset(id(p) for name, p in network.named_parameters() if p.ndim <= 1 or name in named)


def build_optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, weight_decay: float, scaled: bool = False
) -> torch.optim.Optimizer:
    """Build an optimizer.

    Args:
        name: value of `train.optimizer`.
        groups: parameter groups of `ParameterGroups.with_rate`.
        momentum: momentum of sgd and rmsprop, beta 1 of the others, 0..<1; see `uses_momentum`.
        weight_decay: decoupled (adamw, lion) or L2 (adam, sgd, rmsprop), 0..1.
        scaled: whether gradients are scaled (fp16): Fabric cannot clip them for fused optimizers.

    Raises:
        UserError: the name is unknown, or timm cannot build the optimizer.
    """
    fused = not scaled and groups[0]["params"][0].device.type in FUSED
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, betas=(momentum, 0.999), weight_decay=weight_decay, fused=fused)
        case "sgd":
            nesterov = momentum > 0
            return torch.optim.SGD(groups, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay, fused=fused)
        case "rmsprop":
            return torch.optim.RMSprop(groups, momentum=momentum, weight_decay=weight_decay)
        case _:
            return _timm_optimizer(name, groups, momentum, weight_decay)


def _timm_optimizer(
    name: str, groups: list[dict[str, Any]], momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Build Lion (Chen et al. 2023) or any other optimizer of timm."""
    from timm import optim  # the import takes seconds

    timm_name = _timm_name(name)
    options: dict[str, Any] = {"lr": groups[-1]["lr"], "weight_decay": weight_decay, "momentum": momentum}
    try:
        betas = signature(optim.get_optimizer_class(timm_name)).parameters.get("betas")  # type: ignore[attr-defined]
        if betas is not None:  # create_optimizer_v2 passes on `momentum` only to optimizers without betas
            options["betas"] = (momentum, *(betas.default or BETAS)[1:])
        return optim.create_optimizer_v2(groups, timm_name, **options)  # type: ignore[attr-defined]
    except (ImportError, AssertionError, ValueError, TypeError) as error:
        raise UserError(
            f"train.optimizer: timm cannot build {timm_name} with these params: {str(error).rstrip('.')}; use another "
            "optimizer"
        ) from error


def _timm_name(name: str) -> str:
    """Return the name in timm of an optimizer.

    Raises:
        UserError: timm has no such optimizer.
    """
    from timm import optim

    known = optim.list_optimizers()  # type: ignore[attr-defined]
    if name.removeprefix("timm/") not in known:
        raise UserError(f"train.optimizer: {name} is unknown; {did_you_mean(name, [f'timm/{one}' for one in known])}")
    return name.removeprefix("timm/")


def uses_momentum(name: str) -> bool:
    """Return whether an optimizer uses `train.momentum`: adagrad and adadelta, for example, keep no mean gradient.

    Args:
        name: value of `train.optimizer`.

    Raises:
        UserError: timm has no such optimizer.
    """
    if not name.startswith("timm/"):
        return True
    from timm import optim

    info = optim.get_optimizer_info(_timm_name(name))  # type: ignore[attr-defined]
    return bool(info.has_momentum or info.has_betas)
