"""One trial of a search: a training with proposed values, in this process or on another machine."""

import math
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from stages.config.overlay import overlay
from stages.config.schema_base import Section
from stages.config.schema_training import Train
from stages.core.errors import UserError
from stages.search.pruning import should_stop
from stages.search.space import Values
from stages.training.auto_params import resolve_auto
from stages.training.loop import fit
from stages.training.training_plan import TrainingData, build_plan, load_training_data
from stages.training.training_progress import EpochMetrics


@dataclass(frozen=True)
class TrialJob:
    """Everything that a process needs to run a trial, here or on another machine."""

    ingested: Path
    prepared: Path
    weights: Path
    sections: dict[str, Section]
    values: Values
    epochs: int
    seed: int
    higher_is_better: bool
    """True if a higher score is better."""
    earlier_scores: list[list[float]] = field(default_factory=list)
    """Scores of each epoch of earlier trials; a trial that falls behind is stopped (`should_stop`). Empty: never."""


@dataclass(frozen=True)
class TrialOutcome:
    """Result of a trial."""

    score: float | None
    """Score of the best epoch; None if the trial failed or was stopped."""
    scores: list[float]
    """Score of each completed epoch; NaN if undefined."""
    seconds: float
    state: Literal["complete", "failed", "stopped"] = "complete"
    why: str = ""
    """Reason why the trial has no score; empty if it has one."""


class _StoppedError(Exception):
    """The trial falls behind earlier trials."""


def run(job: TrialJob) -> TrialOutcome:
    """Train on one device and return the scores on validation data.

    The trial is failed if the training raises UserError or has no finite score, and stopped if it falls behind.
    """
    started, scores = time.perf_counter(), []
    sections: dict[str, Any] = dict(overlay(job.sections, job.values | {"train.seed": job.seed, "train.devices": 1}))
    train = sections["train"] = shortened(sections["train"], job.epochs)

    def report(epoch: EpochMetrics) -> None:
        scores.append(epoch.val_score)
        best = _best(scores, job.higher_is_better)
        compared = train.early_epochs < len(scores) < job.epochs  # scores of early epochs say little
        if compared and should_stop(best, job.earlier_scores, len(scores), job.higher_is_better):
            raise _StoppedError

    try:
        data = _training_data(job.ingested, job.prepared)
        plan = resolve_auto(build_plan(data, sections, job.weights)).plan
        score = fit(plan, report).best.val_score
        if not math.isfinite(score):
            raise UserError(
                f"{plan.score} is undefined on the validation images in every epoch; choose another task.score, raise "
                f"tune.epochs ({job.epochs}), or set tune.trials to 0"
            )
    except UserError as error:  # other values may work
        return TrialOutcome(None, scores, time.perf_counter() - started, "failed", str(error))
    except _StoppedError:
        why = f"worse than half of the earlier trials after epoch {len(scores)}"
        return TrialOutcome(None, scores, time.perf_counter() - started, "stopped", why)
    return TrialOutcome(score, scores, time.perf_counter() - started)


def shortened(train: Train, epochs: int) -> Train:
    """Return a section `train` with another number of epochs, of which about the same share has smaller images."""
    early = min(round(train.early_epochs * epochs / train.epochs), epochs - 1)
    update = {"epochs": epochs, "early_epochs": early, "early_size": train.early_size if early else 0}
    return train.model_copy(update=update)


def _best(scores: list[float], higher_is_better: bool) -> float:
    """Return the best finite score; the worst possible one if none is finite."""
    finite = [score for score in scores if math.isfinite(score)]
    if not finite:
        return -math.inf if higher_is_better else math.inf
    return max(finite) if higher_is_better else min(finite)


@lru_cache(maxsize=1)
def _training_data(ingested: Path, prepared: Path) -> TrainingData:
    return load_training_data(ingested, prepared)
