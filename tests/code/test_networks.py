"""Shared test suite of all networks, and loading of pretrained weights."""

import dataclasses
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.export import Dim

from stages.core.errors import UserError
from stages.networks import NETWORKS, NetworkConfig, architecture, build
from stages.networks.encoders import ENCODERS, build_encoder
from stages.networks.pretrained import locate_weights
from stages.networks.weight_loading import Layer, load_weights, pretrained_parameters

VECTOR_NETWORKS = [
    *(name for name, known in NETWORKS.items() if known.gives == "vector"),
    "timm/resnet10t",
    "timm/test_vit",
]
UNET_ENCODERS = [*ENCODERS, "timm/test_convnext", "timm/test_efficientnet"]
MEMBERS = [*((name, "plain") for name in VECTOR_NETWORKS), *(("unet", name) for name in UNET_ENCODERS)]
# Same code as their smaller variants, and slow.
LARGER_VARIANTS = {"vgg16", "resnet34", "resnet50", "efficientnet_lite1", "efficientnet_lite2"}
DISTINCT = [member for member in MEMBERS if not LARGER_VARIANTS & {*member}]
EXPORTED = [member for member in DISTINCT if member[1] not in ("vgg11", "timm/test_efficientnet")]
WITHOUT_BATCH_NORM = ("timm/test_vit",)
NORM_CASES = [
    (*member, norm) for member in MEMBERS for norm in ("batch", "group", "none") if member in DISTINCT or norm == "none"
]
all_networks = pytest.mark.parametrize(("name", "encoder"), MEMBERS)
NORM_LAYERS = (nn.BatchNorm2d, nn.GroupNorm)

config = partial(NetworkConfig, encoder="plain", channels=3, outputs=4, norm="batch", dropout=0.0, size=64)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Use one thread: more threads do not speed up small networks, and slow them down on busy cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def build_network(name: str, encoder: str = "plain", **changes: Any) -> Any:
    torch.manual_seed(0)
    return build(config(name, **{"encoder": encoder} | changes))


