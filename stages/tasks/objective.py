"""The target that a run is held against."""

from typing import Any


def judged(value: float | None, score: str, objective: dict[str, Any]) -> dict[str, Any]:
    """Whether a score meets `at_least` or `at_most`, whichever is given; an undefined score meets nothing."""
    at_least, at_most = objective["at_least"], objective["at_most"]
    met = value is not None and (value >= at_least if at_least is not None else value <= at_most)
    return {"score": score, "at_least": at_least, "at_most": at_most, "value": value, "met": met}
