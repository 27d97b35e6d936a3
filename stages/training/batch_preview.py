"""What a training batch looks like: images with what is learned from them drawn over."""

from typing import Any

import numpy as np
import torch

from stages.tasks.overlays import as_rgb, dot, fill, frame, line, palette
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Batch

Array = np.ndarray[Any, Any]


def drawn(batch: Batch, index: int, spec: TaskSpec) -> Array:
    """uint8 [S, S, 3]: one image of a batch with its target."""
    image_CHW = batch.image_BCHW[index].cpu()
    image = (image_CHW.permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()
    picture = as_rgb(image)
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
            other = as_rgb((target.cpu().permute(1, 2, 0) * 255).round().to(torch.uint8).numpy())
            picture = np.concatenate([picture, other], axis=1)
        case "things":
            for box_4, label in zip(target["boxes"].cpu().numpy(), target["labels"].tolist(), strict=True):
                picture = frame(picture, tuple(box_4), palette(label))
    return picture


def with_bones(picture: Array, bone_K7: Array | None) -> Array:
    """The parts of a figure: each from its joint, a dot, to its end; the first, which stays, in another colour."""
    for number, (x0, y0, x1, y1, *_) in enumerate([] if bone_K7 is None else bone_K7):
        if np.isfinite(x0):
            colour = palette(0 if number else 1)
            picture = dot(line(picture, (x0, y0), (x1, y1), colour), float(x0), float(y0), colour)
    return picture
