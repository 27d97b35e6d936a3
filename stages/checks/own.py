"""The expectations that `checks.expectations` adds: every mistake in them is named before a rule is looked at."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

from pydantic import TypeAdapter, ValidationError

from stages.checks import FINDERS
from stages.checks.contract import EVERY_KIND, contract
from stages.checks.rule import BETWEEN, Rule, columns_in
from stages.checks.words import in_words
from stages.core.errors import UserError, did_you_mean
from stages.frame.sections import Checks, Expectation

NOT_OFFERED = frozenset(("row_condition", "condition_parser", "library_metadata"))
"""Arguments of Great Expectations: a condition that no row meets would pass."""


def own_rules(checks: Checks, columns: Iterable[str]) -> list[Rule]:
    """A rule an entry.

    Args:
        checks: the params.
        columns: that there are, as `Subject.columns` has them.

    Raises:
        UserError: names every unknown column, unknown, missing or unfit argument, and name that is taken.
    """
    taken = {rule.name for rule in contract(checks, EVERY_KIND)}
    known, mistakes = list(columns), []
    for name, expectation in checks.expectations.items():
        if name in taken:
            mistakes.append(f"{name}: is the name of a rule that is always checked; give yours another")
        find = _faults_of_ours if expectation.expect in FINDERS else _faults_of_theirs
        mistakes += [f"{name}: {fault}" for fault in find(expectation, known)]
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise UserError(f"{count} in checks.expectations:\n" + "\n".join(f"  {m}" for m in mistakes))
    return [_rule(name, expectation) for name, expectation in checks.expectations.items()]


def _rule(name: str, given: Expectation) -> Rule:
    words = in_words(given.expect, given.arguments)
    fault = f", but the rule is that {words}" if given.expect in FINDERS else words
    return Rule(name, words, given.expect, fault, given.arguments, "yours", given.severity, given.why)


def _faults_of_ours(given: Expectation, columns: list[str]) -> Iterator[str]:
    wanted = {n: p for n, p in inspect.signature(FINDERS[given.expect]).parameters.items() if p.kind is p.KEYWORD_ONLY}
    yield from _unknown_and_missing(given.arguments, wanted, list(wanted))
    for name in given.arguments.keys() & wanted.keys():
        try:
            TypeAdapter(wanted[name].annotation).validate_python(given.arguments[name], strict=False)
        except ValidationError as error:
            yield f"{name}: {given.arguments[name]!r}: {error.errors()[0]['msg'].lower()}"


def _faults_of_theirs(given: Expectation, columns: list[str]) -> Iterator[str]:
    import great_expectations.expectations as built_in
    from great_expectations.expectations.expectation import BatchExpectation

    kind = getattr(built_in, given.expect)
    fields = {n: f for n, f in kind.__fields__.items() if n not in BatchExpectation.__fields__.keys() | NOT_OFFERED}
    required = [n for n, f in fields.items() if f.required or n == "regex"]  # the default fits any text
    faults = list(_unknown_and_missing(given.arguments, fields, required))
    for column in columns_in(given.arguments):
        if column not in columns:
            faults.append(f"column {column!r} is none of the manifest; {did_you_mean(column, columns)}")
    if fields.keys() >= set(BETWEEN) and all(given.arguments.get(name) is None for name in BETWEEN):
        faults.append("neither min_value nor max_value is given: it could never be broken")
    if given.arguments.get("mostly") == 0:
        faults.append("mostly: 0 allows everything: it could never be broken")
    yield from faults
    if not faults:
        yield from _refused(kind, given.arguments)


def _unknown_and_missing(given: dict[str, Any], known: Iterable[str], required: list[str]) -> Iterator[str]:
    for name in given:
        if name not in known:
            yield f"{name}: no such argument; {did_you_mean(name, known)}"
    for name in required:
        if name not in given:
            yield f"{name} is missing"


def _refused(kind: Any, arguments: dict[str, Any]) -> Iterator[str]:
    """What Great Expectations itself says of values: one sentence an argument."""
    try:
        kind(**arguments)
    except ValueError as error:  # pydantic's, of version 1
        told: dict[str, str] = {}
        for one in getattr(error, "errors", list)():
            told.setdefault(str(one["loc"][0]), one["msg"])
        if not told:
            yield str(error)
        for name, message in told.items():
            yield f"{name}: {arguments.get(name)!r}: {message}"
