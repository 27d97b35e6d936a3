"""Draw training batches: images with their targets as an overlay."""

import numpy as np
import torch

from stages.core.shapes import Array, Float, UInt8
from stages.tasks.overlays import as_rgb, dot, fill, frame, line, palette
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Batch


def draw_example(batch: Batch, index: int, spec: TaskSpec) -> UInt8[Array, "S _ 3"]:
    """Return one image of a batch with its target drawn on it; targets that are classes or numbers are not drawn.

    Args:
        batch: images and targets.
        index: which image of the batch.
        spec: the task.

    Returns:
        Picture [S, S, 3]; [S, 2 S, 3] where the target is an image, which is placed to the right.
    """
    picture = as_rgb(_as_uint8(batch.image_BCHW[index]))
    target = batch.target[index]
    match REPRESENTATIONS[spec.representation].stores:
        case "points":
            for number, (x, y) in enumerate(target.cpu().numpy()):
                if np.isfinite(x):
                    picture = dot(picture, float(x), float(y), palette(number))
        case "labels" | "ids":
            index_HW = target.cpu().numpy()
            for value in np.unique(index_HW)[1:]:
                picture = fill(picture, index_HW == value, palette(int(value)))
        case "density":
            for number, density_HW in enumerate(target.cpu().numpy()):
                picture = fill(picture, density_HW > density_HW.max() / 4, palette(number))
        case "image":
            picture = np.concatenate([picture, as_rgb(_as_uint8(target))], axis=1)
        case "things":
            for box_4, label in zip(target["boxes"].cpu().numpy(), target["labels"].tolist(), strict=True):
                picture = frame(picture, tuple(box_4), palette(label))
    return picture


def draw_bones(picture: UInt8[Array, "H W 3"], bone_K7: Float[Array, "K 7"] | None) -> UInt8[Array, "H W 3"]:
    """Draw the articulated parts of a figure on a picture: a dot at the joint and a line to the end.

    The first part, which stays fixed, has another colour.
    """
    for number, (x0, y0, x1, y1, *_) in enumerate([] if bone_K7 is None else bone_K7):
        if np.isfinite(x0):
            colour = palette(0 if number else 1)
            picture = dot(line(picture, (x0, y0), (x1, y1), colour), float(x0), float(y0), colour)
    return picture


def _as_uint8(image_CHW: Float[torch.Tensor, "C H W"]) -> UInt8[Array, "H W C"]:
    return (image_CHW.cpu().permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
