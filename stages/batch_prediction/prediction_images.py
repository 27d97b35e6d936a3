"""Write predicted masks and images, and overlays of predictions, to files."""

import json
from pathlib import Path
from typing import Any

from PIL import Image

from stages.core.errors import UserError
from stages.core.shapes import Array, Integer
from stages.images.display import STRETCHED
from stages.tasks import TASKS
from stages.tasks.image_outputs import as_file, class_values, picture_of
from stages.tasks.overlays import legend
from stages.tasks.task_spec import TaskSpec

LEGEND_FILE = "legend.json"


def write_prediction(prediction: Any, spec: TaskSpec, place: Path) -> Path:
    """Write class values, instance numbers or the predicted image to a file.

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


def write_legends(spec: TaskSpec, files: Path | None, overlays: Path | None) -> None:
    """Write `legend.json`: the class of each value of predicted masks, and the colour of each name on overlays.

    Args:
        spec: task specification.
        files: folder of the predicted masks; None if they are not written.
        overlays: folder of the overlays; None if they are not written.

    Raises:
        UserError: a legend cannot be written.
    """
    if files is not None and spec.task == "segmentation":
        values = zip(class_values(spec).tolist(), spec.labels, strict=True)
        _write_legend(files, "--files", {"values": {str(value): label for value, label in values}})
    if overlays is not None and (colours := legend(spec)):
        hexadecimal = {name: "#{:02x}{:02x}{:02x}".format(*colour) for name, colour in colours.items()}
        _write_legend(overlays, "--overlays", {"colours": hexadecimal})


def _write_legend(folder: Path, option: str, content: dict[str, Any]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LEGEND_FILE).write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{option} {folder}: cannot write {LEGEND_FILE}: {error.strerror}") from error


def write_overlay(image: Integer[Array, "H W *C"], prediction: Any, spec: TaskSpec, place: Path) -> Path:
    """Write the prediction drawn over its image as JPEG, with a comment that states how 16-bit images are drawn.

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
    comment = STRETCHED if spec.depth == 16 else ""
    Image.fromarray(TASKS[spec.task].draw(image, prediction, spec)).save(file, comment=comment)
    return file
