"""Every kind of source gives the same samples, and files that cannot be used are reported by name."""

import io
import os
import re
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages.batch_prediction.inputs import iterate_images
from stages.config.schema import Params
from stages.config.schema_data import Columns
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.dataset.splits import SplitTable, merge_linked_groups
from stages.images.archives import Rejection
from stages.images.decode import decode_image
from stages.images.zip_names import decode_zip_names
from stages.importers import Sample, open_source, reject_ambiguous_labels
from stages.importers.sample import fixed_annotation
from stages.importers.sequence_blocks import block_scope, group_blocks
from tests.conftest import digit_images, png, write_folders

IMAGES = digit_images(per_class=3, classes=2)
Listing = tuple[list[Sample], list[Rejection]]


@pytest.fixture
def listing(params: Params) -> Callable[..., Listing]:
    def run(source: Path, has_split: bool = False, **changes: Any) -> Listing:
        with open_source(source, params.ingest.model_copy(update=changes), has_split) as (items, refused):
            assert all(item.read() for item in items), "bytes can be read while the source is open"
            return items, refused

    return run


def label_of(item: Sample) -> str:
    """Return the only class of a sample."""
    (label,) = item.annotate(8, 8).labels or ()
    return label


def pack(folder: Path, file: Path) -> Path:
    if file.suffix == ".zip":
        with zipfile.ZipFile(file, "w") as archive:
            for path in sorted(p for p in folder.rglob("*") if p.is_file()):
                archive.write(path, path.relative_to(folder.parent))
    else:
        with tarfile.open(file, "w:gz" if file.name.endswith("gz") else "w") as archive:
            archive.add(folder, folder.name)
    return file


def test_a_folder_per_class_gives_labels(listing: Callable[..., Listing], tmp_path: Path) -> None:
    items, refused = listing(write_folders(tmp_path / "digits", IMAGES))
    assert [(item.path, label_of(item)) for item in items[:2]] == [("0/0000.png", "0"), ("0/0001.png", "0")]
    assert len(items) == 6 and not refused


@pytest.mark.parametrize("ending", ["zip", "tar", "tar.gz", "ZIP", "TAR.GZ"])
def test_an_archive_gives_the_same_samples_as_its_folder(
    listing: Callable[..., Listing], tmp_path: Path, ending: str
) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    loose, _ = listing(folder)
    archive = pack(folder, tmp_path / f"all.{ending.lower()}").rename(tmp_path / f"all.{ending}")
    packed, _ = listing(archive, inside="digits")
    assert [(i.path, label_of(i)) for i in packed] == [(i.path, label_of(i)) for i in loose]


def test_files_outside_class_folders_are_refused_and_hidden_files_skipped(
    listing: Callable[..., Listing], tmp_path: Path
) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    (folder / "LICENSE").write_text("terms")
    (folder / "0" / ".DS_Store").write_text("")
    items, refused = listing(folder)
    assert len(items) == 6
    assert refused == [Rejection("LICENSE", "is not an image", is_unused=True)]


SYSTEM_FILES = (
    *("0/._0000.png", ".ipynb_checkpoints/0000-checkpoint.png", "__MACOSX/0/._0000.png", "Icon\r", ".picasa.ini"),
    *("0/thumbs.db", "0/Thumbs.db:encryptable", "0/ehthumbs_vista.db", "Desktop.ini", "0/Picasa.ini"),
    *("0/0000.png:Zone.Identifier", "0/0000.png\uf03aZone.Identifier", "$RECYCLE.BIN/$R1.png"),
    *("System Volume Information/a.png", "lost+found/1.png", "@eaDir/0000.png/SYNOPHOTO_THUMB_M.png"),
    *("0/@eaDir/0000.png/SYNOPHOTO_THUMB_M.png", "#recycle/0000.png", "@Recycle/0000.png"),
)


def test_files_of_operating_systems_and_network_drives_are_neither_images_nor_classes(
    listing: Callable[..., Listing], tmp_path: Path
) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    for name in SYSTEM_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(np.zeros((8, 8), np.uint8)))
    (folder / "recycle").mkdir()
    (folder / "recycle" / "..png").write_bytes(png(np.zeros((8, 8), np.uint8)))  # looks similar, but is a class
    items, refused = listing(folder)
    assert [item.path for item in items if label_of(item) not in ("0", "1")] == ["recycle/..png"]
    assert len(items) == 7 and not refused


