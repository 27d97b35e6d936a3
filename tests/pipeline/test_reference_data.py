"""Known errors of public data sets are detected by the audits and checks."""

from pathlib import Path

import pandas as pd
import pytest

from stages.audits import duplicates, label_errors, leakage
from stages.audits.audit_data import AuditData
from stages.core.findings import Finding, read_findings
from stages.dataset.manifest import parse_annotations, read_manifest
from stages.ingest import main as ingest
from stages.runner.stage import call
from stages.validate import main as validate
from tests.conftest import example_params


def findings(name: str, reference_data: Path, folder: Path) -> tuple[dict[str, Finding], pd.DataFrame]:
    """Return the findings of the audits for a data set with its stored parameter set."""
    params = example_params(name)
    source = reference_data / f"{name}.zip"
    (folder / "splits").mkdir()
    paths = [source, folder / "splits", folder / "sealed", folder / "ingested"]
    metrics = call(ingest, paths, {"ingest": params.ingest, "split": params.split})
    assert metrics["train"] > metrics["val"] > 0 and metrics["test"] > 0
    rows = read_manifest(folder / "ingested")
    data = AuditData(rows, pd.read_parquet(folder / "ingested/sealed_index.parquet"), folder / "ingested")
    return {f.id: f for audit in (duplicates, leakage, label_errors) for f in audit.find(data, params.audit)}, rows


def test_the_photo_with_two_labels_in_clothing10_is_detected(reference_data: Path, tmp_path: Path) -> None:
    found, rows = findings("clothing10", reference_data, tmp_path)
    finding = found["duplicates/conflicting-labels"]
    assert finding.severity == "blocking" and finding.evidence["count"] == 1
    assert [path.split("/")[1][:3] + path.split("/")[2][:8] for path in finding.images] == [
        "sho6075b4a5",
        "ski637a56e4",
    ]
    assert rows.set_index("path").loc[finding.images, "pixels"].nunique() == 2, "the two files are encoded differently"
    assert found["leakage/same-image"].severity == "passed"


def test_identical_images_across_splits_of_pneumoniamnist_are_detected(reference_data: Path, tmp_path: Path) -> None:
    found, rows = findings("pneumoniamnist", reference_data, tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 4708, "val": 524}
    params = example_params("pneumoniamnist")
    sections = {"checks": params.checks, "task": params.task}
    call(validate, [tmp_path / "ingested", tmp_path / "validated"], sections)
    violated = [f for f in read_findings(tmp_path / "validated/findings.json") if f.severity != "passed"]
    assert [f.id for f in violated] == ["checks/image_in_one_split"] and violated[0].severity == "blocking"
    across = rows.groupby("pixels")["split"].nunique()
    assert len(violated[0].evidence["offenders"]) == (across > 1).sum() == 8
    assert "leakage/same-image" not in found, "in images of 28 pixels, copies with another encoding are not recognized"
    assert "re-encoded (" in found["leakage/not-checked"].message


def test_plankton121_has_one_conflict_and_validation_images_of_every_class(
    reference_data: Path, tmp_path: Path
) -> None:
    found, rows = findings("plankton121", reference_data, tmp_path)
    finding = found["duplicates/conflicting-labels"]
    assert finding.images == ["chaetognath_non_sagitta/14864.jpg", "chaetognath_other/271.jpg"]
    assert found["leakage/same-image"].severity == "passed"
    counts = pd.crosstab(rows["label"], rows["split"])
    assert counts.shape == (121, 2)
    assert counts["train"].min() >= 5 and counts["val"].min() >= 1


def test_missing_red_cell_boxes_of_bccd_are_detected(reference_data: Path, tmp_path: Path) -> None:
    """Detect missing labels by an expectation and by the label audit, and one field of view in two splits."""
    found, rows = findings("bccd", reference_data, tmp_path)
    unlabelled = {
        path
        for path, annotation in zip(rows["path"], parse_annotations(rows), strict=True)
        if not any(shape.label == "RBC" for shape in annotation.shapes or ())
    }
    assert len(unlabelled) == 12, "3 of the 15 images are in the sealed test split"
    finding = found["label_errors/objects"]
    assert finding.severity == "warning"
    assert len(unlabelled & set(finding.images)) >= 10
    assert len(finding.images) <= 24 < len(rows) / 10
    assert "RBC unlabelled" in finding.captions["JPEGImages/BloodImage_00330.jpg"]
    assert found["leakage/same-image"].images == [f"JPEGImages/BloodImage_000{n}.jpg" for n in (37, 38)]
    params = example_params("bccd")
    sections = {"checks": params.checks, "task": params.task}
    call(validate, [tmp_path / "ingested", tmp_path / "validated"], sections)
    violated = [f for f in read_findings(tmp_path / "validated/findings.json") if f.severity != "passed"]
    assert [f.id for f in violated] == ["checks/red_cells"] and violated[0].severity == "warning"
    assert violated[0].message.startswith("12 of 290 images") and set(violated[0].images) <= unlabelled


@pytest.mark.parametrize("name", ["clothing10", "pneumoniamnist", "plankton121"])
def test_every_waiver_of_an_example_has_a_reason(name: str) -> None:
    params = example_params(name)
    assert params.gate.waive
    assert all(len(reason) > 20 for reason in params.gate.waive.values())
