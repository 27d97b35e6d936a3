"""Tests of validate: each broken rule is reported, and a rule that could not be checked never passes."""

import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import validate
from stages.checks.check_data import CheckData
from stages.checks.contract import contract
from stages.checks.custom_expectations import CUSTOM_CHECKS
from stages.checks.results import interpret
from stages.checks.suite import run_suite
from stages.config.schema_data import Checks
from stages.config.schema_task import Task
from stages.core.findings import Finding, read_findings
from stages.dataset.annotations import Annotation, ObjectAnnotation
from stages.dataset.manifest import MANIFEST_COLUMNS, MANIFEST_FILE, SEALED_INDEX
from stages.dataset.shards import shard_name, write_shard
from stages.runner.stage import In, call

CHECKS = Checks(
    min_classes=2,
    min_train_per_class=3,
    min_validation_per_class=2,
    min_side=8,
    max_aspect=4,
    max_blank=0.0,
    expectations={},
)
CLASSIFICATION = Task()
ONE_CLASS = frozenset(("labels", "one class"))
DEFAULTS = {"str": "", "int64": 1, "float64": 0.5, "bool": False, "object": b""}


def valid_rows() -> pd.DataFrame:
    """Return 12 rows that satisfy every rule: two classes with four training and two validation images each."""
    table = [(label, "train" if n < 4 else "val", n) for label in ("cat", "dog") for n in range(6)]
    rows = pd.DataFrame([{name: DEFAULTS[kind] for name, kind in MANIFEST_COLUMNS.items()} for _ in table])
    rows["label"], rows["split"], number = zip(*table, strict=True)
    rows["path"] = [f"{label}/{n}.png" for label, n in zip(rows["label"], number, strict=True)]
    rows["group"] = rows["pixels"] = rows["path"]
    rows["annotation"] = [Annotation(labels=(label,)).to_json() for label in rows["label"]]
    return rows.assign(width=10, height=10, format="PNG", mode="L")


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def folder_of(rows: pd.DataFrame, folder: Path, targets: dict[str, bytes] | None = None) -> In:
    """Write rows, real images and targets by path as ingest would, without checking them."""
    folder.mkdir(parents=True)
    encoded = png(np.arange(100, dtype=np.uint8).reshape(10, 10))
    masks = [(targets or {}).get(str(path), b"") for path in rows["path"]]
    offsets = write_shard(
        folder / shard_name(1), [(str(i), data) for i, data in enumerate([encoded] * len(rows) + masks)]
    )
    columns = {"offset": offsets[: len(rows)], "bytes": len(encoded)}
    columns |= {"target_offset": offsets[len(rows) :], "target_bytes": [len(mask) for mask in masks]}
    rows.assign(**columns).to_parquet(folder / MANIFEST_FILE, index=False)
    pd.DataFrame({name: ["of the test"] for name in SEALED_INDEX}).to_parquet(folder / "sealed_index.parquet")
    return In(folder)


def check(
    rows: pd.DataFrame, tmp_path: Path, checks: Checks = CHECKS, task: Task = CLASSIFICATION
) -> dict[str, Finding]:
    """Return the findings of a manifest by id."""
    sections = {"checks": checks, "task": task}
    metrics = call(validate.main, [folder_of(rows, tmp_path / "in"), tmp_path / "out"], sections)
    findings = read_findings(tmp_path / "out" / "findings.json")
    assert metrics["checks"] == len(findings) == metrics["passed"] + metrics["blocking"] + metrics["warning"]
    return {finding.id: finding for finding in findings}


def broken_rules(findings: dict[str, Finding]) -> set[str]:
    """Return the names of the broken rules."""
    return {f.id.removeprefix("checks/") for f in findings.values() if f.severity != "passed"}


def with_value(column: str, value: Any, count: int = 1) -> Callable[[], pd.DataFrame]:
    """Return a function that makes valid rows with the first values of a column replaced."""

    def make() -> pd.DataFrame:
        rows = valid_rows()
        rows[column] = [value] * count + list(rows[column][count:])
        return rows

    return make


def with_fewer_images(label: str, split: str, left: int) -> Callable[[], pd.DataFrame]:
    """Return a function that makes valid rows with only `left` images of a class in a split."""

    def make() -> pd.DataFrame:
        rows = valid_rows()
        return rows.drop(rows.index[rows["label"].eq(label) & rows["split"].eq(split)][left:])

    return make


