"""One Great Expectations suite, built in code on every run, so that no rule can go missing with a stored file."""

import os
from functools import cache
from itertools import zip_longest
from typing import Any, ClassVar

from stages.checks import FINDERS
from stages.checks.rule import Rule
from stages.checks.subject import Subject

MOST_LISTED = 200  # images kept per rule


def outcomes(subject: Subject, rules: list[Rule]) -> dict[str, Any]:
    """Validate one suite once; returns Great Expectations' result by rule id, for the rules that it answered."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    import great_expectations as gx  # 5 to 8 s

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}  # type: ignore[assignment]
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("manifest")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": subject.frame})
    _finder_expectation().subject = subject
    suite = gx.ExpectationSuite("checks", expectations=[_expectation(rule) for rule in rules])
    wanted = {"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]}
    results = batch.validate(suite, result_format=wanted).results
    return {result.expectation_config.meta["rule"]: result for result in results}  # type: ignore[union-attr]


def _expectation(rule: Rule) -> Any:
    import great_expectations.expectations as built_in

    told = {"description": rule.description, "meta": {"rule": rule.id}}
    if rule.expectation in FINDERS:
        return _finder_expectation()(finder=rule.expectation, arguments=rule.wants, **told)
    return getattr(built_in, rule.expectation)(**rule.wants, **told)


@cache
def _finder_expectation() -> Any:
    """The one custom expectation: the subject, looked at by one of `FINDERS`. What it raises is the suite's to catch.

    A class, once: Great Expectations keeps a register of them. An instance is written out as JSON, so that the subject
    cannot be its argument.
    """
    from great_expectations.expectations.expectation import BatchExpectation

    class ExpectFinderToFindNothing(BatchExpectation):
        metric_dependencies = ()
        subject: ClassVar[Any] = None
        finder: str
        arguments: dict[str, Any]

        def _validate(self, metrics, runtime_configuration=None, execution_engine=None):  # type: ignore[no-untyped-def]
            found = list(FINDERS[self.finder](type(self).subject, **self.arguments))
            turns = zip_longest(*(paths[:MOST_LISTED] for _, paths in found))  # some of each offence
            in_turn = [path for turn in turns for path in turn if path is not None]
            told = {path: says for says, paths in found for path in paths if says.startswith(f"`{path}`: ")}
            details = {
                "offences": [says for says, _ in found],
                "images": [[path, told.get(path, "")] for path in dict.fromkeys(in_turn)][:MOST_LISTED],
            }
            return {"success": not found, "result": {"observed_value": len(found), "details": details}}

    return ExpectFinderToFindNothing
