"""Ingest: nothing is lost, nothing moves, the test is sealed."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.frame import UserError
from stages.images.manifest import pictures, read_manifest
from stages.images.splits import assign, read_locked
from tests.conftest import Ingest, digit_images, png, write_folders


def test_every_image_is_in_one_split_and_the_test_only_in_the_sealed_folder(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    folder = ingest(source)
    rows, sealed = read_manifest(folder), read_manifest(tmp_path / "sealed")
    assert set(rows["split"]) == {"train", "val"} and set(sealed["split"]) == {"test"}
    assert sorted([*rows["path"], *sealed["path"]]) == sorted(str(p.relative_to(source)) for p in source.rglob("*.png"))
    index = pd.read_parquet(folder / "sealed_index.parquet")
    assert list(index.columns) == ["group", "content", "pixels", "phash"], "no label and no path of the test leaks"
    assert len(index) == len(sealed)


def test_the_shard_holds_the_original_bytes(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=12)
    source = write_folders(tmp_path / "digits", images)
    folder = ingest(source)
    rows = read_manifest(folder)
    by_path = {f"{label}/{number:04d}.png": image for number, (label, image) in enumerate(images)}
    assert len(rows)
    for row, picture in zip(rows.itertuples(), pictures(rows, folder), strict=True):
        assert np.array_equal(picture.image, by_path[row.path])


def test_the_same_source_gives_the_same_bytes(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=12))
    first = {p.name: p.read_bytes() for p in ingest(source).iterdir()}
    second = {p.name: p.read_bytes() for p in ingest(source).iterdir()}
    assert first and first == second


def test_bad_files_are_listed_with_their_reason_and_stop_nothing(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    (source / "0" / "broken.png").write_bytes(b"broken")
    folder = ingest(source, max_rejected=0.05)
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected["path"].tolist() == ["0/broken.png"]
    assert "UnidentifiedImageError" in rejected["reason"][0]


def test_too_many_bad_files_fail_with_each_reason(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    for i in range(5):
        (source / "0" / f"broken{i}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"5 of 205 files \(2.4%\) were rejected, above ingest.max_rejected 0.01"):
        ingest(source)


def test_adding_images_moves_none_of_the_old_ones(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=40)
    source = write_folders(tmp_path / "digits", images[::2])
    before = read_manifest(ingest(source)).set_index("pixels")["split"]
    sealed_before = set(read_manifest(tmp_path / "sealed")["pixels"])
    for number, (label, image) in enumerate(images):
        (source / label / f"new{number}.png").write_bytes(png(image))
    after = read_manifest(ingest(source))
    of_old = after[after["pixels"].isin(before.index)].drop_duplicates("pixels").set_index("pixels")["split"]
    assert len(after) > len(before)
    assert (of_old == before.reindex(of_old.index)).all()
    assert sealed_before <= set(read_manifest(tmp_path / "sealed")["pixels"])


def test_copies_of_a_picture_share_a_split(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=20)
    source = write_folders(tmp_path / "digits", images + images)
    folder = ingest(source)
    both = pd.concat([read_manifest(folder), read_manifest(tmp_path / "sealed")])
    assert (both.groupby("pixels").size() == 2).all()
    assert (both.groupby("pixels")["split"].nunique() == 1).all()


def test_a_table_of_splits_that_belongs_to_other_data_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "splits" / "digits.csv").write_text("group,split\nsomebody,train\n")
    with pytest.raises(UserError, match="belongs to other data"):
        ingest(write_folders(tmp_path / "digits", digit_images(per_class=12)))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name,split\n", "has columns"),
        ("group,split\na,trian\n", "'trian' of group 'a'"),
        ("group,split\na,train\na,test\n", "'a' stands there twice"),
    ],
)
def test_a_damaged_table_of_splits_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UserError, match=says):
        read_locked(tmp_path / "t.csv")


SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def test_splits_keep_groups_whole_and_classes_in_proportion() -> None:
    rng = np.random.default_rng(0)
    groups = pd.Series([f"patient{i}" for i in rng.integers(0, 400, 3000)])
    labels = pd.Series(rng.choice(["a", "b", "c"], 3000, p=[0.7, 0.25, 0.05]))
    splits = assign(groups, labels, SHARES, {})
    assert (splits.groupby(groups).nunique() == 1).all()
    found = pd.crosstab(labels, splits, normalize="index")
    assert (found - pd.Series(SHARES)).abs().to_numpy().max() < 0.03


def test_a_class_of_nine_is_in_every_split() -> None:
    labels = pd.Series([f"class{i // 9}" for i in range(9 * 20)])
    splits = assign(pd.Series([f"g{i}" for i in range(len(labels))]), labels, SHARES, {})
    assert (pd.crosstab(labels, splits)[["train", "val", "test"]] >= 1).all(axis=None)


def test_locked_groups_stay_whatever_is_added() -> None:
    first = pd.Series([f"g{i}" for i in range(100)])
    labels = pd.Series(["a", "b"] * 50)
    locked = dict(zip(first, assign(first, labels, SHARES, {}), strict=True))
    more = pd.Series([f"g{i}" for i in range(60, 300)])
    again = assign(more, pd.Series(["b", "a", "a"] * 80), SHARES, locked)
    kept = [again[i] == locked[g] for i, g in enumerate(more) if g in locked]
    assert len(kept) == 40 and all(kept)


def test_the_data_s_own_split_is_kept_or_said_to_be_incomplete(ingest: Ingest, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_folders(tmp_path / "own" / split, digit_images(per_class=3))
    rows = read_manifest(ingest(tmp_path / "own", by="source"))
    assert all(row.path.startswith(row.split) for row in rows.itertuples())
    for split in ("train", "val"):
        write_folders(tmp_path / "untested" / split, digit_images(per_class=3))
    with pytest.raises(UserError, match="the source has no test images; use split.by: hash"):
        ingest(tmp_path / "untested", by="source")