BROKEN_RULES: dict[str, tuple[Callable[[], pd.DataFrame], set[str], str]] = {
    "no image": (lambda: valid_rows()[:0], {"not_empty"}, "The observed value is 0. Rule: there is at least one image"),
    "a path twice": (with_value("path", "cat/1.png"), {"path_unique"}, "2 of 12 images"),
    "an image of split test": (with_value("split", "test"), {"split"}, "`test`"),
    "a class without validation": (
        with_fewer_images("dog", "val", 0),
        {"labels_in_both", "min_validation_per_class"},
        "Class `dog` has 4 training images but no validation image",
    ),
    "a class without training": (
        with_fewer_images("dog", "train", 0),
        {"labels_in_both", "min_train_per_class"},
        "Class `dog` has 2 validation images but no training image",
    ),
    "one class only": (
        lambda: valid_rows().query("label == 'cat'"),
        {"min_classes"},
        "The observed value is 1. Rule: the number of classes is at least 2",
    ),
    "too few to train on": (
        with_fewer_images("cat", "train", 2),
        {"min_train_per_class"},
        "Class `cat` has 2 training images. Rule: every class has at least 3 training images (checks.min_tra",
    ),
    "too few to validate on": (
        with_fewer_images("cat", "val", 1),
        {"min_validation_per_class"},
        "Class `cat` has 1 validation image. Rule: every class has at least 2 validation images (checks.min_v",
    ),
    "a small image": (
        with_value("height", 7),
        {"min_side"},
        "1 of 12 images: `shorter_side` is `7`. Rule: the shorter side is at least 8 p",
    ),
    "zero width": (with_value("width", 0), {"width", "min_side", "max_aspect"}, "`width` is `0`"),
    "zero height": (with_value("height", 0), {"height", "min_side", "max_aspect"}, "`height` is `0`"),
    "a long image": (with_value("width", 41), {"max_aspect"}, "`aspect` is `4.1`. Rule: the longer side is at most 4"),
    "a blank image": (with_value("blank", True), {"max_blank"}, "`blank` is `True`. Rule: at most 0% of the images"),
    "a column of the wrong type": (
        lambda: valid_rows().assign(brightness="bright"),
        {"column_types"},
        "Column `brightness` has type str, but float64 is required",
    ),
    "labels that cannot be parsed": (
        with_value("annotation", "{"),
        {"annotation"},
        "`cat/0.png`: its labels cannot be read: {",
    ),
    "labels of another kind": (
        with_value("annotation", '{"scalars":{"weight":2}}'),
        {"same_labels"},
        "`cat/0.png`: has numbers (weight), but 11 images have class labels",
    ),
    "an image in both splits": (
        with_value("pixels", "cat/5.png"),
        {"image_in_one_split"},
        "`cat/0.png` (training) and `cat/5.png` (validation) have equal pixels",
    ),
    "an image of the test split": (
        with_value("pixels", "of the test"),
        {"image_in_one_split"},
        "`cat/0.png`: is in the training split and in the sealed test split",
    ),
    "a group in both splits": (
        with_value("group", "cat/5.png"),
        {"group_in_one_split"},
        "Group `cat/5.png` has 1 training image and 1 validation image",
    ),
    "a group of the test split": (
        with_value("group", "of the test"),
        {"group_in_one_split"},
        "Group `of the test` has 1 training or validation image and others in the sealed test split",
    ),
    "a class in two spellings": (
        with_value("annotation", '{"labels":["Cat "]}'),
        {"class_names", "labels_in_both", "min_train_per_class", "min_validation_per_class"},
        "`Cat ` (1 image), `cat` (5 images) differ only in case, spaces",
    ),
    "a class with an invisible sign": (
        with_value("annotation", '{"labels":["c\\u200bat"]}'),
        {"class_names", "labels_in_both", "min_train_per_class", "min_validation_per_class"},
        "differ only in case, spaces, invisible signs",
    ),
    "an unknown format": (with_value("format", "XCF"), {"format"}, "`XCF`"),
    **{
        f"no {column}": (with_value(column, None), {f"not_null_{column}"}, f"1 of 12 images: `{column}` is missing")
        for column in ("label", "group", "brightness", "camera")
    },
}


def test_every_rule_is_broken_by_a_case() -> None:
    covered = set.union(*(rules for _, rules, _ in BROKEN_RULES.values()))
    known = {rule.name for rule in contract(CHECKS, ONE_CLASS)}
    assert covered <= known
    assert {name for name in known - covered if not name.startswith("not_null_")} == set()


