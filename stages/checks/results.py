"""Results of the rules, from what Great Expectations returns: a rule that was not checked counts as broken."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stages.checks.contract import Rule
from stages.checks.custom_expectations import MAX_IMAGES
from stages.core.plurals import list_names, quantity

ABOUT_MISSING = tuple(
    f"ExpectColumn{name}" for name in ("ValuesToBeNull", "ValuesToNotBeNull", "ProportionOfNonNullValuesToBeBetween")
)
"""Expectations that apply to a column without values, too."""
MAX_LISTED = 5  # distinct values in a message
MAX_PROBLEMS = 3  # in a message

Observation = tuple[str, list[str], dict[str, str]]
"""Description of what was observed; faults as sentences or paths; captions by path of the images to inspect."""


@dataclass(frozen=True)
class Result:
    """Result of one rule; an element of `results.json`."""

    rule: Rule
    passed: bool
    observed: str
    """What was observed, or why the rule could not be checked."""
    offenders: list[str] = field(default_factory=list)
    """Faults as sentences, or paths of images."""
    images: dict[str, str] = field(default_factory=dict)
    """Captions, which may be empty, by path of the images to inspect."""

    @property
    def id(self) -> str:
        """Id of the finding."""
        return f"checks/{self.rule.name}"

    @property
    def severity(self) -> str:
        """Severity of the finding."""
        return "passed" if self.passed else self.rule.severity

    @property
    def message(self) -> str:
        """The finding in sentences."""
        why = f" Reason for the rule: {self.rule.why.rstrip('.')}." if self.rule.why else ""
        text = self.rule.description if self.passed else f"{self.observed.rstrip('.')}. Rule: {self.rule.description}"
        return f"{text[:1].upper()}{text[1:]}.{'' if self.passed else why}"


def interpret(rules: list[Rule], outcomes: dict[str, Any], frame: pd.DataFrame) -> list[Result]:
    """Return one result per rule. A rule that crashed, returned nothing or had no value to check is broken.

    In an empty table, which the rule `not_empty` reports, a rule without a value is not broken.

    Args:
        rules: rules of the suite.
        outcomes: result of Great Expectations by rule name.
        frame: table that was validated.
    """
    return [_result(rule, outcomes.get(rule.name), frame) for rule in rules]


def _result(rule: Rule, outcome: Any, frame: pd.DataFrame) -> Result:
    if error := _error(rule, outcome, frame):
        return Result(rule, False, f"the rule could not be checked: {error}")
    if "problems" in (outcome.result.get("details") or {}):
        observed, offenders, images = _observe_problems(outcome.result["details"])
    elif "element_count" in outcome.result:
        observed, offenders, images = _observe_rows(rule, outcome.result, frame)
    else:
        observed, offenders, images = _observe_value(rule, outcome.result, frame)
    if outcome.success is True:
        return Result(rule, True, observed)
    return Result(rule, False, observed, offenders[:MAX_IMAGES], dict(list(images.items())[:MAX_IMAGES]))


def _error(rule: Rule, outcome: Any, frame: pd.DataFrame) -> str:
    """Return the reason why a rule could not be checked; empty if it was checked."""
    if outcome is None:
        return "Great Expectations returned no result"
    info = outcome.exception_info or {}
    if info.get("raised_exception") is not False:  # may then be a dict of such infos by metric
        messages = [one.get("exception_message") for one in (info, *info.values()) if isinstance(one, dict)]
        text = "; ".join(dict.fromkeys(str(message).rstrip(".") for message in messages if message))
        types = ", ".join(f"`{name}` has type {frame[name].dtype}" for name in rule.columns if name in frame)
        reason = f"Great Expectations reports: {text}" if text else "Great Expectations gives no reason"
        return f"{reason} ({types})" if types else reason
    if frame.empty or rule.expectation in ABOUT_MISSING:  # `not_empty` reports an empty table
        return ""
    void = [column for column in rule.columns if frame[column].isna().all()]
    return f"no image has a value in {_listed(void)}" if void else ""


def _observe_problems(details: dict[str, Any]) -> Observation:
    problems = details["problems"]
    parts = [problem.partition("`: ") for problem in problems]  # `path`: problem
    captions = {path.removeprefix("`"): problem for path, _, problem in parts}
    more = f"; and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
    observed = "; ".join(problems[:MAX_PROBLEMS]) + more or "no problem"
    return observed, problems, {path: captions.get(path, "") for path in details["images"]}


def _observe_rows(rule: Rule, found: dict[str, Any], frame: pd.DataFrame) -> Observation:
    """Describe the result of an expectation about every image."""
    columns, count = rule.columns, found["unexpected_count"]
    if not count:
        missing = f", {found['missing_count']} without a value" if found.get("missing_count") else ""
        return f"{quantity(found['element_count'], 'image')}{missing}", [], {}
    rows = pd.DataFrame(found["unexpected_index_list"], columns=list(dict.fromkeys(("path", *columns))))
    if len(columns) == 1:
        rows = rows.loc[_extremes_first(rows[columns[0]], frame[columns[0]]).index]
    values = [", ".join(map(_text, row)) for row in rows[columns].itertuples(index=False)]
    names = ", ".join(columns)
    is_missing = rule.expectation == "ExpectColumnValuesToNotBeNull"
    verb = "is" if len(columns) == 1 else "are"
    problem = f"`{names}` is missing" if is_missing else f"{_listed(columns)} {verb} {_listed(values)}"
    captions = {str(p): f"{names} {v}" for p, v in zip(rows["path"], values, strict=True) if pd.notna(p)}
    if is_missing:
        captions = dict.fromkeys(captions, "")
    return f"{count} of {quantity(found['element_count'], 'image')}: {problem}", list(captions), captions


def _observe_value(rule: Rule, found: dict[str, Any], frame: pd.DataFrame) -> Observation:
    """Describe the result of an expectation about a column or the table, with examples of the column's values."""
    value, images = found.get("observed_value"), {}
    if len(rule.columns) == 1:
        name = rule.columns[0]
        column = frame.set_index(frame["path"].astype(str))[name].dropna()
        distinct = column.drop_duplicates()
        value = distinct.tolist() if value is None else value  # expectations about distinct values return counts only
        examples = _extremes_first(column, column) if _is_numeric(column) else distinct
        images = {str(path): f"{name} {_text(one)}" for path, one in examples[:MAX_IMAGES].items()}
    if isinstance(value, list):
        shown = _listed([_text(one) for one in value]) or "none"
        return f"the observed {'value is' if len(set(map(_text, value))) == 1 else 'values are'} {shown}", [], images
    return f"the observed value is {_text(value)}", [], images


def _extremes_first(values: pd.Series, column: pd.Series) -> pd.Series:
    """Sort numbers by their distance from the median of their column, farthest first; leave other values in order."""
    if not _is_numeric(column):
        return values
    return values.sort_values(key=lambda v: -(v - column.median()).abs(), kind="stable")


def _is_numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _listed(values: list[str]) -> str:
    return list_names((f"`{value}`" for value in dict.fromkeys(values)), MAX_LISTED)


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
