"""Audits report injected faults and nothing else, and the gate stops with a message."""

import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
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
    """A smooth random picture that survives JPEG as a photograph does."""
    coarse = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))


def jpeg(image: np.ndarray[Any, Any], quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def test_clean_digits_have_nothing_that_blocks(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    findings = findings_of(ingest(write_folders(tmp_path / "d", digit_images(per_class=60))), params)
    assert "blocking" not in {f.severity for f in findings.values()}
    assert findings["confounder/statistics"].severity == "warning", "digits truly differ in ink: said, not stopped"


def test_one_picture_under_two_labels_blocks_even_when_encoded_anew(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
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


def test_pictures_that_merely_look_alike_are_not_called_copies(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    enlarged: Images = [
        (label, np.asarray(Image.fromarray(image).resize((64, 64), Image.Resampling.BICUBIC)))
        for label, image in digit_images(per_class=60)
    ]
    findings = findings_of(ingest(write_folders(tmp_path / "d", enlarged)), params)
    assert findings["duplicates/conflicting-labels"].severity == "passed"
    assert findings["duplicates/same-label"].severity == "passed"


@pytest.mark.parametrize("shift", [-60, 10, 40])
def test_a_brightness_shift_of_one_class_blocks(ingest: Ingest, params: Params, tmp_path: Path, shift: int) -> None:
    planted = [
        (label, np.clip(image.astype(int) + (shift if label == "3" else 0), 0, 255).astype(np.uint8))
        for label, image in digit_images(per_class=60)
    ]
    finding = findings_of(ingest(write_folders(tmp_path / "d", planted)), params)["confounder/statistics"]
    assert finding.severity == "blocking"
    assert "alone separates class `3`" in finding.message
    assert re.search(
        r"Augmentation can remove this information: set augment.amounts to \{[^}]*brightness: 0\.\d\d", finding.message
    )
    assert finding.images


def test_the_augmentation_that_the_audit_names_breaks_the_confounder(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    """A model of brightness alone predicts the original images correctly and the changed ones hardly ever."""
    rng = np.random.default_rng(0)
    images = [(label, rng.integers(90, 130, (16, 16)).astype(np.uint8) + 30 * (label == "tanks"))
              for label in ("tanks", "trees") for _ in range(60)]  # fmt: skip
    planted: Images = [(label, image.astype(np.uint8)) for label, image in images]
    finding = findings_of(ingest(write_folders(tmp_path / "d", planted)), params)["confounder/statistics"]
    said = re.search(r"brightness: (\d\.\d+)", finding.message)
    assert said and finding.severity == "blocking"
    policy = Policy({"brightness": float(said[1])}, size=16, channels=1)
    image_BCHW = torch.from_numpy(np.stack([image for _, image in planted]))[:, None] / 255
    tank_B = np.array([label == "tanks" for label, _ in planted])
    before, after = (
        roc_auc_score(tank_B, one.mean(dim=(1, 2, 3)).numpy())
        for one in (image_BCHW, policy(image_BCHW, BatchRandom(0, 1, np.arange(len(planted))))[0])
    )
    assert before > 0.99 and after < 0.8


def test_file_metadata_that_foretell_the_label_block(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    for number, (label, image) in enumerate(digit_images(per_class=60, classes=2)):
        (tmp_path / "d" / label).mkdir(parents=True, exist_ok=True)
        larger = np.pad(image, 2) if label == "1" and number % 4 else image
        (tmp_path / "d" / label / f"{number}.png").write_bytes(png(larger, compress_level=0))
    finding = findings_of(ingest(tmp_path / "d"), params)["confounder/metadata"]
    assert finding.severity == "blocking"
    assert "width" in finding.message or "bytes" in finding.message


def stamped(corner: tuple[slice, slice], level: int) -> Images:
    """Photos of two classes, alike but for a stamp on one."""
    images = []
    for number in range(120):
        image = photo(number).copy()
        if number % 2:
            image[corner] = np.clip(image[corner] // 4 + level, 0, 255)
        images.append(("ab"[number % 2], image))
    return images


def test_a_stamp_in_a_corner_of_one_class_blocks_and_is_placed(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    corner = (slice(84, 96), slice(0, 24))
    finding = findings_of(ingest(write_folders(tmp_path / "d", stamped(corner, 180))), params)["confounder/border-spot"]
    assert finding.severity == "blocking" and finding.images
    assert re.search(
        r"The lower (left corner|edge, 2/8 across) alone separates class `[ab]` with balanced accuracy (0\.9\d|1\.00)",
        finding.message,
    )
    without = findings_of(ingest(write_folders(tmp_path / "e", stamped(corner, 180)[::2] * 2), name="e"), params)
    assert "confounder/border-spot" not in without or without["confounder/border-spot"].severity == "passed"


def test_what_stands_around_the_things_warns_when_it_tells_as_much_as_they_do(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    planted: Images = []
    digits = [digit for _, digit in digit_images(per_class=60, classes=2)]
    for label, digit in zip("01" * 60, digits, strict=True):  # the digits tell nothing
        image = np.full((24, 24), 90.0) + rng.normal(0, 25, (24, 24))
        image[8:16, 8:16] = digit
        image[np.r_[0:3, 21:24]] += 30 * rng.normal() + (0 if label == "0" else 50)
        planted.append((label, np.clip(image, 0, 255).astype(np.uint8)))
    finding = findings_of(ingest(write_folders(tmp_path / "d", planted)), params)["confounder/border"]
    assert finding.severity == "warning" and "The surroundings are as informative as the object" in finding.message


def test_numbers_of_files_that_foretell_the_class_are_said_and_stop_nothing(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    in_a_row = digit_images(per_class=60, classes=3)
    finding = findings_of(ingest(write_folders(tmp_path / "d", in_a_row)), params)["confounder/file-names"]
    assert finding.severity == "info" and "recorded in one " in finding.message
    mixed = [in_a_row[i] for i in np.random.default_rng(0).permutation(len(in_a_row))]
    found = findings_of(ingest(write_folders(tmp_path / "e", mixed), name="e"), params)
    assert found["confounder/file-names"].severity == "passed"


def test_a_number_is_predicted_by_its_quantile_bin(ingest: Ingest, params: Params, tmp_path: Path) -> None:
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
    assert found.severity == "blocking" and re.search(r"alone separates class `[\d.]+ to [\d.]+`", found.message)


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
    assert {tell["label"] for tell in found["confounder/statistics"].evidence["tells"]} == {"rare", "common"}


def test_copies_are_found_through_strong_re_encoding(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    for i, split in enumerate(("train", "val", "test")):
        for number in range(i, 60, 3):
            folder = tmp_path / "d" / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{number}.jpg").write_bytes(jpeg(photo(number), 95))
    for number in range(0, 60, 3):  # every training picture again in val, smaller and coarser
        smaller = Image.fromarray(photo(number)).resize((64, 64), Image.Resampling.BILINEAR)
        (tmp_path / "d/val/a" / f"again{number}.jpg").write_bytes(jpeg(np.asarray(smaller), 50))
    finding = findings_of(ingest(tmp_path / "d", by="source"), params)["leakage/same-image"]
    assert finding.severity == "blocking" and finding.evidence["count"] >= 19
    assert not [path for path in finding.images if path.startswith("test/")], "the seal holds for findings too"


def test_confounders_are_not_checked_with_few_groups(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "d", digit_images(per_class=60))
    findings = findings_of(ingest(source, group_regex=r"(\d)\.png$"), params)
    assert findings["confounder/not-checked"].severity == "warning"
    assert "Confounders could not be checked" in findings["confounder/not-checked"].message
    assert "confounder/statistics" not in findings


def null_data(seed: int, grouped: bool) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Features that belong to scenes, labels that belong to scenes, and nothing between the two."""
    rng = np.random.default_rng(seed)
    scene = np.repeat(np.arange(60), 5) if grouped else np.arange(300)
    features = pd.DataFrame({f"f{i}": rng.normal(size=scene.max() + 1)[scene] + rng.normal(size=300) for i in range(4)})
    return features, pd.Series(rng.choice(["a", "b", "c"], scene.max() + 1)[scene]), pd.Series(scene)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_probe_is_seldom_wrong_where_there_is_nothing(grouped: bool) -> None:
    alarms = [probe(*null_data(seed, grouped), permutations=99).p <= 0.05 for seed in range(40)]
    assert len(alarms) == 40
    assert sum(alarms) <= 6  # at 5 % the chance of more than 6 in 40 is 0.3 %


def test_groups_of_unequal_size_are_no_more_often_an_alarm() -> None:
    """Common properties of groups (1 to 30 images, heavy-tailed) are not evidence that classes differ."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = np.minimum(30, rng.pareto(1.0, 60).astype(int) + 1)
        scene = np.repeat(np.arange(60), size)
        features = pd.DataFrame({f"f{i}": rng.normal(size=60)[scene] + rng.normal(size=len(scene)) for i in range(4)})
        label = pd.Series(rng.choice(["a", "b"], 60)[scene])
        alarms += probe(features, label, pd.Series(scene), permutations=99).p <= 0.01
    assert alarms <= 4  # at 1 % the chance of more is 0.04 %


def test_a_few_copies_in_each_class_stop_no_audit(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "d", digit_images(per_class=30, classes=6))
    for label in "024":
        one = sorted((source / label).iterdir())[0]
        (source / label / "copy.png").write_bytes(one.read_bytes())
    assert "confounder/statistics" in findings_of(ingest(source), params)


def test_the_probe_finds_a_shift_of_half_a_standard_deviation() -> None:
    features, labels, groups = null_data(0, grouped=False)
    features.loc[labels == "a", "f0"] += 0.75
    found = probe(features, labels, groups, permutations=499)
    assert found.p <= 0.01 and found.skill > 0.05


def test_probe_counts_classes_alike_and_survives_a_class_missing_from_a_fold() -> None:
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
    of_two = probe(feature, labels.where(labels == "3", "other"), groups, permutations=0)
    assert of_two.best == of_two.skill == pytest.approx(1)


def test_a_tell_is_the_auc_of_group_means() -> None:
    features = pd.DataFrame({"brightness": [1.0, 1, 2, 5, 6, 7]})
    labels, groups = pd.Series(list("aaabbb")), pd.Series(["g", "g", "h", "i", "j", "k"])
    tell = single_feature_separation(features, labels, groups)[0]
    assert tell["auc"] == 1.0
    assert {t["direction"] for t in single_feature_separation(features, labels, groups)} == {
        "lower: median 1.5 against 6.0",
        "higher: median 6.0 against 1.5",
    }


def gated(folder: Path, ingested: Path, findings: list[Finding], waive: dict[str, str]) -> dict[str, Any]:
    for name in ("validated", "audited"):
        (folder / name).mkdir(exist_ok=True)
    write_findings(findings[:1], folder / "validated" / "findings.json")
    write_findings(findings[1:], folder / "audited" / "findings.json")
    call(gate, [ingested, folder / "validated", folder / "audited", folder / "gated"], {"gate": Gate(waive=waive)})
    return json.loads((folder / "gated" / "gate.json").read_text())


BLOCKS = [
    Finding("checks/min_classes", "passed", "There are 10 classes."),
    Finding("leakage/same-image", "blocking", "2 pictures stand in both.", {}, ["0/0000.png"]),
    Finding("duplicates/same-label", "warning", "3 pictures stand twice."),
]


def test_the_gate_stops_with_a_message_and_a_contact_sheet(ingest: Ingest, workspace: Path, tmp_path: Path) -> None:
    ingested = ingest(write_folders(tmp_path / "d", digit_images(per_class=12)))
    shown = [read_manifest(ingested)["path"][0]]
    blocking = Finding("leakage/same-image", "blocking", "2 pictures stand in both.", {}, shown)
    with pytest.raises(UserError, match=r"leakage/same-image: 2 pictures stand in both\.") as caught:
        gated(workspace, ingested, [BLOCKS[0], blocking], waive={})
    assert "waive:\n      leakage/same-image: the reason" in str(caught.value)
    assert not (workspace / "gated").exists()
    assert "**leakage/same-image**" in (workspace / "work/gate/blocked.md").read_text()
    with Image.open(workspace / "work/gate/blocked.png") as sheet:
        assert sheet.size[0] > 100


def test_a_waiver_with_a_reason_lets_it_pass_and_is_kept(workspace: Path) -> None:
    verdict = gated(workspace, workspace, BLOCKS, waive={"leakage/same-image": "as published", "x/y": "old"})
    assert verdict == {
        "passed": 1,
        "warnings": ["duplicates/same-label"],
        "waived": [{"id": "leakage/same-image", "reason": "as published"}],
        "unused_waivers": ["x/y"],
    }


def test_a_waiver_without_a_reason_is_a_mistake_in_the_params() -> None:
    with pytest.raises(ValueError, match="at least 1 character"):
        Gate(waive={"leakage/same-image": " "})


def test_twelve_bits_in_sixteen_are_said_to_be_dark(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    dark: Images = [(label, image.astype(np.uint16) * 16) for label, image in digit_images(per_class=12)]
    finding = findings_of(ingest(write_folders(tmp_path / "d", dark)), params)["dynamic_range/unused"]
    assert finding.severity == "warning" and "of 65536" in finding.message and finding.images
    bright: Images = [(label, image * 257) for label, image in dark]
    assert (
        findings_of(ingest(write_folders(tmp_path / "e", bright), name="e"), params)["dynamic_range/unused"].severity
        == "passed"
    )


def test_a_hot_pixel_in_a_few_images_does_not_hide_twelve_bits(ingest: Ingest, params: Params, tmp_path: Path) -> None:
    dark: Images = [(label, image.astype(np.uint16) * 16) for label, image in digit_images(per_class=12)]
    for _, image in dark[::40]:
        image[0, 0] = 65535
    assert (
        findings_of(ingest(write_folders(tmp_path / "d", dark)), params)["dynamic_range/unused"].severity == "warning"
    )


def test_a_hot_pixel_in_every_image_and_a_bright_image_do_not_hide_twelve_bits(
    ingest: Ingest, params: Params, tmp_path: Path
) -> None:
    images: Images = [(label, image.astype(np.uint16) * 16) for label, image in digit_images(per_class=12)]
    for _, image in images:
        image[3, 5] = 65535
    images[7] = (images[7][0], images[7][1] * 16)
    folder = ingest(write_folders(tmp_path / "d", images))
    finding = findings_of(folder, params)["dynamic_range/unused"]
    assert finding.severity == "warning" and "have levels up to about 3840 of " in finding.message
    rows = read_manifest(folder).set_index("path")
    assert rows["highest"].max() > 200 and rows.loc[finding.images, "highest"].max() < 16


@pytest.mark.parametrize("shape", [(12, 12), (12, 12, 3), (12, 12, 5), (1, 1)])
def test_the_highest_level_is_that_of_the_brightest_channel_without_hot_pixels(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 20, np.uint8)
    image[..., -1:] = 90
    image[0, 0] = 255 if image.size > 1 else 90
    assert compute_statistics(DecodedImage(image, "PNG", "L"))["highest"] == 90


def test_bytes_that_tell_a_class_by_auc_alone_are_content_and_stop_nothing() -> None:
    """`audit.blocking_auc` is an AUC for statistics, and a skill for bytes."""
    rng = np.random.default_rng(0)
    label = pd.Series(np.repeat(["a", "b", "c", "d"], 60))
    table = pd.DataFrame({"label": label, "group": np.arange(240), "has_file": True, "path": "x", "taken": ""})
    table = table.assign(bytes=rng.normal(np.where(label == "a", 100, 130), 10), bytes_per_pixel=1.0)
    table = table.assign(**dict.fromkeys(("width", "height", "format", "mode", "camera", "software", "quality"), 1))
    audit = default_params().audit.model_copy(update={"permutations": 99, "min_skill": 0.4})
    finding = confounder._metadata(table, audit)
    assert single_feature_separation(table[["bytes"]], table["label"], table["group"])[0]["auc"] > audit.blocking_auc
    assert finding.severity == "passed" and 0.6 < finding.evidence["skill_alone"]["bytes"] < audit.blocking_auc
    finding = confounder._metadata(table, audit.model_copy(update={"min_skill": 0.2}))
    assert finding.severity == "blocking" and "Highest skill of each property alone" in finding.message
