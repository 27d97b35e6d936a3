"""The score of a random split beside the score by group, for classes and numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.audits import group_split
from stages.audits.audit_data import AuditData
from stages.config.schema_data import Audit
from stages.core.findings import Finding
from stages.dataset.annotations import Annotation


def data_of(features: np.ndarray, annotations: list[Annotation], groups: Any) -> AuditData:
    """Return the input of the audit, with features that are given instead of computed from images."""
    rows = pd.DataFrame({"annotation": [a.to_json() for a in annotations], "group": list(map(str, groups))})
    rows["pixels"] = rows.index.astype(str)
    data = AuditData(rows, rows, Path())
    data.__dict__["features"] = features.astype(np.float32)
    return data


def grouped(task: str, of_group: float, of_label: float, groups: int = 30, seed: int = 0) -> AuditData:
    """Return images whose features are a mark of their group, a mark of their label, and noise."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(groups), 6)
    value = rng.permutation(np.arange(groups) % 2).astype(float) if task == "classes" else rng.normal(size=groups)
    features = rng.normal(size=(len(group), 40))
    features += of_group * rng.normal(size=(groups, 40))[group]
    features[:, 0] += of_label * value[group]
    if task == "classes":
        annotations = [Annotation(labels=("ab"[int(one)],)) for one in value[group]]
    else:
        annotations = [Annotation(scalars={"g": float(one)}) for one in value[group]]
    return data_of(features, annotations, group)


def found(data: AuditData) -> Finding:
    (finding,) = group_split.find(data, Audit())
    return finding


@pytest.mark.parametrize(("task", "constant"), [("classes", 0.5), ("numbers", 0.0)])
def test_a_random_split_reports_the_recognition_of_groups_as_skill(task: str, constant: float) -> None:
    finding = found(grouped(task, of_group=3, of_label=0))
    evidence = finding.evidence
    assert (finding.id, finding.severity) == ("group_split/scores", "info")
    assert evidence["by_image"]["value"] > 0.7, "the images of a group look alike"
    assert evidence["by_group"]["value"] < constant + 0.25, "nothing in the images predicts the label of a new group"
    assert evidence["difference"]["low"] > 0.2
    assert f"would have reported {evidence['by_image']['value']:.2f}" in finding.message
    assert f"constant prediction has {constant:.2f}" in finding.message
    assert (evidence["groups"], evidence["images"]) == (30, 180)


@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_groups_without_influence_are_reported_as_no_difference_beyond_noise(task: str) -> None:
    for seed in range(3):
        data = grouped(task, of_group=0, of_label=3, seed=seed)
        group = np.random.default_rng(seed).permutation(data.rows["group"])
        annotations = [Annotation.from_json(text) for text in data.rows["annotation"]]
        assert "is not beyond noise" in found(data_of(data.features, annotations, group)).message


def test_a_probe_without_skill_shows_nothing() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(20), 5)
    labels = [Annotation(labels=(name,)) for name in rng.choice(["a", "b"], 100)]
    assert (
        "Neither is better than a constant prediction (0.50)"
        in found(data_of(rng.normal(size=(100, 8)), labels, group)).message
    )


def test_classes_of_a_single_group_do_not_count_as_overstated() -> None:
    """No probe can predict a class without the only group that contains it."""
    data = grouped("classes", of_group=0, of_label=3)
    rows = data.rows.copy()
    rows.loc[rows["group"] == "0", "annotation"] = Annotation(labels=("rare",)).to_json()
    finding = found(data_of(data.features, [Annotation.from_json(text) for text in rows["annotation"]], rows["group"]))
    assert "1 class with fewer than 5 groups was left out" in finding.message
    assert "is not beyond noise" in finding.message


@pytest.mark.parametrize(
    ("annotation", "group"),
    [
        (Annotation(labels=("a",)), np.arange(60)),
        (Annotation(image=True), np.repeat(np.arange(20), 3)),
        (Annotation(labels=("a",)), np.repeat(np.arange(20), 3)),
    ],
    ids=["no image shares a group", "paired images", "one class"],
)
def test_nothing_is_reported_where_there_is_nothing_to_compare(annotation: Annotation, group: np.ndarray) -> None:
    assert group_split.find(data_of(np.ones((60, 2)), [annotation] * 60, group), Audit()) == []


def test_too_few_groups_are_not_checked() -> None:
    finding = found(grouped("classes", of_group=1, of_label=1, groups=6))
    assert finding.id == "group_split/not-checked"
    assert "the images are in 6 groups" in finding.message
