"""Tests of ingest: no image is lost or changes its split, and the test split is sealed."""

import json
import zipfile
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.core.errors import UserError
from stages.dataset.manifest import decode_images, read_manifest
from stages.dataset.splits import SplitTable, assign_splits, read_split_table, write_split_table
from tests.conftest import Ingest, digit_images, png, write_folders


def test_every_image_has_one_split_and_test_images_are_sealed(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    folder = ingest(source)
    rows, sealed = read_manifest(folder), read_manifest(tmp_path / "sealed")
    assert set(rows["split"]) == {"train", "val"} and set(sealed["split"]) == {"test"}
    assert sorted([*rows["path"], *sealed["path"]]) == sorted(str(p.relative_to(source)) for p in source.rglob("*.png"))
    index = pd.read_parquet(folder / "sealed_index.parquet")
    assert list(index.columns) == ["group", "content", "pixels", "phash"], "no label or path of the test split leaks"
    assert len(index) == len(sealed)
    assert index["content"].is_monotonic_increasing, "the order of the files does not leak"


def test_images_are_read_unchanged_from_the_shard(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=12)
    source = write_folders(tmp_path / "digits", images)
    folder = ingest(source)
    rows = read_manifest(folder)
    by_path = {f"{label}/{number:04d}.png": image for number, (label, image) in enumerate(images)}
    assert len(rows)
    for row, decoded in zip(rows.itertuples(), decode_images(rows, folder), strict=True):
        assert np.array_equal(decoded.image, by_path[row.path])


def test_the_same_source_gives_the_same_bytes(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=12))
    first = {p.name: p.read_bytes() for p in ingest(source).iterdir()}
    second = {p.name: p.read_bytes() for p in ingest(source).iterdir()}
    assert first and first == second


def test_unreadable_files_are_listed_with_a_reason_and_skipped(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    (source / "0" / "broken.png").write_bytes(b"broken")
    folder = ingest(source, max_rejected=0.05)
    rejected = pd.read_csv(folder / "rejected.csv")
    assert rejected["path"].tolist() == ["0/broken.png"]
    assert "not a BMP, GIF, JPEG" in rejected["reason"][0]


def test_too_many_unreadable_files_are_an_error(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    for i in range(5):
        (source / "0" / f"broken{i}.png").write_bytes(b"broken")
    with pytest.raises(UserError, match=r"5 of 205 files \(2.44%\) were rejected, above ingest.max_rejected 0.01"):
        ingest(source)


def test_added_images_leave_the_splits_of_earlier_images_unchanged(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=40)
    source = write_folders(tmp_path / "digits", images[::2])
    before = read_manifest(ingest(source)).set_index("pixels")["split"]
    sealed_before = set(read_manifest(tmp_path / "sealed")["pixels"])
    for number, (label, image) in enumerate(images):
        (source / label / f"new{number}.png").write_bytes(png(image))
    after = read_manifest(ingest(source))
    kept = after[after["pixels"].isin(before.index)].drop_duplicates("pixels").set_index("pixels")["split"]
    assert len(after) > len(before)
    assert (kept == before.reindex(kept.index)).all()
    assert sealed_before <= set(read_manifest(tmp_path / "sealed")["pixels"])


def test_copies_of_an_image_are_in_one_split(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=20)
    source = write_folders(tmp_path / "digits", images + images)
    folder = ingest(source)
    both = pd.concat([read_manifest(folder), read_manifest(tmp_path / "sealed")])
    assert (both.groupby("pixels").size() == 2).all()
    assert (both.groupby("pixels")["split"].nunique() == 1).all()


def split_table(rule: str = "picture", **splits: str) -> str:
    return json.dumps({"grouped_by": rule, "splits": splits})


def test_a_split_table_of_another_data_set_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "splits" / "digits.json").write_text(split_table(somebody="train"))
    with pytest.raises(UserError, match="belongs to other data"):
        ingest(write_folders(tmp_path / "digits", digit_images(per_class=12)))


def test_a_changed_grouping_rule_is_refused(ingest: Ingest, tmp_path: Path) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=30))
    ingest(source, group_regex=r"/(\d\d\d)")
    with pytest.raises(UserError, match=r"groups by path /\(.*the groups are now by path .*images could move"):
        ingest(source, group_regex=r"/(\d\d\d\d)")


