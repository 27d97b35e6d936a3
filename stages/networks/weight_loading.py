"""Loading of pretrained weights: published weights, a file, an address, or another run of Macula.

The outcome of every weight array is reported: loaded, adapted to the channels of the images, random, or unused. A layer
of the body that does not fit is an error; it is never skipped silently.
"""

import functools
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from stages.core.errors import UserError
from stages.networks.network_config import NetworkConfig
from stages.networks.pretrained import (
    WITH_ENCODER,
    PretrainedWeights,
    State,
    load_pretrained,
    published_normalization,
)
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
"""Name prefixes of layers that are specific to a task or absent in a classifier."""
PREFIXES = ("module.", "model.", "network.", "detector.", "backbone.", "body.", "encoder.")
"""Prefixes that wrappers add to layer names."""
COUNTER = ".num_batches_tracked"  # absent in old files, and unused with a fixed momentum
LEAST = 0.5  # share of the body's weights; a file with less probably belongs to another network
MOST_LISTED = 40


@dataclass(frozen=True)
class Layer:
    """Outcome of loading one weight array."""

    name: str
    state: Literal["loaded", "adapted", "random", "unused"]
    """Outcome; `unused` arrays exist only in the file."""
    why: str = ""


def load_weights(network: Network, network_config: NetworkConfig, source: str) -> list[Layer]:
    """Load pretrained weights into a network, in place.

    Args:
        network: network to modify.
        network_config: configuration of the network.
        source: `none`, `default`, an address or a path.

    Returns:
        Outcome per weight array; empty for `none`.

    Raises:
        UserError: the source cannot be read, was trained with another normalization, or does not fit; if it does not
            fit, the message lists both shapes of up to 40 weight arrays.
    """
    if source == "none":
        return []
    pretrained = load_pretrained(source, network_config)
    _check_norm(network, network_config, pretrained.weights, source)
    layers = _load(network, network_config, pretrained.weights, source)
    mean, deviation = _normalization(pretrained, network_config, source)
    if mean:
        network.normalize(mean, deviation)
    return layers


