"""validate: every rule is broken once, and found; what could not be checked never passes."""

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
from stages.checks import FINDERS
from stages.checks.contract import contract
from stages.checks.subject import Subject
from stages.checks.suite import outcomes
from stages.checks.verdicts import judge
from stages.core.findings import Finding, read_findings
from stages.dataset.annotations import Annotation, Shape
from stages.dataset.manifest import COLUMNS, MANIFEST, SEALED_INDEX
from stages.dataset.shards import shard, write_shard
from stages.frame.sections import Checks
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
ONE_CLASS = frozenset(("labels", "one class"))
DEFAULTS = {"str": "", "int64": 1, "float64": 0.5, "bool": False, "object": b""}


def sound() -> pd.DataFrame:
    """12 rows that keep every rule: two classes, four for training and two for validation each."""
    table = [(label, "train" if n < 4 else "val", n) for label in ("cat", "dog") for n in range(6)]
    rows = pd.DataFrame([{name: DEFAULTS[kind] for name, kind in COLUMNS.items()} for _ in table])
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
    """Write rows, real pictures and targets by path as ingest would; without looking whether they make sense."""
    folder.mkdir(parents=True)
    picture = png(np.arange(100, dtype=np.uint8).reshape(10, 10))
    masks = [(targets or {}).get(str(path), b"") for path in rows["path"]]
    offsets = write_shard(folder / shard(1), [(str(i), data) for i, data in enumerate([picture] * len(rows) + masks)])
    places = {"offset": offsets[: len(rows)], "bytes": len(picture)}
    places |= {"target_offset": offsets[len(rows) :], "target_bytes": [len(mask) for mask in masks]}
    rows.assign(**places).to_parquet(folder / MANIFEST, index=False)
    pd.DataFrame({name: ["of the test"] for name in SEALED_INDEX}).to_parquet(folder / "sealed_index.parquet")
    return In(folder)


def check(rows: pd.DataFrame, tmp_path: Path, checks: Checks = CHECKS) -> dict[str, Finding]:
    """Findings of a manifest, by id."""
    metrics = call(validate.main, [folder_of(rows, tmp_path / "in"), tmp_path / "out"], {"checks": checks})
    findings = read_findings(tmp_path / "out" / "findings.json")
    assert metrics["checks"] == len(findings) == metrics["passed"] + metrics["blocking"] + metrics["warning"]
    return {finding.id: finding for finding in findings}


def broken(findings: dict[str, Finding]) -> set[str]:
    """Names of the broken rules."""
    return {f.id.removeprefix("checks/") for f in findings.values() if f.severity != "passed"}


def with_(column: str, value: Any, count: int = 1) -> Callable[[], pd.DataFrame]:
    """The sound rows with the first few values of a column replaced."""

    def make() -> pd.DataFrame:
        rows = sound()
        rows[column] = [value] * count + list(rows[column][count:])
        return rows

    return make


def without(label: str, split: str, left: int) -> Callable[[], pd.DataFrame]:
    """The sound rows with only so many left of a class in a split."""

    def make() -> pd.DataFrame:
        rows = sound()
        return rows.drop(rows.index[rows["label"].eq(label) & rows["split"].eq(split)][left:])

    return make


BREAKS: dict[str, tuple[Callable[[], pd.DataFrame], set[str], str]] = {
    "no image at all": (lambda: sound()[:0], {"not_empty"}, "0 images"),
    "a path twice": (with_("path", "cat/1.png"), {"path_unique"}, "2 of 12 images"),
    "a test image": (with_("split", "test"), {"split"}, "`test`"),
    "a class without validation": (
        without("dog", "val", 0),
        {"labels_in_both", "min_validation_per_class"},
        "Class `dog` has 4 training images but none for validation",
    ),
    "a class without training": (
        without("dog", "train", 0),
        {"labels_in_both", "min_train_per_class"},
        "Class `dog` has 2 validation images but none for training",
    ),
    "one class only": (lambda: sound().query("label == 'cat'"), {"min_classes"}, "The number of classes is 1, 2 are"),
    "too few to train on": (
        without("cat", "train", 2),
        {"min_train_per_class"},
        "Class `cat` has 2 training images, 3 are required (checks.min_train_per_class)",
    ),
    "too few to validate on": (
        without("cat", "val", 1),
        {"min_validation_per_class"},
        "Class `cat` has 1 validation image, 2 are required (checks.min_validation_per_class)",
    ),
    "a small image": (with_("height", 7), {"min_side"}, "1 of 12 images have a shorter side below 8"),
    "no width": (with_("width", 0), {"width", "min_side", "max_aspect"}, "below 1 pixel"),
    "no height": (with_("height", 0), {"height", "min_side", "max_aspect"}, "below 1 pixel"),
    "a long image": (with_("width", 41), {"max_aspect"}, "more than 4 times the shorter (checks.max_aspect): `4.1`"),
    "a blank image": (with_("blank", True), {"max_blank"}, "single grey level, at most 0.0% may be"),
    "a column of another type": (
        lambda: sound().assign(brightness="bright"),
        {"column_types"},
        "Column `brightness` holds str, float64 is required",
    ),
    "labels that are none": (
        with_("annotation", "{"),
        {"annotation"},
        "`cat/0.png`: its labels cannot be read: {",
    ),
    "labels of another kind": (
        with_("annotation", '{"scalars":{"weight":2}}'),
        {"same_labels"},
        "`cat/0.png`: has scalars weight; most have labels",
    ),
    "a picture in both splits": (
        with_("pixels", "cat/5.png"),
        {"picture_in_one_split"},
        "`cat/0.png` (training) = `cat/5.png` (validation) are one picture",
    ),
    "a picture of the test": (
        with_("pixels", "of the test"),
        {"picture_in_one_split"},
        "`cat/0.png`: a picture of training and of the sealed test",
    ),
    "a group in both splits": (
        with_("group", "cat/5.png"),
        {"group_in_one_split"},
        "Group `cat/5.png` has 1 training image and 1 validation image",
    ),
    "a group of the test": (
        with_("group", "of the test"),
        {"group_in_one_split"},
        "Group `of the test` has 1 image here and others in the sealed test",
    ),
    "a class in two spellings": (
        with_("annotation", '{"labels":["Cat "]}'),
        {"class_names", "labels_in_both", "min_train_per_class", "min_validation_per_class"},
        "`Cat ` (1 image), `cat` (5 images) differ only in case, blanks",
    ),
    "an unknown format": (with_("format", "XCF"), {"format"}, "`XCF`"),
    **{
        f"no {column}": (with_(column, None), {f"not_null_{column}"}, f"have no `{column}`")
        for column in ("label", "group", "brightness", "camera")
    },
}


