"""Sources of pretrained weights: a file, an address, a package, or weights published by torchvision or timm."""

import functools
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
from stages.networks import packaged_weights
from stages.networks.network_config import NetworkConfig

TIMEOUT = 30  # seconds without a response
ADDRESS = ("http://", "https://")
WITH_ENCODER = ("unet", "mask_rcnn")
HASHED = re.compile(r"-([0-9a-f]{8,})\.")
"""Pattern of the SHA-256 prefix in the file names of torchvision."""

MANUALLY = "download the file manually to data/weights and set network.weights to its name"
"""End of the messages about failed downloads."""

State = dict[str, torch.Tensor]


@dataclass(frozen=True)
class PretrainedWeights:
    """Pretrained weights, with the mean and standard deviation of their images per channel (0..1), if known."""

    weights: State
    mean: list[float] = field(default_factory=list)
    deviation: list[float] = field(default_factory=list)


def locate_weights(source: str, folder: Path) -> str:
    """Return `network.weights` with a file name in `folder` replaced by its path; other values are unchanged.

    Weight files are stored in one folder of the project, so that DVC detects when one is replaced.

    Raises:
        UserError: the folder does not contain the file.
    """
    if source in ("none", "default") or source.startswith(ADDRESS):
        return source
    names = sorted(file.name for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))
    if source not in names:
        listed = f"the folder contains {', '.join(names)}" if names else "the folder is empty"
        raise UserError(
            f"network.weights: {source!r} is not a file in {folder}; {listed}; copy the weights, or the model.pt of "
            "another run, into the folder and use the file name; or use none, default or an address (https://...)"
        )
    return str(folder / source)


def load_pretrained(source: str, network_config: NetworkConfig) -> PretrainedWeights:
    """Load the weights from `source`: `default`, an address or a path.

    Raises:
        UserError: the source cannot be loaded, is damaged or does not contain weights by layer, or there are no
            published weights of the network.
    """
    if source == "default":
        return _load_published(network_config)
    if source.startswith(ADDRESS):
        return PretrainedWeights(_fetch(source))
    return PretrainedWeights(_read(Path(source), source))


def _load_published(network_config: NetworkConfig) -> PretrainedWeights:
    """Return the published weights of the network, or of its encoder."""
    name = network_config.encoder if network_config.name in WITH_ENCODER else network_config.name
    if name == "plain":
        raise UserError(
            "network.weights: default, but there are no published weights of the plain encoder; use none or a file"
        )
    if name in packaged_weights.PACKAGES:
        _report_provenance(name)
        state = packaged_weights.load_packaged_weights(name)
    elif name.startswith("timm/"):
        state = _load_timm_weights(network_config, name)
    else:
        state = _fetch(_torchvision_weights(name).url, hashed=True)
    return PretrainedWeights(state, *published_normalization(network_config))


