"""Run all rules as one Great Expectations suite.

The suite is built in code on every run: a stored suite silently loses custom expectations that are not imported.
"""

from typing import Any

from stages.checks.check_data import CheckData
from stages.checks.contract import Rule
from stages.checks.custom_expectations import custom_expectation, expectation_class, import_great_expectations


def run_suite(data: CheckData, rules: list[Rule]) -> dict[str, Any]:
    """Check the data with the rules, and return the results of Great Expectations by rule name; some may be missing."""
    gx = import_great_expectations()
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_pandas("manifest").add_dataframe_asset("manifest")
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": data.frame})
    custom_expectation().data = data
    expectations = [
        expectation_class(rule.expectation)(**rule.arguments, description=rule.description, meta={"rule": rule.name})
        for rule in rules
    ]
    result_format = {"result_format": "COMPLETE", "unexpected_index_column_names": ["path"]}
    results = batch.validate(gx.ExpectationSuite("checks", expectations), result_format=result_format).results
    return {result.expectation_config.meta["rule"]: result for result in results}