def _normalization(
    pretrained: PretrainedWeights, network_config: NetworkConfig, source: str
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the images on which weights were trained; empty if they are not known.

    Files of weights seldom contain them. Weights of a published architecture are assumed to be trained with the same
    normalization as the published ones, which nearly all programs for training use.
    """
    if pretrained.mean:
        return pretrained.mean, pretrained.deviation
    own = {name.rpartition(".")[2]: values for name, values in pretrained.weights.items() if name.endswith("_C11")}
    if "mean_C11" in own:  # weights of another run
        return own["mean_C11"].flatten().tolist(), own["deviation_C11"].flatten().tolist()
    mean, deviation = published_normalization(network_config)
    _report_assumption(source, tuple(mean), tuple(deviation))
    return mean, deviation


@functools.cache  # once per process, because measurements of `auto` load the weights too
def _report_assumption(source: str, mean: tuple[float, ...], deviation: tuple[float, ...]) -> None:
    means, deviations = (", ".join(f"{value:.3f}" for value in values) for values in (mean, deviation))
    published = f"that of the published weights is assumed (mean {means}; standard deviation {deviations})"
    used = published if mean else "pixels in 0..1 are assumed"
    print(f"network.weights: {source} does not state the normalization of its images; {used}", flush=True)


def pretrained_parameters(network: Network, layers: list[Layer]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return the pretrained parameters of the body, and all other parameters, which are always trained."""
    loaded = {layer.name for layer in layers if layer.state in ("loaded", "adapted")}
    known = {name for name in loaded if not _strip_prefixes(name).startswith(_heads(network))}
    named = list(network.named_parameters())
    return [p for name, p in named if name in known], [p for name, p in named if name not in known]


def _load(network: Network, network_config: NetworkConfig, given: State, source: str) -> list[Layer]:
    """Load the arrays whose names, without wrapper prefixes, and shapes match; return the outcome of every array.

    The first convolution is adapted to another number of channels. Head layers that do not fit remain random.

    Raises:
        UserError: a layer of the body does not fit.
    """
    mine, heads, first = _weights(network.state_dict()), _heads(network), _first_convolution(network)
    theirs = {_strip_prefixes(name): (name, values) for name, values in _weights(given).items()}
    others = {name: theirs.pop(_strip_prefixes(name), (name, None))[1] for name in mine}
    incomplete = {_layer_of(name) for name, other in others.items() if other is None or other.shape != mine[name].shape}
    layers, wrong, fresh = [], [], network.state_dict()
    for name, values in mine.items():
        other, head = others[name], _strip_prefixes(name).startswith(heads)
        shapes = f"{tuple(values.shape)} here, {'none' if other is None else tuple(other.shape)} in the file"
        if other is not None and other.shape == values.shape and not (head and _layer_of(name) in incomplete):
            fresh[name] = other.to(values.dtype)
            layers.append(Layer(name, "loaded"))
        elif other is not None and name == first and _differs_in_channels(values, other):
            fresh[name] = _adapt_channels(other.to(values.dtype), values.shape[1])
            layers.append(Layer(name, "adapted", f"{shapes}: averaged over the channels"))
        else:
            layers.append(Layer(name, "random", shapes))
            wrong += [] if head else [f"{name}: {shapes}"]
    if wrong:
        body = {name: values.numel() for name, values in mine.items() if not _strip_prefixes(name).startswith(heads)}
        found = sum(body.get(layer.name, 0) for layer in layers if layer.state != "random")
        _raise_misfit(wrong, found / sum(body.values()), source, network_config)
    network.load_state_dict(fresh)
    return layers + [Layer(name, "unused", "not in this network") for name, _ in theirs.values()]


def _layer_of(name: str) -> str:
    """Return the name of the layer of an array; of a last layer, either all arrays are loaded or none."""
    return _strip_prefixes(name).rpartition(".")[0]


def _weights(state: State) -> State:
    """Return the state without counters and without image statistics."""
    return {name: values for name, values in state.items() if not name.endswith((COUNTER, "_C11"))}


def _strip_prefixes(name: str) -> str:
    """Return a layer name without wrapper prefixes.

    timm writes `stages_0` in an encoder for `stages.0` of the network; our last layer follows a dropout layer.

    >>> _strip_prefixes("module.body.encoder.network.layer1.0.conv1.weight")
    'layer1.0.conv1.weight'
    >>> _strip_prefixes("stages_0.norm.bias"), _strip_prefixes("body.fc.1.bias")
    ('stages.0.norm.bias', 'fc.bias')
    """
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return re.sub(r"^(fc|classifier)\.1\.", r"\1.", re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", name))


def _heads(network: Network) -> tuple[str, ...]:
    """Return `HEADS` and the names of last layers given by timm."""
    stated = getattr(network.body, "pretrained_cfg", {}).get("classifier") or ()
    return HEADS + tuple(f"{name}." for name in ([stated] if isinstance(stated, str) else stated))


def _first_convolution(network: Network) -> str:
    return next((f"{path}.weight" for path, m in network.named_modules() if isinstance(m, nn.Conv2d)), "")


def _differs_in_channels(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    return mine.ndim == theirs.ndim == 4 and mine.shape[0] == theirs.shape[0] and mine.shape[2:] == theirs.shape[2:]


def _adapt_channels(weight_OCHW: torch.Tensor, channels: int) -> torch.Tensor:
    """Return weights averaged over the channels, repeated and scaled; the output for grey images is unchanged."""
    mean_O1HW = weight_OCHW.mean(dim=1, keepdim=True)
    return mean_O1HW.repeat(1, channels, 1, 1) * (weight_OCHW.shape[1] / channels)


def _check_norm(network: Network, network_config: NetworkConfig, given: State, source: str) -> None:
    """Raise UserError if the weights were trained with another normalization; `batch` is not checked here.

    Arrays of other normalizations have the same names and shapes, but another meaning.
    """
    if network_config.norm == "batch":
        return  # missing running averages are reported as layers that do not fit
    shifts = {
        f"{_strip_prefixes(path)}.weight" for path, module in network.named_modules() if isinstance(module, Shift)
    }
    names = {_strip_prefixes(name) for name in given}
    batch = any(name.endswith(".running_mean") for name in names)
    if batch or shifts & names:
        raise UserError(
            f"network.norm: {network_config.norm}, but {source} was trained with {'batch' if batch else 'group'} "
            f"normalization; use network.norm: {'batch' if batch else 'group'}, or network.weights: none"
        )


def _raise_misfit(wrong: list[str], share: float, source: str, network_config: NetworkConfig) -> None:
    shown = "\n".join(f"  {line}" for line in wrong[:MOST_LISTED])
    more = f"\n  and {len(wrong) - MOST_LISTED} more" if len(wrong) > MOST_LISTED else ""
    what = (
        f"{network_config.name} with {network_config.encoder}"
        if network_config.name in WITH_ENCODER
        else network_config.name
    )
    wrong_file = ", so it is probably a file of another network" if share < LEAST else ""
    raise UserError(
        f"network.weights: {source} does not fit {what}: it contains {share:.0%} of the expected weights"
        f"{wrong_file}. Layers that do not fit:\n{shown}{more}\n"
        "Use weights of the same architecture, or network.weights: none."
    )