def test_split_shares_that_deviate_from_params_are_reported(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_folders(tmp_path / "digits", digit_images(per_class=20))
    file = tmp_path / "splits" / "digits.json"
    ingest(source)
    table = json.loads(file.read_text())
    moved = [group for group, split in table["splits"].items() if split == "train"][:60]
    table["splits"] |= dict.fromkeys(moved, "val")
    file.write_text(json.dumps(table))
    ingest(source)
    assert "split: val has 45% of the images instead of 15%" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group,split\n", "is damaged"),
        ("[]", "is damaged"),
        ('{"grouped_by": "picture"}', "is damaged"),
        (split_table(a="trian"), "'trian' of group 'a'"),
        (split_table("column who", a="train"), "groups by column who, but the groups are now by picture"),
    ],
)
def test_a_damaged_or_incompatible_split_table_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(UserError, match=message):
        read_split_table(tmp_path / "t.json", "picture")


def test_group_names_with_special_characters_survive_the_split_table(tmp_path: Path) -> None:
    splits = {"a\rb": "train", 'quote"s, comma': "val", "\u00e9 \U0001f600": "test", "": "train"}
    table = SplitTable().with_new_groups(splits)
    write_split_table(tmp_path / "t.json", "column who", table)
    assert read_split_table(tmp_path / "t.json", "column who") == table


def test_no_readable_image_and_an_empty_split_are_reported(ingest: Ingest, tmp_path: Path) -> None:
    (tmp_path / "bad" / "a").mkdir(parents=True)
    (tmp_path / "bad" / "a" / "1.png").write_bytes(b"bad")
    with pytest.raises(UserError, match=r"1 of 1 file \(100.00%\) was rejected"):
        ingest(tmp_path / "bad", max_rejected=1.0)
    with pytest.raises(UserError, match="no test images among 4"):
        ingest(write_folders(tmp_path / "few", digit_images(per_class=2, classes=2)))
    for split in ("train", "val", "test"):
        write_folders(tmp_path / "own" / split, digit_images(per_class=2, classes=3 if split == "test" else 2))
    with pytest.raises(UserError, match="the class 2 occurs only in the test split"):
        ingest(tmp_path / "own", by="source")


def test_a_damaged_zip_member_rejects_only_that_file(ingest: Ingest, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "d.zip", "w") as archive:
        for number, (label, image) in enumerate(digit_images(per_class=20)):
            archive.writestr(f"./{label}/{number}.png", png(image, compress_level=0))
    data = bytearray((tmp_path / "d.zip").read_bytes())
    data[data.index(b"IHDR") + 60] ^= 0xFF
    (tmp_path / "d.zip").write_bytes(data)
    rejected = pd.read_csv(ingest(tmp_path / "d.zip") / "rejected.csv")
    assert rejected["path"].tolist() == ["0/0.png"]
    assert "cannot be unpacked" in rejected["reason"][0]


def test_class_names_with_special_characters_are_preserved(ingest: Ingest, tmp_path: Path) -> None:
    names = ["\u00b2", "<b>", "a'b\"c", "\U0001f600", "..x", "NA"]
    for (_, image), name in zip(digit_images(per_class=10) * 6, names * 60, strict=False):
        (tmp_path / "d" / name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "d" / name / f"{image.tobytes().hex()[:40]}.png").write_bytes(png(image))
    assert set(read_manifest(ingest(tmp_path / "d"))["label"]) == set(names)


SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def test_splits_keep_groups_together_and_preserve_class_proportions() -> None:
    rng = np.random.default_rng(0)
    groups = pd.Series([f"patient{i}" for i in rng.integers(0, 400, 3000)])
    labels = pd.Series(rng.choice(["a", "b", "c"], 3000, p=[0.7, 0.25, 0.05]))
    splits = assign_splits(groups, labels, SHARES, {})
    assert (splits.groupby(groups).nunique() == 1).all()
    found = pd.crosstab(labels, splits, normalize="index")
    assert (found - pd.Series(SHARES)).abs().to_numpy().max() < 0.03


