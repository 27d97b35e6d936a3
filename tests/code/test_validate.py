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
from stages.frame import Finding, In
from stages.frame.findings import read_findings
from stages.frame.sections import Checks
from stages.frame.stage import call
from stages.images.annotations import Annotation, Shape
from stages.images.manifest import COLUMNS, MANIFEST
from stages.images.shards import shard, write_shard

CHECKS = Checks(
    min_classes=2, min_train_per_class=3, min_validation_per_class=2, min_side=8, max_aspect=4, max_blank=0.0
)
DEFAULTS = {"str": "", "int64": 1, "float64": 0.5, "bool": False, "object": b""}


def sound() -> pd.DataFrame:
    """12 rows that keep every rule: two classes, four for training and two for validation each."""
    table = [(label, "train" if n < 4 else "val", n) for label in ("cat", "dog") for n in range(6)]
    rows = pd.DataFrame([{name: DEFAULTS[kind] for name, kind in COLUMNS.items()} for _ in table])
    rows["label"], rows["split"], number = zip(*table, strict=True)
    rows["path"] = [f"{label}/{n}.png" for label, n in zip(rows["label"], number, strict=True)]
    rows["group"] = rows["path"]
    rows["annotation"] = [Annotation(labels=(label,)).to_json() for label in rows["label"]]
    return rows.assign(width=10, height=10, format="PNG", mode="L")


def folder_of(rows: pd.DataFrame, folder: Path) -> In:
    """Write rows and real pictures as ingest would; unlike it, without looking whether they make sense."""
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(buffer, "PNG")
    offsets = write_shard(folder / shard(1), [(f"{i}.png", buffer.getvalue()) for i in range(len(rows))])
    rows.assign(offset=offsets, bytes=len(buffer.getvalue())).to_parquet(folder / MANIFEST, index=False)
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
    "no image at all": (lambda: sound()[:0], {"not_empty", "min_classes"}, "0 images"),
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
    "an unknown format": (with_("format", "XCF"), {"format"}, "`XCF`"),
    **{
        f"no {column}": (with_(column, None), {f"not_null_{column}"}, f"have no `{column}`")
        for column in ("label", "group", "brightness", "camera")
    },
}


def test_every_rule_is_broken_by_some_case() -> None:
    covered = set.union(*(rules for _, rules, _ in BREAKS.values()))
    known = {rule.name for rule in validate.rules_of(CHECKS)}
    assert covered <= known
    assert {name for name in known - covered if not name.startswith("not_null_")} == set()


@pytest.mark.parametrize("case", BREAKS)
def test_a_broken_rule_is_found_and_no_other(case: str, tmp_path: Path) -> None:
    make, expected, words = BREAKS[case]
    findings = check(make(), tmp_path)
    assert broken(findings) == expected
    said = [findings[f"checks/{name}"] for name in expected]
    assert any(words in finding.says for finding in said), [f.says for f in said]
    assert case in ("no image at all",) or any(finding.images for finding in said) or expected == {"min_classes"}


def test_sound_data_passes_every_rule(tmp_path: Path) -> None:
    findings = check(sound(), tmp_path)
    assert len(findings) > len(COLUMNS)
    assert broken(findings) == set()


def test_the_tolerated_share_of_blank_images_passes(tmp_path: Path) -> None:
    assert broken(check(with_("blank", True)(), tmp_path, CHECKS.model_copy(update={"max_blank": 0.1}))) == set()


def test_a_check_that_crashes_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(manifest: pd.DataFrame, limit: int) -> None:
        raise ZeroDivisionError("no such luck")

    monkeypatch.setitem(validate.FINDERS, "labels_in_both", crash)
    findings = check(sound(), tmp_path)
    assert broken(findings) == {"labels_in_both"}
    finding = findings["checks/labels_in_both"]
    assert finding.severity == "blocking"
    assert "could not be checked" in finding.says and "no such luck" in finding.says


def test_a_check_without_a_result_blocks() -> None:
    rules = list(validate.rules_of(CHECKS))
    results = validate.outcomes(sound(), rules)
    del results["checks/min_side"]
    verdicts = validate.judge(rules, results, 12)
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