def zip_with_names(file: Path, encoding: str, classes: tuple[str, ...]) -> Path:
    """Write a zip whose names are in an encoding that the zip does not state."""
    raw = [name.encode(encoding) for name in classes]
    placeholders = [bytes([ord("A") + number]) * len(name) for number, name in enumerate(raw)]
    with zipfile.ZipFile(file, "w") as archive:
        for placeholder in placeholders:
            archive.writestr(f"{placeholder.decode()}/1.png", png(np.zeros((8, 8), np.uint8)))
    data = file.read_bytes()
    for placeholder, name in zip(placeholders, raw, strict=True):
        assert data.count(placeholder + b"/") == 2, "the local header and the table contain the name"
        data = data.replace(placeholder + b"/", name + b"/")
    file.write_bytes(data)
    return file


@pytest.mark.parametrize(
    ("encoding", "classes"),
    [("utf-8", ("Größe", "猫")), ("cp437", ("Größe", "Überzug")), ("cp850", ("Größe", "Überzug"))],
)
def test_zip_names_without_a_stated_encoding_are_read_if_they_are_unambiguous(
    listing: Callable[..., Listing], tmp_path: Path, encoding: str, classes: tuple[str, ...]
) -> None:
    items, refused = listing(zip_with_names(tmp_path / "a.zip", encoding, classes))
    assert {label_of(item) for item in items} == set(classes) and not refused


@pytest.mark.parametrize(
    ("encoding", "classes"),
    [("gbk", ("猫", "狗")), ("cp932", ("ソース", "犬")), ("euc-kr", ("고양이", "개")), ("cp1251", ("кот", "пёс"))],
)
def test_zip_names_in_an_unknown_code_page_are_refused_instead_of_garbled(
    listing: Callable[..., Listing], tmp_path: Path, encoding: str, classes: tuple[str, ...]
) -> None:
    archive = zip_with_names(tmp_path / "a.zip", encoding, (*classes, "dog"))
    items, refused = listing(archive)
    assert [label_of(item) for item in items] == ["dog"]
    assert len(refused) == 2
    assert all("a name whose encoding the zip does not state; unpack the zip" in one.reason for one in refused)
    assert len(list(iterate_images([str(archive)]))) == 3, "a prediction does not depend on the name"


def test_a_zip_name_in_the_unicode_extra_field_is_preferred() -> None:
    raw, name = "猫".encode("gbk"), "猫/1.png"
    member = zipfile.ZipInfo(raw.decode("cp437"))
    content = b"\1" + zlib.crc32(raw).to_bytes(4, "little") + name.encode()
    member.extra = b"UT\1\0x" + b"up" + len(content).to_bytes(2, "little") + content
    assert decode_zip_names([member]) == [name]
    member.filename = "½"  # renamed by a tool that does not know the field, so that the CRC differs
    assert decode_zip_names([member]) == [None]


def test_links_pipes_and_undecodable_names_are_refused_with_their_path(
    listing: Callable[..., Listing], tmp_path: Path
) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    os.mkfifo(folder / "0" / "pipe.png")
    (folder / "0" / "link.png").symlink_to("/etc/hostname")
    (folder / "2").symlink_to(folder / "1")
    (folder / "0" / "\udcff.png").write_bytes(b"")
    items, refused = listing(folder)
    assert len(items) == 6 + sum(one.path.startswith("1/") for one in items), "2 is a link to 1"
    assert {r.path: r.reason.split(";")[0] for r in refused} == {
        "0/link.png": f"is a link to {Path('/etc/hostname').resolve()}, outside the source",
        "0/pipe.png": "is neither a file nor a folder",
        "0/\udcff.png": "has a name that is not valid UTF-8",
    }


