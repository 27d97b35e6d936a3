"""Tests of the contract for every kind of labels, and of user rules."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import validate
from stages.checks.check_data import CheckData
from stages.checks.contract import EVERY_KIND, contract
from stages.checks.custom_expectations import CUSTOM_CHECKS
from stages.checks.results import interpret
from stages.checks.suite import run_suite
from stages.checks.user_rules import user_rules
from stages.config.expectation_names import LEFT_OUT, OFFERED, OWN
from stages.config.load import check as check_params
from stages.config.schema_data import Checks
from stages.config.schema_task import Task
from stages.core.errors import UserError
from stages.core.findings import Finding, read_findings
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, encode_rle
from stages.dataset.manifest import MANIFEST_COLUMNS, read_manifest
from stages.runner.stage import call
from stages.tasks import TASKS
from tests.code.test_validate import CHECKS, folder_of, png, valid_rows

NAN = float("nan")
HALF = np.repeat([0, 1], 50).astype(np.uint8).reshape(10, 10)
OUTLINE = encode_rle(np.eye(10, dtype=bool))
GOOD: dict[str, Annotation] = {
    "scalars": Annotation(scalars={"weight": 2.5}),
    "points": Annotation(points={"nose": (0, 9), "tail": (4.5, 4.5)}),
    "shapes": Annotation(
        shapes=(ObjectAnnotation("cell", (0, 0, 10, 10), OUTLINE), ObjectAnnotation("cell", (1, 1, 2, 2)))
    ),
    "mask": Annotation(mask=("background", "cell")),
    "image": Annotation(image=True),
    "several classes": Annotation(labels=("cat", "dog")),
}
TASK_OF = {
    "scalars": Task(name="regression", score="mean_absolute_error"),
    "points": Task(name="landmarks", score="pck"),
    "shapes": Task(name="instances", score="average_precision"),
    "mask": Task(name="segmentation", score="dice"),
    "image": Task(name="image", score="psnr"),
    "several classes": Task(name="multilabel", score="macro_f1"),
}
FIRST = "cat/0.png"


def check_data(
    folder: Path, annotation: Annotation, first: Annotation | None = None, target: bytes | None = None, rows: Any = None
) -> CheckData:
    """Return 12 valid images with the same annotation; the first may have another annotation or target file."""
    rows = valid_rows() if rows is None else rows
    rows["annotation"], rows["label"] = annotation.to_json(), ""
    if first is not None:
        rows.loc[0, "annotation"] = _json(first)
    targets = dict.fromkeys(rows["path"], png(HALF)) if annotation.mask or annotation.image else {}
    if target is not None:
        targets[FIRST] = target
    ingested = folder_of(rows, folder / "in", targets)
    return CheckData(read_manifest(ingested), ingested)


def _json(annotation: Annotation) -> str:
    """Return an annotation as JSON, even if `to_json` rejects it."""
    fields = {k: v for k, v in vars(annotation).items() if v not in (None, False)}
    return json.dumps(fields | ({"shapes": [vars(s) for s in fields["shapes"]]} if "shapes" in fields else {}))


def broken(data: CheckData) -> dict[str, str]:
    """Return the problems that custom checks find, by name of the broken rule."""
    rules = [rule for rule in contract(CHECKS, data.kinds) if rule.expectation in CUSTOM_CHECKS]
    assert len(rules) > 5
    found = {r.name: list(CUSTOM_CHECKS[r.expectation](data, **r.arguments)) for r in rules}
    return {name: "; ".join(text for text, _ in problems) for name, problems in found.items() if problems}


@pytest.mark.parametrize("kind", GOOD)
def test_valid_labels_of_each_kind_satisfy_their_contract(kind: str, tmp_path: Path) -> None:
    data = check_data(tmp_path, GOOD[kind])
    call(validate.main, [data.folder, tmp_path / "out"], {"checks": CHECKS, "task": TASK_OF[kind]})
    findings = read_findings(tmp_path / "out/findings.json")
    assert {f.id: f.message for f in findings if f.severity != "passed"} == {}
    assert not set(data.frame.columns[data.frame.columns.duplicated()]), "a column occurs twice"
    assert list(data.frame.columns) == data.columns


def points(**changed: Any) -> Annotation:
    return Annotation(points={**(GOOD["points"].points or {}), **changed})


def box(*corners: float, rle: Any = None) -> Annotation:
    return Annotation(shapes=(ObjectAnnotation("cell", corners, rle),))  # type: ignore[arg-type]


INVALID: dict[str, tuple[str, Annotation | None, bytes | None, str, str]] = {
    "a point outside": ("points", points(nose=(3, 10.5)), None, "points_inside", "nose at x 3, y 10.5 is outside"),
    "a point that is not finite": ("points", points(nose=(NAN, 3)), None, "points_inside", "x nan"),
    "a box outside": ("shapes", box(5, 5, 11, 9), None, "boxes_inside", "to x 11, y 9 reaches outside the 10x10"),
    "a box without area": ("shapes", box(5, 5, 5, 9), None, "boxes_area", "from x 5, y 5 to x 5, y 9 has no area"),
    "an outline of another size": ("shapes", box(0, 0, 9, 9, rle=(9, 9)), None, "outlines_size", "has 18 pixels, but"),
    "an empty outline": ("shapes", box(0, 0, 9, 9, rle=(100,)), None, "outlines_size", "outline of cell is empty"),
    "a number that is nan": ("scalars", Annotation(scalars={"weight": NAN}), None, "scalars_finite", "weight is nan"),
    "a number under another name": ("scalars", Annotation(scalars={"size": 1.0}), None, "same_labels", "numbers (size"),
    "a class without a name": ("several classes", Annotation(labels=("cat", "dog", " ")), None, "class_names", "` `"),
    "no mask": ("mask", None, b"", "target_readable", f"`{FIRST}`: its mask is missing"),
    "a mask that is not an image": ("mask", None, b"no image", "target_readable", "its mask cannot be decoded"),
    "a colour mask": ("mask", None, png(np.dstack([HALF] * 3)), "target_readable", "has 3 channels; a mask has one"),
    "a small mask": ("mask", None, png(HALF[:9]), "target_size", f"`{FIRST}`: its mask is 10x9, but the image is"),
    "a mask of other values": ("mask", None, png(HALF * 7), "mask_values", "contains 7 (50 pixels); allowed are 0"),
    "a mask of unknown pixels": ("mask", None, png(np.full_like(HALF, IGNORE_INDEX)), "mask_known", "every pixel"),
    "masks under other names": ("mask", Annotation(mask=("background", "nerve")), None, "same_labels", "background, n"),
    "a small paired image": ("image", None, png(HALF[:, :4]), "target_size", "image is 4x10, but the image is 10x10"),
    "no paired image": ("image", None, b"", "target_readable", "its paired image is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", INVALID)
def test_an_invalid_label_is_reported_with_its_image_and_value(case: str, tmp_path: Path) -> None:
    kind, first, target, rule, words = INVALID[case]
    found = broken(check_data(tmp_path, GOOD[kind], first, target))
    assert rule in found and words in found[rule], found
    class_rules = {"min_train_per_class", "min_validation_per_class", "labels_in_both", "class_names"}
    assert set(found) - class_rules == {rule} - class_rules, "other rules are broken as well"


def test_a_point_visible_in_no_validation_image_is_reported(tmp_path: Path) -> None:
    data = check_data(tmp_path, points(tail=None))
    assert "point `tail` is visible in 0 of 4 validation images" in broken(data)["points_seen"]


def test_every_mask_class_requires_training_images(tmp_path: Path) -> None:
    annotation = Annotation(mask=("background", "cell", "nerve"))
    found = broken(check_data(tmp_path, annotation))
    assert found["min_train_per_class"] == "class `nerve` has 0 training images"


def test_each_custom_check_of_the_contract_has_a_failing_case() -> None:
    tested_elsewhere = {  # in tests/code/test_validate.py, and above
        "annotation", "class_names", "column_types", "group_in_one_split", "labels_in_both", "min_train_per_class",
        "min_validation_per_class", "image_in_one_split", "points_seen", "same_labels", "score_defined",
        "score_covers_numbers",
    }  # fmt: skip
    checks = {rule.name for rule in contract(CHECKS, EVERY_KIND, REGRESSION) if rule.expectation in CUSTOM_CHECKS}
    assert checks == tested_elsewhere | {rule for _, _, _, rule, _ in INVALID.values()}
    assert set(CUSTOM_CHECKS) == checks | set(OWN)


REGRESSION = TASK_OF["scalars"].model_dump()
EMPTY_MASK, FULL_MASK = png(np.zeros_like(HALF)), png(np.ones_like(HALF))
Labels = Callable[[int], Annotation]
"""Labels of a validation image by its number."""


def same(annotation: Annotation) -> Labels:
    return lambda number: annotation


def crowd(number: int) -> Annotation:
    return Annotation(shapes=(ObjectAnnotation("cell", (0, 0, 10, 10), OUTLINE, True),))


def numbers(*of_image: dict[str, float]) -> Labels:
    return lambda number: Annotation(scalars=of_image[number % len(of_image)])


BINARY, THREE = ("background", "cell"), ("background", "cell", "nerve")
UNDEFINED: list[tuple[str, tuple[str, ...], Labels, bytes | None]] = [
    ("classification", ("auc",), same(Annotation(labels=("cat",))), None),
    ("ordinal", ("quadratic_kappa",), same(Annotation(labels=("cat",))), None),
    ("multilabel", ("mean_average_precision", "macro_f1", "auc"), same(Annotation(labels=())), None),
    ("multilabel", ("auc",), same(Annotation(labels=("cat",))), None),
    ("regression", ("r2",), numbers({"weight": 0.1}), None),
    ("regression", ("r2", "mean_absolute_percentage_error"), numbers({"weight": 0.0}), None),
    ("landmarks", ("pck", "pixel_error", "median_pixel_error", "normalized_error"),
     same(Annotation(points={"nose": None})), None),
    ("segmentation", ("dice", "iou", "boundary_f1", "boundary_error", "foreground_rand"),
     same(Annotation(mask=BINARY)), EMPTY_MASK),
    ("segmentation", ("boundary_f1", "boundary_error"), same(Annotation(mask=BINARY)), FULL_MASK),
    ("segmentation", ("foreground_rand",), same(Annotation(mask=THREE)), png(HALF)),
    ("instances", ("average_precision", "average_precision_50", "average_precision_75", "recall_50"), crowd, None),
    ("image", (), same(Annotation(image=True)), png(HALF)),
]  # fmt: skip


@pytest.mark.parametrize(("task", "undefined", "labels", "target"), UNDEFINED)
def test_every_score_undefined_on_validation_is_reported_with_those_that_are_defined(
    task: str, undefined: tuple[str, ...], labels: Labels, target: bytes | None, tmp_path: Path
) -> None:
    rows = valid_rows()
    is_val = rows["split"].eq("val")
    rows["annotation"] = [labels(n).to_json() for n in range(len(rows))]
    if task in ("classification", "ordinal", "multilabel"):  # the training images have another class
        rows.loc[~is_val, "annotation"] = Annotation(labels=("dog",)).to_json()
    ingested = folder_of(rows, tmp_path / "in", dict.fromkeys(rows["path"], target) if target else None)
    known = TASKS[task].SCORES
    for score in known:
        data = CheckData(
            read_manifest(ingested), ingested, Task.model_validate({"name": task, "score": score}).model_dump()
        )
        problems = list(CUSTOM_CHECKS["score_defined"](data, score=score))
        assert bool(problems) == (score in undefined), (score, problems)
        if problems:
            defined = ", ".join(name for name in known if name not in undefined) or "none"
            text = f"the score {score} (task.score) is undefined on 4 validation images, because it requires"
            assert text in problems[0][0]
            assert problems[0][0].endswith(f"scores that are defined: {defined}") and len(problems[0][1]) == 4
            assert known[score].requires in problems[0][0] and known[score].requires


def test_an_undefined_score_blocks_and_a_number_it_leaves_out_warns(tmp_path: Path) -> None:
    rows = valid_rows()
    rows["annotation"] = [Annotation(scalars={"weight": 2.5, "size": n % 6}).to_json() for n in range(len(rows))]
    rows["label"] = ""
    task = Task(name="regression", score="r2")
    folder = folder_of(rows, tmp_path / "in")
    call(validate.main, [folder, tmp_path / "out"], {"checks": CHECKS, "task": task})
    found = [f for f in read_findings(tmp_path / "out/findings.json") if f.severity != "passed"]
    assert [(f.id, f.severity) for f in found] == [("checks/score_covers_numbers", "warning")]
    assert "r2 (task.score) leaves out weight: on 4 validation images it requires different values" in found[0].message
    wrong = Task(name="landmarks", score="pck")
    call(validate.main, [folder, tmp_path / "out"], {"checks": CHECKS, "task": wrong})
    found = [f for f in read_findings(tmp_path / "out/findings.json") if f.severity != "passed"]
    assert [(f.id, f.severity) for f in found] == [("checks/score_defined", "blocking")]
    assert (
        "The labels do not suit the task: task.name: landmarks requires annotations of the kind points; the source"
        in found[0].message
    )


def with_user_rules(**expectations: dict[str, Any]) -> Checks:
    values = {name: {"expect": name, **arguments} for name, arguments in expectations.items()}
    return Checks.model_validate({**CHECKS.model_dump(), "expectations": values})


def found_by(checks: Checks, tmp_path: Path, rows: pd.DataFrame | None = None) -> dict[str, Finding]:
    ingested = folder_of(valid_rows() if rows is None else rows, tmp_path / "in")
    call(validate.main, [ingested, tmp_path / "out"], {"checks": checks, "task": Task()})
    return {f.id.removeprefix("checks/"): f for f in read_findings(tmp_path / "out/findings.json")}


def test_user_rules_pass_warn_and_block_with_their_reason_and_images(tmp_path: Path) -> None:
    checks = with_user_rules(
        ExpectColumnMeanToBeBetween={"column": "brightness", "min_value": 0, "max_value": 1},
        lamp={
            "expect": "ExpectColumnMeanToBeBetween",
            "column": "brightness",
            "min_value": 40,
            "severity": "warning",
            "why": "the lamp was dimmed in May",
        },
        cameras={"expect": "ExpectColumnUniqueValueCountToBeBetween", "column": "camera", "max_value": 1},
        wide={"expect": "ExpectColumnValuesToBeBetween", "column": "width", "max_value": 9},
        kinds={"expect": "only_classes", "classes": ["cat", "fox"]},
        many={"expect": "min_train_per_class", "limit": 5, "severity": "warning"},
    )
    found = found_by(checks, tmp_path, valid_rows().assign(camera=["a", "b", "c"] * 4))
    assert found["ExpectColumnMeanToBeBetween"].severity == "passed"
    assert found["lamp"].severity == "warning"
    assert (
        found["lamp"].message
        == "The observed value is 0.5. Rule: `brightness` mean must be greater than or equal to 40. "
        "Reason for the rule: the lamp was dimmed in May."
    )
    assert (
        found["cameras"].severity == "blocking"
        and "The observed value is 3. Rule: `camera` must" in found["cameras"].message
    )
    assert found["cameras"].images == ["cat/0.png", "cat/1.png", "cat/2.png"], "one image per value is expected"
    assert found["wide"].message.startswith(
        "12 of 12 images: `width` is `10`. Rule: `width` values must be less than or equal to 9."
    )
    assert found["kinds"].message.startswith("Class `dog` is not listed but has 6 images; class `fox` is")
    assert found["many"].severity == "warning" and "class `dog` has 4 training images" in found["many"].message
    assert found["min_train_per_class"].severity == "passed", "the limit in the params is a separate rule"


def test_labels_can_be_checked_as_columns(tmp_path: Path) -> None:
    checks = with_user_rules(
        heavy={"expect": "ExpectColumnValuesToBeBetween", "column": "scalar.weight", "max_value": 2},
        crowded={"expect": "ExpectColumnMaxToBeBetween", "column": "count.cell", "max_value": 1},
        nose={"expect": "ExpectColumnValuesToBeBetween", "column": "point.nose.y", "max_value": 8},
        covered={"expect": "ExpectColumnMeanToBeBetween", "column": "mask.cell", "max_value": 0.4},
    )
    found: dict[str, Any] = {}
    for kind, name in (("scalars", "heavy"), ("shapes", "crowded"), ("points", "nose"), ("mask", "covered")):
        data = check_data(tmp_path / name, GOOD[kind])
        one_rule = checks.model_copy(update={"expectations": {name: checks.expectations[name]}})
        call(validate.main, [data.folder, tmp_path / name / "out"], {"checks": one_rule, "task": TASK_OF[kind]})
        found |= {
            f.id: f.message for f in read_findings(tmp_path / name / "out/findings.json") if f.severity != "passed"
        }
    assert {id_: message.split(". Rule")[0] for id_, message in found.items()} == {
        "checks/heavy": "12 of 12 images: `scalar.weight` is `2.5`",
        "checks/crowded": "The observed value is 2",
        "checks/nose": "12 of 12 images: `point.nose.y` is `9`",
        "checks/covered": "The observed value is 0.5",
    }


def test_a_user_rule_that_cannot_be_checked_is_broken(tmp_path: Path) -> None:
    checks = with_user_rules(
        regex={"expect": "ExpectColumnValuesToMatchRegex", "column": "path", "regex": "("},
        mean={"expect": "ExpectColumnMeanToBeBetween", "column": "path", "max_value": 3, "severity": "warning"},
        void={"expect": "ExpectColumnValuesToBeBetween", "column": "point.tail.x", "max_value": 3},
        kinds={"expect": "ExpectColumnUniqueValueCountToBeBetween", "column": "point.tail.x", "max_value": 3},
    )
    data = check_data(tmp_path, points(tail=None))
    call(validate.main, [data.folder, tmp_path / "out"], {"checks": checks, "task": TASK_OF["points"]})
    found = {f.id.removeprefix("checks/"): f for f in read_findings(tmp_path / "out/findings.json")}
    assert (
        found["regex"].severity == "blocking"
        and "Great Expectations reports: Invalid regular" in found["regex"].message
    )
    assert found["mean"].severity == "warning" and "The rule could not be checked" in found["mean"].message
    for name in ("void", "kinds"):
        assert found[name].severity == "blocking"
        assert "The rule could not be checked: no image has a value in `point.tail.x`" in found[name].message


def test_a_user_rule_without_a_result_is_broken(tmp_path: Path) -> None:
    data = check_data(tmp_path, GOOD["scalars"])
    heavy = {"expect": "ExpectColumnMaxToBeBetween", "column": "width", "max_value": 99}
    rules = user_rules(with_user_rules(heavy=heavy), data.columns)
    outcomes = run_suite(data, rules)
    assert [r.severity for r in interpret(rules, outcomes, data.frame)] == ["passed"]
    assert [r.severity for r in interpret(rules, {}, data.frame)] == ["blocking"]
    assert [r.severity for r in interpret([replace(rules[0], severity="warning")], {}, data.frame)] == ["warning"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "column": ({"column": "brigthness", "max_value": 1}, "unknown column 'brigthness'; did you mean `brightness`"),
    "argument": ({"column": "width", "max_valu": 1, "min_value": 0}, "max_valu: unknown argument; did you mean `max"),
    "missing": ({"max_value": 1}, "column is missing"),
    "unbounded": ({"column": "width"}, "the rule can never be broken; give min_value or max_value"),
    "lenient": ({"column": "width", "max_value": 1, "mostly": 0}, "the rule can never be broken, because mostly: 0"),
    "mostly": ({"column": "width", "max_value": 1, "mostly": 2}, "mostly: 2: ensure this value is less than"),
    "bound": ({"column": "width", "max_value": "high"}, "max_value: 'high': "),
    "condition": ({"column": "width", "max_value": 1, "row_condition": "x"}, "row_condition: unknown argument"),
    "own": ({"expect": "min_train_per_class", "limit": "many"}, "limit: 'many': value is not a valid integer"),
    "own_unknown": ({"expect": "only_classes", "class": ["cat"]}, "class: unknown argument; did you mean `classes`?"),
    "min_side": ({"column": "width", "max_value": 1}, "this is the name of a built-in rule"),
}  # fmt: skip


def test_all_mistakes_in_expectations_are_reported_before_any_check(tmp_path: Path) -> None:
    rules = {name: {"expect": "ExpectColumnValuesToBeBetween", **rule} for name, (rule, _) in MISTAKES.items()}
    with pytest.raises(UserError) as caught:
        found_by(with_user_rules(**rules), tmp_path)
    for name, (_, words) in MISTAKES.items():
        assert f"  {name}: {words}" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_unknown_names_in_params_are_reported_with_a_suggestion() -> None:
    with pytest.raises(UserError) as caught:
        check_params(
            {
                "checks": {
                    "expectations": {
                        "ExpectColumnMeanToBeBetwen": {"column": "width"},
                        "typed": {"expect": "ExpectColumnValuesToBeOfType"},
                        "loud": {"expect": "ExpectColumnMeanToBeBetween", "severity": "warn"},
                        "endless": {"expect": "ExpectColumnMeanToBeBetween", "max_value": NAN},
                    }
                }
            }
        )
    for words in (
        "checks.expectations.ExpectColumnMeanToBeBetwen.expect: 'ExpectColumnMeanToBeBetwen': no such expectation; "
        "did you mean `ExpectColumnMeanToBeBetween`?",
        "checks.expectations.typed.expect: 'ExpectColumnValuesToBeOfType': is not offered",
        "checks.expectations.loud.severity: 'warn': did you mean `warning`?",
        "checks.expectations.endless: max_value: 'nan' is not a finite number",
    ):
        assert words in str(caught.value)


def test_each_expectation_of_great_expectations_is_offered_or_excluded() -> None:
    import great_expectations.expectations as built_in
    from great_expectations.expectations.expectation import Expectation

    available = {n for n, k in vars(built_in).items() if isinstance(k, type) and issubclass(k, Expectation)}
    assert available - {"Expectation"} == set(OFFERED) | set(LEFT_OUT)
    assert not set(OFFERED) & set(LEFT_OUT)


BROKEN: dict[str, dict[str, Any]] = {
    "ExpectColumnDistinctValuesToBeInSet": {"column": "label", "value_set": ["cat"]},
    "ExpectColumnDistinctValuesToContainSet": {"column": "label", "value_set": ["fox"]},
    "ExpectColumnDistinctValuesToEqualSet": {"column": "label", "value_set": ["cat"]},
    "ExpectColumnMaxToBeBetween": {"column": "width", "max_value": 3},
    "ExpectColumnMeanToBeBetween": {"column": "width", "max_value": 3},
    "ExpectColumnMedianToBeBetween": {"column": "width", "max_value": 3},
    "ExpectColumnMinToBeBetween": {"column": "width", "min_value": 30},
    "ExpectColumnMostCommonValueToBeInSet": {"column": "label", "value_set": ["fox"]},
    "ExpectColumnPairValuesAToBeGreaterThanB": {"column_A": "width", "column_B": "height"},
    "ExpectColumnPairValuesToBeEqual": {"column_A": "width", "column_B": "offset"},
    "ExpectColumnPairValuesToBeInSet": {"column_A": "width", "column_B": "height", "value_pairs_set": [[1, 2]]},
    "ExpectColumnProportionOfNonNullValuesToBeBetween": {"column": "width", "max_value": 0.5},
    "ExpectColumnProportionOfUniqueValuesToBeBetween": {"column": "label", "min_value": 0.9},
    "ExpectColumnStdevToBeBetween": {"column": "offset", "max_value": 0.1},
    "ExpectColumnSumToBeBetween": {"column": "width", "max_value": 3},
    "ExpectColumnUniqueValueCountToBeBetween": {"column": "label", "max_value": 1},
    "ExpectColumnValueLengthsToBeBetween": {"column": "label", "min_value": 4},
    "ExpectColumnValueLengthsToEqual": {"column": "label", "value": 4},
    "ExpectColumnValueZScoresToBeLessThan": {"column": "offset", "threshold": 0.1, "double_sided": True},
    "ExpectColumnValuesToBeBetween": {"column": "width", "max_value": 3},
    "ExpectColumnValuesToBeInSet": {"column": "label", "value_set": ["cat"]},
    "ExpectColumnValuesToBeNull": {"column": "label"},
    "ExpectColumnValuesToBeUnique": {"column": "label"},
    "ExpectColumnValuesToMatchRegex": {"column": "label", "regex": "^c"},
    "ExpectColumnValuesToMatchRegexList": {"column": "label", "regex_list": ["^c"]},
    "ExpectColumnValuesToNotBeInSet": {"column": "label", "value_set": ["cat"]},
    "ExpectColumnValuesToNotBeNull": {"column": "point.tail.x"},
    "ExpectColumnValuesToNotBeOutliers": {"column": "odd"},
    "ExpectColumnValuesToNotMatchRegex": {"column": "label", "regex": "^c"},
    "ExpectColumnValuesToNotMatchRegexList": {"column": "label", "regex_list": ["^c"]},
    "ExpectCompoundColumnsToBeUnique": {"column_list": ["width", "height"]},
    "ExpectMulticolumnSumToEqual": {"column_list": ["width", "height"], "sum_total": 3},
    "ExpectMulticolumnValuesToBeEqual": {"column_list": ["width", "offset"]},
    "ExpectTableRowCountToBeBetween": {"max_value": 3},
    "ExpectTableRowCountToEqual": {"value": 3},
}


def test_each_offered_expectation_can_fail_and_is_described(tmp_path: Path) -> None:
    assert set(BROKEN) == set(OFFERED)
    rows = valid_rows()
    data = CheckData(rows, folder_of(rows, tmp_path / "in"))
    frame = data.frame.assign(offset=range(12), odd=[1000.0, *range(11)])
    frame["point.tail.x"] = [NAN] + [1.0] * 11
    vars(data).update(frame=frame)
    rules = user_rules(with_user_rules(**BROKEN), list(frame.columns))
    results = interpret(rules, run_suite(data, rules), frame)
    assert len(results) == len(OFFERED)
    for result in results:
        assert result.severity == "blocking", result
        assert "could not be checked" not in result.observed and "None" not in result.observed, result
        assert "np." not in result.message and "$" not in result.rule.description, result
        assert re.search(r" must |^Must | with ", result.rule.description), result


@pytest.mark.parametrize("page", ["reference/checks.md", "guides/your-images.md"])
def test_the_examples_in_the_documentation_are_valid(page: str, root: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "docs" / page).read_text(), re.DOTALL)
    examples = [YAML(typ="safe").load(block)["checks"] for block in blocks if block.startswith("checks:")]
    assert examples
    for example in examples:
        assert user_rules(with_user_rules(**example["expectations"]), [*MANIFEST_COLUMNS, "count.RBC"])


def test_label_columns_differ_from_manifest_columns(tmp_path: Path) -> None:
    for kind, annotation in GOOD.items():
        added = set(check_data(tmp_path / kind, annotation).columns[len(MANIFEST_COLUMNS) :])
        assert added >= {"shorter_side", "aspect"} and not added & set(MANIFEST_COLUMNS)
