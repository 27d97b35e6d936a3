"""Ingest: nothing is lost, nothing moves, the test is sealed."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.dataset.manifest import decode_images, read_manifest
from stages.dataset.splits import SplitTable, assign_splits, read_split_table, write_split_table
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
    assert index["content"].is_monotonic_increasing, "nor does their order"


def test_the_shard_holds_the_original_bytes(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=12)
    source = write_folders(tmp_path / "digits", images)
    folder = ingest(source)
    rows = read_manifest(folder)
    by_path = {f"{label}/{number:04d}.png": image for number, (label, image) in enumerate(images)}
    assert len(rows)
    for row, picture in zip(rows.itertuples(), decode_images(rows, folder), strict=True):
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


def locked(rule: str = "picture", **splits: str) -> str:
    return json.dumps({"grouped_by": rule, "splits": splits})


def test_a_table_of_splits_that_belongs_to_other_data_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "splits" / "digits.json").write_text(locked(somebody="train"))
    with pytest.raises(UserError, match="belongs to other data"):
        ingest(write_folders(tmp_path / "digits", digit_images(per_class=12)))


def test_a_change_of_the_groups_does_not_move_images_silently(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=30))
    ingest(source, group_regex=r"/(\d\d\d)")
    with pytest.raises(UserError, match=r"groups by path /\(.*they are now by path .*images would move"):
        ingest(source, group_regex=r"/(\d\d\d\d)")


def test_shares_that_the_table_holds_back_are_said(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    file = tmp_path / "splits" / "digits.json"
    ingest(source)
    table = json.loads(file.read_text())
    held = [group for group, split in table["splits"].items() if split == "train"][:60]
    table["splits"] |= dict.fromkeys(held, "val")
    file.write_text(json.dumps(table))
    ingest(source)
    assert "split: val has 45% of the images instead of 15%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("group,split\n", "is damaged"),
        ("[]", "is damaged"),
        ('{"grouped_by": "picture"}', "is damaged"),
        (locked(a="trian"), "'trian' of group 'a'"),
        (locked("column who", a="train"), "groups by column who, but they are now by picture"),
    ],
)
def test_a_table_that_cannot_be_trusted_is_refused(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_split_table(tmp_path / "t.json", "picture")


def test_a_name_of_a_group_survives_the_table_whatever_is_in_it(tmp_path: Path) -> None:
    splits = {"a\rb": "train", 'quote"s, comma': "val", "\u00e9 \U0001f600": "test", "": "train"}
    locked = SplitTable().with_new_groups(splits)
    write_split_table(tmp_path / "t.json", "column who", locked)
    assert read_split_table(tmp_path / "t.json", "column who") == locked


def test_no_usable_image_or_an_empty_split_is_said(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "1.png").write_bytes(b"bad")
    with pytest.raises(UserError, match=r"1 of 1 files \(100.0%\) were rejected"):
        ingest(tmp_path / "bad", max_rejected=1.0)
    with pytest.raises(UserError, match="no test images among 4"):
        ingest(write_folders(tmp_path / "few", digit_images(per_class=2, classes=2)))
    for split in ("train", "val", "test"):
        write_folders(tmp_path / "own" / split, digit_images(per_class=2, classes=3 if split == "test" else 2))
    with pytest.raises(UserError, match="the classes 2 occur only in the test split"):
        ingest(tmp_path / "own", by="source")


def test_a_damaged_member_of_a_zip_is_one_refusal(ingest: Ingest, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for number, (label, image) in enumerate(digit_images(per_class=20)):
            archive.writestr(f"./{label}/{number}.png", png(image, compress_level=0))
    data = bytearray((tmp_path / "d.zip").read_bytes())
    data[data.index(b"IHDR") + 60] ^= 0xFF
    (tmp_path / "d.zip").write_bytes(data)
    rejected = pd.read_csv(ingest(tmp_path / "d.zip") / "rejected.csv")
    assert rejected["path"].tolist() == ["0/0.png"]
    assert "cannot be unpacked" in rejected["reason"][0]


def test_class_names_of_any_sign_come_through(ingest: Ingest, tmp_path: Path) -> None:
    names = ["\u00b2", "<b>", "a'b\"c", "\U0001f600", "..x", "NA"]
    for (_, image), name in zip(digit_images(per_class=10) * 6, names * 60, strict=False):
        (tmp_path / "d" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name / f"{image.tobytes().hex()[:40]}.png").write_bytes(png(image))
    assert set(read_manifest(ingest(tmp_path / "d"))["label"]) == set(names)


SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def test_splits_keep_groups_whole_and_classes_in_proportion() -> None:
    rng = np.random.default_rng(0)
    groups = pd.Series([f"patient{i}" for i in rng.integers(0, 400, 3000)])
    labels = pd.Series(rng.choice(["a", "b", "c"], 3000, p=[0.7, 0.25, 0.05]))
    splits = assign_splits(groups, labels, SHARES, {})
    assert (splits.groupby(groups).nunique() == 1).all()
    found = pd.crosstab(labels, splits, normalize="index")
    assert (found - pd.Series(SHARES)).abs().to_numpy().max() < 0.03


def test_a_class_of_nine_is_in_every_split() -> None:
    labels = pd.Series([f"class{i // 9}" for i in range(9 * 20)])
    splits = assign_splits(pd.Series([f"g{i}" for i in range(len(labels))]), labels, SHARES, {})
    assert (pd.crosstab(labels, splits)[["train", "val", "test"]] >= 1).all(axis=None)


def test_locked_groups_stay_whatever_is_added() -> None:
    first = pd.Series([f"g{i}" for i in range(100)])
    labels = pd.Series(["a", "b"] * 50)
    locked = dict(zip(first, assign_splits(first, labels, SHARES, {}), strict=True))
    more = pd.Series([f"g{i}" for i in range(60, 300)])
    again = assign_splits(more, pd.Series(["b", "a", "a"] * 80), SHARES, locked)
    kept = [again[i] == locked[g] for i, g in enumerate(more) if g in locked]
    assert len(kept) == 40 and all(kept)


def test_the_data_s_own_split_is_kept_or_said_to_be_incomplete(ingest: Ingest, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_folders(tmp_path / "own" / split, digit_images(per_class=3))
    rows = read_manifest(ingest(tmp_path / "own", by="source"))
    assert all(row.path.startswith(row.split) for row in rows.itertuples())
    for split in ("train", "val"):
        write_folders(tmp_path / "untested" / split, digit_images(per_class=3))
    with pytest.raises(UserError, match="no test images among 60"):
        ingest(tmp_path / "untested", by="source")


def test_an_ingest_that_is_refused_decides_no_split(ingest: Ingest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no test images"):
        ingest(write_folders(tmp_path / "few", digit_images(per_class=2, classes=2)))
    assert not list((tmp_path / "splits").iterdir())


def test_later_images_that_look_like_old_ones_move_no_old_one(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=30, classes=2)
    source = write_folders(tmp_path / "d", images)
    before = ingest(source, sequence_block=5)
    old = read_manifest(before).set_index("path")["split"]
    sealed = set(pd.read_parquet(tmp_path / "sealed" / "manifest.parquet")["path"])
    for number, (label, image) in enumerate(images):  # copies of all, so that every block is linked with others
        (source / label / f"a{number:04d}.png").write_bytes(png(image))
    ingest(source, sequence_block=5)
    now = read_manifest(before).set_index("path")["split"]
    assert now[old.index].equals(old)
    assert sealed <= set(pd.read_parquet(tmp_path / "sealed" / "manifest.parquet")["path"])


def test_old_images_stay_when_what_joined_their_blocks_is_gone(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=30, classes=2)
    source = write_folders(tmp_path / "d", images)
    twice = (4, 9, 14, 34, 39, 44)  # the last of each of these blocks stands three blocks later too
    for number in twice:
        label, image = images[number]
        (source / label / f"{number + 15:04d}.png").write_bytes(png(image))
    folder = ingest(source, sequence_block=5)
    table = tmp_path / "splits" / "digits.json"
    before, first = read_manifest(folder).set_index("path"), json.loads(table.read_text())["splits"]
    assert len(first) == 12 > before["group"].nunique(), "blocks were joined, and the table has each"
    assert read_manifest(ingest(source, sequence_block=5)).set_index("path")["group"].equals(before["group"])
    for number in twice:
        (source / images[number][0] / f"{number:04d}.png").unlink()
    after = read_manifest(ingest(source, sequence_block=5)).set_index("path")
    assert after["split"].equals(before["split"].reindex(after.index))
    assert json.loads(table.read_text())["splits"] == first


def test_a_mask_of_another_size_is_refused_before_it_is_decoded(ingest: Ingest, tmp_path: Path) -> None:
    for number, (_, image) in enumerate(digit_images(per_class=30, classes=2)):
        for folder in ("images", "masks"):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / folder / f"{number}.png").write_bytes(png(image))
    cut_off = png(np.zeros((2000, 2000), np.uint8))[:60]  # to decode it would tell that it is damaged
    (tmp_path / "d/masks/7.png").write_bytes(cut_off)
    ingested = ingest(
        tmp_path / "d", format="masks", images="images/{key}.png", targets="masks/{key}.png", max_rejected=0.1
    )
    rejected = pd.read_csv(ingested / "rejected.csv")
    assert rejected["path"].tolist() == ["images/7.png"]
    assert "is 2000x2000, but the image is 8x8" in rejected["reason"][0]
