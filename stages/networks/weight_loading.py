"""Pretrained weights: published ones by name, a file, an address, or another run of Macula.

What becomes of every layer is told: loaded, adapted to the channels of the images, or begun anew; a layer that should
fit and does not is an error, never skipped in silence.
"""

import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from stages.core.errors import UserError
from stages.networks.network_config import NetworkConfig
from stages.networks.pretrained import WITH_ENCODER, State, obtain
from stages.networks.surgery import Network, Shift

HEADS = (
    "fc.",
    "last.",
    "head.",
    "classifier.",
    "expanding.",
    "pyramid.",
    "rpn.",
    "roi_heads.",
)
"""First words of layers that answer one data set's question, or that only a whole new network has."""
PREFIXES = ("module.", "model.", "network.", "detector.", "backbone.", "body.", "encoder.")
"""Words that wrappers put in front of a layer's name."""
COUNTER = ".num_batches_tracked"  # not in old files, and of no use with a fixed momentum
LEAST = 0.5  # share of an encoder's weights that a file must hold; below it, it is the wrong file
MOST_LISTED = 40


@dataclass(frozen=True)
class Layer:
    """What became of one named array of weights."""

    name: str
    state: Literal["loaded", "adapted", "random", "unused"]
    """unused: only the file has it."""
    why: str = ""


def load_weights(network: Network, network_config: NetworkConfig, source: str) -> list[Layer]:
    """Load pretrained weights into a network in place; `none` loads nothing.

    Raises:
        UserError: the source cannot be read, or does not fit, with both shapes of every layer that does not.
    """
    if source == "none":
        return []
    given = obtain(source, network_config)
    _refuse_other_norm(network, network_config, given.weights, source)
    layers = _load(network, network_config, given.weights, source)
    own = {name.rpartition(".")[2]: values for name, values in given.weights.items() if name.endswith("_C11")}
    if given.mean:
        network.normalize(given.mean, given.deviation)
    elif "mean_C11" in own:  # another run's
        network.normalize(own["mean_C11"].flatten().tolist(), own["deviation_C11"].flatten().tolist())
    return layers


def pretrained_parameters(network: Network, layers: list[Layer]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights that were loaded or adapted, and those that begin anew or answer the question: these always learn."""
    loaded = {layer.name for layer in layers if layer.state in ("loaded", "adapted")}
    known = {name for name in loaded if not _bare(name).startswith(_heads(network))}
    named = list(network.named_parameters())
    return [p for name, p in named if name in known], [p for name, p in named if name not in known]


def _load(network: Network, network_config: NetworkConfig, given: State, source: str) -> list[Layer]:
    """Match by name, without what wrappers put in front; then by shape."""
    mine, heads, first = _weights(network.state_dict()), _heads(network), _first_convolution(network)
    theirs = {_bare(name): (name, values) for name, values in _weights(given).items()}
    others = {name: theirs.pop(_bare(name), (name, None))[1] for name in mine}
    torn = {_layer(name) for name, other in others.items() if other is None or other.shape != mine[name].shape}
    layers, wrong, fresh = [], [], network.state_dict()
    for name, values in mine.items():
        other, head = others[name], _bare(name).startswith(heads)
        shapes = f"{tuple(values.shape)} here, {'none' if other is None else tuple(other.shape)} in the file"
        if other is not None and other.shape == values.shape and not (head and _layer(name) in torn):
            fresh[name] = other.to(values.dtype)
            layers.append(Layer(name, "loaded"))
        elif other is not None and name == first and _differs_in_channels(values, other):
            fresh[name] = _adapted(other.to(values.dtype), values.shape[1])
            layers.append(Layer(name, "adapted", f"{shapes}: averaged over the channels"))
        else:
            layers.append(Layer(name, "random", shapes))
            wrong += [] if head else [f"{name}: {shapes}"]
    if wrong:
        body = {name: values.numel() for name, values in mine.items() if not _bare(name).startswith(heads)}
        found = sum(body.get(layer.name, 0) for layer in layers if layer.state != "random")
        _refuse_misfit(wrong, found / sum(body.values()), source, network_config)
    network.load_state_dict(fresh)
    return layers + [Layer(name, "unused", "not in this network") for name, _ in theirs.values()]


def _layer(name: str) -> str:
    """What a weight and a bias belong to: of a last layer both are loaded, or neither."""
    return _bare(name).rpartition(".")[0]


def _weights(state: State) -> State:
    """Without counters, and without the mean and deviation of images."""
    return {name: values for name, values in state.items() if not name.endswith((COUNTER, "_C11"))}


def _bare(name: str) -> str:
    """A layer's name without what wrappers put in front, as often as they did.

    timm writes `stages_0` in an encoder for `stages.0` of the network; our last layer stands behind a dropout.

    >>> _bare("module.body.encoder.network.layer1.0.conv1.weight"), _bare("stages_0.norm.bias"), _bare("body.fc.1.bias")
    ('layer1.0.conv1.weight', 'stages.0.norm.bias', 'fc.bias')
    """
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return re.sub(r"^fc\.1\.", "fc.", re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name))


def _heads(network: Network) -> tuple[str, ...]:
    """`HEADS`, and what timm says is its network's last layer."""
    stated = getattr(network.body, "pretrained_cfg", {}).get("classifier") or ()
    return HEADS + tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))


def _first_convolution(network: Network) -> str:
    return next((f"{path}.weight" for path, m in network.named_modules() if isinstance(m, nn.Conv2d)), "")


def _differs_in_channels(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    return mine.ndim == theirs.ndim == 4 and mine.shape[0] == theirs.shape[0] and mine.shape[2:] == theirs.shape[2:]


def _adapted(weight_OCHW: torch.Tensor, channels: int) -> torch.Tensor:
    """Averaged over the channels and repeated, with the same answer to a grey image."""
    mean_O1HW = weight_OCHW.mean(dim=1, keepdim=True)
    return mean_O1HW.repeat(1, channels, 1, 1) * (weight_OCHW.shape[1] / channels)


def _refuse_other_norm(network: Network, network_config: NetworkConfig, given: State, source: str) -> None:
    """Other normalizations have arrays of the same names and shapes, and another meaning."""
    if network_config.norm == "batch":
        return  # its running averages would be missing
    shifts = {f"{_bare(path)}.weight" for path, module in network.named_modules() if isinstance(module, Shift)}
    held = {_bare(name) for name in given}
    batch = any(name.endswith(".running_mean") for name in held)
    if batch or shifts & held:
        raise UserError(
            f"network.norm: {network_config.norm}, but {source} was trained with {'batch' if batch else 'group'} "
            f"normalization; use network.norm: {'batch' if batch else 'group'}, or network.weights: none"
        )


def _refuse_misfit(wrong: list[str], share: float, source: str, network_config: NetworkConfig) -> None:
    shown = "\n".join(f"  {line}" for line in wrong[:MOST_LISTED])
    more = f"\n  and {len(wrong) - MOST_LISTED} more" if len(wrong) > MOST_LISTED else ""
    what = (
        f"{network_config.name} with {network_config.encoder}"
        if network_config.name in WITH_ENCODER
        else network_config.name
    )
    wrong_file = ", so it seems to be another network's file" if share < LEAST else ""
    raise UserError(
        f"network.weights: {source} does not fit {what}: it holds {share:.0%} of the weights that it should"
        f"{wrong_file}. Layers that do not fit:\n{shown}{more}\n"
        "take weights of the same architecture, or network.weights: none"
    )