def test_every_rule_is_broken_by_some_case() -> None:
    covered = set.union(*(rules for _, rules, _ in BREAKS.values()))
    known = {rule.name for rule in contract(CHECKS, ONE_CLASS)}
    assert covered <= known
    assert {name for name in known - covered if not name.startswith("not_null_")} == set()


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_rule_is_found_and_no_other(case: str, tmp_path: Path) -> None:
    make, expected, words = BREAKS[case]
    findings = check(make(), tmp_path)
    assert broken(findings) == expected
    said = [findings[f"checks/{name}"] for name in expected]
    assert any(words in finding.says for finding in said), [f.says for f in said]
    of_no_image = {"not_empty", "column_types"}
    assert expected <= of_no_image or any(finding.images for finding in said)


def test_sound_data_passes_every_rule(tmp_path: Path) -> None:
    findings = check(sound(), tmp_path)
    assert len(findings) > len(COLUMNS)
    assert broken(findings) == set()


def test_the_tolerated_share_of_blank_images_passes(tmp_path: Path) -> None:
    assert broken(check(with_("blank", True)(), tmp_path, CHECKS.model_copy(update={"max_blank": 0.1}))) == set()


def test_a_check_that_crashes_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(subject: Subject) -> None:
        raise ZeroDivisionError("no such luck")

    monkeypatch.setitem(FINDERS, "labels_in_both", crash)
    findings = check(sound(), tmp_path)
    assert broken(findings) == {"labels_in_both"}
    finding = findings["checks/labels_in_both"]
    assert finding.severity == "blocking"
    assert "could not be checked" in finding.says and "no such luck" in finding.says


def test_a_check_without_a_result_blocks(tmp_path: Path) -> None:
    rules = list(contract(CHECKS, ONE_CLASS))
    subject = Subject(sound(), folder_of(sound(), tmp_path / "in"))
    results = outcomes(subject, rules)
    del results["checks/min_side"]
    verdicts = judge(rules, results, subject.frame)
    assert len(verdicts) == len(rules)
    assert [v.id for v in verdicts if v.severity != "passed"] == ["checks/min_side"]


def test_names_are_escaped_and_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script>'
    rows = sound().replace({"label": {"dog": hostile}}).query("label == 'cat' or split == 'val'")
    check(rows, tmp_path)
    page = (tmp_path / "out" / "page.html").read_text()
    assert hostile not in page and "&lt;script&gt;" in page
    assert_self_contained(page)
    assert page.count("<img") == 4  # the two validation images without training, under the two rules that they break
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {"id", "severity", "wants", "observed", "offenders"} <= set(results[0])


def assert_self_contained(page: str) -> None:
    """No script, and no address but data: and anchors."""

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


def test_classes_of_things_are_counted_by_the_images_that_hold_them(tmp_path: Path) -> None:
    rows = sound()
    boxes = {"cat": (Shape("cat", (0, 0, 5, 5)), Shape("cat", (5, 5, 9, 9))), "dog": (Shape("dog", (0, 0, 5, 5)),)}
    rows["annotation"] = [Annotation(shapes=boxes[label]).to_json() for label in rows["label"]]
    rows["label"] = ""
    assert broken(check(rows, tmp_path)) == set()
    few = rows.drop(rows.index[2:4])  # two images of cats for training are left
    found = check(few, tmp_path / "few")
    assert broken(found) == {"min_train_per_class"}
    assert "Class `cat` has 2 training images" in found["checks/min_train_per_class"].says


def test_labels_that_are_no_classes_need_none(tmp_path: Path) -> None:
    rows = sound()
    rows["annotation"], rows["label"] = Annotation(scalars={"count": 3.0}).to_json(), ""
    found = check(rows, tmp_path)
    assert broken(found) == set()
    assert "checks/min_classes" not in found and "checks/labels_in_both" not in found