def published_normalization(network_config: NetworkConfig) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation per channel of the images, 0..1, of the published weights of a network.

    Both are empty if there are no published weights of the network or of its encoder.
    """
    name = network_config.encoder if network_config.name in WITH_ENCODER else network_config.name
    if name == "plain":
        return [], []
    if name in packaged_weights.PACKAGES:
        return [packaged_weights.MEAN] * 3, [packaged_weights.DEVIATION] * 3
    if name.startswith("timm/"):
        import timm

        config = timm.get_pretrained_cfg(name.removeprefix("timm/"))
        return (list(config.mean), list(config.std)) if config is not None else ([], [])
    if name == "googlenet":
        return [0.5] * 3, [0.5] * 3  # torchvision's `GoogLeNet._transform_input` turns its usual values into these
    transform = _torchvision_weights(name).transforms()
    return list(transform.mean), list(transform.std)


def _torchvision_weights(name: str) -> Any:
    from torchvision import models

    return models.get_model_weights(f"{name}_bn" if name.startswith("vgg") else name).DEFAULT


@functools.cache  # once per process, because measurements of `auto` build the network too
def _report_provenance(network: str) -> None:
    print(f"network.weights: {packaged_weights.provenance(network)}", flush=True)


def _load_timm_weights(network_config: NetworkConfig, name: str) -> State:
    """Return the published weights of a timm network; timm resizes position embeddings to the working size."""
    from stages.networks.classifiers import timm_network
    from stages.networks.encoders import TimmEncoder

    try:
        if name == network_config.name:
            made = timm_network(name, [{"img_size": network_config.size}], pretrained=True)
        else:
            made = TimmEncoder(name, 3, pretrained=True)
    except UserError:
        raise
    except Exception as error:  # hub failures raise many exception types
        why = str(error).partition("\n")[0].rstrip(". ") or type(error).__name__
        raise UserError(
            f"network.weights: published weights of {name} could not be loaded: {why}; use none, or {MANUALLY}"
        ) from None
    state: State = made.state_dict()
    return state


def _fetch(address: str, hashed: bool = False) -> State:
    """Return the weights at an address, cached in the download folder of torch.

    Published files keep their names, which contain a hash; other names are prefixed with a hash of the address.
    """
    name = address.rpartition("/")[2]
    key = "" if hashed else f"{hashlib.sha256(address.encode()).hexdigest()[:12]}-"
    file = Path(torch.hub.get_dir()) / "checkpoints" / f"{key}{name}"
    if not file.exists():
        _download(address, file, HASHED.search(name) if hashed else None)
    try:
        return _read(file, address)
    except UserError:
        file.unlink()  # a damaged file must not remain in the cache
        raise


def _download(address: str, file: Path, expected: re.Match[str] | None) -> None:
    """Download a file atomically, and check its length and, if `expected` is given, its hash."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f"{file.name}.{os.getpid()}.part")
    request = Request(address, headers={"User-Agent": "macula"})  # noqa: S310  # only http and https reach this line
    try:
        with urlopen(request, timeout=TIMEOUT) as response, part.open("wb") as opened:  # noqa: S310
            shutil.copyfileobj(response, opened)
            length = response.headers.get("Content-Length")
        if length is not None and part.stat().st_size != int(length):
            raise UserError(
                f"network.weights: the download of {address} ended after {part.stat().st_size} of {length} bytes; "
                "try again"
            )
        _check_hash(part, address, expected)
        part.replace(file)
    except (URLError, OSError, ValueError, HTTPException) as error:
        raise UserError(f"network.weights: {address} cannot be downloaded: {error}; try again, or {MANUALLY}") from None
    finally:
        part.unlink(missing_ok=True)


def _check_hash(part: Path, address: str, expected: re.Match[str] | None) -> None:
    if expected is None:
        return
    with part.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if not found.startswith(expected[1]):
        raise UserError(
            f"network.weights: {address} has SHA-256 {found[: len(expected[1])]}..., not {expected[1]}... as in its "
            f"name, so it was damaged or replaced in transit; try again, or {MANUALLY}"
        )


def _read(file: Path, source: str) -> State:
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            values: Any = load_file(file)
        else:
            values = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many exception types in torch and safetensors
        why = str(error).partition("\n")[0].partition(". ")[0].rstrip(". ")  # the first sentence
        raise UserError(
            f"network.weights: {source} cannot be read as weights: {why or type(error).__name__}; "
            "write them with torch.save(network.state_dict(), file)"
        ) from None
    if isinstance(values, dict) and isinstance(values.get("members"), list):
        raise UserError(
            f"network.weights: {source} contains an ensemble of {len(values['members'])} networks, which cannot "
            "initialize one network; train that run with train.members: average, or with train.folds: 0"
        )
    for key in ("weights", "state_dict", "model"):  # a model.pt of Macula; common wrappers
        if isinstance(values, dict) and isinstance(values.get(key), dict):
            values = values[key]
    if not isinstance(values, dict) or not values or not all(isinstance(v, torch.Tensor) for v in values.values()):
        raise UserError(
            f"network.weights: {source} does not contain weights by layer; "
            "write them with torch.save(network.state_dict(), file)"
        )
    return values
