"""Rules that `checks.expectations` adds; every mistake in them is reported before a rule is checked."""

from dataclasses import replace
from string import Template
from typing import Any

from stages.checks.contract import EVERY_KIND, Rule, contract
from stages.checks.custom_expectations import arguments_of, expectation_class
from stages.config.schema_data import Checks
from stages.core.errors import UserError, did_you_mean

BOUNDS = {"min_value", "max_value"}


def user_rules(checks: Checks, columns: list[str]) -> list[Rule]:
    """Return one rule per entry of `checks.expectations`.

    Raises:
        UserError: lists every unknown column; every unknown, missing or invalid argument; every rule that can never
            be broken; every name that a built-in rule has.
    """
    taken = {rule.name for rule in contract(checks, EVERY_KIND, {"name": "regression", "score": ""})}
    entries = checks.expectations.items()
    rules = [Rule(name, "yours", "", e.expect, e.arguments, e.severity, e.why) for name, e in entries]
    mistakes = [f"{rule.name}: {mistake}" for rule in rules for mistake in _mistakes(rule, columns)]
    mistakes += [
        f"{name}: this is the name of a built-in rule; choose another name"
        for name in checks.expectations
        if name in taken
    ]
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError(f"{count} in checks.expectations:\n" + "\n".join(f"  {m}" for m in mistakes))
    return [replace(rule, description=_describe(rule)) for rule in rules]


def _mistakes(rule: Rule, columns: list[str]) -> list[str]:
    names, given = arguments_of(rule.expectation), rule.arguments
    found = [f"{name}: unknown argument; {did_you_mean(name, names)}" for name in given if name not in names]
    found += [f"unknown column {c!r}; {did_you_mean(c, columns)}" for c in rule.columns if c not in columns]
    if set(names) >= BOUNDS and all(given.get(name) is None for name in BOUNDS):
        found.append("the rule can never be broken; give min_value or max_value")
    if given.get("mostly") == 0:
        found.append("the rule can never be broken, because mostly: 0 tolerates every image; give a larger fraction")
    if "regex" in names and "regex" not in given:  # the default matches any text
        found.append("regex is missing")
    try:
        expectation_class(rule.expectation)(**{name: value for name, value in given.items() if name in names})
    except ValueError as error:  # pydantic.ValidationError of version 1
        errors = {str(one["loc"][0]): one["msg"] for one in reversed(error.errors())}  # type: ignore[attr-defined]
        of_all = errors.pop("__root__", "")
        found += [f"{n}: {given[n]!r}: {message}" if n in given else f"{n} is missing" for n, message in errors.items()]
        found += [] if found else [of_all]
    return found


def _describe(rule: Rule) -> str:
    """Return the sentence in which Great Expectations renders the rule; the name and arguments if it has none."""
    expectation = expectation_class(rule.expectation)(**rule.arguments)
    expectation.render()
    text = expectation.rendered_content[0].value
    if "$kwargs" in text.template:  # Great Expectations has no sentence for it
        return f"`{rule.expectation}` with " + ", ".join(f"{n} = {_format(v)}" for n, v in rule.arguments.items())
    values = {name: param["value"] for name, param in text.params.items()}
    shown = {name: value if name == "mostly_pct" else _format(value) for name, value in values.items()}
    return Template(text.template).safe_substitute(shown).rstrip(".")


def _format(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_format, value))
    return f"`{value}`" if isinstance(value, str) else f"{value:.12g}" if isinstance(value, float) else str(value)