@pytest.mark.parametrize("case", BROKEN_RULES)
def test_only_the_broken_rule_is_reported(case: str, tmp_path: Path) -> None:
    make_rows, expected, message = BROKEN_RULES[case]
    findings = check(make_rows(), tmp_path)
    assert broken_rules(findings) == expected
    reported = [findings[f"checks/{name}"] for name in expected]
    assert any(message in finding.message for finding in reported), [f.message for f in reported]
    rules_without_images = {"not_empty", "column_types"}
    assert expected <= rules_without_images or any(finding.images for finding in reported)


def test_valid_data_pass_every_rule(tmp_path: Path) -> None:
    findings = check(valid_rows(), tmp_path)
    assert len(findings) > len(MANIFEST_COLUMNS)
    assert broken_rules(findings) == set()


def test_the_tolerated_share_of_blank_images_passes(tmp_path: Path) -> None:
    findings = check(with_value("blank", True)(), tmp_path, CHECKS.model_copy(update={"max_blank": 0.1}))
    assert broken_rules(findings) == set()


def test_a_check_that_raises_is_blocking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(data: CheckData) -> None:
        raise ZeroDivisionError("division of zero")

    monkeypatch.setitem(CUSTOM_CHECKS, "labels_in_both", crash)
    findings = check(valid_rows(), tmp_path)
    assert broken_rules(findings) == {"labels_in_both"}
    finding = findings["checks/labels_in_both"]
    assert finding.severity == "blocking"
    assert "The rule could not be checked" in finding.message and "division of zero" in finding.message


def test_a_check_without_a_result_is_blocking(tmp_path: Path) -> None:
    rules = contract(CHECKS, ONE_CLASS)
    data = CheckData(valid_rows(), folder_of(valid_rows(), tmp_path / "in"))
    outcomes = run_suite(data, rules)
    del outcomes["min_side"]
    results = interpret(rules, outcomes, data.frame)
    assert len(results) == len(rules)
    assert [r.id for r in results if r.severity != "passed"] == ["checks/min_side"]


def test_names_are_escaped_and_the_page_loads_no_external_resources(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script>'
    rows = valid_rows().replace({"label": {"dog": hostile}}).query("label == 'cat' or split == 'val'")
    check(rows, tmp_path)
    page = (tmp_path / "out" / "page.html").read_text()
    assert hostile not in page and "&lt;script&gt;" in page
    assert_self_contained(page)
    assert page.count("<img") == 4  # the two validation images, under each of the two rules that they break
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"id", "severity", "rule", "observed", "offenders"} <= set(results[0])


def assert_self_contained(page: str) -> None:
    """Assert that a page has no script, and no address except data: and anchors."""

    class Addresses(HTMLParser):
        found: list[str]

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag != "script" and not any(name.startswith("on") for name, _ in attrs)
            self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    parser = Addresses()
    parser.found = []
    parser.feed(page)
    assert parser.found
    assert all(address.startswith(("data:", "#")) for address in parser.found)
    assert not re.search(r"@import|url\((?!#|data:)", page)


def test_object_classes_are_counted_by_the_images_that_contain_them(tmp_path: Path) -> None:
    rows = valid_rows()
    boxes = {
        "cat": (ObjectAnnotation("cat", (0, 0, 5, 5)), ObjectAnnotation("cat", (5, 5, 9, 9))),
        "dog": (ObjectAnnotation("dog", (0, 0, 5, 5)),),
    }
    rows["annotation"] = [Annotation(shapes=boxes[label]).to_json() for label in rows["label"]]
    rows["label"] = ""
    objects = Task(name="instances", score="average_precision")
    assert broken_rules(check(rows, tmp_path, task=objects)) == set()
    few = rows.drop(rows.index[2:4])  # two images of cats for training are left
    found = check(few, tmp_path / "few", task=objects)
    assert broken_rules(found) == {"min_train_per_class"}
    assert "Class `cat` has 2 training images" in found["checks/min_train_per_class"].message


def test_labels_without_classes_need_no_class_rule(tmp_path: Path) -> None:
    rows = valid_rows()
    rows["annotation"], rows["label"] = Annotation(scalars={"count": 3.0}).to_json(), ""
    found = check(rows, tmp_path, task=Task(name="regression", score="mean_absolute_error"))
    assert broken_rules(found) == set()
    assert "checks/min_classes" not in found and "checks/labels_in_both" not in found
