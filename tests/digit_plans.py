"""Training plans on real digits that run within seconds."""

from pathlib import Path
from typing import Any

from stages.config.schema import Params
from stages.training.auto_params import resolve_auto
from stages.training.devices import single_process_fabric
from stages.training.loop import TrainingResult, fit
from stages.training.trainer_state import TrainerState, build_state
from stages.training.training_plan import TrainingData, TrainingPlan, build_plan, load_training_data
from stages.training.training_progress import EpochMetrics
from tests.conftest import digit_images, prepare_digits

FIXED = {
    "device": "cpu",
    "precision": "32-true",
    "memory_format": "channels_first",
    "compile": "no",
    "cache_on_device": "no",
}
TINY = "timm/test_resnet"
"""ResNet of timm with half a million weights, for tests of what surrounds the network."""


def ignore(epoch: EpochMetrics) -> None:
    """Ignore the metrics of an epoch."""


def load_digits(folder: Path) -> TrainingData:
    """Prepare 48 digits of three classes in a folder, half of them for validation, and load them."""
    images = digit_images(per_class=16, classes=3)
    return load_training_data(*prepare_digits(folder, {"train": images[::2], "val": images[1::2]}, size=16))


def digit_plan(
    data: TrainingData, params: Params, weights: Path, changes: dict[str, dict[str, Any]] | None = None, **train: Any
) -> TrainingPlan:
    """Return a plan of two epochs in batches of eight images, without `auto` parameters that are measured.

    Args:
        data: prepared digits.
        params: the project's params.
        weights: folder of pretrained weights.
        changes: changed values by section and key.
        train: changed values of the section `train`.
    """
    changes = {"augment": {"preset": "light"}, **(changes or {})}
    changes["train"] = {"epochs": 2, "batch_size": 8, **FIXED, **train}
    names = ("task", "augment", "network", "train")
    sections = {name: getattr(params, name).model_copy(update=changes.get(name, {})) for name in names}
    return build_plan(data, sections, weights)


def state_of(plan: TrainingPlan) -> TrainerState:
    """Resolve `auto` and return the state at the start of the training, on the CPU."""
    return build_state(resolve_auto(plan).plan, single_process_fabric("cpu", "32-true"))


def train_on(plan: TrainingPlan) -> TrainingResult:
    """Resolve `auto` and train, without reporting or checkpoints."""
    return fit(resolve_auto(plan).plan, ignore)
