"""All the preprocessing there is: resize and divide by 255, the same for `prepare`, training and the ONNX graph."""

import torch
from torch.nn import functional

OFF_TIES = 3.7e-4
"""Grey levels. Enlarging by simple ratios gives exact halves, which runtimes that add in another order round apart."""


def resize(image_NHWC: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """uint8 or uint16 [N, H, W, C] of any size to [N, height, width, C]: bilinear, antialiased, whole grey levels.

    Rounding here too, and not only where the result is stored, makes the exported graph see exactly the pixels that
    training saw.
    """
    image_NCHW = image_NHWC.permute(0, 3, 1, 2).float()
    resized = functional.interpolate(
        image_NCHW, size=(height, width), mode="bilinear", antialias=True, align_corners=False
    )
    whole = (resized + OFF_TIES).round()  # an average lies within its values: nothing to clamp
    return whole.to(image_NHWC.dtype).permute(0, 2, 3, 1)


def fitted(image_NHWC: torch.Tensor, fit: str, size: int) -> torch.Tensor:
    """The working image of an original: [N, size, size, C]; for `tile` the image as it is.

    The arithmetic is that of `stages.images.geometry.inner_size`, written so that a graph with free sizes can hold it.
    """
    if fit == "tile":
        return image_NHWC
    if fit == "stretch":
        return resize(image_NHWC, size, size)
    height, width = letterboxed(image_NHWC.shape[1], image_NHWC.shape[2], size)
    inner_NCHW = resize(image_NHWC, height, width).permute(0, 3, 1, 2).float()  # ONNX Runtime pads no uint16
    padded_NCHW = functional.pad(inner_NCHW, (0, size - width, 0, size - height))
    return padded_NCHW.to(image_NHWC.dtype).permute(0, 2, 3, 1)


def letterboxed(height: int, width: int, size: int) -> tuple[int, int]:
    """`inner_size` of a letterbox, for whole numbers and for symbols."""
    longer = torch.sym_max(height, width)
    inner_height = (2 * height * size + longer) // (2 * longer)
    inner_width = (2 * width * size + longer) // (2 * longer)
    return torch.sym_max(1, inner_height), torch.sym_max(1, inner_width)  # type: ignore[return-value]  # or symbols


def scale(image_NHWC: torch.Tensor) -> torch.Tensor:
    """uint8 or uint16 [N, H, W, C] to float [N, C, H, W] in 0..1."""
    image_NCHW = image_NHWC.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return image_NCHW.div_(white(image_NHWC))


def white(image: torch.Tensor) -> float:
    """The largest value that the type of an image can hold."""
    return 65535.0 if image.dtype == torch.uint16 else 255.0
