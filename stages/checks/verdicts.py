"""From the results of the suite to a verdict a rule, in words: what was not checked has failed."""

from typing import Any

import pandas as pd

from stages.checks.rule import BETWEEN, Rule, Verdict
from stages.checks.suite import MOST_LISTED

ABOUT_MISSING = frozenset(
    (
        "ExpectColumnValuesToBeNull",
        "ExpectColumnValuesToNotBeNull",
        "ExpectColumnProportionOfNonNullValuesToBeBetween",
    )
)
"""Expectations that ask whether there is a value: they can answer where there is none."""


def judge(rules: list[Rule], results: dict[str, Any], frame: pd.DataFrame) -> list[Verdict]:
    """A verdict per rule. A rule that crashed, that has no result or no value to look at is broken: silence is no pass.

    Args:
        rules: of the suite.
        results: of Great Expectations, by the id of a rule.
        frame: that it has looked at.
    """
    return [_verdict(rule, results.get(rule.id), frame) for rule in rules]


def _verdict(rule: Rule, result: Any, frame: pd.DataFrame) -> Verdict:
    identity = (rule.id, rule.description, rule.expectation, rule.wants, rule.about, rule.why)
    if not_checked := _not_checked(rule, result, frame):
        observed = "no result" if result is None else "could not be checked"
        return Verdict(*identity, rule.severity, observed, f"`{rule.id}` {not_checked}")
    seen = result.result
    if result.success is True:
        return Verdict(*identity, "passed", _observed(rule, seen, frame), rule.description)
    says, offenders, images = _offence(rule, seen, frame)
    shown = dict(list(images.items())[:MOST_LISTED])
    return Verdict(*identity, rule.severity, _observed(rule, seen, frame), says, offenders[:MOST_LISTED], shown)


def _not_checked(rule: Rule, result: Any, frame: pd.DataFrame) -> str:
    """Why nothing is known of a rule; empty where something is."""
    if result is None:
        return "was not answered, so nothing is known of it"
    info = result.exception_info or {}
    if info.get("raised_exception") is not False:
        return f"could not be checked: {_message(info)}"
    if rule.expectation in ABOUT_MISSING or frame.empty:  # that there is no image is a rule of its own
        return ""
    void = [column for column in rule.columns if frame[column].isna().all()]
    return f"could not be checked: no image has a value in {', '.join(f'`{c}`' for c in void)}" if void else ""


def _message(info: dict[str, Any]) -> str:
    """Of what a crashed check says of itself: the info itself, or one per metric inside it."""
    found = [i.get("exception_message") for i in (info, *info.values()) if isinstance(i, dict)]
    return "; ".join(dict.fromkeys(str(m) for m in found if m)) or "no reason given"


def _observed(rule: Rule, seen: dict[str, Any], frame: pd.DataFrame) -> str:
    if "offences" in (seen.get("details") or {}):
        return _exceptions(seen["observed_value"])
    if "element_count" in seen:
        missing = seen.get("missing_count") or 0
        return _exceptions(seen["unexpected_count"]) + (f"; {missing} without a value" if missing else "")
    value = seen.get("observed_value")
    if value is None and len(rule.columns) == 1:  # of distinct values it has counts only
        value = frame[rule.columns[0]].dropna().unique().tolist()
    return _some([_text(one) for one in value]) if isinstance(value, list) else _text(value)


def _exceptions(cases: int) -> str:
    return "no exception" if cases == 0 else "1 exception" if cases == 1 else f"{cases} exceptions"


def _offence(rule: Rule, seen: dict[str, Any], frame: pd.DataFrame) -> tuple[str, list[str], dict[str, str]]:
    """What is wrong, by whom, and the images to look at with a few words each."""
    if "offences" in (seen.get("details") or {}):  # ours
        offenders = seen["details"]["offences"]
        more = f"; and {len(offenders) - 3} more" if len(offenders) > 3 else ""
        images = {path: told.removeprefix(f"`{path}`: ") for path, told in seen["details"]["images"]}
        return "; ".join(offenders[:3]) + more + rule.fault, offenders, images
    if "element_count" in seen:
        return _of_rows(rule, seen)
    examples = _examples(rule, seen, frame)
    if rule.about == "yours":
        return f"the rule that {rule.fault} is broken: it is {_observed(rule, seen, frame)}", [], examples
    return rule.fault.format(observed=seen["observed_value"]), [], examples


def _of_rows(rule: Rule, seen: dict[str, Any]) -> tuple[str, list[str], dict[str, str]]:
    """Of an expectation that looks at every image."""
    worst_first = _worst_first(seen["unexpected_index_list"] or [], rule)
    values = [", ".join(_text(row[column]) for column in rule.columns) for row in worst_first]
    named = {str(r["path"]): v for r, v in zip(worst_first, values, strict=True) if pd.notna(r["path"])}
    count = f"{seen['unexpected_count']} of {seen['element_count']} images"
    about_missing = rule.expectation in ABOUT_MISSING
    told = "" if about_missing else f": {_some(values)}"
    fault = f"break the rule that {rule.fault}" if rule.about == "yours" else rule.fault
    captions = {p: "" if about_missing else f"{', '.join(rule.columns)} {v}" for p, v in named.items()}
    return f"{count} {fault}{told}", list(named), captions


def _worst_first(offenders: list[dict[str, Any]], rule: Rule) -> list[dict[str, Any]]:
    """Of what must lie between two bounds the farthest out."""
    low, high = (rule.wants.get(name) for name in BETWEEN)
    if rule.expectation != "ExpectColumnValuesToBeBetween" or not {type(low), type(high)} <= {int, float, type(None)}:
        return offenders
    column = rule.wants["column"]
    return sorted(offenders, key=lambda row: max(_above(row[column], high), _above(low, row[column])), reverse=True)


def _above(value: Any, bound: Any) -> float:
    return -1.0 if value is None or bound is None else float(value) - float(bound)


def _examples(rule: Rule, seen: dict[str, Any], frame: pd.DataFrame) -> dict[str, str]:
    """Images behind one figure of all: of numbers the extreme ones, else one of each value."""
    if len(rule.columns) != 1:
        return {}
    column = frame.set_index(frame["path"].astype(str))[rule.columns[0]].dropna()
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        high, found = rule.wants.get("max_value"), seen.get("observed_value")
        too_high = isinstance(high, int | float) and isinstance(found, int | float) and found > high
        column = column.sort_values(ascending=not too_high, kind="stable")
    else:
        column = column.drop_duplicates()
    return {str(path): f"{rule.columns[0]} {_text(value)}" for path, value in column[:MOST_LISTED].items()}


def _some(values: list[str]) -> str:
    distinct = list(dict.fromkeys(values))
    more = f" and {len(distinct) - 5} more" if len(distinct) > 5 else ""
    return ", ".join(f"`{v}`" for v in distinct[:5]) + more


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
