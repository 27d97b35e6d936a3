"""Training plans on real digits that run within seconds."""

from pathlib import Path
from typing import Any

from stages.config.schema import Params
from stages.training.auto_params import resolve_auto
from stages.training.loop import TrainingResult, fit
from stages.training.training_plan import TrainingData, TrainingPlan, build_plan
from stages.training.training_progress import EpochMetrics

FIXED = {
    "device": "cpu",
    "precision": "32-true",
    "memory_format": "channels_first",
    "compile": "no",
    "cache_on_device": "no",
}


def ignore(epoch: EpochMetrics) -> None:
    """Ignore the metrics of an epoch."""


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


def train_on(plan: TrainingPlan) -> TrainingResult:
    """Resolve `auto` and train, without reporting or checkpoints."""
    return fit(resolve_auto(plan).plan, ignore)
