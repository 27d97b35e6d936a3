"""Answers that are images, and images with their answer drawn over, as files."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.tasks import TASKS
from stages.tasks.image_outputs import as_file, picture_of
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]


def write_answer(answer: Any, spec: TaskSpec, place: Path) -> Path:
    """Indices of classes, numbers of things, or the image, beside `place` with an ending of its own."""
    data, ending = as_file(picture_of(answer, spec))
    file = place.with_name(f"{place.name}{ending}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def write_overlay(image: Array, answer: Any, spec: TaskSpec, place: Path) -> Path:
    """The answer over its image [H, W, C], as JPEG."""
    file = place.with_name(f"{place.name}.jpg")
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(TASKS[spec.task].draw(image, answer, spec)).save(file)
    return file
