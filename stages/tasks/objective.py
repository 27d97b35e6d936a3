"""Comparison of a score with the objective."""

from typing import Any


def compare_with_objective(value: float | None, score: str, objective: dict[str, Any]) -> dict[str, Any]:
    """Return the objective, the score and `met`: True if the score meets the limit; False if the score is undefined.

    Args:
        value: value of the score; None if undefined.
        score: name of the score.
        objective: section `objective` of the params, with the limit `at_least` or `at_most`.
    """
    at_least, at_most = objective["at_least"], objective["at_most"]
    met = value is not None and (value >= at_least if at_least is not None else value <= at_most)
    return {"score": score, "at_least": at_least, "at_most": at_most, "value": value, "met": met}
