"""Tests of the decision about a challenger."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows.command import arguments
from flows.promotion import Decision, decide
from stages.core.errors import UserError
from stages.core.findings import Finding, write_findings


def outputs(folder: Path, model: str = "", met: bool = True, warnings: tuple[str, ...] = (), **goal: Any) -> Path:
    """Write those outputs of a run on which the decision depends."""
    for stage in ("export", "evaluate", "validate", "audit"):
        (folder / "data" / stage).mkdir(parents=True)
    (folder / "data/export/model.onnx").write_text(model or folder.name)
    objective = {"score": "accuracy", "at_least": 0.9, "at_most": None, "value": 0.8, "better_than_constant": True}
    (folder / "data/evaluate/scores.json").write_text(json.dumps({"objective": objective | {"met": met} | goal}))
    write_findings([Finding("checks/rows", "passed", "")], folder / "data/validate/findings.json")
    write_findings([Finding(name, "warning", "") for name in warnings], folder / "data/audit/findings.json")
    return folder


def compared(verdict: str = "better", gain: float = 0.1, ratio: float = 1.0, better: str = "higher") -> dict[str, Any]:
    value = gain if better == "higher" else -gain
    latency = {"challenger_ms": 2.0 * ratio, "champion_ms": 2.0, "ratio": ratio}
    return {
        "score": "accuracy", "better": better, "difference": {"value": value, "low": 0.0, "high": 1.0}, "p": 0.01,
        "verdict": verdict, "images": 100, "latency": latency,
    }  # fmt: skip


def decision(
    challenger: Path, champion: Path | None, comparison: dict[str, Any] | None = None, **options: Any
) -> Decision:
    return decide(challenger, champion, comparison, **({"min_gain": 0.0, "max_slowdown": 1.25} | options))


def test_a_better_model_is_promoted(tmp_path: Path) -> None:
    found = decision(outputs(tmp_path / "new"), outputs(tmp_path / "old"), compared())
    assert found.result == "promoted" and found.reason == "accuracy is better by 0.1 (p = 0.01), and every check passed"


def test_a_lower_error_is_better(tmp_path: Path) -> None:
    found = decision(outputs(tmp_path / "new"), outputs(tmp_path / "old"), compared(better="lower"))
    assert found.result == "promoted" and "better by 0.1" in found.reason


@pytest.mark.parametrize(
    ("verdict", "words"),
    [("no difference shown", "which is not more than noise"), ("worse", "the challenger is worse")],
)
def test_a_model_that_is_not_better_is_not_promoted(tmp_path: Path, verdict: str, words: str) -> None:
    found = decision(outputs(tmp_path / "new"), outputs(tmp_path / "old"), compared(verdict))
    assert found.result == "kept" and words in found.reason


def test_a_gain_below_the_smallest_one_is_not_promoted(tmp_path: Path) -> None:
    found = decision(outputs(tmp_path / "new"), outputs(tmp_path / "old"), compared(), min_gain=0.2)
    assert found.result == "kept" and "less than the smallest gain of 0.2" in found.reason


@pytest.mark.parametrize(
    ("challenger", "comparison", "words"),
    [
        ({"met": False}, compared(), "accuracy 0.8 misses the objective, at least 0.9"),
        (
            {"met": False, "better_than_constant": False},
            compared(),
            "not shown to be better than a constant prediction",
        ),
        ({"warnings": ("known", "outliers/dark")}, compared(), "the data have new warnings: outliers/dark"),
        ({}, compared(ratio=1.5), "a prediction takes 1.50 times as long, above max_slowdown 1.25"),
    ],
)
def test_a_better_model_with_a_new_problem_is_held(
    tmp_path: Path, challenger: dict[str, Any], comparison: dict[str, Any], words: str
) -> None:
    old = outputs(tmp_path / "old", warnings=("known",))
    found = decision(outputs(tmp_path / "new", **challenger), old, comparison)
    assert found.result == "held" and words in found.reason
    assert [check.passed for check in found.checks].count(False) == 1


def test_a_problem_that_the_champion_has_too_holds_nothing(tmp_path: Path) -> None:
    new, old = (outputs(tmp_path / name, met=False, warnings=("known",)) for name in ("new", "old"))
    found = decision(new, old, compared())
    assert found.result == "promoted" and "as does the champion" in found.checks[0].message


def test_the_first_model_must_meet_the_objective(tmp_path: Path) -> None:
    assert decision(outputs(tmp_path / "good", warnings=("some",)), None).result == "promoted"
    held = decision(outputs(tmp_path / "bad", met=False), None)
    assert held.result == "held" and "there is no champion yet, and accuracy 0.8 misses the objective" in held.reason


def test_the_same_model_is_kept_and_models_that_cannot_be_compared_are_held(tmp_path: Path) -> None:
    old = outputs(tmp_path / "old", model="bytes")
    assert decision(outputs(tmp_path / "same", model="bytes"), old, compared()).result == "kept"
    held = decision(outputs(tmp_path / "other"), old, None, incomparable="other classes")
    assert (held.result, held.reason) == ("held", "other classes")


def test_parameters_of_a_flow_are_read_from_words() -> None:
    def flow(source: str = "", min_gain: float = 0.0, push: bool = True) -> None:
        pass

    assert arguments(["source=a=b", "min_gain=0.1", "push=false"], flow) == {
        "source": "a=b", "min_gain": 0.1, "push": False,
    }  # fmt: skip
    with pytest.raises(UserError, match="'source' is not KEY=VALUE"):
        arguments(["source"], flow)
    with pytest.raises(UserError, match=r"min_gian is not a parameter; did you mean `min_gain`\?"):
        arguments(["min_gian=1"], flow)
