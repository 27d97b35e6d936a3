"""Decide between the best trials of a search and the values of params.yaml, by trainings with further seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from stages.core.errors import UserError

PARAMS = 0
"""Number of the trial with the values of params.yaml."""


@dataclass(frozen=True)
class Finalist:
    """Scores of one trial."""

    number: int
    search_score: float
    """Score in the search. It is not counted, because it selected the trial: the best of many scores is lucky."""
    further_scores: tuple[float | None, ...]
    """Score with each further seed; None if that training failed. Empty without further seeds."""

    @property
    def completed(self) -> list[float]:
        """Scores of the further seeds that did not fail."""
        return [score for score in self.further_scores if score is not None]

    @property
    def failed(self) -> int:
        """Number of further seeds that failed."""
        return len(self.further_scores) - len(self.completed)

    @property
    def mean(self) -> float:
        """Mean over the further seeds that did not fail; NaN if all failed, the search score if there are none."""
        if not self.further_scores:
            return self.search_score
        return fmean(self.completed) if self.completed else math.nan


@dataclass(frozen=True)
class Decision:
    """Selected trial, and the reason in a sentence."""

    winner: Finalist
    why: str


def decide(finalists: Sequence[Finalist], higher_is_better: bool) -> Decision:
    """Select the finalist with the fewest failed seeds, then with the best mean over further seeds.

    Another trial replaces the values of params.yaml only if it has fewer failed seeds, or the difference of the means
    exceeds its standard error, sqrt(2 v / n). n is the number of seeds, and v the variance between seeds, pooled over
    all finalists; the search score of params.yaml is included, because it was not selected for being high. Without
    further seeds the best score in the search wins.

    Args:
        finalists: best trials of the search, and that of params.yaml if it has a score.
        higher_is_better: whether a higher score is better.

    Raises:
        UserError: params.yaml failed in the search, and every finalist failed with every further seed.
    """
    sign = 1.0 if higher_is_better else -1.0

    def order(finalist: Finalist) -> tuple[int, float, bool]:
        mean = sign * finalist.mean if math.isfinite(finalist.mean) else -math.inf
        return -finalist.failed, mean, finalist.number == PARAMS

    best = max(finalists, key=order)
    current = next((finalist for finalist in finalists if finalist.number == PARAMS), None)
    if current is None and best.further_scores and not best.completed:
        raise UserError(
            "the values of params.yaml failed in the search, and every finalist failed with every further seed; narrow "
            "tune.space or change section train"
        )
    if current is None or best is current:
        return Decision(best, "it has the best mean over further seeds" if best.further_scores else "")
    if not best.further_scores:
        return Decision(best, "it has the best score; no further seed was tried (tune.repeats)")
    if best.failed < current.failed:
        return Decision(best, f"params.yaml failed with {current.failed} of {len(current.further_scores)} seeds")
    if not best.completed:
        return Decision(current, "every finalist failed with every further seed")
    difference, error = sign * (best.mean - current.mean), _standard_error(finalists, len(best.completed))
    found = f"the difference of the means is {difference:.4f}, its standard error {error:.4f}"
    if difference > error:
        return Decision(best, found)
    return Decision(current, f"trial {best.number + 1} is not clearly better: {found}")


def _standard_error(finalists: Sequence[Finalist], seeds: int) -> float:
    """Return the standard error of the difference of two means over `seeds` seeds."""
    samples = [
        [*finalist.completed, *([finalist.search_score] if finalist.number == PARAMS else [])] for finalist in finalists
    ]
    squares = sum((score - fmean(scores)) ** 2 for scores in samples for score in scores)
    freedom = sum(len(scores) - 1 for scores in samples if scores)
    return math.sqrt(2 * squares / freedom / seeds)
