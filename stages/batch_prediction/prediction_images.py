"""Write predicted masks and images, and overlays of predictions, to files."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.tasks import TASKS
from stages.tasks.image_outputs import as_file, picture_of
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]


def write_prediction(prediction: Any, spec: TaskSpec, place: Path) -> Path:
    """Write class indices, instance numbers or the predicted image to a file.

    Args:
        prediction: prediction of the task.
        spec: task specification.
        place: path of the file without its suffix, which depends on the content.

    Returns:
        Path of the file.
    """
    data, ending = as_file(picture_of(prediction, spec))
    file = place.with_name(f"{place.name}{ending}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def write_overlay(image: Array, prediction: Any, spec: TaskSpec, place: Path) -> Path:
    """Write the prediction drawn over its image as JPEG.

    Args:
        image: uint8 or uint16 [H, W, C].
        prediction: prediction of the task.
        spec: task specification.
        place: path of the file without its suffix.

    Returns:
        Path of the file.
    """
    file = place.with_name(f"{place.name}.jpg")
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(TASKS[spec.task].draw(image, prediction, spec)).save(file)
    return file
