"""Expectation classes that run the checks of `dataset_checks` and `label_checks`, which Great Expectations lacks."""

import inspect
import os
from collections.abc import Callable, Iterator
from functools import cache
from itertools import zip_longest
from typing import Any, ClassVar

from stages.checks import dataset_checks, label_checks, score_checks
from stages.checks.check_data import CheckData, Sample
from stages.checks.dataset_checks import Problem

MAX_PROBLEMS = 3  # per image
MAX_IMAGES = 200  # per rule

Check = Callable[..., Iterator[Problem]]
"""Function that takes the data, and arguments by name, and yields every problem."""


def _per_image(find: Callable[[Sample], Iterator[str]]) -> Check:
    def check(data: CheckData) -> Iterator[Problem]:
        for sample in data.samples:
            if problems := list(find(sample)):
                more = f" and {len(problems) - MAX_PROBLEMS} more" if len(problems) > MAX_PROBLEMS else ""
                yield f"`{sample.path}`: {', '.join(problems[:MAX_PROBLEMS])}{more}", [sample.path]

    return check


CUSTOM_CHECKS: dict[str, Check] = {
    "column_types": dataset_checks.column_types,
    "same_labels": dataset_checks.same_labels,
    "image_in_one_split": dataset_checks.image_in_one_split,
    "group_in_one_split": dataset_checks.group_in_one_split,
    "class_names": dataset_checks.class_names,
    "labels_in_both": dataset_checks.labels_in_both,
    "min_train_per_class": dataset_checks.min_train_per_class,
    "min_validation_per_class": dataset_checks.min_validation_per_class,
    "only_classes": dataset_checks.only_classes,
    "max_group_share": dataset_checks.max_group_share,
    "points_seen": dataset_checks.points_seen,
    "score_defined": score_checks.score_defined,
    "score_covers_numbers": score_checks.score_covers_numbers,
    "annotation": _per_image(label_checks.annotation),
    "scalars_finite": _per_image(label_checks.scalars_finite),
    "points_inside": _per_image(label_checks.points_inside),
    "boxes_inside": _per_image(label_checks.boxes_inside),
    "boxes_area": _per_image(label_checks.boxes_area),
    "outlines_size": _per_image(label_checks.outlines_size),
    "target_readable": _per_image(label_checks.target_readable),
    "target_size": _per_image(label_checks.target_size),
    "mask_values": _per_image(label_checks.mask_values),
    "mask_known": _per_image(label_checks.mask_known),
}
"""Checks by name. To add one, write it, list it here and add a rule to `contract`."""


def import_great_expectations() -> Any:
    """Import Great Expectations without its analytics and return the package; the import takes seconds."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    import great_expectations.expectations

    return great_expectations


def arguments_of(expectation: str) -> list[str]:
    """Return the names of the arguments of an expectation that a rule may set."""
    import_great_expectations()
    from great_expectations.expectations.expectation import BatchExpectation

    # With a condition that no row meets, a rule would pass.
    general = {*BatchExpectation.__fields__, "row_condition", "condition_parser", "library_metadata"}
    return [name for name in expectation_class(expectation).__fields__ if name not in general]


@cache  # Great Expectations registers classes by name
def expectation_class(name: str) -> Any:
    """Return an expectation class of Great Expectations, or the one that runs a member of `CUSTOM_CHECKS`."""
    gx = import_great_expectations()
    if name not in CUSTOM_CHECKS:
        return getattr(gx.expectations, name)
    arguments = [p for p in inspect.signature(CUSTOM_CHECKS[name]).parameters.values() if p.kind is p.KEYWORD_ONLY]
    return gx.compatibility.pydantic.create_model(
        name, __base__=custom_expectation(), **{p.name: (p.annotation, ...) for p in arguments}
    )


@cache
def custom_expectation() -> Any:
    """Return the base class of the expectations that run `CUSTOM_CHECKS`.

    The class attribute `data` contains the data to check; it is not an argument, because Great Expectations serializes
    arguments as JSON. Great Expectations catches an exception of a check and reports it in the result.
    """
    import_great_expectations()
    from great_expectations.expectations.expectation import BatchExpectation

    class CustomExpectation(BatchExpectation):
        metric_dependencies = ()
        data: ClassVar[Any] = None

        def _validate(self, metrics, runtime_configuration=None, execution_engine=None):  # type: ignore[no-untyped-def]
            name = type(self).__name__
            arguments = {argument: getattr(self, argument) for argument in arguments_of(name)}
            problems = list(CUSTOM_CHECKS[name](self.data, **arguments))
            by_turns = zip_longest(*(paths[:MAX_IMAGES] for _, paths in problems))  # the first cover every problem
            paths = dict.fromkeys(path for turn in by_turns for path in turn if path is not None)
            details = {"problems": [problem for problem, _ in problems], "images": list(paths)[:MAX_IMAGES]}
            return {"success": not problems, "result": {"observed_value": len(problems), "details": details}}

    return CustomExpectation
