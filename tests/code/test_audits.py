"""Tests of the audits, which report injected faults and nothing else, and of the gate."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageDraw
from sklearn.metrics import roc_auc_score

from benchmarks.audits.audit_competitors import default_params
from stages.audits import AUDITS, confounder
from stages.audits.audit_data import AuditData
from stages.augmentations import BatchRandom, Policy
from stages.config.schema import Params
from stages.config.schema_data import Gate
from stages.core.errors import UserError
from stages.core.findings import Finding, write_findings
from stages.dataset.manifest import read_manifest
from stages.gate import main as gate
from stages.images.decode import DecodedImage
from stages.images.image_statistics import compute_statistics
from stages.probes.linear_probe import probe
from stages.probes.univariate import single_feature_separation
from stages.runner.stage import call
from tests.conftest import Ingest, digit_images, png, write_folders

Images = list[tuple[str, np.ndarray[Any, Any]]]


def findings_of(folder: Path, params: Params) -> dict[str, Finding]:
    subject = AuditData(read_manifest(folder), pd.read_parquet(folder / "sealed_index.parquet"), folder)
    found = [finding for find in AUDITS.values() for finding in find(subject, params.audit)]
    assert len({f.id for f in found}) == len(found)
    return {f.id: f for f in found}


def photo(seed: int, size: int = 96) -> np.ndarray[Any, Any]:
    """Return a smooth random image that JPEG preserves as well as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def jpeg(image: np.ndarray[Any, Any], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_clean_digits_have_no_blocking_findings(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    findings = findings_of(ingest(write_folders(tmp_path / "d", digit_images(per_class=60))), params)
    assert "blocking" not in {f.severity for f in findings.values()}
    assert findings["confounder/statistics"].severity == "warning", "digits differ in ink: a warning, not blocking"


def test_a_re_encoded_image_with_two_labels_blocks(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    for number in range(40):
        folder = tmp_path / "d" / ("val" if number > 30 else "test" if number > 20 else "train") / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(jpeg(photo(number), 90))
    smaller = Image.fromarray(photo(0)).resize((80, 80), Image.Resampling.LANCZOS)
    (tmp_path / "d/train/b/again.jpg").write_bytes(jpeg(np.asarray(smaller), 60))
    finding = findings_of(ingest(tmp_path / "d", by="source"), params)["duplicates/conflicting-labels"]
    assert finding.severity == "blocking"
    assert sorted(finding.images) == ["train/a/0.jpg", "train/b/again.jpg"]
    assert "`train/a/0.jpg` (a)" in finding.message and "`train/b/again.jpg` (b)" in finding.message


def test_similar_images_are_not_reported_as_duplicates(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    enlarged: Images = [
        (label, np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)))
        for label, image in digit_images(per_class=60)
    ]
    findings = findings_of(ingest(write_folders(tmp_path / "d", enlarged)), params)
    assert findings["duplicates/conflicting-labels"].severity == "passed"
    assert findings["duplicates/same-label"].severity == "passed"


@pytest.mark.parametrize("shift", [-60, 10, 40])
def test_a_brightness_shift_of_one_class_blocks(ingest: Ingest, params: Params, tmp_path: Path, shift: int) -> None:
    injected = [
        (label, np.clip(image.astype(int) + (shift if label == "3" else 0), 0, 255).astype(np.uint8))
        for label, image in digit_images(per_class=60)
    ]
    finding = findings_of(ingest(write_folders(tmp_path / "d", injected)), params)["confounder/statistics"]
    assert finding.severity == "blocking"
    assert "alone separates class `3`" in finding.message
    assert re.search(
        r"Augmentation can remove this information: set augment.amounts to \{[^}]*brightness: 0\.\d\d", finding.message
    )
    assert finding.images


def test_the_most_informative_part_of_the_image_is_outlined(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    """A display at a fixed position, away from the border, is brighter in one class."""
    rng = np.random.default_rng(0)
    images: Images = []
    for number in range(120):
        image = rng.integers(60, 200, (32, 32)).astype(np.uint8)
        image[9:15, 17:23] = rng.integers(0, 80) + 120 * (number % 2)
        images.append(("ab"[number % 2], image))
    finding = findings_of(ingest(write_folders(tmp_path / "d", images)), params)["confounder/thumbnail"]
    assert "in row 2 and column 3" in finding.message
    assert {box for boxes in finding.places.values() for box in boxes} == {(16, 8, 24, 16)}


def test_a_number_that_is_drawn_in_the_image_is_outlined(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    """Digits of a scale show the value, on a background that says nothing."""
    rng = np.random.default_rng(0)
    images: Images = []
    for number in range(200):
        picture = Image.fromarray(rng.integers(60, 200, (8, 8)).astype(np.uint8)).resize((128, 128))
        draw = ImageDraw.Draw(picture)
        draw.rectangle((98, 98, 126, 126), fill=20)
        draw.text((103, 106), str(100 + number % 10 * 100), fill=230)
        images.append(("low" if number % 10 < 5 else "high", np.asarray(picture)))
    finding = findings_of(ingest(write_folders(tmp_path / "d", images)), params)["confounder/thumbnail"]
    assert "in row 4 and column 4" in finding.message


def test_the_suggested_augmentation_removes_the_confounder(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    """Brightness alone separates the classes of the original images but not those of the augmented images."""
    rng = np.random.default_rng(0)
    images = [(label, rng.integers(90, 130, (16, 16)).astype(np.uint8) + 30 * (label == "tanks"))
              for label in ("tanks", "trees") for _ in range(60)]  # fmt: skip
    injected: Images = [(label, image.astype(np.uint8)) for label, image in images]
    finding = findings_of(ingest(write_folders(tmp_path / "d", injected)), params)["confounder/statistics"]
    suggestion = re.search(r"brightness: (\d\.\d+)", finding.message)
    assert suggestion and finding.severity == "blocking"
    policy = Policy({"brightness": float(suggestion[1])}, size=16, channels=1)
    image_BCHW = torch.from_numpy(np.stack([image for _, image in injected]))[:, None] / 255
    tank_B = np.array([label == "tanks" for label, _ in injected])
    before, after = (
        roc_auc_score(tank_B, batch_BCHW.mean(dim=(1, 2, 3)).numpy())
        for batch_BCHW in (image_BCHW, policy(image_BCHW, BatchRandom(0, 1, np.arange(len(injected))))[0])
    )
    assert before > 0.99 and after < 0.8


def test_file_metadata_that_predict_the_label_block(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    for number, (label, image) in enumerate(digit_images(per_class=60, classes=2)):
        (tmp_path / "d" / label).mkdir(parents=True, exist_ok=True)
        larger = np.pad(image, 2) if label == "1" and number % 4 else image
        (tmp_path / "d" / label / f"{number}.png").write_bytes(png(larger, compress_level=0))
    finding = findings_of(ingest(tmp_path / "d"), params)["confounder/metadata"]
    assert finding.severity == "blocking"
    assert "width" in finding.message or "bytes" in finding.message


def stamped(corner: tuple[slice, slice], level: int) -> Images:
    """Return photos of two classes that differ only in a stamp on the images of one class."""
    images = []
    for number in range(120):
        image = photo(number).copy()
        if number % 2:
            image[corner] = np.clip(image[corner] // 4 + level, 0, 255)
        images.append(("ab"[number % 2], image))
    return images


def test_a_corner_stamp_on_one_class_blocks_and_is_located(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    corner = (slice(84, 96), slice(0, 24))
    finding = findings_of(ingest(write_folders(tmp_path / "d", stamped(corner, 180))), params)["confounder/border-spot"]
    assert finding.severity == "blocking" and finding.images
    assert re.search(
        r"The lower (left corner|edge, 2/8 across) alone separates class `[ab]` with balanced accuracy (0\.9\d|1\.00)",
        finding.message,
    )
    without = findings_of(ingest(write_folders(tmp_path / "e", stamped(corner, 180)[::2] * 2), name="e"), params)
    assert "confounder/border-spot" not in without or without["confounder/border-spot"].severity == "passed"


def test_surroundings_as_informative_as_the_object_give_a_warning(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    injected: Images = []
    digits = [digit for _, digit in digit_images(per_class=60, classes=2)]
    for label, digit in zip("01" * 60, digits, strict=True):  # the digits are independent of the label
        image = np.full((24, 24), 90.0) + rng.normal(0, 25, (24, 24))
        image[8:16, 8:16] = digit
        image[np.r_[0:3, 21:24]] += 30 * rng.normal() + (0 if label == "0" else 50)
        injected.append((label, np.clip(image, 0, 255).astype(np.uint8)))
    finding = findings_of(ingest(write_folders(tmp_path / "d", injected)), params)["confounder/border"]
    assert finding.severity == "warning" and "The skill of the border is at least 80% of" in finding.message


def test_file_numbers_that_predict_the_class_are_reported_as_info(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    ordered = digit_images(per_class=60, classes=3)
    finding = findings_of(ingest(write_folders(tmp_path / "d", ordered)), params)["confounder/file-names"]
    assert finding.severity == "info" and "recorded in one " in finding.message
    shuffled = [ordered[i] for i in np.random.default_rng(0).permutation(len(ordered))]
    found = findings_of(ingest(write_folders(tmp_path / "e", shuffled), name="e"), params)
    assert found["confounder/file-names"].severity == "passed"


def test_a_confounder_of_a_regression_target_blocks_by_quantile_bin(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    source, rng = tmp_path / "d", np.random.default_rng(0)
    source.mkdir()
    lines = ["path,weight"]
    for number in range(100):
        weight = float(rng.uniform(1, 9))
        (source / f"{number}.png").write_bytes(png((rng.uniform(0, 60, (16, 16)) + 20 * weight).astype(np.uint8)))
        lines.append(f"{number}.png,{weight}")
    (source / "labels.csv").write_text("\n".join(lines))
    columns = params.ingest.columns.model_copy(update={"label": None, "scalars": ("weight",)})
    found = findings_of(ingest(source, inside="labels.csv", columns=columns), params)["confounder/statistics"]
    assert found.severity == "blocking" and re.search(r"separates range `weight from [\d.]+ to", found.message)
    assert "class" not in found.message, "the target is a number"


@pytest.mark.parametrize(("groups", "each"), [(30, 400), (30, 20), (3000, 2)])
def test_sampling_keeps_every_class_and_enough_groups(
    ingest: Ingest, params: Params, tmp_path: Path, groups: int, each: int
) -> None:
    folder = ingest(write_folders(tmp_path / "d", digit_images(per_class=12, classes=2)))
    rows = read_manifest(folder)
    number = np.arange(groups * each)
    many = rows.iloc[number % len(rows)].reset_index(drop=True)
    many["group"] = [f"g{i}" for i in number // each]
    many["label"] = np.where(number // each % (2 if groups == 30 else 500) == 0, "rare", "common")
    audit = params.audit.model_copy(update={"max_images": 500, "permutations": 99})
    found = {f.id: f for f in AUDITS["confounder"](AuditData(many, many[:0], folder), audit)}
    assert "confounder/not-checked" not in found
    assert 200 < found["confounder/statistics"].evidence["images"] <= 520
    assert {separation["label"] for separation in found["confounder/statistics"].evidence["tells"]} == {
        "rare",
        "common",
    }


def test_duplicates_are_found_after_strong_re_encoding(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val", "test")):
        for number in range(i, 60, 3):
            folder = tmp_path / "d" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(jpeg(photo(number), 95))
    for number in range(0, 60, 3):  # copy every training image to val, smaller and more strongly compressed
        smaller = Image.fromarray(photo(number)).resize((64, 64), Image.Resampling.BILINEAR)
        (tmp_path / "d/val/a" / f"again{number}.jpg").write_bytes(jpeg(np.asarray(smaller), 50))
    finding = findings_of(ingest(tmp_path / "d", by="source"), params)["leakage/same-image"]
    assert finding.severity == "blocking" and finding.evidence["count"] >= 19
    assert not [path for path in finding.images if path.startswith("test/")], (
        "findings show no images of the sealed test split"
    )


def test_confounders_are_not_checked_with_few_groups(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "d", digit_images(per_class=60))
    findings = findings_of(ingest(source, group_regex=r"(\d)\.png$"), params)
    assert findings["confounder/not-checked"].severity == "warning"
    assert "Confounders could not be checked" in findings["confounder/not-checked"].message
    assert "confounder/statistics" not in findings


def null_data(seed: int, grouped: bool) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Return features and labels that both depend on the scene but are independent of each other, and the scenes."""
    rng = np.random.default_rng(seed)
    scene = np.repeat(np.arange(60), 5) if grouped else np.arange(300)
    features = pd.DataFrame({f"f{i}": rng.normal(size=scene.max() + 1)[scene] + rng.normal(size=300) for i in range(4)})
    return features, pd.Series(rng.choice(["a", "b", "c"], scene.max() + 1)[scene]), pd.Series(scene)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_probe_keeps_its_false_alarm_rate_without_an_effect(grouped: bool) -> None:
    alarms = [probe(*null_data(seed, grouped), permutations=99).p <= 0.05 for seed in range(40)]
    assert len(alarms) == 40
    assert sum(alarms) <= 6  # at a rate of 5 %, more than 6 in 40 have a probability of 0.3 %


def test_unequal_group_sizes_do_not_raise_the_false_alarm_rate() -> None:
    """Properties that a group's images share (1 to 30 images, heavy-tailed) are not evidence that classes differ."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = np.minimum(30, rng.pareto(1.0, 60).astype(int) + 1)
        scene = np.repeat(np.arange(60), size)
        features = pd.DataFrame({f"f{i}": rng.normal(size=60)[scene] + rng.normal(size=len(scene)) for i in range(4)})
        label = pd.Series(rng.choice(["a", "b"], 60)[scene])
        alarms += probe(features, label, pd.Series(scene), permutations=99).p <= 0.01
    assert alarms <= 4  # at a rate of 1 %, more than 4 in 60 have a probability of 0.04 %


def test_a_few_duplicates_per_class_do_not_prevent_the_audit(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "d", digit_images(per_class=30, classes=6))
    for label in "024":
        one = sorted((source / label).iterdir())[0]
        (source / label / "copy.png").write_bytes(one.read_bytes())
    assert "confounder/statistics" in findings_of(ingest(source), params)


def test_the_probe_detects_a_shift_of_half_a_standard_deviation() -> None:
    features, labels, groups = null_data(0, grouped=False)
    features.loc[labels == "a", "f0"] += 0.75
    found = probe(features, labels, groups, permutations=499)
    assert found.p <= 0.01 and found.skill > 0.05


def test_the_probe_handles_a_class_missing_from_a_fold() -> None:
    features, labels, groups = null_data(1, grouped=True)
    labels[groups == 0] = "rare"
    found = probe(features, labels, groups, permutations=99)
    assert np.isfinite([found.skill, found.p]).all()


def test_a_single_predictable_class_of_many_is_detected() -> None:
    labels = pd.Series([str(k) for k in range(10)] * 30)
    groups = pd.Series(range(300))
    feature = pd.DataFrame({"by": labels.eq("3").astype(float)})
    found = probe(feature, labels, groups, permutations=99)
    assert found.skill < 0.2 and found.by_class.idxmax() == "3" and found.best > 0.9
    binary = probe(feature, labels.where(labels == "3", "other"), groups, permutations=0)
    assert binary.best == binary.skill == pytest.approx(1)


def test_univariate_auc_uses_group_means() -> None:
    features = pd.DataFrame({"brightness": [1.0, 1, 2, 5, 6, 7]})
    labels, groups = pd.Series(list("aaabbb")), pd.Series(["g", "g", "h", "i", "j", "k"])
    separations = single_feature_separation(features, labels, groups)
    assert separations[0]["auc"] == 1.0
    assert {separation["direction"] for separation in separations} == {
        "lower: median 1.5 against 6.0",
        "higher: median 6.0 against 1.5",
    }


def run_gate(folder: Path, ingested: Path, findings: list[Finding], waive: dict[str, str]) -> dict[str, Any]:
    for name in ("validated", "audited"):
        (folder / name).mkdir(exist_ok=True)
    write_findings(findings[:1], folder / "validated" / "findings.json")
    write_findings(findings[1:], folder / "audited" / "findings.json")
    call(gate, [ingested, folder / "validated", folder / "audited", folder / "gated"], {"gate": Gate(waive=waive)})
    return json.loads((folder / "gated" / "gate.json").read_text())


BLOCKS = [
    Finding("checks/min_classes", "passed", "There are 10 classes."),
    Finding("leakage/same-image", "blocking", "2 images are in both splits.", {}, ["0/0000.png"]),
    Finding("duplicates/same-label", "warning", "3 images occur twice."),
]


def test_the_gate_stops_with_a_message_and_a_contact_sheet(ingest: Ingest, workspace: Path, tmp_path: Path) -> None:
    ingested = ingest(write_folders(tmp_path / "d", digit_images(per_class=12)))
    shown = [read_manifest(ingested)["path"][0]]
    blocking = Finding("leakage/same-image", "blocking", "2 images are in both splits.", {}, shown)
    with pytest.raises(UserError, match=r"leakage/same-image: 2 images are in both splits\.") as caught:
        run_gate(workspace, ingested, [BLOCKS[0], blocking], waive={})
    assert "waive:\n      leakage/same-image: the reason" in str(caught.value)
    assert not (workspace / "gated").exists()
    assert "**leakage/same-image**" in (workspace / "work/gate/blocked.md").read_text()
    with Image.open(workspace / "work/gate/blocked.png") as sheet:
        assert sheet.size[0] > 100


def test_a_waived_finding_passes_and_its_reason_is_recorded(workspace: Path) -> None:
    verdict = run_gate(workspace, workspace, BLOCKS, waive={"leakage/same-image": "as published", "x/y": "old"})
    assert verdict == {
        "passed": 1,
        "warnings": ["duplicates/same-label"],
        "waived": [{"id": "leakage/same-image", "reason": "as published"}],
        "unused_waivers": ["x/y"],
    }


def test_a_waiver_without_a_reason_is_rejected() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        Gate(waive={"leakage/same-image": " "})


def test_twelve_bit_images_in_sixteen_bits_give_a_warning(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    dark: Images = [(label, image.astype(np.uint16) * 16) for label, image in digit_images(per_class=12)]
    finding = findings_of(ingest(write_folders(tmp_path / "d", dark)), params)["dynamic_range/unused"]
    assert finding.severity == "warning" and "the maximum is 65535" in finding.message and finding.images
    bright: Images = [(label, image * 257) for label, image in dark]
    assert (
        findings_of(ingest(write_folders(tmp_path / "e", bright), name="e"), params)["dynamic_range/unused"].severity
        == "passed"
    )


def test_hot_pixels_in_few_images_do_not_hide_twelve_bits(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    dark: Images = [(label, image.astype(np.uint16) * 16) for label, image in digit_images(per_class=12)]
    for _, image in dark[::40]:
        image[0, 0] = 65535
    assert (
        findings_of(ingest(write_folders(tmp_path / "d", dark)), params)["dynamic_range/unused"].severity == "warning"
    )


def test_hot_pixels_in_all_images_do_not_hide_twelve_bits(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    images: Images = [(label, image.astype(np.uint16) * 16) for label, image in digit_images(per_class=12)]
    for _, image in images:
        image[3, 5] = 65535
    images[7] = (images[7][0], images[7][1] * 16)
    folder = ingest(write_folders(tmp_path / "d", images))
    finding = findings_of(folder, params)["dynamic_range/unused"]
    assert finding.severity == "warning" and "have no level above about 3840 " in finding.message
    rows = read_manifest(folder).set_index("path")
    assert rows["highest"].max() > 200 and rows.loc[finding.images, "highest"].max() < 16


@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 3), (12, 12, 5), (1, 1)])
def test_the_highest_level_ignores_hot_pixels_and_darker_channels(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 20, np.uint8)
    image[..., -1:] = 90
    image[0, 0] = 255 if image.size > 1 else 90
    assert compute_statistics(DecodedImage(image, "PNG", "L"))["highest"] == 90


def test_file_size_with_high_auc_but_low_skill_passes() -> None:
    """`audit.blocking_auc` is compared with the AUC of statistics, and with the skill of file sizes."""
    rng = np.random.default_rng(0)
    label = pd.Series(np.repeat(["a", "b", "c", "d"], 60))
    table = pd.DataFrame({"label": label, "group": np.arange(240), "has_file": True, "path": "x", "taken": ""})
    table = table.assign(bytes=rng.normal(np.where(label == "a", 100, 130), 10), bytes_per_pixel=1.0)
    table = table.assign(**dict.fromkeys(("width", "height", "format", "mode", "camera", "software", "quality"), 1))
    audit = default_params().audit.model_copy(update={"permutations": 99, "min_skill": 0.4})
    (finding,) = confounder._metadata(table, audit)
    assert single_feature_separation(table[["bytes"]], table["label"], table["group"])[0]["auc"] > audit.blocking_auc
    assert finding.severity == "passed" and 0.6 < finding.evidence["skill_alone"]["bytes"] < audit.blocking_auc
    (finding,) = confounder._metadata(table, audit.model_copy(update={"min_skill": 0.2}))
    assert finding.severity == "blocking" and "Highest skills of single properties" in finding.message
