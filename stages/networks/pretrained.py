"""Where pretrained weights come from: a file, an address, or what torchvision and timm publish."""

import hashlib
import os
import re
import shutil
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch

from stages.core.errors import UserError
from stages.networks.network_config import NetworkConfig

TIMEOUT = 30  # seconds without an answer
ADDRESS = ("http://", "https://")
WITH_ENCODER = ("unet", "mask_rcnn")
HASHED = re.compile(r"-([0-9a-f]{8,})\.")
"""torchvision names a file after the first digits of its SHA-256."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Given:
    """Weights by layer; mean and deviation, by channel and in 0..1, of the images behind them, where stated."""

    weights: State
    mean: list[float] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)


def located(source: str, folder: Path) -> str:
    """`network.weights` with the name of a file in `folder` turned into its path; all else as it is.

    Files of weights lie in one folder of the project, so that DVC sees when one is replaced.

    Raises:
        UserError: there is no such file.
    """
    if source in ("none", "default") or source.startswith(ADDRESS):
        return source
    held = sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if source not in held:
        listed = f"it holds {', '.join(held)}" if held else "it is empty"
        raise UserError(
            f"network.weights: {source!r} is no file of {folder}, and {listed}; copy the weights, or the model.pt of "
            "another run, there and give its name; or use none, default or an address (https://...)"
        )
    return str(folder / source)


def obtain(source: str, network_config: NetworkConfig) -> Given:
    """The weights at `source`: default, an address or a path.

    Raises:
        UserError: it cannot be had, or is damaged.
    """
    if source == "default":
        return _published(network_config)
    if source.startswith(ADDRESS):
        return Given(_fetched(source))
    return Given(_read(Path(source), source))


def _published(network_config: NetworkConfig) -> Given:
    """Weights of the network, or of its encoder."""
    name = network_config.encoder if network_config.name in WITH_ENCODER else network_config.name
    if name == "plain":
        raise UserError(
            "network.weights: default, but nobody publishes weights of the plain encoder; use none or a file"
        )
    if name.startswith("timm/"):
        return _published_by_timm(network_config, name)
    from torchvision import models

    weights = models.get_model_weights(f"{name}_bn" if name.startswith("vgg") else name).DEFAULT
    if name == "googlenet":
        # torchvision's `GoogLeNet._transform_input` turns its usual mean and deviation into these.
        return Given(_fetched(weights.url, hashed=True), [0.5] * 3, [0.5] * 3)
    transform = weights.transforms()
    return Given(_fetched(weights.url, hashed=True), list(transform.mean), list(transform.std))


def _published_by_timm(network_config: NetworkConfig, name: str) -> Given:
    """Built by timm as we build it, so that timm itself fits position embeddings to the size."""
    import timm

    from stages.networks.classifiers import timm_network
    from stages.networks.encoders import ByTimm

    try:
        if name == network_config.name:
            made = timm_network(name, [{"img_size": network_config.size}], pretrained=True)
        else:
            made = ByTimm(name, 3, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # as many types as ways in which a hub cannot be reached
        raise UserError(
            f"network.weights: published weights of {name} cannot be had: {error}; fetch them by hand and name the file"
        ) from None
    config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
    assert config is not None, "pretrained weights have a configuration"
    return Given(made.state_dict(), list(config.mean), list(config.std))


def _fetched(address: str, hashed: bool = False) -> State:
    """Weights at an address, kept in torch's cache of downloads.

    A published file keeps its name there, which holds its hash; any other gets one of the whole address.
    """
    name = address.rpartition("/")[2]
    key = "" if hashed else f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-"
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"{key}{name}"
    if not file.exists():
        _download(address, file, HASHED.search(name) if hashed else None)
    try:
        return _read(file, address)
    except UserError:
        file.unlink()  # a damaged file must not stay
        raise


def _download(address: str, file: Path, expected: re.Match[str] | None) -> None:
    """Write the file whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    request = Request(address, headers={"User-Agent": "macula"})  # noqa: S310  # http and https alone come here
    try:
        with urlopen(request, timeout=TIMEOUT) as answer, part.open("wb") as opened:  # noqa: S310
            shutil.copyfileobj(answer, opened)
            length = answer.headers.get("Content-Length")
        if length is not None and part.stat().st_size != int(length):
            raise UserError(
                f"network.weights: {address} broke off after {part.stat().st_size} of {length} bytes; try again"
            )
        _refuse_other_hash(part, address, expected)
        part.replace(file)
    except (URLError, OSError, ValueError, HTTPException) as error:
        raise UserError(
            f"network.weights: {address} cannot be fetched: {error}; fetch it by hand and name the file"
        ) from None
    finally:
        part.unlink(missing_ok=True)


def _refuse_other_hash(part: Path, address: str, expected: re.Match[str] | None) -> None:
    if expected is None:
        return
    with part.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(expected[1]):
        raise UserError(
            f"network.weights: {address} came with SHA-256 {found[: len(expected[1])]}..., not {expected[1]}... as its "
            "name says: damaged or replaced on the way; try again, or fetch it by hand and name the file"
        )


def _read(file: Path, source: str) -> State:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            values: Any = load_file(file)
        else:
            values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a type of their own for each way a file can be damaged
        why = str(error).partition("\n")[0]
        raise UserError(
            f"network.weights: {source} cannot be read as weights: {why or type(error).__name__}; "
            "write them with torch.save(network.state_dict(), file)"
        ) from None
    for key in ("weights", "state_dict", "model"):  # a model.pt of Macula; what others wrap theirs in
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not values or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise UserError(f"network.weights: {source} holds no weights by layer; torch.save(network.state_dict(), file)")
    return values
