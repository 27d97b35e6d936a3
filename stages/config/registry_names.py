"""Names in the registries of tasks, representations, networks, encoders and augmentations, with what they go with.

They are listed because importing the registries takes seconds; tests/code/test_combinations.py compares both.
"""

import re
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

OutputKind = Literal["vector", "map", "boxes"]
"""Output of a network: numbers per image, numbers per pixel, or boxes."""


@dataclass(frozen=True)
class TaskNames:
    """Targets and scores that a task supports."""

    targets: tuple[str, ...]
    """Values of `task.target` besides auto."""
    scores: tuple[str, ...]
    """Values of `task.score`."""
    has_classes: bool = False
    """Whether `task.classes` names what is predicted."""


@dataclass(frozen=True)
class RepresentationNames:
    """Tasks and losses that a representation supports, and the network that it requires."""

    tasks: tuple[str, ...]
    """Values of `task.name`."""
    output: OutputKind
    """Output of the network."""
    losses: tuple[str, ...]
    """Values of `train.loss` besides auto; the first is the default."""
    weights: tuple[str, ...] = ()
    """Values of `train.class_weights` besides auto and none."""


TASK_NAMES = {
    "classification": TaskNames(("label",), ("balanced_accuracy", "accuracy", "auc", "f1"), True),
    "multilabel": TaskNames(
        ("labels",), ("mean_average_precision", "macro_f1", "micro_f1", "auc", "exact_match"), True
    ),
    "ordinal": TaskNames(
        ("label",), ("quadratic_kappa", "mean_absolute_error", "balanced_accuracy", "accuracy", "within_one"), True
    ),
    "regression": TaskNames(
        ("scalars", "count", "area"),
        ("mean_absolute_error", "root_mean_square_error", "r2", "mean_absolute_percentage_error"),
    ),
    "landmarks": TaskNames(("points",), ("pck", "pixel_error", "median_pixel_error", "normalized_error")),
    "segmentation": TaskNames(
        ("mask", "shapes"),
        ("dice", "iou", "pixel_accuracy", "boundary_f1", "boundary_error", "foreground_rand"),
        True,
    ),
    "image": TaskNames(("image",), ("psnr", "ssim", "mean_absolute_error")),
    "instances": TaskNames(
        ("shapes",),
        ("average_precision", "average_precision_50", "average_precision_75", "recall_50", "dsb_score", "count_error"),
        True,
    ),
}
"""Values of `task.name`."""

REPRESENTATION_NAMES = {
    "class": RepresentationNames(
        ("classification", "ordinal"), "vector", ("cross_entropy", "focal"), ("balanced", "sampled")
    ),
    "classes": RepresentationNames(("multilabel",), "vector", ("binary_cross_entropy",), ("balanced",)),
    "cumulative": RepresentationNames(("ordinal",), "vector", ("cumulative_cross_entropy",), ("balanced", "sampled")),
    "scalar": RepresentationNames(("regression",), "vector", ("huber", "l1", "l2")),
    "density": RepresentationNames(("regression",), "map", ("density_l2", "density_l1")),
    "coordinates": RepresentationNames(("landmarks",), "vector", ("coordinate_huber", "coordinate_l1")),
    "heatmap": RepresentationNames(
        ("landmarks",), "map", ("location_cross_entropy", "heatmap_cross_entropy", "heatmap_l2")
    ),
    "disc": RepresentationNames(("landmarks",), "map", ("disc_cross_entropy_dice", "disc_cross_entropy")),
    "mask": RepresentationNames(
        ("segmentation", "regression"), "map", ("cross_entropy_dice", "cross_entropy", "dice"), ("balanced",)
    ),
    "image": RepresentationNames(("image",), "map", ("l1", "l2")),
    "boxes": RepresentationNames(("instances",), "boxes", ("mask_rcnn",)),
    "watershed": RepresentationNames(("instances",), "map", ("boundary_cross_entropy_dice", "boundary_cross_entropy")),
}
"""Values of `representation.name`."""
FIRST_REPRESENTATION = {"ordinal": "cumulative", "landmarks": "heatmap"}
"""Representation that auto selects, where it is not the first that supports the task."""

NETWORK_OUTPUTS: dict[str, OutputKind] = {
    "vgg11": "vector",
    "vgg16": "vector",
    "googlenet": "vector",
    "resnet18": "vector",
    "resnet34": "vector",
    "resnet50": "vector",
    "efficientnet_lite0": "vector",
    "efficientnet_lite1": "vector",
    "efficientnet_lite2": "vector",
    "unet": "map",
    "mask_rcnn": "boxes",
}
"""Output of each value of `network.name`; that of `timm/NAME` is vector."""
ENCODER_NAMES = ("plain", *(name for name, output in NETWORK_OUTPUTS.items() if output == "vector"))
"""Values of `network.encoder` besides `timm/NAME`."""
WITH_ENCODER = ("unet", "mask_rcnn")
"""Networks that use `network.encoder`."""
AUGMENTATION_NAMES = (
    "crop",
    "flip_horizontal",
    "flip_vertical",
    "stretch",
    "shear",
    "scale",
    "rotation",
    "translation",
    "trivial",
    "articulated",
    "thin_plate",
    "elastic",
    "saturation",
    "hue",
    "tint",
    "contrast",
    "brightness",
    "gamma",
    "mixup",
    "cutmix",
    "cutout",
    "blur",
    "poisson",
    "noise",
    "jpeg",
)
"""Keys of `augment.amounts`."""

FORMAT_LABELS = {
    "folders": ("labels",),
    "arrays": ("labels", "scalars"),
    "names": ("labels", "scalars"),
    "masks": ("mask",),
    "instances": ("shapes",),
    "dots": ("boxes",),
    "pairs": ("image",),
    "coco": ("shapes", "points", "labels"),
    "voc": ("boxes",),
    "yolo": ("shapes", "points"),
    "deeplabcut": ("points",),
}
"""Kinds of labels that each value of `ingest.format` can give; boxes: shapes without masks. Those of a table depend on
`ingest.columns`."""
TARGET_LABELS = {
    "label": ("labels",),
    "labels": ("labels",),
    "scalars": ("scalars",),
    "count": ("mask", "shapes", "boxes"),
    "area": ("mask", "shapes"),
    "points": ("points",),
    "mask": ("mask",),
    "shapes": ("shapes", "boxes"),
    "image": ("image",),
}
"""Kinds of labels of which each value of `task.target` requires one."""


@cache
def timm_networks() -> frozenset[str]:
    """Return the networks of timm by the source that registers them, because importing timm takes seconds.

    The set is empty if timm is not installed.
    """
    return _registered_in_timm("models", r"^@register_model\n(?:@.*\n)*def (\w+)\(")


@cache
def timm_optimizers() -> frozenset[str]:
    """Return the optimizers of timm in the same way as `timm_networks`."""
    return _registered_in_timm("optim", r"(?:OptimInfo\(\s*(?:name=)?|register_alias\()'(\w+)'")


def _registered_in_timm(folder: str, pattern: str) -> frozenset[str]:
    """Return the first group of all matches in the modules of a folder of timm."""
    timm = find_spec("timm")
    files = (Path(timm.origin).parent / folder).glob("*.py") if timm and timm.origin else ()
    registered = re.compile(pattern, re.MULTILINE)
    return frozenset(name for file in files for name in registered.findall(file.read_text(encoding="utf-8")))
