"""Pretrained weights: published ones by name, a file, an address, or another run of Macula.

What becomes of every layer is told: loaded, adapted to the channels of the images, or begun anew; a layer that should
fit and does not is an error, never skipped in silence.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.error import URLError

import torch
from torch import nn

from stages.frame import UserError
from stages.networks.blueprint import Blueprint
from stages.networks.parts import Network

HEADS = (
    "fc.",
    "last.",
    "head.",
    "classifier.",
    "AuxLogits.",
    "aux1.",
    "aux2.",
    "expanding.",
    "box.",
    "rpn.",
    "roi_heads.",
)
"""First words of layers that answer one data set's question, or that only a whole new network has."""
PREFIXES = ("module.", "model.", "network.", "backbone.", "body.", "encoder.", "stages.")
"""Words that wrappers put in front of a layer's name."""
LEAST = 0.5  # share of an encoder's weights that a file must hold; below it, it is the wrong file
MOST_LISTED = 40

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Layer:
    """What became of one named array of weights."""

    name: str
    state: Literal["loaded", "adapted", "random", "unused"]
    """unused: only the file has it."""
    why: str = ""


def load_weights(network: Network, blueprint: Blueprint, source: str) -> list[Layer]:
    """Load pretrained weights into a network in place; `none` loads nothing.

    Raises:
        UserError: the source cannot be read, or does not fit, with both shapes of every layer that does not.
    """
    if source == "none":
        return []
    if source == "default":
        given, mean, deviation = _published(blueprint)
    else:
        given, mean, deviation = _stored(source), None, None
    layers = _load(network, blueprint, given, source)
    own = {name.rpartition(".")[2]: values for name, values in given.items() if name.endswith("_C11")}
    if mean and deviation:
        network.normalize(mean, deviation)
    elif "mean_C11" in own:  # another run's
        network.normalize(own["mean_C11"].flatten().tolist(), own["deviation_C11"].flatten().tolist())
    return layers


def pretrained_parameters(network: nn.Module, layers: list[Layer]) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The weights that were loaded or adapted, and those that begin anew."""
    known = {layer.name for layer in layers if layer.state in ("loaded", "adapted")}
    named = list(network.named_parameters())
    return [p for name, p in named if name in known], [p for name, p in named if name not in known]


def _load(network: Network, blueprint: Blueprint, given: State, source: str) -> list[Layer]:
    """Match by name, without what wrappers put in front; then by shape."""
    mine = {name: values for name, values in network.state_dict().items() if not name.endswith("_C11")}
    theirs = {_bare(name, mine): (name, values) for name, values in given.items() if not name.endswith("_C11")}
    layers, wrong, taken, fresh = [], [], set(), network.state_dict()
    for name, values in mine.items():
        bare = _bare_of_mine(name)
        if bare not in theirs:
            if not _is_head(bare):
                wrong.append(f"{name}: {tuple(values.shape)}, not in the file")
            layers.append(Layer(name, "random", "not in the file"))
            continue
        taken.add(bare)
        other = theirs[bare][1]
        if other.shape == values.shape:
            fresh[name] = other.to(values.dtype)
            layers.append(Layer(name, "loaded"))
        elif _differs_in_channels(values, other):
            fresh[name] = _adapted(other, values.shape[1])
            layers.append(Layer(name, "adapted", f"{tuple(other.shape)} to {tuple(values.shape)}: other channels"))
        else:
            shapes = f"{tuple(other.shape)} in the file, {tuple(values.shape)} here"
            if not _is_head(bare):
                wrong.append(f"{name}: {shapes}")
            layers.append(Layer(name, "random", shapes))
    _refuse_misfit(wrong, mine, layers, source, blueprint)
    network.load_state_dict(fresh)
    return layers + [
        Layer(name, "unused", "not in this network") for bare, (name, _) in theirs.items() if bare not in taken
    ]


def _bare_of_mine(name: str) -> str:
    return _bare(name, ())


def _bare(name: str, known: Iterable[str]) -> str:
    """A layer's name without what wrappers put in front, as often as they did."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), None):
        name = name.removeprefix(prefix)
    return name


def _is_head(name: str) -> bool:
    return name.startswith(HEADS)


def _differs_in_channels(mine: torch.Tensor, theirs: torch.Tensor) -> bool:
    """A convolution over the channels of images: 1, 3, or few."""
    same = mine.ndim == theirs.ndim == 4 and mine.shape[0] == theirs.shape[0] and mine.shape[2:] == theirs.shape[2:]
    return same and theirs.shape[1] in (1, 3)


def _adapted(weight_OCHW: torch.Tensor, channels: int) -> torch.Tensor:
    """Averaged over the channels and repeated, with the same answer to a grey image."""
    mean_O1HW = weight_OCHW.mean(dim=1, keepdim=True)
    return mean_O1HW.repeat(1, channels, 1, 1) * (weight_OCHW.shape[1] / channels)


