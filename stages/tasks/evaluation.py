"""Summary of an evaluation: every score with its confidence interval, JSON-ready."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Bool, Float, Shaped
from stages.tasks import TASKS
from stages.tasks.intervals import interval, resample_weights
from stages.tasks.task_interface import SCALAR, Parts
from stages.tasks.task_spec import TaskSpec


def summarize(
    spec: TaskSpec,
    truths: Sequence[Any],
    predictions: Sequence[Any],
    group_N: Shaped[Array, " N"],
    *,
    resamples: int,
    confidence: float,
    bins: int,
) -> tuple[dict[str, Any], dict[str, Float[Array, " {resamples}+1"]]]:
    """Return the summary of an evaluation, and the bootstrap replicates of every score, for comparing two runs.

    The first replicate of a score is its value on the images themselves.

    Args:
        spec: task specification.
        truths: ground truth of each image.
        predictions: prediction of each image.
        group_N: group of each image; groups are resampled together.
        resamples: number of bootstrap resamples.
        confidence: coverage of the intervals, 0..1.
        bins: number of bins of the reliability diagram.
    """
    kind, weight_RN = TASKS[spec.task], resample_weights(group_N, resamples)
    replicates = kind.scores(truths, predictions, weight_RN, spec)
    parts = kind.parts(truths, predictions, weight_RN, spec)
    overall = trials(parts, group_N)
    scores = {
        name: interval(value_R, confidence, overall, share=kind.SCORES[name].share)
        for name, value_R in replicates.items()
    }
    summary = {
        "images": len(truths),
        "groups": len(np.unique(group_N)),
        "confidence": confidence,
        "task": spec.task,
        "scores": scores,
        "better": {name: score.better for name, score in kind.SCORES.items()},
        "units": {name: _unit(score.unit, spec) for name, score in kind.SCORES.items()},
        "shares": [name for name, score in kind.SCORES.items() if score.share],
        "parts": {
            "kind": parts.kind,
            "better": {name: parts.better.get(name, "higher") for name in parts.scores},
            "share": parts.share,
            "rows": _rows(parts, group_N, confidence),
        },
        "details": kind.details(truths, predictions, spec, bins),
    }
    return summary, replicates


def trials(parts: Parts, group_N: Shaped[Array, " N"]) -> int:
    """Return the number of independent trials (groups) of a score that averages over parts.

    Each part that occurs counts with as many groups as the rarest of them, because the average is as uncertain as its
    rarest part. If no part occurs, the result is the number of all groups.
    """
    units = [_groups(group_N, member_N) for member_N in parts.member_NP.T]
    return sum(n > 0 for n in units) * min((n for n in units if n), default=0) or len(np.unique(group_N))


def _unit(unit: str, spec: TaskSpec) -> str:
    """Return the unit of a score; empty if it is a mean over scalars with several units."""
    if unit != SCALAR:
        return unit
    units = {spec.units.get(name, "") for name in spec.scalars}
    return units.pop() if len(units) == 1 else ""


def _rows(parts: Parts, group_N: Shaped[Array, " N"], confidence: float) -> list[dict[str, Any]]:
    def one(name: str, p: int) -> dict[str, float | None]:
        units = _groups(group_N, parts.rests_on.get(name, parts.member_NP)[:, p])
        return interval(parts.scores[name][:, p], confidence, units, share=parts.share)

    return [
        {"label": label, "support": parts.support[p], **{name: one(name, p) for name in parts.scores}}
        for p, label in enumerate(parts.names)
    ]


def _groups(group_N: Shaped[Array, " N"], member_N: Bool[Array, " N"]) -> int:
    return len(np.unique(group_N[member_N]))
