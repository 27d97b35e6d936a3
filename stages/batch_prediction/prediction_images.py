"""Write predicted masks and images, and overlays of predictions, to files."""

from pathlib import Path
from typing import Any

from PIL import Image

from stages.core.shapes import Array, Integer
from stages.tasks import TASKS
from stages.tasks.image_outputs import as_file, picture_of
from stages.tasks.task_spec import TaskSpec


def write_prediction(prediction: Any, spec: TaskSpec, place: Path) -> Path:
    """Write class indices, instance numbers or the predicted image to a file.

    Args:
        prediction: prediction of a segmentation, instances or image task.
        spec: task specification.
        place: path of the file without its suffix; the content determines the suffix, .png or .npy.

    Returns:
        Path of the file.
    """
    data, ending = as_file(picture_of(prediction, spec))
    file = place.with_name(f"{place.name}{ending}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def write_overlay(image: Integer[Array, "H W *C"], prediction: Any, spec: TaskSpec, place: Path) -> Path:
    """Write the prediction drawn over its image as JPEG.

    Args:
        image: uint8 or uint16 pixels.
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
