"""Resizing and scaling of images, in torch and in the exported graph."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from stages.images.geometry import placements
from stages.preprocessing.resize import fit_image, resize, scale


@pytest.mark.parametrize("shape", [(8, 8, 1), (31, 57, 3), (200, 150, 3), (90, 400, 1)])
def test_resize_matches_pillow_within_one_grey_level(shape: tuple[int, int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    ours = resize(torch.from_numpy(image)[None], 32, 32)[0].numpy()
    pillow = Image.fromarray(image.squeeze()).resize((32, 32), Image.Resampling.BILINEAR)
    assert np.abs(ours.squeeze().astype(int) - np.asarray(pillow).astype(int)).max() <= 1


@pytest.mark.parametrize("side", [8, 14, 28, 45])
def test_exported_resize_rounds_like_torch(side: int, tmp_path: Path) -> None:
    import onnxruntime
    from torch.export import Dim

    class Resize(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return resize(image, 64, 64)

    example = torch.zeros((2, 40, 50, 1), dtype=torch.uint8)
    sizes = {0: Dim("N", min=1, max=64), 1: Dim("H", min=1, max=99), 2: Dim("W", min=1, max=99)}
    torch.onnx.export(
        Resize().eval(), (example,), str(tmp_path / "resize.onnx"), input_names=["image"], dynamic_shapes=(sizes,),
        opset_version=20, dynamo=True, verbose=False,
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (20, side, side, 1), dtype=np.uint8)
    (by_onnx,) = onnxruntime.InferenceSession(tmp_path / "resize.onnx").run(None, {"image": image})
    by_torch = resize(torch.from_numpy(image), 64, 64).numpy()
    assert (by_onnx != by_torch).mean() < 5e-5  # 1e-3 of 28 pixels if exact halves round arbitrarily


def test_image_of_working_size_is_unchanged() -> None:
    image = torch.randint(0, 256, (2, 24, 24, 3), dtype=torch.uint8)
    assert torch.equal(resize(image, 24, 24), image)


def test_scaling_divides_by_255() -> None:
    image = torch.tensor([[[[0], [51]], [[102], [255]]]], dtype=torch.uint8)
    assert torch.allclose(scale(image, 255), torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]]))


def test_scaling_divides_12_bits_by_their_white_level() -> None:
    image = torch.tensor([[[[0], [819]], [[1638], [4095]]]], dtype=torch.int32).to(torch.uint16)
    assert torch.allclose(scale(image, 4095), torch.tensor([[[[0.0, 0.2], [0.4, 1.0]]]]))


@pytest.mark.parametrize("fit", ["stretch", "letterbox"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (31, 57, 3), (200, 150, 3), (7, 400, 1)])
def test_working_image_matches_placement(shape: tuple[int, int, int], fit: str) -> None:
    image = np.full(shape, 200, np.uint8)
    working = fit_image(torch.from_numpy(image)[None], fit, 48)[0].numpy()
    (placement,) = placements(*shape[:2], fit, 48, 0.0)
    assert working.shape == (48, 48, shape[2])
    assert (working[: placement.inner_height, : placement.inner_width] == 200).all()
    assert (working != 0).all(axis=2).sum() == placement.inner_height * placement.inner_width
