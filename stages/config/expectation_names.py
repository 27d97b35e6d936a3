"""What may stand in `checks.expectations`, by name: known without Great Expectations, whose import takes seconds."""

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
"""Great Expectations' own that answer rightly about a manifest."""
OWN = ("max_group_share", "min_train_per_class", "min_validation_per_class", "only_classes")
"""Ours: see `stages.checks.FINDERS`."""

_TYPES = "the types of the columns are always checked, and this one mistakes text for something else"
_FIXED = "the columns of the manifest are always checked"
_NO_PANDAS = "it works on databases only; use ExpectColumnValuesToMatchRegex"
_NO_ORDER = "images have no order"
_TEXT = "no column holds such text"
LEFT_OUT = {
    "ExpectColumnKLDivergenceToBeLessThan": "what differs between data sets is for the audits to find",
    "ExpectColumnQuantileValuesToBeBetween": "use ExpectColumnMedianToBeBetween, or mostly of ...ValuesToBeBetween",
    "ExpectColumnToExist": _FIXED,
    "ExpectColumnTypeToBe": _TYPES,
    "ExpectColumnValuesToBeDateutilParseable": _TEXT,
    "ExpectColumnValuesToBeDecreasing": _NO_ORDER,
    "ExpectColumnValuesToBeInTypeList": _TYPES,
    "ExpectColumnValuesToBeIncreasing": _NO_ORDER,
    "ExpectColumnValuesToBeJsonParseable": _TEXT,
    "ExpectColumnValuesToBeOfType": _TYPES,
    "ExpectColumnValuesToMatchJsonSchema": _TEXT,
    "ExpectColumnValuesToMatchLikePattern": _NO_PANDAS,
    "ExpectColumnValuesToMatchLikePatternList": _NO_PANDAS,
    "ExpectColumnValuesToMatchStrftimeFormat": _TEXT,
    "ExpectColumnValuesToNotMatchLikePattern": _NO_PANDAS,
    "ExpectColumnValuesToNotMatchLikePatternList": _NO_PANDAS,
    "ExpectMulticolumnValuesToBeUnique": "use ExpectCompoundColumnsToBeUnique",
    "ExpectQueryResultsToMatchComparison": "there is no database to ask",
    "ExpectSelectColumnValuesToBeUniqueWithinRecord": "no two columns hold the same thing",
    "ExpectTableColumnCountToBeBetween": _FIXED,
    "ExpectTableColumnCountToEqual": _FIXED,
    "ExpectTableColumnsToMatchOrderedList": _FIXED,
    "ExpectTableColumnsToMatchSet": _FIXED,
    "ExpectTableRowCountToEqualOtherTable": "there is one table only",
    "UnexpectedRowsExpectation": "there is no database to ask",
}
"""The rest of Great Expectations' own, and why."""