def image(channels: int, height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def randomized(network: nn.Module) -> nn.Module:
    """Randomize all weights, so that misplaced weights change the output."""
    torch.manual_seed(2)
    for values in network.state_dict().values():
        if values.ndim == 1 and values.is_floating_point():
            values.add_(torch.rand(values.shape) * 0.2)
    return network.eval()


@all_networks
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_output_has_the_expected_shape(name: str, encoder: str, channels: int) -> None:
    network = build_network(name, encoder, channels=channels).eval()
    dense = architecture(name).gives == "map"
    height, width = (33, 47) if dense else (64, 64)
    with torch.no_grad():
        output = network(image(channels, height, width, 1))
    assert output.shape == ((1, 4, height, width) if dense else (1, 4))


@pytest.mark.parametrize(("name", "encoder", "norm"), NORM_CASES)
def test_gradients_reach_all_weights_with_every_norm(name: str, encoder: str, norm: str) -> None:
    if norm != "batch" and name in WITHOUT_BATCH_NORM:
        with pytest.raises(UserError, match=f"norm: {norm}, but {name} has no batch normalization"):
            build_network(name, norm=norm)
        return
    network = build_network(name, encoder, norm=norm)
    if name not in WITHOUT_BATCH_NORM:
        kinds = {kind for kind in NORM_LAYERS if any(isinstance(module, kind) for module in network.modules())}
        assert kinds == {"batch": {nn.BatchNorm2d}, "group": {nn.GroupNorm}, "none": set()}[norm]
    randomized(network).train()
    side = 32 if name == "unet" else 64
    output = network(image(3, side, side))
    assert torch.isfinite(output).all() and output.std() < 100
    output.square().mean().backward()
    parameters = dict(network.named_parameters())
    assert parameters
    assert not [n for n, p in parameters.items() if p.grad is None or not p.grad.abs().max() > 0]


SLOW = [member for member in MEMBERS if member[0] == "unet" and member[1] != "timm/test_convnext"]
"""Networks that are overfitted by `make test-slow` only; the others are overfitted in every run."""


@pytest.mark.parametrize(
    ("name", "encoder"), [pytest.param(*m, marks=pytest.mark.slow if m in SLOW else []) for m in MEMBERS]
)
def test_network_overfits_eight_images(name: str, encoder: str) -> None:
    network = build_network(name, encoder)
    dense = architecture(name).gives == "map"
    side = 32 if dense else 64
    pixels, class_map = image(3, side, side, 8) * 0.5, torch.zeros(8, side, side, dtype=torch.long)
    for number in range(8):
        region = (slice(2 + 2 * number, 14 + 2 * number), slice(16 - 2 * number, 28 - 2 * number))
        pixels[number, number % 3, *region] += 0.5
        class_map[number, *region] = 1 + number % 3
    target = class_map if dense else torch.arange(8) % 4
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-4 if name in WITHOUT_BATCH_NORM else 1e-3)
    network.train()
    for _ in range(300):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(network(pixels), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if loss < 0.05:
            break
    with torch.no_grad():  # training mode: running averages of batch normalization lag behind the weights
        accuracy = (network(pixels).argmax(dim=1) == target).float().mean()
    assert accuracy > (0.98 if dense else 0.99), f"accuracy {accuracy:.3f}, loss {loss:.3f}"


def test_replacing_norm_keeps_timm_activations() -> None:
    network = build_network("timm/test_efficientnet", norm="group")
    kinds = [type(module).__name__ for module in network.modules()]
    assert (
        kinds.count("SiLU")
        == [type(m).__name__ for m in build_network("timm/test_efficientnet").modules()].count("SiLU")
        > 0
    )


@pytest.mark.parametrize(("name", "encoder"), DISTINCT)
def test_dropout_is_inactive_in_evaluation(name: str, encoder: str) -> None:
    network = build_network(name, encoder, dropout=0.5, norm="batch" if name in WITHOUT_BATCH_NORM else "group")
    pixels = image(3, *(32, 32) if name == "unet" else (64, 64))
    with torch.no_grad():
        assert not torch.equal(network.train()(pixels), network(pixels))
        assert torch.equal(network.eval()(pixels), network(pixels))


@pytest.mark.parametrize(("name", "encoder"), EXPORTED)
def test_onnx_equals_torch_at_dynamic_sizes(name: str, encoder: str, tmp_path: Path) -> None:
    import onnxruntime

    network = randomized(build_network(name, encoder))
    dense = architecture(name).gives == "map"
    batch_axis = {0: Dim("N", min=1, max=64)}
    sizes = {2: Dim("H", min=1, max=4096), 3: Dim("W", min=1, max=4096)} if dense else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image(3, 64, 96 if dense else 64),), str(tmp_path / "n.onnx"), opset_version=20, dynamo=True,
            dynamic_shapes=(batch_axis | sizes,), external_data=False, verbose=False,
        )  # fmt: skip
    session = onnxruntime.InferenceSession(tmp_path / "n.onnx")
    for batch, height, width in [(3, 33, 47), (1, 70, 40)] if dense else [(3, 64, 64), (1, 64, 64)]:
        pixels = image(3, height, width, batch)
        (onnx_output,) = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(onnx_output), network(pixels), atol=1e-4)


