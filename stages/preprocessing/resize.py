"""Image preprocessing (resize and scale to 0..1), shared by `prepare`, training and the ONNX graph."""

import torch
from torch.nn import functional

OFF_TIES = 3.7e-4
"""Offset in grey levels that avoids rounding ties.

Enlarging by simple ratios gives exact halves, which runtimes with another order of summation round differently.
"""


def resize(image_NHWC: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Resize images bilinearly with antialiasing, rounded to whole grey levels.

    Rounding inside the function ensures that the exported graph processes exactly the pixels used in training.

    Args:
        image_NHWC: uint8 or uint16 [N, H, W, C].
        height: new height, pixels.
        width: new width, pixels.

    Returns:
        Images [N, height, width, C] of the same type.
    """
    image_NCHW = image_NHWC.permute(0, 3, 1, 2).float()
    resized = functional.interpolate(
        image_NCHW, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
    whole = (resized + OFF_TIES).round()  # no clamping: an average lies within the range of its values
    return whole.to(image_NHWC.dtype).permute(0, 2, 3, 1)


def fit_image(image_NHWC: torch.Tensor, fit: str, size: int) -> torch.Tensor:
    """Return working images: original images resized to the working size, or unchanged for `tile`.

    Sizes are those of `stages.images.geometry.inner_size`, computed so that they can be exported as dynamic sizes.

    Args:
        image_NHWC: uint8 or uint16 [N, H, W, C].
        fit: `stretch`, `letterbox` or `tile`.
        size: working size, pixels.

    Returns:
        Images [N, size, size, C], padded with 0 at the bottom or right for `letterbox`; for `tile` the unchanged
        images.
    """
    if fit == "tile":
        return image_NHWC
    if fit == "stretch":
        return resize(image_NHWC, size, size)
    height, width = letterbox_size(image_NHWC.shape[1], image_NHWC.shape[2], size)
    inner_NCHW = resize(image_NHWC, height, width).permute(0, 3, 1, 2).float()  # ONNX Runtime cannot pad uint16
    padded_NCHW = functional.pad(inner_NCHW, (0, size - width, 0, size - height))
    return padded_NCHW.to(image_NHWC.dtype).permute(0, 2, 3, 1)


def letterbox_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return height and width of the image inside its letterbox, for integers and symbolic sizes.

    Args:
        height: original height, pixels.
        width: original width, pixels.
        size: working size, pixels.
    """
    longer = torch.sym_max(height, width)
    inner_height = (2 * height * size + longer) // (2 * longer)
    inner_width = (2 * width * size + longer) // (2 * longer)
    return torch.sym_max(1, inner_height), torch.sym_max(1, inner_width)  # type: ignore[return-value]  # or symbolic


def scale(image_NHWC: torch.Tensor, white: int) -> torch.Tensor:
    """Convert uint8 or uint16 images [N, H, W, C] to float32 [N, C, H, W] in 0..1.

    Args:
        image_NHWC: images.
        white: level that becomes 1, such as `TaskSpec.white_level`.
    """
    image_NCHW = image_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return image_NCHW.div_(float(white))


def max_value(image: torch.Tensor) -> float:
    """Return the maximum value of the data type of an image: 255 or 65535."""
    return 65535.0 if image.dtype == torch.uint16 else 255.0
