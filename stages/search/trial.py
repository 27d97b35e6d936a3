"""One trial: a training under some values, wherever it is run."""

import math
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

from stages.core.errors import UserError
from stages.frame.params import overlay
from stages.frame.sections import Section
from stages.search.space import Values, behind
from stages.training.loop import fit
from stages.training.training_plan import Material, material, plan
from stages.training.training_progress import Epoch


@dataclass(frozen=True)
class Job:
    """All that a process, here or on another machine, needs for a trial."""

    ingested: Path
    prepared: Path
    weights: Path
    sections: dict[str, Section]
    values: Values
    epochs: int
    seed: int
    higher: bool
    """Whether a higher score is better."""
    earlier: list[list[float]] = field(default_factory=list)
    """Scores of each epoch of earlier trials; where there are any, a trial that falls behind is stopped."""


@dataclass(frozen=True)
class Outcome:
    """What a trial came to."""

    score: float | None
    """Of its best epoch; None where it failed or was stopped."""
    scores: list[float]
    """Of each epoch."""
    seconds: float
    state: Literal["complete", "failed", "stopped"] = "complete"
    why: str = ""
    """Why it has no score."""


class _Behind(Exception):
    """A trial is worse than half of the earlier ones were."""


def run(job: Job) -> Outcome:
    """Train, and judge by `task.score` on validation data; what cannot be trained is a failed trial."""
    started, scores = time.perf_counter(), []

    def report(epoch: Epoch) -> None:
        scores.append(epoch.val_score)
        finite = [score for score in scores if math.isfinite(score)]
        best = (max if job.higher else min)(finite) if finite else -math.inf if job.higher else math.inf
        if len(scores) < job.epochs and behind(best, job.earlier, len(scores), job.higher):
            raise _Behind

    values = job.values | {"train.epochs": job.epochs, "train.seed": job.seed, "train.devices": 1}
    try:
        planned = plan(_material(job.ingested, job.prepared), overlay(job.sections, values), job.weights)
        score = fit(planned, report).best.val_score
        if not math.isfinite(score):
            raise UserError(f"{planned.score} is undefined on the validation images after tune.epochs")
    except UserError as error:  # these values are bad, others may not be
        return Outcome(None, scores, time.perf_counter() - started, "failed", str(error))
    except _Behind:
        why = f"behind half of the earlier trials after epoch {len(scores)}"
        return Outcome(None, scores, time.perf_counter() - started, "stopped", why)
    return Outcome(score, scores, time.perf_counter() - started)


@lru_cache(maxsize=1)
def _material(ingested: Path, prepared: Path) -> Material:
    return material(ingested, prepared)
