"""Tests of features learned from the images, and of out-of-fold predictions from them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.audits.audit_data import AuditData
from stages.dataset.manifest import read_manifest
from stages.probes import cross_validation as out_of_fold
from stages.probes.image_features import thumbnail_features, thumbnails_of
from stages.probes.ridge import ridge
from tests.conftest import Ingest, digit_images, write_folders


@pytest.fixture
def digits(ingest: Ingest, tmp_path: Path) -> AuditData:
    folder = ingest(write_folders(tmp_path / "d", digit_images(per_class=60)))
    return AuditData(read_manifest(folder), pd.read_parquet(folder / "sealed_index.parquet"), folder)


def test_learned_features_classify_digits_better_than_pixels(digits: AuditData) -> None:
    labels, groups = digits.sample["label"].to_numpy(), digits.sample["group"].to_numpy()
    pixels = thumbnails_of(digits.sample, digits.folder).reshape(len(labels), -1).astype(np.float32)
    accuracy = {}
    for name, features in {"pixels": pixels, "bank": digits.features}.items():
        classes, probability = out_of_fold.out_of_fold_probabilities(features, labels, groups)
        accuracy[name] = (classes[probability.argmax(axis=1)] == labels).mean()
        assert np.allclose(probability.sum(axis=1), 1)
        assert abs(probability.max(axis=1).mean() - accuracy[name]) < 0.03, "the mean confidence equals the accuracy"
    assert accuracy["bank"] > 0.97 > 0.95 > accuracy["pixels"] > 0.85


def test_features_are_reproducible_and_zero_for_uniform_images() -> None:
    small = np.random.default_rng(0).integers(0, 256, (70, 32, 32, 3), dtype=np.uint8)
    assert np.array_equal(thumbnail_features(small, filters=8), thumbnail_features(small, filters=8))
    assert not np.array_equal(thumbnail_features(small, filters=8), thumbnail_features(small, filters=8, seed=1))
    flat = np.full((3, 32, 32, 1), 7, np.uint8)
    assert np.array_equal(thumbnail_features(flat, filters=8), np.zeros((3, 64))), "uniform images have no features"


def test_a_sample_contains_images_of_every_group(digits: AuditData) -> None:
    rows = digits.rows.assign(group=np.where(np.arange(len(digits.rows)) < 400, "one", digits.rows["group"]))
    sample = AuditData(rows, digits.sealed, digits.folder, max_images=150).sample
    others = rows["group"].nunique() - 1
    assert len(sample) == 150 and sample["group"].nunique() == 1 + others
    assert (sample["group"] == "one").sum() == 150 - others
    assert sample.index.is_monotonic_increasing


def test_features_of_the_group_alone_have_no_out_of_fold_skill() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(40), 10)
    features = np.eye(40, dtype=np.float32)[group] + 0.01 * rng.normal(size=(400, 40)).astype(np.float32)
    label = rng.choice(["a", "b"], 40)[group]
    classes, by_group = out_of_fold.out_of_fold_probabilities(features, label, group)
    _, by_image = out_of_fold.out_of_fold_probabilities(features, label, np.arange(400))
    assert (classes[by_image.argmax(axis=1)] == label).mean() > 0.95
    assert (classes[by_group.argmax(axis=1)] == label).mean() < 0.7


def test_numbers_keep_their_units_and_classes_may_have_one_image() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 5)).astype(np.float32)
    target = features @ rng.normal(size=(5, 2)) * [1, 1000] + [0, 5000]
    predicted = out_of_fold.out_of_fold_numbers(features, target, np.arange(200))
    assert np.abs(predicted - target).max(axis=0) == pytest.approx([0, 0], abs=0.02 * 1000)
    assert np.abs(predicted - target)[:, 0].max() < 0.02
    labels = np.where(np.arange(200) == 0, "rare", np.where(features[:, 0] > 0, "up", "down"))
    classes, probability = out_of_fold.out_of_fold_probabilities(features, labels, np.arange(200))
    assert classes.tolist() == ["down", "rare", "up"] and np.isfinite(probability).all()
    with pytest.raises(ValueError, match="at least two groups"):
        out_of_fold.out_of_fold_numbers(features, target, np.zeros(200))


@pytest.mark.parametrize("count", [40, 300])
def test_the_ridge_penalty_is_large_for_noise_and_small_for_a_signal(count: int) -> None:
    """Test fewer images than features, and more."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 100)).astype(np.float32)
    noise, signal = rng.normal(size=(count, 1)), x[:, :1] + x[:, 1:2]
    fresh = rng.normal(size=(500, 100)).astype(np.float32)
    assert ridge(x, noise)(fresh).std() < 0.5
    error = ridge(x, signal)(fresh) - fresh[:, :1] - fresh[:, 1:2]
    assert error.std() < (1.3 if count == 40 else 0.01)
