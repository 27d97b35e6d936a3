"""Rules that every manifest must satisfy: those of the table, and those of the kind of labels that it has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stages.checks.check_data import KINDS
from stages.config.schema_data import Checks
from stages.core.plurals import quantity
from stages.dataset.manifest import MANIFEST_COLUMNS
from stages.images.decode import READABLE_FORMATS

EVERY_KIND = frozenset((*KINDS, "one class"))
TOPICS = ("yours", "splits", "labels", "images", "table")
"""Topics of the rules, in the order of the page."""


@dataclass(frozen=True)
class Rule:
    """One rule of the manifest; one expectation of the suite."""

    name: str
    """The finding is `checks/NAME`."""
    topic: str
    """One of `TOPICS`."""
    description: str
    """The rule as a sentence without its full stop."""
    expectation: str
    """Name of an expectation of Great Expectations, or of a custom check."""
    arguments: dict[str, Any] = field(default_factory=dict)
    severity: str = "blocking"
    """Severity of the finding if the rule is broken: blocking or warning."""
    why: str = ""
    """The user's reason for the rule."""

    @property
    def columns(self) -> list[str]:
        """Columns that the arguments name."""
        single = [self.arguments[key] for key in ("column", "column_A", "column_B") if key in self.arguments]
        return [str(name) for name in (*single, *self.arguments.get("column_list", ()))]


def contract(checks: Checks, kinds: frozenset[str], task: Mapping[str, Any] | None = None) -> list[Rule]:
    """Return every built-in rule that applies to a manifest.

    Args:
        checks: limits of the rules.
        kinds: kinds of labels in the manifest, as `CheckData.kinds`.
        task: section `task` of the params; None: the manifest is checked without a task.
    """
    of_labels = [*_class_rules(checks, kinds), *_label_rules(kinds), *(_score_rules(task) if task else ())]
    return [*_split_rules(), *of_labels, *_image_rules(checks), *_table_rules()]


def _table_rules() -> Iterator[Rule]:
    topic, not_null = "table", "ExpectColumnValuesToNotBeNull"
    least = {"min_value": 1}  # an empty table breaks no other rule
    yield Rule("not_empty", topic, "there is at least one image", "ExpectTableRowCountToBeBetween", least)
    yield Rule("path_unique", topic, "every path occurs once", "ExpectColumnValuesToBeUnique", {"column": "path"})
    yield Rule("column_types", topic, "every column has its type", "column_types")
    for name in MANIFEST_COLUMNS:  # the other rules skip missing values
        yield Rule(f"not_null_{name}", topic, f"every image has a value in `{name}`", not_null, {"column": name})


def _split_rules() -> Iterator[Rule]:
    allowed = {"column": "split", "value_set": ["train", "val"]}
    yield Rule("split", "splits", "every split is train or val", "ExpectColumnValuesToBeInSet", allowed)
    for name, noun in (("image_in_one_split", "image"), ("group_in_one_split", "group")):
        yield Rule(name, "splits", f"no {noun} is in two splits, including the sealed test split", name)


def _class_rules(checks: Checks, kinds: frozenset[str]) -> Iterator[Rule]:
    if "one class" in kinds:
        text = f"the number of classes is at least {checks.min_classes} (checks.min_classes)"
        limit = {"column": "label", "min_value": checks.min_classes}
        yield Rule("min_classes", "labels", text, "ExpectColumnUniqueValueCountToBeBetween", limit)
    if kinds & {"labels", "shapes", "mask"}:
        yield Rule("class_names", "labels", "every class has a name and a single spelling", "class_names")
        yield Rule("labels_in_both", "labels", "every class is in training and in validation", "labels_in_both")
        for name, split, least in (
            ("min_train_per_class", "training", checks.min_train_per_class),
            ("min_validation_per_class", "validation", checks.min_validation_per_class),
        ):
            text = f"every class has at least {quantity(least, f'{split} image')} (checks.{name})"
            yield Rule(name, "labels", text, name, {"limit": least})


LABEL_RULES = {
    "annotation": ("any", "the labels of every image can be read"),
    "same_labels": ("any", "all images have the same kind of labels, with the same names"),
    "scalars_finite": ("scalars", "every number is finite"),
    "points_inside": ("points", "every point is inside its image"),
    "points_seen": ("points", "every point is visible in a training image and in a validation image"),
    "boxes_inside": ("shapes", "every box is inside its image"),
    "boxes_area": ("shapes", "every box has an area"),
    "outlines_size": ("shapes", "every outline has the size of its image and is not empty"),
    "mask_values": ("mask", "every value in a mask is a class or unknown"),
    "mask_known": ("mask", "every mask has a pixel whose class is known"),
    "target_readable": ("target", "every mask and every paired image can be read"),
    "target_size": ("target", "every mask and every paired image has the size of its image"),
}
"""Kind of labels and description of each custom check; `any` is every kind, `target` is a mask or a paired image."""


def _label_rules(kinds: frozenset[str]) -> Iterator[Rule]:
    present = {*kinds, "any", *(("target",) if kinds & {"mask", "image"} else ())}
    for name, (kind, text) in LABEL_RULES.items():
        if kind in present:
            yield Rule(name, "labels", text, name)


def _score_rules(task: Mapping[str, Any]) -> Iterator[Rule]:
    text, argument = "task.score is defined on the validation images", {"score": task["score"]}
    yield Rule("score_defined", "labels", text, "score_defined", argument)
    if task["name"] == "regression":
        text = "task.score takes every number into account"
        yield Rule("score_covers_numbers", "labels", text, "score_covers_numbers", argument, severity="warning")


def _image_rules(checks: Checks) -> Iterator[Rule]:
    in_set, blank = "ExpectColumnValuesToBeInSet", checks.max_blank
    shorter = f"the shorter side is at least {quantity(checks.min_side, 'pixel')} (checks.min_side)"
    longer = f"the longer side is at most {checks.max_aspect:g} times the shorter (checks.max_aspect)"
    for name, text, limits in (
        ("width", "the width is at least 1 pixel", {"column": "width", "min_value": 1}),
        ("height", "the height is at least 1 pixel", {"column": "height", "min_value": 1}),
        ("min_side", shorter, {"column": "shorter_side", "min_value": checks.min_side}),
        ("max_aspect", longer, {"column": "aspect", "max_value": checks.max_aspect}),
    ):
        yield Rule(name, "images", text, "ExpectColumnValuesToBeBetween", limits)
    text = f"at most {100 * blank:g}% of the images have a single grey level (checks.max_blank)"
    yield Rule("max_blank", "images", text, in_set, {"column": "blank", "value_set": [False], "mostly": 1 - blank})
    formats = {"column": "format", "value_set": list(READABLE_FORMATS)}
    yield Rule("format", "images", f"the format is one of {', '.join(READABLE_FORMATS)}", in_set, formats)