@pytest.mark.parametrize("name", [*ENCODERS, "timm/resnet10t", "timm/test_vit", "timm/swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("size", [(32, 32), (64, 96)])
def test_encoder_maps_match_declared_widths_and_strides(name: str, size: tuple[int, int]) -> None:
    encoder: Any = build_encoder(name, 1).eval()
    with torch.no_grad():
        maps = encoder(image(1, *size))
    expected = zip(encoder.widths, encoder.strides, strict=True)
    assert [m.shape[1:] for m in maps] == [(width, size[0] // s, size[1] // s) for width, s in expected]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "resnet81"}, "network.name: resnet81 is unknown; did you mean `resnet18`"),
        ({"name": "timm/resnet81"}, "timm/resnet81: timm has no such network; did you mean"),
        ({"name": "timm/resnet18.a1_in2k"}, "timm has no weights a1_in2k of resnet18; did you mean `a1_in1k`"),
        ({"name": "unet", "encoder": "resnet81"}, "network.encoder: resnet81 is unknown; did you mean `resnet18`"),
        ({"name": "unet", "encoder": "timm/resnet81"}, "timm/resnet81: timm has no such network"),
    ],
)
def test_unknown_names_raise_with_suggestion(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build(config(**changes))


def test_network_normalizes_input() -> None:
    network = build_network("resnet18").eval()
    pixels = image(3, 64, 64)
    assert torch.equal(network(pixels), network.body(pixels)), "identity by default"
    network.normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    normalized = (pixels - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    assert torch.allclose(network(pixels), network.body(normalized), atol=1e-5)
    grey = build_network("resnet18", channels=1)
    grey.normalize([0.1, 0.2, 0.3], [0.5, 0.6, 0.7])
    assert grey.mean_C11.item() == pytest.approx(0.2) and grey.deviation_C11.item() == pytest.approx(0.6)


# -- pretrained weights


def torchvision_network(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    torch.manual_seed(3)
    return randomized(getattr(models, name)(weights=None, **options))


@pytest.fixture
def resnet(tmp_path: Path) -> Path:
    """Save a torchvision state dict without batch counters, as in old files; return its path."""
    file = tmp_path / "resnet18.pth"
    weights = torchvision_network("resnet18", num_classes=10).state_dict()
    torch.save({n: v for n, v in weights.items() if not n.endswith("num_batches_tracked")}, file)
    return file


def load(name: str, source: Path | str, encoder: str = "plain", **changes: Any) -> tuple[Any, dict[str, Layer]]:
    network = build_network(name, encoder, **changes)
    layers = load_weights(network, config(name, **{"encoder": encoder} | changes), str(source))
    return network.eval(), {layer.name: layer for layer in layers}


def count_states(layers: dict[str, Layer]) -> dict[str, int]:
    states = [layer.state for layer in layers.values()]
    return {state: states.count(state) for state in states}


def test_state_dict_file_restores_network(resnet: Path) -> None:
    network, layers = load("resnet18", resnet, outputs=10, dropout=0.3)
    pixels = image(3, 64, 64)
    with torch.no_grad():
        expected = torchvision_network("resnet18", num_classes=10)(pixels)
        assert torch.allclose(network.body(pixels), expected, atol=1e-5)
    assert set(count_states(layers)) == {"loaded"}


def test_different_last_layer_is_random_and_reported(resnet: Path) -> None:
    network, layers = load("resnet18", resnet)
    random_layers = {name: layer.why for name, layer in layers.items() if layer.state == "random"}
    assert random_layers == {
        "body.fc.1.weight": "(4, 512) here, (10, 512) in the file",
        "body.fc.1.bias": "(4,) here, (10,) in the file",
    }
    known, new = pretrained_parameters(network, list(layers.values()))
    assert [tuple(p.shape) for p in new] == [(4, 512), (4,)]
    assert len(known) + len(new) == len(list(network.parameters())) and not {*map(id, known)} & {*map(id, new)}
    assert pretrained_parameters(network, [])[0] == []


@pytest.mark.parametrize("prefix", ["module.", "model.", "module.model.", "encoder.", "backbone.body."])
def test_wrapper_prefixes_are_ignored(resnet: Path, prefix: str) -> None:
    weights = {f"{prefix}{name}": values for name, values in torch.load(resnet).items()}
    torch.save({"state_dict": weights, "epoch": 3}, resnet)
    assert count_states(load("resnet18", resnet, outputs=10)[1]) == {"loaded": 102}


@pytest.mark.parametrize("name", ["unet", "mask_rcnn"])
def test_state_dict_file_is_loaded_into_the_encoder(resnet: Path, name: str) -> None:
    network, layers = load(name, resnet, "resnet18")
    encoder = network.body.encoder if name == "unet" else network.body.detector.backbone.encoder
    pixels = image(3, 64, 64)
    with torch.no_grad():
        reference = torchvision_network("resnet18", num_classes=10)
        expected = nn.Sequential(*list(reference.children())[:-2])(pixels)
        assert torch.allclose(encoder.eval()(pixels)[-1], expected, atol=1e-5)
    fc = {"body.fc.weight", "body.fc.bias"} if name == "unet" else {"fc.weight", "fc.bias"}
    assert {layers[key].state for key in fc} == ({"random"} if name == "unet" else {"unused"})
    assert count_states(layers)["loaded"] == 100
    known, new = pretrained_parameters(network, list(layers.values()))
    assert {*map(id, known)} == {*map(id, encoder.parameters())} and new


@pytest.mark.parametrize("name", ["resnet18", "vgg11", "googlenet", "timm/test_convnext", "timm/test_efficientnet"])
def test_weights_of_another_run_are_loaded_into_encoder_and_network(name: str, tmp_path: Path) -> None:
    before = randomized(build_network(name))
    before.normalize([0.4] * 3, [0.3] * 3)  # type: ignore[operator]
    saved = {"blueprint": dataclasses.asdict(config(name)), "weights": before.state_dict(), "about": {"labels": ["a"]}}
    torch.save(saved, tmp_path / "model.pt")
    restored, layers = load(name, tmp_path / "model.pt", dropout=0.5)
    pixels = image(3, 64, 64)
    with torch.no_grad():
        assert torch.equal(restored(pixels), before(pixels))
    assert set(count_states(layers)) == {"loaded"}
    network, layers = load("unet", tmp_path / "model.pt", name)
    loaded = {f"body.encoder.{key}" for key in network.body.encoder.state_dict() if not key.endswith("_tracked")}
    assert loaded and loaded == {key for key, layer in layers.items() if layer.state == "loaded"}
    assert network.mean_C11.flatten().tolist() == pytest.approx([0.4] * 3)


def test_running_statistics_follow_the_images_of_a_short_training() -> None:
    network = build(NetworkConfig("efficientnet_lite0", "", 3, 2, "batch", 0.0, 32)).train()
    pixels, norm = image(3, 64, 64) + 3, cast(Any, network.body.bn1)
    with torch.no_grad():
        for _ in range(30):
            network(pixels)
        seen, norm.momentum = norm.running_mean.clone(), 1.0
        network(pixels)
    assert torch.allclose(seen, norm.running_mean, rtol=0.1, atol=1e-3)


def test_adapted_first_convolution_preserves_output_for_grey_images(resnet: Path) -> None:
    pixels = image(1, 64, 64)
    with torch.no_grad():
        expected = load("resnet18", resnet, outputs=10)[0].body(pixels.expand(-1, 3, -1, -1))
        for channels in (1, 5):
            network, layers = load("resnet18", resnet, outputs=10, channels=channels)
            assert torch.allclose(network.body(pixels.expand(-1, channels, -1, -1)), expected, atol=1e-4)
            assert [n for n, layer in layers.items() if layer.state == "adapted"] == ["body.conv1.weight"]
            assert len(pretrained_parameters(network, list(layers.values()))[0]) == 60


def test_mismatched_layers_are_listed_with_both_shapes(resnet: Path) -> None:
    weights = torch.load(resnet)
    weights["layer1.0.conv1.weight"] = torch.zeros(64, 64, 5, 5)
    del weights["layer4.1.bn2.bias"]
    torch.save(weights, resnet)
    network = build_network("resnet18")
    before = {name: values.clone() for name, values in network.state_dict().items()}
    with pytest.raises(UserError) as raised:
        load_weights(network, config("resnet18"), str(resnet))
    lines = str(raised.value).splitlines()
    assert "resnet18.pth does not fit resnet18: it contains 100% of the expected weights" in lines[0]
    assert lines[1:-1] == [
        "  body.layer1.0.conv1.weight: (64, 64, 3, 3) here, (64, 64, 5, 5) in the file",
        "  body.layer4.1.bn2.bias: (512,) here, none in the file",
    ]
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())


def test_file_of_another_network_is_detected(resnet: Path) -> None:
    with pytest.raises(UserError) as raised:
        load("unet", resnet, "googlenet")
    assert "it contains 0% of the expected weights" in str(raised.value)
    assert "a file of another network" in str(raised.value) and "and 245 more" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 43


@pytest.mark.parametrize(("before", "after"), [("batch", "group"), ("batch", "none"), ("group", "none")])
def test_weights_with_another_norm_are_rejected(before: str, after: str, tmp_path: Path) -> None:
    torch.save({"weights": build_network("resnet18", norm=before).state_dict()}, tmp_path / "model.pt")
    assert set(count_states(load("resnet18", tmp_path / "model.pt", norm=before)[1])) == {"loaded"}
    with pytest.raises(
        UserError, match=f"norm: {after}, but .* trained with {before} norm.* use network.norm: {before}"
    ):
        load("resnet18", tmp_path / "model.pt", norm=after)


def test_safetensors_can_be_loaded(resnet: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(torch.load(resnet), tmp_path / "r.safetensors")
    assert count_states(load("resnet18", tmp_path / "r.safetensors", outputs=10)[1]) == {"loaded": 102}


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_damaged_files_raise_user_error(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"w.{suffix}"
    file.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(UserError, match="cannot be read as weights"):
        load("resnet18", file)
    if suffix == "pth":
        torch.save([1, 2], file)
        with pytest.raises(UserError, match="does not contain weights by layer"):
            load("resnet18", file)


def test_weight_files_are_resolved_in_their_folder_only(tmp_path: Path) -> None:
    for source in ("none", "default", "https://example.org/w.pth"):
        assert locate_weights(source, tmp_path) == source
    (tmp_path / "mine.pth").touch()
    assert locate_weights("mine.pth", tmp_path) == str(tmp_path / "mine.pth")
    for wrong in ("your.pth", f"../{tmp_path.name}/mine.pth", str(tmp_path / "mine.pth")):
        message = f"'{wrong}' is not a file in .* the folder contains mine.pth; copy the weights"
        with pytest.raises(UserError, match=message):
            locate_weights(wrong, tmp_path)


class Handler(SimpleHTTPRequestHandler):
    """HTTP handler that logs nothing and truncates files named `cut`."""

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "cut" in self.path else content)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Serve `tmp_path` over HTTP, with an empty torch cache; return the address."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def cached(tmp_path: Path) -> list[str]:
    return [file.name for file in (tmp_path / "cache").rglob("*") if file.is_file()]


def test_weights_at_a_url_are_downloaded_once(resnet: Path, served: str, tmp_path: Path) -> None:
    assert count_states(load("resnet18", f"{served}/resnet18.pth", outputs=10)[1]) == {"loaded": 102}
    resnet.unlink()
    assert count_states(load("resnet18", f"{served}/resnet18.pth", outputs=10)[1]) == {"loaded": 102}
    assert len(cached(tmp_path)) == 1 and cached(tmp_path)[0].endswith("-resnet18.pth")


def test_failed_download_leaves_no_file(resnet: Path, served: str, tmp_path: Path) -> None:
    (tmp_path / "cut.pth").write_bytes(resnet.read_bytes())
    (tmp_path / "text.pth").write_text("<html>")
    for name, message in {
        "none.pth": "cannot be downloaded: HTTP Error 404",
        "cut.pth": "ended after",
        "text.pth": "cannot be read as weights",
    }.items():
        with pytest.raises(UserError, match=message):
            load("resnet18", f"{served}/{name}")
    with pytest.raises(UserError, match="cannot be downloaded"):
        load("resnet18", "http://127.0.0.1:1/w.pth")
    assert cached(tmp_path) == []


@pytest.fixture
def publish(served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, nn.Module], str]:
    """Return a function that serves weights in place of those of torchvision, under a file name with their hash."""
    import hashlib
    from types import SimpleNamespace

    from torchvision import models

    def serve(name: str, network: nn.Module) -> str:
        torch.save(network.state_dict(), tmp_path / "w")
        prefix = hashlib.sha256((tmp_path / "w").read_bytes()).hexdigest()[:8]
        (tmp_path / "w").rename(tmp_path / f"{name}-{prefix}.pth")
        real = models.get_model_weights(name).DEFAULT
        default = SimpleNamespace(url=f"{served}/{name}-{prefix}.pth", transforms=real.transforms)
        monkeypatch.setattr(models, "get_model_weights", {name: SimpleNamespace(DEFAULT=default)}.__getitem__)
        return prefix

    return serve


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_published_weights_give_the_torchvision_output(name: str, publish: Callable[..., str]) -> None:
    options = {"transform_input": True, "init_weights": False} if name == "googlenet" else {}
    reference = torchvision_network(name, **options)
    publish(name, reference)
    network, layers = load(name, "default", outputs=1000)
    pixels = image(3, 64, 64)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = reference((pixels - mean[:, None, None]) / deviation[:, None, None])
        assert torch.allclose(network(pixels), expected, atol=1e-4)
    unused = [layer.name for layer in layers.values() if layer.state == "unused"]
    assert all(key.startswith("aux") for key in unused) and bool(unused) == (name == "googlenet")


def test_published_weights_are_loaded_into_an_encoder(publish: Callable[..., str]) -> None:
    from torchvision.models import vgg

    features: Any = randomized(vgg.make_layers(vgg.cfgs["A"], batch_norm=True))
    reference = nn.ModuleDict({"features": features, "classifier": nn.Sequential(nn.Linear(8, 8))})
    publish("vgg11_bn", reference)
    network, layers = load("unet", "default", "vgg11")
    pixels = image(3, 64, 64)
    normalized = (pixels - network.mean_C11) / network.deviation_C11
    with torch.no_grad():
        assert torch.allclose(network.body.encoder(normalized)[-1], features[:-1](normalized), atol=1e-4)
    assert network.mean_C11.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert count_states(layers)["unused"] == 2
    assert load("vgg11", "default")[1]["body.fc.1.weight"].state == "random"


def test_published_weights_with_wrong_hash_are_rejected(publish: Callable[..., str], tmp_path: Path) -> None:
    prefix = publish("resnet18", nn.Linear(2, 2))
    (tmp_path / f"resnet18-{prefix}.pth").write_text("replaced")
    with pytest.raises(UserError, match=rf"has SHA-256 .*, not {prefix}"):
        load("resnet18", "default")
    assert cached(tmp_path) == []


@pytest.mark.parametrize("name", ["timm/test_vit", "timm/test_convnext"])
def test_published_timm_weights_are_loaded(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    timm_name = name.removeprefix("timm/")
    torch.save(timm.create_model(timm_name).state_dict(), tmp_path / "t.pth")
    real: Any = timm.create_model
    local = {"pretrained_cfg_overlay": {"file": str(tmp_path / "t.pth")}}
    monkeypatch.setattr(timm, "create_model", lambda *a, **o: real(*a, **o, **(local if o.get("pretrained") else {})))
    network, layers = load(name, "default", channels=1)
    assert count_states(layers)["random"] == 2 and count_states(layers)["adapted"] == 1
    published: Any = timm.get_pretrained_cfg(timm_name)
    assert network.mean_C11.mean().item() == pytest.approx(sum(published.mean) / 3)
    if name != "timm/test_vit":
        assert count_states(load("unet", "default", name)[1])["loaded"] > 20


def test_plain_encoder_has_no_published_weights() -> None:
    with pytest.raises(UserError, match="there are no published weights of the plain encoder"):
        load("unet", "default")
    with pytest.raises(
        UserError, match=r"published weights of timm/lcnet_035 could not be loaded: No pretrained weights"
    ):
        load("timm/lcnet_035", "default")
