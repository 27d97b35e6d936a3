"""Tests that two sets of images are distinguished only if they differ, with the correct cause."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter

from stages.audits import domain_gap, representativeness
from stages.audits.audit_data import AuditData
from stages.config.schema import Params
from stages.core.findings import Finding
from stages.dataset.manifest import read_manifest
from stages.dataset.shards import shard_name
from stages.probes.appearance import measure_appearance, noise, spectrum
from stages.probes.two_sample_test import compare_features, shares_differ
from tests.conftest import Ingest, png

COUNT = 160


def random_image(seed: int, label: str) -> np.ndarray[Any, Any]:
    """Return smoothed noise with grain; images of class `b` have finer structures and a bright spot."""
    rng = np.random.default_rng(seed)
    clouds = gaussian_filter(rng.normal(size=(40, 40)), 1.5 if label == "b" else 2.5)
    spot = np.zeros((40, 40))
    spot[12:20, 12:20] = 40 * (label == "b")
    return spot + 120 + rng.normal(0, 6) + 30 * clouds / clouds.std() + rng.normal(0, 4, (40, 40))


CHANGES = {
    "light": lambda image: image + 12,
    "contrast": lambda image: (image - 128) * 0.8 + 128,
    "detail": lambda image: gaussian_filter(image, 0.7),
    "noise": lambda image: image + np.random.default_rng(0).normal(0, 8, image.shape),
}


def audit_data(ingest: Ingest, folder: Path, change: Any = None) -> AuditData:
    """Return images of two classes and two origins; `change` is applied to those of origin `new`."""
    for seed in range(COUNT):
        origin, label = ("new", "old")[seed % 2], "ab"[seed // 2 % 2]
        image = random_image(seed, label)
        image = change(image) if change and origin == "new" else image
        file = folder / origin / label / f"{seed:04d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(np.clip(image, 0, 255).astype(np.uint8)))
    (folder / "labels.csv").write_text(
        "path,label\n" + "\n".join(f"{p.relative_to(folder).as_posix()},{p.parent.name}" for p in folder.rglob("*.png"))
    )
    ingested = ingest(folder, inside="labels.csv", origin_regex="^(new|old)")
    return AuditData(read_manifest(ingested), pd.read_parquet(ingested / "sealed_index.parquet"), ingested)


def with_second_ingest(data: AuditData) -> AuditData:
    """Return the same data, with the images of origin `new` as part of a second ingest."""
    shutil.copy(data.folder / shard_name(1), data.folder / shard_name(2))
    arrival = np.where(data.rows["origin"] == "new", 2, 1)
    return AuditData(data.rows.assign(arrival=arrival), data.sealed, data.folder)


def by_id(findings: list[Finding]) -> dict[str, Finding]:
    assert len({f.id for f in findings}) == len(findings)
    return {f.id: f for f in findings}


@pytest.mark.parametrize("family", CHANGES)
def test_new_images_that_look_different_are_reported_with_the_cause(
    family: str, ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    changed = with_second_ingest(audit_data(ingest, tmp_path / "d", CHANGES[family]))
    finding = by_id(representativeness.find(changed, params.audit))["representativeness/new-data"]
    assert finding.severity == "warning" and finding.evidence["auc"] > 0.7
    assert family in [cause["family"] for cause in finding.evidence["causes"][:3]]
    assert len(finding.images) == 24
    assert all(path.startswith("new/") for path in finding.images[:12])
    assert all(path.startswith("old/") for path in finding.images[12:])
    gap = by_id(domain_gap.find(changed, params.audit))["domain_gap/origins"]
    assert gap.severity == "warning" and "transfers" in gap.message


def test_similar_data_pass_if_a_difference_would_be_found(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    similar = with_second_ingest(audit_data(ingest, tmp_path / "d"))
    findings = by_id(representativeness.find(similar, params.audit) + domain_gap.find(similar, params.audit))
    assert {f.severity for f in findings.values()} <= {"passed", "info"}
    for name in ("representativeness/new-data", "domain_gap/origins"):  # 80 images each
        assert "7 of 7 planted" in findings[name].message, findings[name].message
    validation = findings.get("representativeness/validation", findings.get("representativeness/not-checked"))
    assert validation and "validation images" in validation.message and "planted" in validation.message


def test_different_class_shares_are_not_a_different_appearance(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    """Classes differ in noise, which must not distinguish sets with different class shares."""
    data = audit_data(ingest, tmp_path / "d")
    appearance = measure_appearance(data.rows, data.folder)
    alarms, shares = 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        in_first = rng.random(len(data.rows)) < np.where(data.rows["label"] == "a", 0.2, 0.6)
        alarms += compare_features(data.rows, in_first, appearance, 99, 0.01).p <= 0.05
        shares += shares_differ(data.rows, in_first, 99).p <= 0.05
    assert alarms <= 4  # at a level of 5 %, the probability of more than 4 in 20 is 0.3 %
    assert shares >= 18


def test_sets_without_arrivals_origins_or_groups_are_not_compared(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    data = audit_data(ingest, tmp_path / "d")
    small = AuditData(data.rows.assign(origin="", label="").iloc[:12], data.sealed, data.folder)
    findings = by_id(representativeness.find(small, params.audit) + domain_gap.find(small, params.audit))
    assert "the same ingest" in findings["representativeness/not-checked"].message
    assert "specify ingest.origin_regex" in findings["domain_gap/not-checked"].message
    assert "at least 10 in each set" in findings["representativeness/not-checked"].message
    assert "images have no class" in findings["representativeness/not-checked"].message


def test_the_measured_noise_equals_the_added_noise() -> None:
    rng = np.random.default_rng(0)
    smooth = gaussian_filter(rng.normal(0, 400, (128, 128)), 8) + 128
    assert noise(smooth.astype(np.uint8)) < 0.5
    assert noise((smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)) == pytest.approx(6, rel=0.1)


def test_a_wave_has_the_same_spectral_bin_at_any_image_size() -> None:
    for size in (20, 64, 300):
        wave = 128 + 60 * np.sin(2 * np.pi * 0.2 * np.arange(size))
        # The wave has 0.2 cycles per pixel; the 16 bins reach to 0.5.
        assert int(spectrum(np.tile(wave, (size, 1)).astype(np.uint8)).argmax()) in (6, 7)
