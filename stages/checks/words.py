"""Expectations in plain words, for those who read the page and not the params."""

from typing import Any

from stages.checks.rule import columns_in

PHRASES = {
    "ExpectColumnDistinctValuesToBeInSet": "{column} holds nothing but {set}",
    "ExpectColumnDistinctValuesToContainSet": "{column} holds at least {set}",
    "ExpectColumnDistinctValuesToEqualSet": "{column} holds {set}, each of them and nothing else",
    "ExpectColumnMaxToBeBetween": "the largest {column} is {range}",
    "ExpectColumnMeanToBeBetween": "the mean of {column} is {range}",
    "ExpectColumnMedianToBeBetween": "the median of {column} is {range}",
    "ExpectColumnMinToBeBetween": "the smallest {column} is {range}",
    "ExpectColumnMostCommonValueToBeInSet": "the most common {column} is one of {set}",
    "ExpectColumnPairValuesAToBeGreaterThanB": "of {images} {column_A} is greater than {column_B}",
    "ExpectColumnPairValuesToBeEqual": "of {images} {column_A} is {column_B}",
    "ExpectColumnPairValuesToBeInSet": "of {images} {column_A} and {column_B} are one of {pairs}",
    "ExpectColumnProportionOfNonNullValuesToBeBetween": "the share of images with a {column} is {range}",
    "ExpectColumnProportionOfUniqueValuesToBeBetween": "the number of values of {column}, for each image, is {range}",
    "ExpectColumnStdevToBeBetween": "the standard deviation of {column} is {range}",
    "ExpectColumnSumToBeBetween": "the sum of {column} is {range}",
    "ExpectColumnUniqueValueCountToBeBetween": "the number of values of {column} is {range}",
    "ExpectColumnValueLengthsToBeBetween": "of {images} the length of {column} is {range}",
    "ExpectColumnValueLengthsToEqual": "of {images} the length of {column} is {value}",
    "ExpectColumnValueZScoresToBeLessThan": "of {images} {column} is less than {threshold} deviations off the mean",
    "ExpectColumnValuesToBeBetween": "of {images} {column} is {range}",
    "ExpectColumnValuesToBeInSet": "of {images} {column} is one of {set}",
    "ExpectColumnValuesToBeNull": "of {images} {column} is not known",
    "ExpectColumnValuesToBeUnique": "of {images} {column} is another one",
    "ExpectColumnValuesToMatchRegex": "of {images} {column} matches {regex}",
    "ExpectColumnValuesToMatchRegexList": "of {images} {column} matches one of {regexes}",
    "ExpectColumnValuesToNotBeInSet": "of {images} {column} is none of {set}",
    "ExpectColumnValuesToNotBeNull": "of {images} {column} is known",
    "ExpectColumnValuesToNotBeOutliers": "of {images} {column} is no outlier",
    "ExpectColumnValuesToNotMatchRegex": "of {images} {column} does not match {regex}",
    "ExpectColumnValuesToNotMatchRegexList": "of {images} {column} matches none of {regexes}",
    "ExpectCompoundColumnsToBeUnique": "of {images} {columns} together are other ones",
    "ExpectMulticolumnSumToEqual": "of {images} {columns} add up to {sum}",
    "ExpectMulticolumnValuesToBeEqual": "of {images} {columns} are equal",
    "ExpectTableRowCountToBeBetween": "the number of images is {range}",
    "ExpectTableRowCountToEqual": "the number of images is {value}",
    "max_group_share": "no group holds more than {share} of the images",
    "min_train_per_class": "every class has at least {limit} training images",
    "min_validation_per_class": "every class has at least {limit} validation images",
    "only_classes": "the classes are {classes}",
}


def in_words(expectation: str, arguments: dict[str, Any]) -> str:
    """What an expectation of `PHRASES` asks.

    >>> in_words("ExpectColumnValuesToBeBetween", {"column": "width", "min_value": 32, "mostly": 0.9})
    'of at least 90 % of the images `width` is at least 32'
    """
    told = {name: str(value) for name, value in arguments.items()}
    names = [f"`{name}`" for name in columns_in(arguments)]
    told |= {name: f"`{arguments[name]}`" for name in ("column", "column_A", "column_B", "regex") if name in arguments}
    mostly = arguments.get("mostly", 1)
    return PHRASES[expectation].format_map(
        told
        | {
            "columns": _listed(names),
            "images": "every image" if mostly == 1 else f"at least {100 * float(mostly):g} % of the images",
            "range": _range(arguments),
            "set": _listed([f"`{value}`" for value in arguments.get("value_set", [])]),
            "pairs": _listed([str(pair) for pair in arguments.get("value_pairs_set", [])]),
            "regexes": _listed([f"`{value}`" for value in arguments.get("regex_list", [])]),
            "sum": str(arguments.get("sum_total")),
            "classes": _listed([f"`{value}`" for value in arguments.get("classes", [])]),
            "share": f"{100 * float(arguments.get('share', 0)):g} %",
        }
    )


def _range(arguments: dict[str, Any]) -> str:
    least, most = arguments.get("min_value"), arguments.get("max_value")
    low = "" if least is None else f"{'above' if arguments.get('strict_min') else 'at least'} {least}"
    high = "" if most is None else f"{'below' if arguments.get('strict_max') else 'at most'} {most}"
    return " and ".join(part for part in (low, high) if part)


def _listed(words: list[str]) -> str:
    return ", ".join(words)