def test_a_class_of_nine_images_is_in_every_split() -> None:
    labels = pd.Series([f"class{i // 9}" for i in range(9 * 20)])
    splits = assign_splits(pd.Series([f"g{i}" for i in range(len(labels))]), labels, SHARES, {})
    assert (pd.crosstab(labels, splits)[["train", "val", "test"]] >= 1).all(axis=None)


@pytest.mark.parametrize("share", [0.15, 0.2])
@pytest.mark.parametrize(
    "sizes",
    [
        [66, 54, 16, 16, *[8] * 5, *[5] * 10],
        [200, 90, 80, *[12] * 10, *[3] * 20],
        [40] * 3 + [1] * 80,
        [10] * 30,
    ],
)
def test_splits_for_evaluation_have_several_groups(sizes: list[int], share: float) -> None:
    groups = pd.Series([f"film{film}" for film, size in enumerate(sizes) for _ in range(size)])
    splits = assign_splits(
        groups, pd.Series([""] * len(groups)), {"train": 1 - 2 * share, "val": share, "test": share}, {}
    )
    for part in ("val", "test"):
        counts = groups[splits == part].value_counts()
        assert len(counts) >= 4 and counts.max() <= 0.6 * counts.sum()
        assert abs((splits == part).mean() - share) < 0.05


def test_a_class_with_few_large_groups_is_in_every_split() -> None:
    groups = pd.Series([f"b{i // 54}" for i in range(162)] + [f"a{i}" for i in range(100)])
    labels = pd.Series(["b"] * 162 + ["a"] * 100)
    assert (pd.crosstab(labels, assign_splits(groups, labels, SHARES, {})) > 0).all(axis=None)


def test_groups_that_are_added_one_by_one_are_not_all_used_for_evaluation() -> None:
    locked = {"film0": "train", "film1": "val", "film2": "test"}
    groups = pd.Series([f"film{film}" for film, size in enumerate((70, 40, 15, 3, 3)) for _ in range(size)])
    splits = assign_splits(groups, pd.Series([""] * len(groups)), SHARES, locked)
    assert all(splits[groups == group].eq(split).all() for group, split in locked.items())
    assert "val" not in set(splits[groups.isin(["film3", "film4"])])


def test_locked_groups_keep_their_split_when_groups_are_added() -> None:
    first = pd.Series([f"g{i}" for i in range(100)])
    labels = pd.Series(["a", "b"] * 50)
    locked = dict(zip(first, assign_splits(first, labels, SHARES, {}), strict=True))
    more = pd.Series([f"g{i}" for i in range(60, 300)])
    again = assign_splits(more, pd.Series(["b", "a", "a"] * 80), SHARES, locked)
    unchanged = [again[i] == locked[g] for i, g in enumerate(more) if g in locked]
    assert len(unchanged) == 40 and all(unchanged)


