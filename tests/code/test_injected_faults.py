"""Tests of the faults that the audit benchmarks inject into clean data."""

import io
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from benchmarks.audits import fault_transforms, injected_faults
from benchmarks.audits.audit_competitors import audit_input, default_params, ingest_samples, run_audits
from benchmarks.audits.base_datasets import load_images
from benchmarks.audits.fault_sample import EXIF_MAKE, EXIF_SUBFOLDER, EXIF_TAKEN, FaultSample, Transform, encode
from benchmarks.audits.fault_transforms import CONFOUNDERS, COPIES, DRIFTS, OUTLIERS
from benchmarks.audits.injected_faults import FaultyDataset

TRANSFORMS: dict[str, tuple[Transform, float]] = {
    **{
        name: (transform, strengths[-1])
        for faults in (CONFOUNDERS, DRIFTS)
        for name, (transform, strengths) in faults.items()
    },
    **COPIES,
    **OUTLIERS,
}


def photo(seed: int = 0) -> FaultSample:
    rng = np.random.default_rng(seed)
    image = Image.fromarray(rng.integers(60, 180, (6, 8, 3), dtype=np.uint8)).resize((64, 48), Image.Resampling.BICUBIC)
    return FaultSample(np.asarray(image), "a", "train", "a/1.jpg", 95, fault_transforms.CAMERAS[1], 3.5)


def digits(per_class: int = 20, informative: bool = True) -> FaultyDataset:
    images, rng = load_images("digits", Path()), np.random.default_rng(0)
    return injected_faults.clean(images, 0, rng, 10, per_class, informative)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_only_a_strength_above_0_changes_the_encoded_bytes(name: str) -> None:
    transform, strength = TRANSFORMS[name]
    before = encode(photo())
    assert encode(transform(photo(), 0, np.random.default_rng(1))) == before
    assert encode(transform(photo(), strength, np.random.default_rng(1))) != before


@pytest.mark.parametrize("transform", [fault_transforms.brightness, fault_transforms.border])
def test_levels_above_255_are_clipped(transform: Transform) -> None:
    sample = replace(photo(), image=np.full((32, 32), 250, np.uint8))
    assert transform(sample, 40, np.random.default_rng(0)).image[0, 0] == 255


@pytest.mark.parametrize("name", CONFOUNDERS)
def test_a_confounder_of_strength_0_leaves_files_unchanged(name: str) -> None:
    data = digits()
    changed = injected_faults.with_confounder(data, CONFOUNDERS[name][0], 0, np.random.default_rng(1))
    assert [encode(s) for s in changed.samples] == [encode(s) for s in data.samples]


def test_a_confounder_changes_exactly_one_class() -> None:
    data = digits()
    changed = injected_faults.with_confounder(data, fault_transforms.brightness, 20, np.random.default_rng(1))
    labels = {s.label for s, other in zip(data.samples, changed.samples, strict=True) if encode(s) != encode(other)}
    assert len(labels) == 1


def test_camera_date_and_comment_are_written_to_the_file() -> None:
    rng = np.random.default_rng()
    sample = fault_transforms.compression(photo(), 45, rng)
    sample = fault_transforms.padding(fault_transforms.date(sample, 40, rng), 500, rng)
    with Image.open(io.BytesIO(encode(sample))) as file:
        exif = file.getexif()
        assert exif[EXIF_MAKE] == "Beta"
        taken = exif.get_ifd(EXIF_SUBFOLDER)[EXIF_TAKEN]
        assert taken.startswith("2024:06:14")
    assert len(encode(sample)) - len(encode(replace(sample, padding=0))) == 504


def test_uninformative_labels_are_a_permutation_of_the_labels() -> None:
    label_of = {image.tobytes(): label for image, label in load_images("digits", Path())}
    data = digits(informative=False)
    correct = [label_of[sample.image.tobytes()] == sample.label for sample in data.samples]
    assert set(Counter(sample.label for sample in data.samples).values()) == {20}
    assert np.mean(correct) < 0.3 < np.mean([label_of[s.image.tobytes()] == s.label for s in digits().samples])


def test_half_of_the_copies_are_in_the_other_split() -> None:
    data = injected_faults.with_copies(digits(), 4, np.random.default_rng(1))
    by_path = {sample.path: sample for sample in data.samples}
    pairs = [(by_path[one], by_path[other]) for some in data.pairs.values() for one, other in some]
    assert len(pairs) == 4 * len(COPIES) and len(by_path) == len(data.samples) == 200 + len(pairs)
    assert sum(one.split != other.split for one, other in pairs) == len(pairs) / 2
    assert len(injected_faults.with_copies(digits(), 0, np.random.default_rng(1)).samples) == 200


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_the_requested_share_of_labels_is_wrong(share: float) -> None:
    data = digits()
    noisy = injected_faults.with_label_errors(data, share, np.random.default_rng(1))
    wrong = [s.path for s, other in zip(data.samples, noisy.samples, strict=True) if s.label != other.label]
    assert sorted(wrong) == sorted(noisy.mislabelled) and len(wrong) == round(200 * share)


@pytest.mark.parametrize("subset", ["validation", "arrival", "origin"])
def test_drift_changes_only_its_subset(subset: str) -> None:
    data = digits()
    other = injected_faults.with_drift(data, subset, fault_transforms.brightness, 20, np.random.default_rng(1))
    changed = [s.image.tobytes() != o.image.tobytes() for s, o in zip(data.samples, other.samples, strict=True)]
    expected = [
        {"validation": s.split == "val", "arrival": s.arrival == 2, "origin": s.origin == "there"}[subset]
        for s in other.samples
    ]
    assert changed == expected and 10 < sum(changed) < 80


def test_a_camera_confounder_blocks_and_clean_data_pass() -> None:
    severities = {}
    for strength in (0.0, 1.0):
        data = digits(informative=False, per_class=40)
        data = injected_faults.with_confounder(data, fault_transforms.camera, strength, np.random.default_rng(1))
        with TemporaryDirectory() as folder:
            rows, _ = ingest_samples(data, Path(folder))
            result = run_audits(audit_input(rows, Path(folder)), ["confounder"], default_params())
        severities[strength] = dict(result["alarms"])["confounder/metadata"]
    assert severities == {0.0: "passed", 1.0: "blocking"}
