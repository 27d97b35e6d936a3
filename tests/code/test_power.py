"""An audit passes only if it would report faults that are planted in the data of the user."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.audits.audit_competitors import default_params
from stages.audits import border_confounders, confounder, dynamic_range, outliers, representativeness
from stages.audits.audit_data import AuditData
from stages.audits.label_errors import wrong_masks, wrong_numbers, wrong_points
from stages.audits.power import Power, choose_planted, merge_unchecked, require_power
from stages.core.findings import Finding
from stages.images.image_statistics import EXPOSURE, STRUCTURE
from stages.probes.linear_probe import probe
from stages.probes.two_sample_test import ShareDifference, shares_differ

AUDIT = default_params().audit.model_copy(update={"permutations": 199})
PASSED = Finding("confounder/statistics", "passed", "Nothing was found.", {"skill": 0.0})


def power(found: int, fault: str = "a stamp") -> Power:
    return Power(fault, found, 10, "More images are required.", "false alarms in 1 of 99 permutations")


def by_id(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.id: finding for finding in findings}


def test_an_audit_with_power_passes_with_its_figures() -> None:
    (finding,) = require_power(PASSED, [power(8)])
    assert finding.severity == "passed" and finding.evidence["skill"] == 0.0
    assert "finds a stamp (8 of 10 planted; false alarms in 1 of 99 permutations)" in finding.message
    assert finding.evidence["power"] == {"a stamp": {"found": 8, "planted": 10}}


def test_an_audit_without_power_is_not_checked_and_states_what_is_missing() -> None:
    (finding,) = require_power(PASSED, [power(7)])
    assert finding.id == "confounder/not-checked" and finding.severity == "info"
    assert "7 of 10 planted" in finding.message and "More images are required." in finding.message
    both = by_id(require_power(PASSED, [power(10), power(0, "a shadow")]))
    assert "a shadow" not in both["confounder/statistics"].message
    assert "a shadow (0 of 10 planted" in both["confounder/not-checked"].message


def test_a_finding_that_reports_a_fault_is_not_changed() -> None:
    found = Finding("confounder/statistics", "warning", "A class is brighter.")
    assert require_power(found, []) == [found]


def test_an_audit_without_a_planted_fault_cannot_pass() -> None:
    with pytest.raises(AssertionError, match="without power"):
        require_power(PASSED, [])
    assert not Power("a stamp", 0, 0, "").is_sufficient


def test_findings_about_what_was_not_checked_are_merged() -> None:
    some = [Finding("a/not-checked", "info", "One."), PASSED, Finding("a/not-checked", "warning", "Two.")]
    merged = merge_unchecked(some)
    assert [(f.id, f.severity) for f in merged] == [("confounder/statistics", "passed"), ("a/not-checked", "warning")]
    assert merged[1].message == "One. Two."


@pytest.mark.parametrize(("count", "planted"), [(3, 3), (60, 5), (1000, 50), (9000, 100)])
def test_the_number_of_planted_faults_depends_on_the_number_of_images_only(count: int, planted: int) -> None:
    assert len(choose_planted(count)) == planted == len(set(choose_planted(count)))
    assert (choose_planted(count) == choose_planted(count)).all()


def random_rows(count: int, classes: int = 2) -> pd.DataFrame:
    """Return rows of images whose statistics do not depend on the class."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.normal(100, 20, (count, 12)), columns=[*EXPOSURE, *STRUCTURE])
    thumbnails = [rng.integers(60, 120, (8, 8, 1), np.uint8).repeat(3, 2).tobytes() for _ in range(count)]
    names = np.array([f"c{i % classes}" for i in range(count)])
    return table.assign(
        label=names, group=[str(i) for i in range(count)], thumbnail=thumbnails, path="x.png", width=8, height=8
    )


