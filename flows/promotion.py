"""Decide whether a new model, the challenger, replaces the current one, the champion."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stages.core.findings import read_findings
from stages.core.plurals import quantity
from stages.deployment.deployed_file import digest_of

MODEL = "data/export/model.onnx"
Result = Literal["promoted", "kept", "held", "stopped"]


@dataclass(frozen=True)
class Check:
    """Result of one condition for a promotion."""

    name: str
    passed: bool
    message: str


@dataclass(frozen=True)
class Decision:
    """Decision about a challenger, with its reasons."""

    result: Result
    """promoted: it is the new champion. kept: the champion stays, since the challenger is not shown to be better. held:
    the challenger may be better, but a check failed; a person decides. stopped: the data stopped the pipeline."""
    reason: str
    """One sentence."""
    checks: list[Check] = field(default_factory=list)
    comparison: dict[str, Any] | None = None
    """Content of `comparison.json`; None without a champion or if the models cannot be compared."""

    def as_json(self) -> dict[str, Any]:
        """Return the decision as plain values."""
        return asdict(self)


def decide(
    challenger: Path,
    champion: Path | None,
    comparison: dict[str, Any] | None,
    *,
    min_gain: float,
    max_slowdown: float,
    incomparable: str = "",
) -> Decision:
    """Return the decision about a challenger whose pipeline has completed.

    A check that fails for the challenger holds it, unless it fails for the champion as well.

    Args:
        challenger: folder of the project with the outputs of the challenger's run.
        champion: the same of the champion; None if there is none.
        comparison: content of `comparison.json` of the two models; None if there is no champion or `incomparable`.
        min_gain: smallest gain of the score for a promotion, in units of the score.
        max_slowdown: largest ratio of the durations of one prediction.
        incomparable: reason why the models cannot be compared; empty if they can be.
    """
    checks = [_objective(challenger, champion), _warnings(challenger, champion)]
    if comparison is not None:
        checks.append(_latency(comparison, max_slowdown))
    failed = "; ".join(check.message for check in checks if not check.passed)
    if champion is None:
        return (
            Decision("held", f"there is no champion yet, and {failed}", checks)
            if failed
            else Decision("promoted", "it is the first model, and every check passed", checks)
        )
    if digest_of(challenger / MODEL) == digest_of(champion / MODEL):
        return Decision("kept", "the model is the same as the champion", checks, comparison)
    if comparison is None:
        return Decision("held", incomparable, checks)
    gain = _gain(comparison)
    if comparison["verdict"] != "better" or gain is None or gain < min_gain:
        return Decision("kept", _not_better(comparison, gain, min_gain), checks, comparison)
    better = f"{comparison['score']} is better by {gain:.4g} (p = {comparison['p']:.2g})"
    if failed:
        return Decision("held", f"{better}, but {failed}", checks, comparison)
    return Decision("promoted", f"{better}, and every check passed", checks, comparison)


def _gain(comparison: dict[str, Any]) -> float | None:
    """Return the improvement of the score, positive if the challenger is better; None if undefined."""
    value = comparison["difference"]["value"]
    if value is None:
        return None
    return float(value if comparison["better"] == "higher" else -value)


def _not_better(comparison: dict[str, Any], gain: float | None, min_gain: float) -> str:
    score, count = comparison["score"], f"{comparison['images']} validation images"
    if gain is None or comparison["p"] is None:
        return f"{score} is undefined on {count}"
    figures = f"{score} differs by {comparison['difference']['value']:+.4g} (p = {comparison['p']:.2g}) on {count}"
    if comparison["verdict"] == "better":
        return f"{figures}, less than the smallest gain of {min_gain:g}"
    if comparison["verdict"] == "worse":
        return f"{figures}: the challenger is worse"
    return f"{figures}, which is not more than noise"


def _objective(challenger: Path, champion: Path | None) -> Check:
    goals = [_scores(folder)["objective"] for folder in (challenger, champion) if folder is not None]
    limit = f"at least {goals[0]['at_least']}" if goals[0]["at_least"] is not None else f"at most {goals[0]['at_most']}"
    if goals[0]["met"]:
        return Check("objective", True, f"{goals[0]['score']} meets the objective, {limit}")
    if goals[0]["better_than_constant"] is False and goals[-1]["better_than_constant"] is not False:
        return Check("objective", False, f"{goals[0]['score']} is not shown to be better than a constant prediction")
    message = f"{goals[0]['score']} {goals[0]['value']} misses the objective, {limit}"
    if len(goals) == 2 and not goals[1]["met"]:
        return Check("objective", True, f"{message}, as does the champion")
    return Check("objective", False, message)


def _warnings(challenger: Path, champion: Path | None) -> Check:
    found = _warning_ids(challenger)
    if champion is None:
        return Check("findings", True, f"{quantity(len(found), 'warning')}; there is no champion to compare with")
    new = sorted(found - _warning_ids(champion))
    if not new:
        return Check("findings", True, "no warning that the champion's data did not have")
    return Check("findings", False, f"the data have new warnings: {', '.join(new)}")


def _latency(comparison: dict[str, Any], max_slowdown: float) -> Check:
    latency = comparison["latency"]
    figures = f"{latency['challenger_ms']:.2f} ms per image, champion {latency['champion_ms']:.2f} ms"
    if latency["ratio"] <= max_slowdown:
        return Check("latency", True, figures)
    ratio = f"{latency['ratio']:.2f} times as long, above max_slowdown {max_slowdown:g}"
    return Check("latency", False, f"a prediction takes {ratio} ({figures})")


def _warning_ids(folder: Path) -> set[str]:
    files = [folder / "data" / stage / "findings.json" for stage in ("validate", "audit")]
    return {finding.id for file in files for finding in read_findings(file) if finding.severity == "warning"}


def _scores(folder: Path) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((folder / "data/evaluate/scores.json").read_text())
    return scores