def _refuse_misfit(wrong: list[str], mine: State, layers: list[Layer], source: str, blueprint: Blueprint) -> None:
    body = {name: values.numel() for name, values in mine.items() if not _is_head(_bare_of_mine(name))}
    found = sum(body.get(layer.name, 0) for layer in layers if layer.state != "random")
    share = found / max(1, sum(body.values()))
    if not wrong and share >= LEAST:
        return
    shown = "\n".join(f"  {line}" for line in wrong[:MOST_LISTED])
    more = f"\n  and {len(wrong) - MOST_LISTED} more" if len(wrong) > MOST_LISTED else ""
    what = (
        blueprint.name if blueprint.name not in ("unet", "mask_rcnn") else f"{blueprint.name} with {blueprint.encoder}"
    )
    raise UserError(
        f"network.weights: {source} does not fit {what}: it holds {share:.0%} of the weights that it should. Layers "
        f"that do not fit:\n{shown}{more}\ntake weights of the same architecture, or network.weights: none"
    )


def _stored(source: str) -> State:
    """A file of weights here or at an address."""
    if source.startswith(("http://", "https://")):
        return _fetched(source)
    file = Path(source)
    if not file.is_file():
        raise UserError(
            f"network.weights: {source} is no file; use none, default, an address (https://...) or a path of weights"
        )
    return _read(file, source)


def _fetched(address: str, hashed: bool = False) -> State:
    """Weights at an address, kept in torch's cache of downloads under a name of the address's own."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    name = address.rpartition("/")[2]
    file = folder / (name if hashed else f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-{name}")
    if not file.exists():
        expected = torch.hub.HASH_REGEX.search(name) if hashed else None
        try:
            torch.hub.download_url_to_file(address, str(file), expected[1] if expected else None, progress=False)
        except (URLError, OSError, ValueError, RuntimeError) as error:
            raise UserError(
                f"network.weights: {address} cannot be fetched: {error}; fetch it by hand and name the file"
            ) from None
    return _read(file, address)


def _read(file: Path, source: str) -> State:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            values: Any = load_file(file)
        else:
            values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a type of their own for each way a file can be damaged
        raise UserError(f"network.weights: {source} cannot be read as weights: {error}") from None
    for key in ("weights", "state_dict", "model"):  # a model.pt of Macula; what others wrap theirs in
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise UserError(f"network.weights: {source} holds no weights by layer; torch.save(network.state_dict(), file)")
    return values


def _published(blueprint: Blueprint) -> tuple[State, list[float], list[float]]:
    """Weights published for the network, or for the encoder, with mean and deviation of their training images."""
    whole = blueprint.name not in ("unet", "mask_rcnn")
    name = blueprint.name if whole else blueprint.encoder
    if name == "plain":
        raise UserError(
            "network.weights: default, but nobody publishes weights of the plain encoder; use none or a file"
        )
    if name.startswith("timm/"):
        return _published_by_timm(name, whole)
    from torchvision import models

    weights = models.get_model_weights(f"{name}_bn" if name.startswith("vgg") else name).DEFAULT
    transform = weights.transforms()
    given = _renumbered(_fetched(weights.url, hashed=True), name, whole)
    return given, list(transform.mean), list(transform.std)


def _published_by_timm(name: str, whole: bool) -> tuple[State, list[float], list[float]]:
    import timm

    try:
        made = timm.create_model(name.removeprefix("timm/"), pretrained=True, features_only=not whole)
    except Exception as error:  # as many types as ways in which a hub cannot be reached
        raise UserError(f"network.weights: published weights of {name} cannot be fetched: {error}") from None
    config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    assert config is not None, "pretrained weights have a configuration"
    return made.state_dict(), list(config.mean), list(config.std)


def _renumbered(given: State, name: str, whole: bool) -> State:
    """Names that torchvision gives, as ours: an encoder is taken apart into stages."""
    if whole:
        return given
    from stages.networks.encoders import ENCODERS

    ours = ENCODERS[name](name)
    from torchvision import models

    theirs = getattr(models, f"{name}_bn" if name.startswith("vgg") else name)(
        weights=None, **({"aux_logits": False, "init_weights": False} if name == "googlenet" else {})
    )
    # Both hold the same layers in the same order, up to the last ones, which the encoder leaves out.
    pairs = zip(ours.state_dict().items(), theirs.state_dict().items(), strict=False)
    renamed = {mine: given[other] for (mine, a), (other, b) in pairs if a.shape == b.shape}
    assert len(renamed) == len(ours.state_dict()), f"the encoder {name} holds layers that torchvision's network has not"
    return renamed
