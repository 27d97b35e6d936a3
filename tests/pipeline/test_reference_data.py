"""Real data sets with their real faults: what is known to be wrong with them must be found and named."""

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
from tests.conftest import kept_params


def findings(name: str, reference_data: Path, folder: Path) -> tuple[dict[str, Finding], pd.DataFrame]:
    """Return the findings of the audits for a data set with its stored parameter set."""
    params = kept_params(name)
    source = reference_data / f"{name}.zip"
    (folder / "splits").mkdir()
    paths = [source, folder / "splits", folder / "sealed", folder / "ingested"]
    metrics = call(ingest, paths, {"ingest": params.ingest, "split": params.split})
    assert metrics["train"] > metrics["val"] > 0 and metrics["test"] > 0
    rows = read_manifest(folder / "ingested")
    subject = AuditData(rows, pd.read_parquet(folder / "ingested/sealed_index.parquet"), folder / "ingested")
    return {f.id: f for audit in (duplicates, leakage, label_errors) for f in audit.find(subject, params.audit)}, rows


def test_the_one_photo_under_two_labels_of_clothing10(reference_data: Path, tmp_path: Path) -> None:
    found, rows = findings("clothing10", reference_data, tmp_path)
    finding = found["duplicates/conflicting-labels"]
    assert finding.severity == "blocking" and finding.evidence["count"] == 1
    assert [path.split("/")[1][:3] + path.split("/")[2][:8] for path in finding.images] == [
        "sho6075b4a5",
        "ski637a56e4",
    ]
    assert rows.set_index("path").loc[finding.images, "pixels"].nunique() == 2, "the two were encoded again"
    assert found["leakage/same-image"].severity == "passed"


def test_the_eight_groups_of_identical_images_across_the_splits_of_pneumoniamnist(
    reference_data: Path, tmp_path: Path
) -> None:
    found, rows = findings("pneumoniamnist", reference_data, tmp_path)
    assert rows["split"].value_counts().to_dict() == {"train": 4708, "val": 524}
    checks = kept_params("pneumoniamnist").checks
    call(validate, [tmp_path / "ingested", tmp_path / "validated"], {"checks": checks})
    broken = [f for f in read_findings(tmp_path / "validated/findings.json") if f.severity != "passed"]
    assert [f.id for f in broken] == ["checks/image_in_one_split"] and broken[0].severity == "blocking"
    across = rows.groupby("pixels")["split"].nunique()
    assert len(broken[0].evidence["offenders"]) == (across > 1).sum() == 8
    assert found["leakage/same-image"].severity == "passed", "no other is a copy that was encoded again"


def test_the_file_in_two_classes_of_plankton121_and_no_class_without_validation(
    reference_data: Path, tmp_path: Path
) -> None:
    found, rows = findings("plankton121", reference_data, tmp_path)
    finding = found["duplicates/conflicting-labels"]
    assert finding.images == ["chaetognath_non_sagitta/14864.jpg", "chaetognath_other/271.jpg"]
    assert found["leakage/same-image"].severity == "passed"
    counts = pd.crosstab(rows["label"], rows["split"])
    assert counts.shape == (121, 2)
    assert counts["train"].min() >= 5 and counts["val"].min() >= 1


def test_the_pictures_of_blood_without_a_box_around_a_red_cell_of_bccd(reference_data: Path, tmp_path: Path) -> None:
    """Missing labels are found by an expectation and by the label audit, and one field is in two splits."""
    found, rows = findings("bccd", reference_data, tmp_path)
    without = {
        path
        for path, one in zip(rows["path"], parse_annotations(rows), strict=True)
        if not any(shape.label == "RBC" for shape in one.shapes or ())
    }
    assert len(without) == 12, "of the 15 three are sealed"
    finding = found["label_errors/objects"]
    assert finding.severity == "warning"
    assert len(without & set(finding.images)) >= 10
    assert len(finding.images) <= 24 < len(rows) / 10
    assert "RBC unlabelled" in finding.captions["JPEGImages/BloodImage_00330.jpg"]
    assert found["leakage/same-image"].images == [f"JPEGImages/BloodImage_000{n}.jpg" for n in (37, 38)]
    checks = kept_params("bccd").checks
    call(validate, [tmp_path / "ingested", tmp_path / "validated"], {"checks": checks})
    broken = [f for f in read_findings(tmp_path / "validated/findings.json") if f.severity != "passed"]
    assert [f.id for f in broken] == ["checks/red_cells"] and broken[0].severity == "warning"
    assert broken[0].message.startswith("12 of 292 images") and set(broken[0].images) <= without


@pytest.mark.parametrize("name", ["clothing10", "pneumoniamnist", "plankton121"])
def test_every_kept_parameter_set_waives_only_with_a_reason(name: str) -> None:
    params = kept_params(name)
    assert params.gate.waive
    assert all(len(reason) > 20 for reason in params.gate.waive.values())
