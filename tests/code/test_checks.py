"""The contract of every form of labels, each rule broken once; expectations of one's own, which never pass unseen."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import validate
from stages.checks import FINDERS
from stages.checks.contract import EVERY_KIND, contract
from stages.checks.own import own_rules
from stages.checks.subject import Subject
from stages.checks.suite import outcomes
from stages.checks.verdicts import judge
from stages.checks.words import PHRASES
from stages.core.errors import UserError
from stages.core.findings import Finding, read_findings
from stages.dataset.annotations import IGNORE, Annotation, Shape, encode_rle
from stages.dataset.manifest import COLUMNS
from stages.frame.expectations import LEFT_OUT, OFFERED, OWN
from stages.frame.params import check as check_params
from stages.frame.sections import Checks
from stages.runner.stage import call
from tests.code.test_validate import CHECKS, folder_of, png, sound

NAN = float("nan")
HALF = np.repeat([0, 1], 50).astype(np.uint8).reshape(10, 10)
OUTLINE = encode_rle(np.eye(10, dtype=bool))
GOOD: dict[str, Annotation] = {
    "scalars": Annotation(scalars={"weight": 2.5}),
    "points": Annotation(points={"nose": (0, 9), "tail": (4.5, 4.5)}),
    "shapes": Annotation(shapes=(Shape("cell", (0, 0, 10, 10), OUTLINE), Shape("cell", (1, 1, 2, 2)))),
    "mask": Annotation(mask=("background", "cell")),
    "image": Annotation(image=True),
    "several classes": Annotation(labels=("cat", "dog")),
}
FIRST = "cat/0.png"


def subject(
    folder: Path, usual: Annotation, first: Annotation | None = None, target: bytes | None = None, rows: Any = None
) -> Subject:
    """12 sound images under one annotation, the first of them under another, or with another target."""
    rows = sound() if rows is None else rows
    rows["annotation"], rows["label"] = usual.to_json(), ""
    if first is not None:
        rows.loc[0, "annotation"] = _json(first)
    targets = dict.fromkeys(rows["path"], png(HALF)) if usual.mask or usual.image else {}
    if target is not None:
        targets[FIRST] = target
    held = folder_of(rows, folder / "in", targets)
    return Subject(validate.read_manifest(held), held)


def _json(annotation: Annotation) -> str:
    """As `to_json`, for annotations that it refuses."""
    kept = {k: v for k, v in vars(annotation).items() if v not in (None, False)}
    return json.dumps(kept | ({"shapes": [vars(s) for s in kept["shapes"]]} if "shapes" in kept else {}))


def broken(held: Subject) -> dict[str, str]:
    """Names of the broken rules that are finders, with what they say."""
    rules = [rule for rule in contract(CHECKS, held.kinds) if rule.expectation in FINDERS]
    assert len(rules) > 5
    found = {r.name: list(FINDERS[r.expectation](held, **r.wants)) for r in rules}
    return {name: "; ".join(says for says, _ in offences) for name, offences in found.items() if offences}


@pytest.mark.parametrize("form", GOOD)
def test_sound_labels_of_every_form_keep_their_contract(form: str, tmp_path: Path) -> None:
    held = subject(tmp_path, GOOD[form])
    call(validate.main, [held.folder, tmp_path / "out"], {"checks": CHECKS})
    findings = read_findings(tmp_path / "out/findings.json")
    assert {f.id: f.says for f in findings if f.severity != "passed"} == {}
    assert not set(held.frame.columns[held.frame.columns.duplicated()]), "a column is there twice"
    assert list(held.frame.columns) == held.columns


def points(**changed: Any) -> Annotation:
    return Annotation(points={**(GOOD["points"].points or {}), **changed})


def box(*corners: float, rle: Any = None) -> Annotation:
    return Annotation(shapes=(Shape("cell", corners, rle),))  # type: ignore[arg-type]


DAMAGED: dict[str, tuple[str, Annotation | None, bytes | None, str, str]] = {
    "a point outside": ("points", points(nose=(3, 10.5)), None, "points_inside", "nose is at x 3, y 10.5, outside"),
    "a point that is no number": ("points", points(nose=(NAN, 3)), None, "points_inside", "x nan"),
    "a box outside": ("shapes", box(5, 5, 11, 9), None, "boxes_inside", "from x 5, y 5 to x 11, y 9, outside of 10x10"),
    "a box without area": ("shapes", box(5, 5, 5, 9), None, "boxes_area", "from x 5, y 5 to x 5, y 9 is empty"),
    "an outline of another size": ("shapes", box(0, 0, 9, 9, rle=(9, 9)), None, "outlines_size", "has 18 pixels, the"),
    "an empty outline": ("shapes", box(0, 0, 9, 9, rle=(100,)), None, "outlines_size", "outline of a cell is empty"),
    "a number that is none": ("scalars", Annotation(scalars={"weight": NAN}), None, "scalars_finite", "weight is nan"),
    "a number under another name": ("scalars", Annotation(scalars={"size": 1.0}), None, "same_labels", "scalars size"),
    "a class without a name": ("several classes", Annotation(labels=("cat", "dog", " ")), None, "class_names", "` `"),
    "no mask": ("mask", None, b"", "target_readable", f"`{FIRST}`: its mask is missing"),
    "a mask that is none": ("mask", None, b"no image", "target_readable", "its mask cannot be read"),
    "a colour mask": ("mask", None, png(np.dstack([HALF] * 3)), "target_readable", "has 3 channels, a mask has one"),
    "a small mask": ("mask", None, png(HALF[:9]), "target_size", f"`{FIRST}`: its mask is 10x9, the image 10x10"),
    "a mask of other values": ("mask", None, png(HALF * 7), "mask_values", "holds 7 (50 pixels); known are 0 to 1"),
    "a mask that knows nothing": ("mask", None, png(np.full_like(HALF, IGNORE)), "mask_known", "unknown in every"),
    "masks under other names": ("mask", Annotation(mask=("background", "nerve")), None, "same_labels", "background, n"),
    "a small paired image": ("image", None, png(HALF[:, :4]), "target_size", "paired image is 4x10, the image 10x10"),
    "no paired image": ("image", None, b"", "target_readable", "its paired image is missing"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_label_is_found_with_its_image_and_value(case: str, tmp_path: Path) -> None:
    form, first, target, rule, words = DAMAGED[case]
    found = broken(subject(tmp_path, GOOD[form], first, target))
    assert rule in found and words in found[rule], found
    of_classes = {"min_train_per_class", "min_validation_per_class", "labels_in_both", "class_names"}
    assert set(found) - of_classes == {rule} - of_classes, "other rules are kept"


def test_a_point_that_no_validation_image_shows_is_found(tmp_path: Path) -> None:
    rows = sound()
    held = subject(tmp_path, points(tail=None), rows=rows)
    assert "point `tail` is visible in none of 4 validation images" in broken(held)["points_seen"]


def test_every_class_of_a_mask_needs_its_images(tmp_path: Path) -> None:
    usual = Annotation(mask=("background", "cell", "nerve"))
    found = broken(subject(tmp_path, usual))
    assert found["min_train_per_class"] == "class `nerve` has 0 training images"


def test_every_finder_of_the_contract_is_broken_by_some_case() -> None:
    elsewhere = {  # tests/code/test_validate.py, and above
        "annotation", "class_names", "column_types", "group_in_one_split", "labels_in_both", "min_train_per_class",
        "min_validation_per_class", "picture_in_one_split", "points_seen", "same_labels",
    }  # fmt: skip
    finders = {rule.name for rule in contract(CHECKS, EVERY_KIND) if rule.expectation in FINDERS}
    assert finders == elsewhere | {rule for _, _, _, rule, _ in DAMAGED.values()}
    assert set(FINDERS) == finders | set(OWN)


def with_own(**expectations: dict[str, Any]) -> Checks:
    values = {name: {"expect": name, **given} for name, given in expectations.items()}
    return Checks.model_validate({**CHECKS.model_dump(), "expectations": values})


def found_by(checks: Checks, tmp_path: Path, rows: pd.DataFrame | None = None) -> dict[str, Finding]:
    held = folder_of(sound() if rows is None else rows, tmp_path / "in")
    call(validate.main, [held, tmp_path / "out"], {"checks": checks})
    return {f.id.removeprefix("checks/"): f for f in read_findings(tmp_path / "out/findings.json")}


def test_expectations_of_ones_own_pass_warn_and_block_with_their_reason_and_images(tmp_path: Path) -> None:
    checks = with_own(
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
    found = found_by(checks, tmp_path, sound().assign(camera=["a", "b", "c"] * 4))
    assert found["ExpectColumnMeanToBeBetween"].severity == "passed"
    assert found["lamp"].severity == "warning"
    assert (
        "the mean of `brightness` is at least 40 is broken: it is 0.5" in found["lamp"].says
        and "because: the lamp was dimmed in May." in found["lamp"].says
    )
    assert found["cameras"].severity == "blocking" and "at most 1 is broken: it is 3" in found["cameras"].says
    assert found["cameras"].images == ["cat/0.png", "cat/1.png", "cat/2.png"], "an image of each"
    assert found["wide"].says.startswith(
        "12 of 12 images break the rule that of every image `width` is at most 9: `10`"
    )
    assert found["kinds"].says.startswith("Class `dog` has 6 images; class `fox` has no image")
    assert found["many"].severity == "warning" and "class `dog` has 4 training images" in found["many"].says
    assert found["min_train_per_class"].severity == "passed", "the limit of the params is another rule"


def test_what_labels_say_can_be_asked_of_as_columns(tmp_path: Path) -> None:
    checks = with_own(
        heavy={"expect": "ExpectColumnValuesToBeBetween", "column": "scalar.weight", "max_value": 2},
        crowded={"expect": "ExpectColumnMaxToBeBetween", "column": "count.cell", "max_value": 1},
        nose={"expect": "ExpectColumnValuesToBeBetween", "column": "point.nose.y", "max_value": 8},
        covered={"expect": "ExpectColumnMeanToBeBetween", "column": "mask.cell", "max_value": 0.4},
    )
    told = {}
    for form, name in (("scalars", "heavy"), ("shapes", "crowded"), ("points", "nose"), ("mask", "covered")):
        held = subject(tmp_path / name, GOOD[form])
        one = checks.model_copy(update={"expectations": {name: checks.expectations[name]}})
        call(validate.main, [held.folder, tmp_path / name / "out"], {"checks": one})
        told |= {f.id: f.says for f in read_findings(tmp_path / name / "out/findings.json") if f.severity != "passed"}
    assert {id_: says.rpartition(" ")[2] for id_, says in told.items()} == {
        "checks/heavy": "`2.5`.",
        "checks/crowded": "2.",
        "checks/nose": "`9`.",
        "checks/covered": "0.5.",
    }


def test_an_expectation_of_ones_own_that_crashes_or_sees_nothing_has_failed(tmp_path: Path) -> None:
    checks = with_own(
        regex={"expect": "ExpectColumnValuesToMatchRegex", "column": "path", "regex": "("},
        mean={"expect": "ExpectColumnMeanToBeBetween", "column": "path", "max_value": 3, "severity": "warning"},
        void={"expect": "ExpectColumnValuesToBeBetween", "column": "point.tail.x", "max_value": 3},
        kinds={"expect": "ExpectColumnUniqueValueCountToBeBetween", "column": "point.tail.x", "max_value": 3},
    )
    held = subject(tmp_path, points(tail=None))
    call(validate.main, [held.folder, tmp_path / "out"], {"checks": checks})
    found = {f.id.removeprefix("checks/"): f for f in read_findings(tmp_path / "out/findings.json")}
    assert found["regex"].severity == "blocking" and "could not be checked: Invalid regular" in found["regex"].says
    assert found["mean"].severity == "warning" and "could not be checked" in found["mean"].says
    for name in ("void", "kinds"):
        assert found[name].severity == "blocking"
        assert "could not be checked: no image has a value in `point.tail.x`" in found[name].says


def test_an_expectation_of_ones_own_without_a_result_has_failed(tmp_path: Path) -> None:
    held = subject(tmp_path, GOOD["scalars"])
    rules = own_rules(
        with_own(heavy={"expect": "ExpectColumnMaxToBeBetween", "column": "width", "max_value": 99}), held.columns
    )
    results = outcomes(held, rules)
    assert [v.severity for v in judge(rules, results, held.frame)] == ["passed"]
    assert [v.severity for v in judge(rules, {}, held.frame)] == ["blocking"]
    assert [v.severity for v in judge([replace(rules[0], severity="warning")], {}, held.frame)] == ["warning"]


MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "column": ({"column": "brigthness", "max_value": 1}, "column 'brigthness' is none of the manifest; did you"),
    "argument": ({"column": "width", "max_valu": 1, "min_value": 0}, "max_valu: no such argument; did you mean `max"),
    "missing": ({"max_value": 1}, "column is missing"),
    "toothless": ({"column": "width"}, "neither min_value nor max_value is given: it could never be broken"),
    "lenient": ({"column": "width", "max_value": 1, "mostly": 0}, "mostly: 0 allows everything"),
    "mostly": ({"column": "width", "max_value": 1, "mostly": 2}, "mostly: 2: ensure this value is less than"),
    "bound": ({"column": "width", "max_value": "high"}, "max_value: 'high': "),
    "condition": ({"column": "width", "max_value": 1, "row_condition": "x"}, "row_condition: no such argument"),
    "ours": ({"expect": "min_train_per_class", "limit": "many"}, "limit: 'many': input should be a valid integer"),
    "ours_unknown": ({"expect": "only_classes", "class": ["cat"]}, "class: no such argument; did you mean `classes`?"),
    "min_side": ({"column": "width", "max_value": 1}, "is the name of a rule that is always checked"),
}  # fmt: skip


def test_every_mistake_in_expectations_is_named_at_once_before_a_rule_is_looked_at(tmp_path: Path) -> None:
    given = {name: {"expect": "ExpectColumnValuesToBeBetween", **given} for name, (given, _) in MISTAKES.items()}
    with pytest.raises(UserError) as caught:
        found_by(with_own(**given), tmp_path)
    for name, (_, words) in MISTAKES.items():
        assert f"  {name}: {words}" in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_unknown_names_are_mistakes_of_the_params_with_a_suggestion() -> None:
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
        "checks.expectations.endless: an argument is no finite number",
    ):
        assert words in str(caught.value)


def test_every_expectation_of_great_expectations_is_offered_or_left_out_with_a_reason() -> None:
    import great_expectations.expectations as built_in
    from great_expectations.expectations.expectation import Expectation

    theirs = {n for n, k in vars(built_in).items() if isinstance(k, type) and issubclass(k, Expectation)}
    assert theirs - {"Expectation"} == set(OFFERED) | set(LEFT_OUT)
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


def test_every_expectation_that_is_offered_can_be_broken_and_says_so_in_words(tmp_path: Path) -> None:
    assert set(BROKEN) == set(OFFERED)
    rows = sound()
    held = Subject(rows, folder_of(rows, tmp_path / "in"))
    frame = held.frame.assign(offset=range(12), odd=[1000.0, *range(11)])
    frame["point.tail.x"] = [NAN] + [1.0] * 11
    vars(held).update(frame=frame)
    rules = own_rules(with_own(**BROKEN), frame.columns)
    verdicts = judge(rules, outcomes(held, rules), frame)
    assert len(verdicts) == len(OFFERED)
    for verdict in verdicts:
        assert verdict.severity == "blocking", verdict
        assert "could not be checked" not in verdict.says and verdict.observed not in ("None", "{}"), verdict
        assert "np." not in verdict.says + verdict.observed, verdict


@pytest.mark.parametrize("page", ["reference/checks.md", "guides/your-images.md"])
def test_the_examples_of_the_documentation_are_valid(page: str, root: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (root / "docs" / page).read_text(), re.DOTALL)
    shown = [YAML(typ="safe").load(block)["checks"] for block in blocks if block.startswith("checks:")]
    assert shown
    for one in shown:
        assert own_rules(with_own(**one["expectations"]), [*COLUMNS, "count.RBC"])


def test_every_expectation_that_is_offered_has_words() -> None:
    assert list(PHRASES) == [*OFFERED, *OWN]


def test_columns_of_labels_are_none_of_the_manifests(tmp_path: Path) -> None:
    for form, usual in GOOD.items():
        own = set(subject(tmp_path / form, usual).columns[len(COLUMNS) :])
        assert own >= {"shorter_side", "aspect"} and not own & set(COLUMNS)