def test_links_that_stay_inside_the_source_are_followed(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    (folder / "sorted" / "even").mkdir(parents=True)
    (folder / "sorted" / "even" / "a.png").symlink_to("../../0/0000.png")
    (folder / "sorted" / "odd").symlink_to(folder / "1")
    items, refused = listing(folder, inside="sorted")
    assert not refused
    assert [(one.path, label_of(one)) for one in items if "even" in one.path] == [("even/a.png", "even")]
    odd = {one.path: label_of(one) for one in items if "even" not in one.path}
    assert odd == {f"odd/{file.name}": "odd" for file in (folder / "1").iterdir()}


def test_links_in_a_circle_or_without_a_target_are_refused(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    for link, target in {"0/up": "..", "0/self": "self", "0/gone.png": "no.png", "1/to0": "../0"}.items():
        (folder / link).symlink_to(target)
    refused = {one.path: one.reason.split(";")[0] for one in listing(folder)[1]}
    circle = "is a link to a folder that contains it or to one below another link"
    assert refused["0/up"] == refused["1/to0/up"] == circle
    assert refused["0/self"] == "is a link to self, which cannot be found"
    assert refused["0/gone.png"] == "is a link to no.png, which cannot be found"


def test_a_folder_of_links_to_files_elsewhere_is_explained(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    (tmp_path / "links" / "0").mkdir(parents=True)
    (tmp_path / "links" / "0" / "a.png").symlink_to(folder / "0" / "0000.png")
    with pytest.raises(UserError, match=r"1 file was rejected, for example '0/a.png': is a link to .*, outside the"):
        listing(tmp_path / "links")


def test_links_in_a_tar_are_refused(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "digits", IMAGES)
    (folder / "0" / "hard.png").hardlink_to(folder / "0" / "0000.png")
    _, refused = listing(pack(folder, tmp_path / "all.tar"), inside="digits")
    assert len(refused) == 1 and "link" in refused[0].reason


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tar.xz"])
def test_a_damaged_tar_is_not_read_as_a_smaller_one(
    listing: Callable[..., Listing], tmp_path: Path, ending: str
) -> None:
    folder = write_folders(tmp_path / "digits", digit_images(per_class=20))
    whole = pack(folder, tmp_path / f"all.{ending}").read_bytes()
    damages = {
        "cut": whole[: len(whole) // 2 // 512 * 512],
        "flipped": whole[: len(whole) // 2] + bytes([whole[len(whole) // 2] ^ 0xFF]) + whole[len(whole) // 2 + 1 :],
    }
    if ending == "tar":  # flip a bit of a header, because tar has no checksum of the image data
        header = whole.rindex(b"ustar", 0, len(whole) // 2)
        damages["flipped"] = whole[: header - 100] + b"\xff" + whole[header - 99 :]
    for name, data in damages.items():
        (tmp_path / f"{name}.{ending}").write_bytes(data)
        with pytest.raises(UserError, match="damaged"):
            listing(tmp_path / f"{name}.{ending}", inside="digits")


@pytest.mark.parametrize(("one", "other"), [("A", "a"), ("caf\u00e9", "cafe\u0301")])
def test_two_spellings_of_a_class_are_refused(one: str, other: str) -> None:
    with pytest.raises(UserError, match="differ only in case or in the Unicode encoding"):
        reject_ambiguous_labels({one, other, "b"})


def test_an_inside_file_with_an_unknown_suffix_is_refused(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "d", IMAGES)
    (folder / "labels.dat").write_text("path\tlabel\n")
    with pytest.raises(UserError, match=r"labels.dat is not a folder or a file with a supported suffix"):
        listing(folder, inside="labels.dat")


def test_the_first_folder_level_is_the_split_when_requested(listing: Callable[..., Listing], tmp_path: Path) -> None:
    for split in ("train", "Validation", "test", "extra"):
        write_folders(tmp_path / "data" / split, IMAGES)
    items, refused = listing(tmp_path / "data", has_split=True)
    assert {item.split for item in items} == {"train", "val", "test"}
    assert {label_of(item) for item in items} == {"0", "1"}
    assert len(refused) == 6 and all("is not in the folder of a split (train" in r.reason for r in refused)


def test_split_folders_are_not_read_as_classes(listing: Callable[..., Listing], tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_folders(tmp_path / "data" / split, IMAGES)
    (tmp_path / "data" / "meta").mkdir()
    (tmp_path / "data" / "meta" / "info.txt").write_text("x")
    with pytest.raises(UserError, match="are named like splits, not like classes; set split.by: source"):
        listing(tmp_path / "data")


def table(folder: Path, text: str) -> Path:
    write_folders(folder, IMAGES)
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


PLAIN: dict[str, Any] = {
    "path": "path", "folder": "", "label": "label", "separator": "", "scalars": (), "points": (),
    "group": None, "split": None, "origin": None,
}  # fmt: skip
COLUMNS = {"inside": "labels.csv", "columns": Columns(**PLAIN | {"group": "who"})}


def test_labels_of_a_table_are_read_as_text(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "\ufeffpath, label,who\n0/0000.png,NA,ann\n0/0001.png,007,ben\n")
    items, refused = listing(folder, **COLUMNS)
    assert [(i.path, label_of(i), i.group) for i in items] == [
        ("0/0000.png", "NA", "ann"),
        ("0/0001.png", "007", "ben"),
    ]
    assert len(refused) == 4 and all(r.reason == "is not listed in labels.csv" for r in refused)


def test_invalid_rows_of_a_table_are_refused_with_a_reason(listing: Callable[..., Listing], tmp_path: Path) -> None:
    rows = "path,label,who\n0/0000.png,a,x\n0/0000.png,b,x\n0/gone.png,a,x\n0/0001.png,,x\n0/0002.png,a,\n"
    items, refused = listing(table(tmp_path / "d", rows), **COLUMNS)
    assert [item.path for item in items] == ["0/0000.png"]
    reasons = {r.path: r.reason for r in refused}
    assert "more than once" in reasons["0/0000.png"]
    assert "does not exist" in reasons["0/gone.png"]
    assert "label is empty" in reasons["0/0001.png"]
    assert "group is empty" in reasons["0/0002.png"]


def test_spaces_around_group_names_of_a_table_are_ignored(listing: Callable[..., Listing], tmp_path: Path) -> None:
    items, _ = listing(table(tmp_path / "d", "path,label,who\n0/0000.png,a,p1\n0/0001.png,a,p1 \n"), **COLUMNS)
    assert [item.group for item in items] == ["p1", "p1"]


def test_rows_with_more_cells_than_columns_are_refused(listing: Callable[..., Listing], tmp_path: Path) -> None:
    columns = COLUMNS | {"columns": Columns(**PLAIN)}
    with pytest.raises(UserError, match="cannot be read as a table"):
        listing(table(tmp_path / "d", "path,label\n0/0000.png,cat,black\n0/0001.png,cat,white\n"), **columns)


def test_a_missing_column_is_reported_with_a_suggestion(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = table(tmp_path / "d", "path,labels,who\n0/0000.png,a,x\n")
    with pytest.raises(UserError, match=re.escape("no column 'label' (ingest.columns.label); did you mean `labels`?")):
        listing(folder, **COLUMNS)


def test_parquet_is_read_like_csv(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "d", IMAGES)
    pd.DataFrame({"path": ["0/0000.png"], "label": [7], "who": ["x"]}).to_parquet(folder / "labels.parquet")
    items, _ = listing(folder, **COLUMNS | {"inside": "labels.parquet"})
    assert [(label_of(i), i.group) for i in items] == [("7", "x")]


def test_arrays_can_define_their_own_splits(listing: Callable[..., Listing], tmp_path: Path) -> None:
    arrays: dict[str, Any] = {}
    for split in ("train", "val", "test"):
        arrays |= {f"{split}_images": np.zeros((2, 8, 8), np.uint8), f"{split}_labels": np.array([[0], [1]])}
    np.savez(tmp_path / "a.npz", **arrays)
    items, _ = listing((tmp_path / "a.npz").rename(tmp_path / "a.NPZ"))
    assert [(i.path, label_of(i), i.split, i.has_file) for i in items[:2]] == [
        ("train/000000.png", "0", "train", False),
        ("train/000001.png", "1", "train", False),
    ]
    assert len(items) == 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pixels": np.zeros(3)}, "contains the arrays pixels; name the arrays `images` and `labels`"),
        ({"images": np.zeros((2, 8, 8), np.uint8)}, r"a.npz: the array images has no labels \(array labels\)"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3)}, r"labels of shape \(3,\) for 2 images"),
        ({"images": np.zeros((2, 8, 8)), "labels": np.zeros(2)}, "images is float64"),
        ({"images": np.zeros((2, 64), np.uint8), "labels": np.zeros(2)}, r"uint8 of shape \(2, 64\)"),
        ({"images": np.uint8(1), "labels": np.zeros(2)}, r"of shape \(\)"),
        ({"images": np.array([None]), "labels": np.zeros(1)}, "cannot be read"),
    ],
)
def test_invalid_arrays_are_reported(
    listing: Callable[..., Listing], tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(UserError, match=message):
        listing(tmp_path / "a.npz")


def test_arrays_without_a_split_are_refused_when_splits_are_required(
    listing: Callable[..., Listing], tmp_path: Path
) -> None:
    images, labels = np.zeros((2, 8, 8), np.uint8), np.zeros(2, int)
    np.savez(tmp_path / "a.npz", train_images=images, train_labels=labels, extra_images=images, extra_labels=labels)
    items, refused = listing(tmp_path / "a.npz", has_split=True)
    assert [item.path for item in items] == ["train/000000.png", "train/000001.png"]
    assert [r.path for r in refused] == ["extra/000000.png", "extra/000001.png"]
    np.savez(tmp_path / "b.npz", images=images, labels=labels)
    with pytest.raises(UserError, match="has no split in the source"):
        listing(tmp_path / "b.npz", has_split=True)


def test_array_labels_are_integers_and_image_shapes_are_unchanged(
    listing: Callable[..., Listing], tmp_path: Path
) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 1, 8, 3), np.uint8), labels=np.array([0.0, 1.0]))
    items, _ = listing(tmp_path / "a.npz")
    assert [label_of(item) for item in items] == ["0", "1"]
    assert decode_image(items[0].read()).image.shape == (1, 8, 3)


def test_groups_are_read_from_paths(listing: Callable[..., Listing], tmp_path: Path) -> None:
    folder = write_folders(tmp_path / "d", IMAGES)
    items, _ = listing(folder, group_regex=r"/(\d{3})")
    assert items[0].group == "000"
    for pattern, problem in (
        (r"patient(\d+)", "does not match 0/0000.png"),
        (r"patient(\d+)|/", "match no text in 0/0000.png"),
    ):
        with pytest.raises(UserError, match=problem):
            listing(folder, group_regex=pattern)


def test_consecutively_numbered_images_form_blocks(listing: Callable[..., Listing], tmp_path: Path) -> None:
    def groups(**changes: Any) -> list[str | None]:
        return [item.group for item in group_blocks(listing(folder, **changes)[0], 4, scope="")]

    folder = write_folders(tmp_path / "d", [("a", image) for _, image in digit_images(per_class=11, classes=1)])
    assert groups() == [f"a/#{n}" for n in (0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8)]
    (folder / "a/0001.png").unlink()
    (folder / "a/0010.png").rename(folder / "a/img10.png")
    assert groups(group_regex="(a)/") == [f"a#{n}" for n in (0, 0, 0, 4, 4, 4, 4, 8, 8, 8)], (
        "the other images stay in their blocks"
    )
    (folder / "a/0002.png").rename(folder / "a/left.png")
    with pytest.raises(UserError, match="a/left.png contains no number"):
        groups()


@pytest.mark.parametrize(
    ("paths", "scope", "groups"),
    [
        (["a/8.png", "b/9.png", "a/10.png", "b/14.png"], "across folders", ["#5", "#5", "#10", "#10"]),
        (["a/x8.png", "b/x9.png", "a/y8.png"], "across folders", ["x#5", "x#5", "y#5"]),
        (["a_8.png", "b_9.png", "a_10.png"], "across prefixes", ["#5", "#5", "#10"]),
        (["p/a_8.png", "p/b_9.png", "q/a_8.png"], "across prefixes", ["p/#5", "p/#5", "q/#5"]),
        (["p/a_8.png", "p/b_9.png", "q/a_10.png"], "across folders and prefixes", ["#5", "#5", "#10"]),
        (["a/8.png", "b/8.png", "b/9.png"], "", ["a/#5", "b/#5", "b/#5"]),
        (["a/8_left.png", "a/8_right.png", "b/9_left.png"], "across folders", ["#5", "#5", "#5"]),
    ],
)
def test_blocks_follow_a_counter_that_uses_no_number_twice(paths: list[str], scope: str, groups: list[str]) -> None:
    samples = [Sample(path, fixed_annotation(Annotation()), None, None, bytes) for path in paths]
    assert block_scope(samples) == scope
    assert [sample.group for sample in group_blocks(samples, 5, scope)] == groups


def test_groups_that_share_an_image_are_merged() -> None:
    groups = pd.Series(["b", "a", "c", "c", "d", "e"])
    images = pd.Series(["1", "1", "2", "3", "3", "4"])
    assert merge_linked_groups(groups, images, SplitTable()).tolist() == ["a", "a", "c", "c", "c", "e"]


def test_unsafe_or_damaged_archives_are_refused(
    listing: Callable[..., Listing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = png(IMAGES[0][1])
    with zipfile.ZipFile(tmp_path / "doubled.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/1.png", data)
        archive.writestr("a/1.png", data)
    with pytest.raises(UserError, match=r"contains a/1.png more than once"):
        listing(tmp_path / "doubled.zip")
    with tarfile.open(tmp_path / "escape.tar", "w") as archive:
        info = tarfile.TarInfo("../outside.png")
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    with pytest.raises(UserError, match=r"contains ../outside.png, which cannot be unpacked safely"):
        listing(tmp_path / "escape.tar")
    assert not (tmp_path.parent / "outside.png").exists()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(UserError, match="damaged archive"):
        listing(tmp_path / "broken.zip")
    monkeypatch.setattr("stages.images.archives.MAX_UNPACKED_BYTES", 10)
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w") as archive:
        archive.writestr("a/1.png", data)
    with pytest.raises(UserError, match="unpack it to a folder"):
        listing(tmp_path / "bomb.zip")


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (lambda p: p / "absent", {}, "does not exist; set it to"),
        (lambda p: write_folders(p / "d", IMAGES), {"inside": "digitz"}, "digitz is not in"),
        (
            lambda p: table(p / "d", "path,label\n") / "labels.csv",
            {},
            "set ingest.source to .*d and ingest.inside to labels.csv",
        ),
        (lambda p: table(p / "d", "path,label,who\n"), COLUMNS, "contains no labelled images; 6 files were rejected"),
    ],
)
def test_the_error_for_a_source_without_images_states_the_fix(
    listing: Callable[..., Listing], tmp_path: Path, make: Callable[[Path], Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        listing(make(tmp_path), **changes)


def test_groups_with_an_assigned_split_are_not_moved() -> None:
    groups, images = pd.Series(["z", "a", "m", "b", "z"]), pd.Series(["1", "1", "2", "2", "2"])
    one = SplitTable().with_new_groups({"z": "test"})
    assert merge_linked_groups(groups, images, one).tolist() == ["z"] * 5, "new groups join the group that has a split"
    all_ = one.with_new_groups(dict.fromkeys("amb", "test"))
    assert merge_linked_groups(groups, images, all_).tolist() == ["z"] * 5, (
        "the name is the same once the new groups have a split"
    )
    two = SplitTable().with_new_groups({"z": "test", "a": "train"})
    assert merge_linked_groups(groups, images, two).tolist() == ["z", "a", "a", "a", "z"], (
        "no group that has a split is moved"
    )
    three = SplitTable().with_new_groups({"z": "test", "m": "test", "b": "train"})
    assert merge_linked_groups(groups, images, three).tolist() == ["m", "b", "m", "b", "m"], "one group per split"


def test_an_npz_with_false_shape_or_excessive_size_is_refused(
    listing: Callable[..., Listing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = b"\x93NUMPY\x01\x00"
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (400000, 40000, 400), }"
    text += b" " * (118 - len(text) - 1) + b"\n"
    with zipfile.ZipFile(tmp_path / "false_shape.npz", "w") as archive:
        archive.writestr("images.npy", header + len(text).to_bytes(2, "little") + text + b"0" * 100)
        archive.writestr("labels.npy", b"")
    with pytest.raises(UserError, match="npz (is damaged or too large for the memory|cannot be read)"):
        listing(tmp_path / "false_shape.npz")
    np.savez(tmp_path / "large.npz", images=np.zeros((9, 8, 8), np.uint8), labels=np.arange(9), other=np.zeros(9))
    monkeypatch.setattr(sys.modules["stages.importers.arrays"], "MAX_UNPACKED_BYTES", 500)
    with pytest.raises(UserError, match="npz unpacks to"):
        listing(tmp_path / "large.npz")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_npz_is_read_or_refused_without_other_errors(
    listing: Callable[..., Listing], tmp_path: Path, compression: int
) -> None:
    file, images, labels = tmp_path / "d.npz", io.BytesIO(), io.BytesIO()
    np.save(images, np.arange(160, dtype=np.uint8).reshape(10, 4, 4))
    np.save(labels, np.arange(10))
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("images.npy", images.getvalue())
        archive.writestr("labels.npy", labels.getvalue())
    whole, refused = file.read_bytes(), 0
    for offset in range(len(whole)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1
        file.write_bytes(damaged)
        try:
            listing(file)
        except UserError:
            refused += 1
    assert refused > len(whole) // 2
