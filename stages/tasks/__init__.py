"""Tasks: targets, decoding and scores of predictions.

They work without torch, so that serving and training share them.
"""

from typing import Any

from stages.tasks import (
    classification,
    image_to_image,
    instances,
    landmarks,
    multilabel,
    ordinal,
    regression,
    segmentation,
)

TASKS: dict[str, Any] = {
    "classification": classification,
    "multilabel": multilabel,
    "ordinal": ordinal,
    "regression": regression,
    "landmarks": landmarks,
    "segmentation": segmentation,
    "image": image_to_image,
    "instances": instances,
}
"""One module per task; each implements `stages.tasks.task_interface.Task`."""