@pytest.mark.parametrize(("count", "passes"), [(200, True), (24, False)])
def test_the_confounder_audit_passes_only_with_enough_images(count: int, passes: bool) -> None:
    rows = random_rows(count)
    findings = [*confounder._statistics(rows, AUDIT), *border_confounders.find(rows, AUDIT)]
    passed = {finding.id for finding in findings if finding.severity == "passed"}
    assert ("confounder/statistics" in passed) == passes
    if passes:
        assert passed == {"confounder/statistics", "confounder/border", "confounder/border-spot"}
    else:
        assert any("more groups per class" in f.message or "groups per class" in f.message for f in findings)


def test_false_alarms_are_counted_in_the_permutations() -> None:
    rows = random_rows(200)
    skill = probe(rows[["brightness", "contrast"]], rows["label"], rows["group"], 199)
    alarms, permutations = skill.false_alarms(0.05, -1.0)
    assert permutations == 199 and alarms == 9  # the 9 of 199 permutations with the highest margins
    assert skill.false_alarms(0.05, 0.9)[0] == 0
    assert skill.p_of(skill.margin) == skill.p and skill.p_of(np.inf) == 1 / 200


@pytest.mark.parametrize(("images", "passes"), [(400, True), (24, False)])
def test_class_shares_pass_only_if_another_share_would_be_found(images: int, passes: bool) -> None:
    rows = random_rows(images, classes=4)
    shares: ShareDifference = shares_differ(rows, np.arange(images) % 5 == 0, 199)
    found = representativeness._share_power(shares, "validation", AUDIT)
    assert found.is_sufficient == passes and found.planted == 4


@pytest.mark.parametrize(("spread", "found"), [(1.0, True), (40.0, False)])
def test_a_misplaced_decimal_point_must_stand_out_from_the_predictions(spread: float, found: bool) -> None:
    deviation_ND = np.full((100, 1), 60.0) / spread
    assert wrong_numbers._power(deviation_ND).is_sufficient == found


@pytest.mark.parametrize(("scatter", "found"), [(0.002, True), (0.2, False)])
def test_points_pass_only_if_their_arrangement_is_stable(scatter: float, found: bool) -> None:
    corners = np.array([[0.2, 0.2], [0.6, 0.2], [0.6, 0.6], [0.2, 0.6]])
    points = corners + np.random.default_rng(0).normal(0, scatter, (60, 4, 2))
    powers = wrong_points._powers(points, np.arange(60))
    assert [one.is_sufficient for one in powers] == [found, found]


@pytest.mark.parametrize(("other", "found"), [(0.05, True), (0.85, False)])
def test_masks_pass_only_if_an_exchanged_mask_would_be_found(other: float, found: bool) -> None:
    worst = 0.9 + np.random.default_rng(0).normal(0, 0.02, 100)
    assert wrong_masks._power(worst, dict.fromkeys(range(10), other)).is_sufficient == found


def data_of(**columns: Any) -> AuditData:
    rows = pd.DataFrame(columns)
    return AuditData(rows.assign(path=[f"{i}.png" for i in range(len(rows))]), rows, Path())


def test_outliers_of_a_kind_that_would_be_missed_are_not_checked() -> None:
    rng = np.random.default_rng(0)
    width = np.exp(rng.normal(2, 1.5, 200))  # sharp and soft images: a blurred one does not stand out
    equal = dict.fromkeys(("brightest", "contrast", "width", "height"), np.full(200, 100.0))
    found = by_id(outliers.find(data_of(darkest=np.full(200, 10.0), edge_width=width, **equal), AUDIT))
    assert "four times as wide (0 of 10 planted" in found["outliers/not-checked"].message
    assert "a tenth of the light (10 of 10 planted)" in found["outliers/images"].message


def test_a_planted_loss_of_bits_is_found_whatever_the_levels_are() -> None:
    (found,) = dynamic_range.find(data_of(depth=[8] * 40, highest=[255.0] * 40), AUDIT)
    assert found.severity == "passed" and "4 bits less (1 of 1 planted)" in found.message
