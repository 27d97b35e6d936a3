"""Gradient checkpointing: recompute the features inside a block in the backward pass instead of keeping them."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from stages.core.errors import UserError


def checkpoint_blocks(network: nn.Module, name: str) -> None:
    """Recompute every block of a network in the backward pass, in place (Chen et al. 2016).

    A block is an element of a sequence of layers or of a list of modules that consists of several layers itself.

    Args:
        network: network to modify; the names of its weights do not change.
        name: name of the network for the error message.

    Raises:
        UserError: the network has no blocks.
    """
    blocks = list(_blocks(network))
    if not blocks:
        raise UserError(f"train.gradient_checkpointing: true, but {name} does not consist of blocks; use false")
    for block in blocks:
        block.forward = partial(_checkpointed, block, block.forward)


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the innermost blocks below a module; those of GoogLeNet are not in a sequence of layers."""
    from torchvision.models.googlenet import Inception

    for child in module.children():
        is_block = (
            isinstance(module, nn.Sequential | nn.ModuleList)
            and not isinstance(child, nn.ModuleList)
            and any(child.children())
            and next(child.parameters(), None) is not None
        )
        if isinstance(child, Inception) or (is_block and next(_blocks(child), None) is None):
            yield child
        else:
            yield from _blocks(child)


def _checkpointed(block: nn.Module, forward: Any, *inputs: Any) -> Any:
    if not block.training:
        return forward(*inputs)
    return checkpoint(
        forward, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _without_statistics(block))
    )


@contextmanager
def _without_statistics(block: nn.Module) -> Iterator[None]:
    """Prevent batch normalizations from updating their running statistics a second time in the block."""
    norms = [
        module
        for module in block.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training and module.track_running_stats
    ]
    before = [(norm.momentum, None if (n := norm.num_batches_tracked) is None else n.clone()) for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum = momentum
            if batches is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(batches)
