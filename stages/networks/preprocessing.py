"""All the preprocessing there is: resize and divide by 255, the same for `prepare`, training and the ONNX graph."""

import torch
from torch.nn import functional

OFF_TIES = 3.7e-4
"""Grey levels. Enlarging by simple ratios gives exact halves, which runtimes that add in another order round apart."""


def resize(image_NHWC: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 [N, H, W, C] of any size to uint8 [N, size, size, C]: bilinear, antialiased, rounded to whole grey levels.

    Rounding here too, and not only where the result is stored, makes the exported graph see exactly the pixels that
    training saw.
    """
    image_NCHW = image_NHWC.permute(0, 3, 1, 2).float()
    resized = functional.interpolate(
        image_NCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return (resized + OFF_TIES).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def scale(image_NHWC: torch.Tensor) -> torch.Tensor:
    """uint8 [N, H, W, C] to float [N, C, H, W] in 0..1."""
    return image_NHWC.permute(0, 3, 1, 2).float() / 255
