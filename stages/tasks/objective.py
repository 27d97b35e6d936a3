"""Comparison of a score with the objective and with the constant prediction."""

from typing import Any


def compare_with_objective(
    value: float | None, score: str, objective: dict[str, Any], constant: dict[str, Any]
) -> dict[str, Any]:
    """Return the objective, the score, `reached` and `met`.

    `reached` is True if the score is within the limit, False if it is undefined. `met` also requires that the score is
    better than that of the constant prediction, unless that one is undefined (docs/why/constant-prediction.md).

    Args:
        value: value of the score; None if undefined.
        score: name of the score.
        objective: section `objective` of the params, with the limit `at_least` or `at_most`.
        constant: comparison with the constant prediction, of `compare_with_constants`.
    """
    at_least, at_most = objective["at_least"], objective["at_most"]
    reached = value is not None and (value >= at_least if at_least is not None else value <= at_most)
    return {
        "score": score,
        "at_least": at_least,
        "at_most": at_most,
        "value": value,
        "reached": reached,
        "better_than_constant": constant["better"],
        "met": reached and constant["better"] is not False,
    }
