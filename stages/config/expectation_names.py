"""Names that `checks.expectations` accepts, and those of Great Expectations that it does not, with the reasons.

They are listed because importing Great Expectations takes seconds.
"""

OFFERED = tuple(
    """
    ExpectColumnDistinctValuesToBeInSet ExpectColumnDistinctValuesToContainSet ExpectColumnDistinctValuesToEqualSet
    ExpectColumnMaxToBeBetween ExpectColumnMeanToBeBetween ExpectColumnMedianToBeBetween ExpectColumnMinToBeBetween
    ExpectColumnMostCommonValueToBeInSet ExpectColumnPairValuesAToBeGreaterThanB ExpectColumnPairValuesToBeEqual
    ExpectColumnPairValuesToBeInSet ExpectColumnProportionOfNonNullValuesToBeBetween
    ExpectColumnProportionOfUniqueValuesToBeBetween ExpectColumnStdevToBeBetween ExpectColumnSumToBeBetween
    ExpectColumnUniqueValueCountToBeBetween ExpectColumnValueLengthsToBeBetween ExpectColumnValueLengthsToEqual
    ExpectColumnValueZScoresToBeLessThan ExpectColumnValuesToBeBetween ExpectColumnValuesToBeInSet
    ExpectColumnValuesToBeNull ExpectColumnValuesToBeUnique ExpectColumnValuesToMatchRegex
    ExpectColumnValuesToMatchRegexList ExpectColumnValuesToNotBeInSet ExpectColumnValuesToNotBeNull
    ExpectColumnValuesToNotBeOutliers ExpectColumnValuesToNotMatchRegex ExpectColumnValuesToNotMatchRegexList
    ExpectCompoundColumnsToBeUnique ExpectMulticolumnSumToEqual ExpectMulticolumnValuesToBeEqual
    ExpectTableRowCountToBeBetween ExpectTableRowCountToEqual
    """.split()
)
"""Expectations of Great Expectations that are correct for a manifest."""
OWN = ("max_group_share", "min_train_per_class", "min_validation_per_class", "only_classes")
"""Custom checks that a user may name, from `stages.checks.custom_expectations.CUSTOM_CHECKS`."""

_REASONS = {
    "the manifest's columns and their types are always checked": """
        ExpectColumnToExist ExpectTableColumnCountToBeBetween ExpectTableColumnCountToEqual
        ExpectTableColumnsToMatchOrderedList ExpectTableColumnsToMatchSet ExpectColumnTypeToBe
        ExpectColumnValuesToBeInTypeList ExpectColumnValuesToBeOfType""",
    "no column contains such text": """
        ExpectColumnValuesToBeDateutilParseable ExpectColumnValuesToBeJsonParseable
        ExpectColumnValuesToMatchJsonSchema ExpectColumnValuesToMatchStrftimeFormat""",
    "it requires a database; use ExpectColumnValuesToMatchRegex": """
        ExpectColumnValuesToMatchLikePattern ExpectColumnValuesToMatchLikePatternList
        ExpectColumnValuesToNotMatchLikePattern ExpectColumnValuesToNotMatchLikePatternList""",
    "it requires a database": "ExpectQueryResultsToMatchComparison UnexpectedRowsExpectation",
    "there is only one table": "ExpectTableRowCountToEqualOtherTable",
    "images have no order": "ExpectColumnValuesToBeDecreasing ExpectColumnValuesToBeIncreasing",
    "use ExpectColumnMedianToBeBetween, or mostly of ExpectColumnValuesToBeBetween":
        "ExpectColumnQuantileValuesToBeBetween",
    "use ExpectCompoundColumnsToBeUnique": "ExpectMulticolumnValuesToBeUnique",
    "no two columns have the same meaning": "ExpectSelectColumnValuesToBeUniqueWithinRecord",
    "the audits compare distributions": "ExpectColumnKLDivergenceToBeLessThan",
}  # fmt: skip
LEFT_OUT = {name: reason for reason, names in _REASONS.items() for name in names.split()}
"""Expectations of Great Expectations that are not offered, and why."""