def test_splits_of_the_source_are_used_and_must_be_complete(ingest: Ingest, tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        write_folders(tmp_path / "own" / split, digit_images(per_class=3))
    rows = read_manifest(ingest(tmp_path / "own", by="source"))
    assert all(row.path.startswith(row.split) for row in rows.itertuples())
    for split in ("train", "val"):
        write_folders(tmp_path / "untested" / split, digit_images(per_class=3))
    with pytest.raises(UserError, match="no test images among 60"):
        ingest(tmp_path / "untested", by="source")


def test_a_refused_ingest_writes_no_split_table(ingest: Ingest, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no test images"):
        ingest(write_folders(tmp_path / "few", digit_images(per_class=2, classes=2)))
    assert not list((tmp_path / "splits").iterdir())


def test_added_copies_leave_the_splits_of_earlier_images_unchanged(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=30, classes=2)
    source = write_folders(tmp_path / "d", images)
    folder = ingest(source, sequence_block=5)
    splits_before = read_manifest(folder).set_index("path")["split"]
    sealed_before = set(pd.read_parquet(tmp_path / "sealed" / "manifest.parquet")["path"])
    for number, (label, image) in enumerate(images):  # copies of all images, so that every block is linked with others
        (source / label / f"a{number:04d}.png").write_bytes(png(image))
    ingest(source, sequence_block=5)
    splits_after = read_manifest(folder).set_index("path")["split"]
    assert splits_after[splits_before.index].equals(splits_before)
    assert sealed_before <= set(pd.read_parquet(tmp_path / "sealed" / "manifest.parquet")["path"])


def test_removing_copies_leaves_the_splits_of_linked_blocks_unchanged(ingest: Ingest, tmp_path: Path) -> None:
    images = digit_images(per_class=30, classes=2)
    source = write_folders(tmp_path / "d", images)
    copied = (4, 9, 14, 34, 39, 44)  # the last image of each of these blocks also occurs three blocks later
    for number in copied:
        label, image = images[number]
        (source / label / f"{number + 15:04d}.png").write_bytes(png(image))
    folder = ingest(source, sequence_block=5)
    table = tmp_path / "splits" / "digits.json"
    before, first = read_manifest(folder).set_index("path"), json.loads(table.read_text())["splits"]
    assert len(first) == 12 > before["group"].nunique(), "blocks are merged into groups, and the table lists each block"
    assert read_manifest(ingest(source, sequence_block=5)).set_index("path")["group"].equals(before["group"])
    for number in copied:
        (source / images[number][0] / f"{number:04d}.png").unlink()
    after = read_manifest(ingest(source, sequence_block=5)).set_index("path")
    assert after["split"].equals(before["split"].reindex(after.index))
    assert json.loads(table.read_text())["splits"] == first


def frames_of_two_classes(source: Path, count: int = 120) -> Path:
    """Write frames whose counter runs on through the folders of two classes."""
    for number, (_, image) in enumerate(digit_images(per_class=count // 4, classes=4)):
        folder = source / ("fist" if number % 3 else "palm")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"frame_{number:04d}.png").write_bytes(png(image))
    return source


def test_a_block_follows_the_counter_across_folders(ingest: Ingest, tmp_path: Path) -> None:
    source = frames_of_two_classes(tmp_path / "d")
    rows = pd.concat([read_manifest(ingest(source, sequence_block=10)), read_manifest(tmp_path / "sealed")])
    block = rows["path"].str.extract(r"_(\d+)")[0].astype(int) // 10
    assert (rows.groupby(block.to_numpy())["split"].nunique() == 1).all()
    table = tmp_path / "splits" / "digits.json"
    assert json.loads(table.read_text())["grouped_by"] == "picture, blocks of 10 across folders"
    before = rows.set_index("path")["split"]
    (source / "palm" / "frame_0001.png").write_bytes((source / "fist" / "frame_0002.png").read_bytes())
    after = read_manifest(ingest(source, sequence_block=10)).set_index("path")["split"]
    assert (after == before.reindex(after.index))[after.index != "palm/frame_0001.png"].all(), (
        "a number that is used twice later does not change the blocks"
    )


def test_an_earlier_split_table_keeps_its_blocks_within_folders(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = frames_of_two_classes(tmp_path / "d")
    table = tmp_path / "splits" / "digits.json"
    names = [f"{folder}/frame_#{start}" for folder in ("fist", "palm") for start in range(0, 120, 10)]
    splits = {name: ("train", "train", "val", "test")[place % 4] for place, name in enumerate(names)}
    table.write_text(split_table("picture, blocks of 10", **splits))
    rows = read_manifest(ingest(source, sequence_block=10))
    parts = rows["path"].str.extract(r"(.*_)(\d+)")
    assert [splits[f"{name}#{int(number) // 10 * 10}"] for name, number in parts.to_numpy()] == rows["split"].tolist()
    assert json.loads(table.read_text())["grouped_by"] == "picture, blocks of 10"
    assert "the numbers of the images run on across folders, but the groups" in capsys.readouterr().out


def test_a_mask_of_another_size_is_refused_before_decoding(ingest: Ingest, tmp_path: Path) -> None:
    for number, (_, image) in enumerate(digit_images(per_class=30, classes=2)):
        for folder in ("images", "masks"):
            (tmp_path / "d" / folder).mkdir(parents=True, exist_ok=True)
            (tmp_path / "d" / folder / f"{number}.png").write_bytes(png(image))
    truncated = png(np.zeros((2000, 2000), np.uint8))[:60]  # decoding it would report a damaged file
    (tmp_path / "d/masks/7.png").write_bytes(truncated)
    ingested = ingest(
        tmp_path / "d", format="masks", images="images/{key}.png", targets="masks/{key}.png", max_rejected=0.1
    )
    rejected = pd.read_csv(ingested / "rejected.csv")
    assert rejected["path"].tolist() == ["images/7.png"]
    assert "is 2000x2000, but the image is 8x8" in rejected["reason"][0]


def write_dated(folder: Path, minutes: dict[str, float | None]) -> Path:
    """Write a JPEG of a random digit for each name, with the EXIF time so many minutes after midnight."""
    images = [image for _, image in digit_images(per_class=20)]
    for number, (name, minute) in enumerate(minutes.items()):
        exif = Image.Exif()
        if minute is not None:
            taken = datetime(2024, 5, 1) + timedelta(minutes=minute)
            exif.get_ifd(0x8769)[0x9003] = taken.strftime("%Y:%m:%d %H:%M:%S")
        file = folder / "ab"[number % 2] / f"{name}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[number]).save(file, exif=exif)
    return folder


def test_images_of_one_session_share_a_split_that_later_images_do_not_change(
    ingest: Ingest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sessions of three images, 4 minutes apart, begin every hour; later images fill a gap and precede the first."""
    minutes: dict[str, float | None] = {f"{7 * i % 60:02}": 60 * (i // 3) + 4 * (i % 3) for i in range(60)}
    source = write_dated(tmp_path / "photos", minutes | {"undated": None})
    rows = pd.concat([read_manifest(ingest(source, session_gap=10)), read_manifest(tmp_path / "sealed")])
    assert "1 image has no capture time" in capsys.readouterr().out
    session = rows["taken"].str[:13]
    assert rows.groupby(session)["group"].nunique().max() == 1
    assert rows.groupby("group")["taken"].apply(lambda taken: taken.str[:13].nunique()).max() == 1
    assert rows["group"].nunique() == 21 and set(rows["split"]) == {"train", "val", "test"}
    before = rows.set_index("path")["split"]
    later: dict[str, float | None] = {f"later{i}": 60.0 * (i // 5) + 17 + 9 * (i % 5) for i in range(15)}
    later["first"] = -3.0
    write_dated(source, minutes | {"undated": None} | later)
    rows = pd.concat([read_manifest(ingest(source, session_gap=10)), read_manifest(tmp_path / "sealed")])
    after = rows.set_index("path")["split"]
    assert after[before.index].equals(before)
    assert len(after) == len(before) + 16


def test_groups_that_are_known_otherwise_are_not_changed_by_sessions(ingest: Ingest, tmp_path: Path) -> None:
    source = write_dated(tmp_path / "photos", {f"p{i // 2:02}_{i}": float(i) for i in range(60)})
    rows = read_manifest(ingest(source, session_gap=10, group_regex=r"(p\d+)_"))
    assert rows["group"].str.fullmatch(r"p\d+").all()


def test_another_session_gap_is_another_rule(ingest: Ingest, tmp_path: Path) -> None:
    source = write_dated(tmp_path / "photos", {str(i): 20.0 * i for i in range(40)})
    ingest(source, session_gap=10)
    with pytest.raises(UserError, match="groups by capture times, gaps of 10 minutes, but .* gaps of 15 minutes"):
        ingest(source, session_gap=15)
