"""What configure sees of images, what it makes of it, and that it says so."""

import errno
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from stages import ingest as ingesting
from stages.config.load import load
from stages.config.schema import Params
from stages.configuration import Choice, within_budget
from stages.configuration.filename_patterns import groupings, sequences
from stages.configuration.object_size import thickness
from stages.core.errors import UserError
from stages.runner.stage import call
from stages.training import epoch_timing
from tests.command_line import macula
from tests.conftest import png
from tests.toys import TOYS

Propose = Callable[..., Params]
SIDE = 24


@pytest.fixture
def propose(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Params, str]]:
    """Configure for a source, untimed: the params that come out, and what is said."""

    def run(source: Path, *words: str) -> tuple[Params, str]:
        macula("configure", str(source), "--replace", "--quick", *words)
        return load(workspace / "params.proposed.yaml"), capsys.readouterr().out

    return run


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Values by dotted key; what only one data set has is one value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        whole = not isinstance(value, dict) or f"{path}{key}" in (
            "ingest.mask_values",
            "gate.waive",
            "task.units",
            "tune.space",
        )
        found |= {f"{path}{key}": value} if whole else leaves(value, f"{path}{key}.")
    return found


def noise(number: int, side: int = SIDE) -> np.ndarray:
    return np.random.default_rng(number).integers(60, 250, (side, side), dtype=np.uint8)


def write(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def ingested(params: Params, workspace: Path) -> pd.DataFrame:
    paths = [Path(params.ingest.source), *(workspace / name for name in ("splits", "sealed", "ingested"))]
    call(ingesting.main, paths, {"ingest": params.ingest, "split": params.split})
    return pd.read_parquet(workspace / "ingested" / "manifest.parquet")


@pytest.mark.parametrize("name", TOYS)
def test_every_value_that_is_not_the_one_at_hand_has_its_reason(
    name: str, propose: Callable[..., tuple[Params, str]], params: Params, workspace: Path
) -> None:
    source = workspace / "toy"
    source.mkdir()
    TOYS[name].write(source, np.random.default_rng(0))
    proposed, said = propose(source)
    text = (workspace / "params.proposed.yaml").read_text()
    before, after = leaves(params.model_dump()), leaves(proposed.model_dump())
    changed = [key for key in after if after[key] != before.get(key)]
    assert len(changed) > 3
    for key in changed:
        found = re.search(rf"^  {re.escape(key)}: .*\n      (.+)$", said, re.MULTILINE)
        assert found, f"{key} is {after[key]!r} without a word"
        assert f"# {found[1]}" in text, key


def test_two_eyes_of_a_patient_stay_together(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    files = {
        f"{'ill' if (number + side) % 3 else 'well'}/p{number:02}_{'LR'[side]}.png": png(noise(2 * number + side))
        for number in range(40)
        for side in (0, 1)
    }
    proposed, said = propose(write(workspace / "eyes", files))
    assert "80 images into 40 groups, and 2 endings recur" in said
    rows = ingested(proposed, workspace)
    groups = rows["path"].str.extract(r"/(p\d+)")[0]
    assert (rows.groupby(groups.to_numpy())["split"].nunique() == 1).all() and rows["group"].nunique() < len(rows)


@pytest.mark.parametrize(
    ("paths", "together"),
    [
        ([f"a/patient{n // 4}_{n % 4}.png" for n in range(40)], 10),
        ([f"scan_{n // 3:03}-{'xyz'[n % 3]}.png" for n in range(60)], 20),
        ([f"{n}-{n}_GTEX-{'ABCD'[n % 4]}{n // 8}_Fat.png" for n in range(60)], 32),
        ([f"clips/v{n // 10}/f{n % 10}.png" for n in range(80)], 8),
        ([f"{n:04}.png" for n in range(60)], None),
        ([f"BloodImage_{n:05}.jpg" for n in range(60)], None),
        ([f"{kind}/{kind}_{n}.png" for n in range(12) for kind in "abcdef"], None),
        ([f"train/x/{n:08x}-{7 * n:04x}.png" for n in range(60)], None),
    ],
)
def test_names_put_images_together_or_do_not(paths: list[str], together: int | None) -> None:
    labels = [path.split("/")[0] if path[0] in "abcdef" and path[1] == "/" else "" for path in paths]
    found = list(groupings(paths, labels))
    assert (len(set(found[0].keys)) if found else None) == together


def drifting(count: int, step: float) -> list[bytes]:
    """Pictures each of which keeps a part of the one before."""
    rng, image, files = np.random.default_rng(0), np.random.default_rng(1).normal(size=(SIDE, SIDE)), []
    for _ in range(count):
        image = (1 - step) ** 0.5 * image + step**0.5 * rng.normal(size=image.shape)
        files.append(png((128 + 40 * image).clip(0, 255).astype(np.uint8)))
    return files


def masked(images: list[bytes], name: str = "{:03}.png") -> Mapping[str, bytes | str]:
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[4:20, 6:12] = 255
    return {f"images/{name.format(n)}": image for n, image in enumerate(images)} | {
        f"masks/{name.format(n)}": png(mask) for n, _ in enumerate(images)
    }


def test_slices_that_follow_each_other_stay_together(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    proposed, said = propose(write(workspace / "stack", masked(drifting(60, 0.3))))
    assert 2 <= proposed.ingest.sequence_block <= 6 and "of neighbours 59 pairs correlate at 0." in said
    assert ingested(proposed, workspace)["group"].nunique() <= 60 / proposed.ingest.sequence_block


def test_numbers_alone_make_no_block_and_what_was_seen_is_asked(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    proposed, said = propose(write(workspace / "stack", masked([png(noise(n)) for n in range(60)])))
    assert proposed.ingest.sequence_block == 1 and "no block is proposed" in said


def test_images_in_the_order_of_their_classes_make_no_block(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    images = {f"i/{n:03}.png": png(np.clip(noise(n) // 4 + 60 * (n // 20), 0, 255).astype(np.uint8)) for n in range(60)}
    table = "\n".join(["path,label", *(f"i/{n:03}.png,{'abc'[n // 20]}" for n in range(60))])
    proposed, _ = propose(write(workspace / "ordered", images | {"t.csv": table}))
    assert proposed.ingest.format == "table" and proposed.ingest.sequence_block == 1


def test_a_split_of_the_sources_own_is_kept_and_questioned(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    frames = drifting(90, 0.5)
    files: dict[str, bytes | str] = {}
    for part, some in (("train", frames[:60]), ("val", frames[60:75]), ("test", frames[75:])):
        for n, frame in enumerate(some):
            files[f"{part}/{'ab'[2 * n // len(some)]}/{n:03}.png"] = frame
    proposed, said = propose(write(workspace / "own", files))
    assert proposed.split.by == "source" and proposed.ingest.sequence_block == 1
    assert "does the source's own split keep neighbours together?" in said
    assert "60 train" in said


def test_the_finest_column_that_puts_rows_together_is_the_group(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    lines = ["path,label,hospital,subject,scan_id"]
    lines += [f"{n}.png,{'ab'[n % 2]},h{n % 5},s{n // 3},{n}" for n in range(60)]
    files = {f"{n}.png": png(noise(n)) for n in range(60)}
    proposed, said = propose(write(workspace / "scans", files | {"t.csv": "\n".join(lines)}))
    assert proposed.ingest.columns.group == "subject"
    assert "20 values in 60 rows" in said and "hospital has 5, for a model that is to serve new ones" in said


def test_rare_classes_lower_the_checks_as_far_as_ingest_divides_them(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    files = {f"{kind}/{n}.png": png(noise(100 * i + n)) for i, (kind, count) in enumerate((("many", 60), ("few", 8)))
             for n in range(count)}  # fmt: skip
    proposed, said = propose(write(workspace / "uneven", files))
    counts = ingested(proposed, workspace).groupby(["split", "label"]).size()
    assert proposed.checks.min_train_per_class == counts["train", "few"]
    assert proposed.checks.min_validation_per_class == min(3, counts["val", "few"])
    assert proposed.train.class_weights == "balanced" and "are so few enough for you?" in said


def test_the_smallest_that_must_be_seen_is_said(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    stripes = np.zeros((400, 400), np.uint8)
    stripes[:, ::16] = stripes[:, 1::16] = 255
    assert thickness(stripes // 255) == pytest.approx(2, abs=0.5)
    files = {f"images/{n}.png": png(noise(n, 400)) for n in range(12)} | {
        f"masks/{n}.png": png(stripes) for n in range(12)
    }
    _, said = propose(write(workspace / "stripes", files))
    assert "the thickness of the thinnest class is 2 pixels, in tiles as in the image" in said


def test_what_stops_the_line_is_said_before_it_does(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    deep = [png(noise(n).astype(np.uint16) if n % 2 else noise(n)) for n in range(40)]
    _, said = propose(write(workspace / "deep", {f"{'ab'[n // 20]}/{n}.png": image for n, image in enumerate(deep)}))
    assert "prepare: images of 8 and 16 bits" in said and "20 of 40 are nearly black" in said
    bad = {f"{'ab'[n % 2]}/{n}.png": b"no image" if n % 3 == 0 else png(noise(n)) for n in range(40)}
    proposed, said = propose(write(workspace / "bad", bad))
    assert "some 35% of the files will be refused" in said and proposed.ingest.max_rejected == 0.01
    _, said = propose(write(workspace / "two", {f"{c}/{n}.png": png(noise(n)) for n in range(2) for c in "ab"}))
    assert "4 images are too few" in said


def test_files_that_are_refused_are_borne_where_they_are_few_and_named(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    files: dict[str, bytes | str] = {f"{'ab'[n % 2]}/{n}.png": png(noise(n)) for n in range(60)}
    proposed, said = propose(
        write(workspace / "s", files | {"a/3.png": b"no image", "labels.csv": "file,age\nx.jpg,3"})
    )
    assert 0.03 <= proposed.ingest.max_rejected <= 0.2 and "as labels.csv: not in a class folder" in said
    assert (
        "labels.csv: no column contains paths of the images; the columns are file, age, the first row x.jpg, 3" in said
    )
    assert len(ingested(proposed, workspace)) > 30


def test_a_failed_write_leaves_what_was_there(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(workspace / "s", {f"{'ab'[n % 2]}/{n}.png": png(noise(n)) for n in range(20)})
    (workspace / "old.yaml").write_text("old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="old.yaml cannot be written: No space left"):
        macula("configure", str(source), "--quick", "--replace", "--output", "old.yaml")
    assert (workspace / "old.yaml").read_text() == "old" and not list(workspace.glob("*.part"))


def test_epochs_are_as_many_as_there_is_time_for() -> None:
    wanted = Choice("train.epochs", 40, "some 600 steps")
    assert within_budget(wanted, 2.0, "it took 1 s", 15).value == 40
    less = within_budget(wanted, 60.0, "it took 1 s", 15)
    assert less.value == 15 and "40 would be better and take 40 minutes" in less.why
    assert within_budget(wanted, 6000.0, "it took 1 s", 15).value == 1


@pytest.mark.parametrize(("name", "again"), [("classification", True), ("regression", False), ("segmentation", False)])
def test_training_is_timed_as_it_is_proposed(
    name: str, again: bool, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_timing, "MIN_SECONDS", 1000.0 if again else 0.0)
    monkeypatch.setattr(epoch_timing, "MAX_BATCHES", 2)
    source = workspace / "toy"
    source.mkdir()
    TOYS[name].write(source, np.random.default_rng(0))
    macula("configure", str(source), "--minutes", "0.01")
    said = capsys.readouterr().out
    measured = r"\d+ working images in batches of \d+, with \d+ validation images, took [\d.e+-]+ s"
    assert re.search(r"about .+ for \d+ epochs: " + measured, said)
    assert load(workspace / "params.proposed.yaml").train.epochs < 60, "there was no time for more"


def test_a_folder_without_files_and_a_file_are_told_apart(workspace: Path) -> None:
    (workspace / "empty").mkdir()
    with pytest.raises(UserError, match="empty holds no files"):
        macula("configure", "empty")
    with pytest.raises(UserError, match="params.yaml is not a folder, archive or npz"):
        macula("configure", "params.yaml")
    write(workspace / "flat", {f"{n}.png": png(noise(n)) for n in range(5)} | {"a.txt": "no"})
    with pytest.raises(UserError, match="no labelled images in a form that is known, of 5 images and 1 other files"):
        macula("configure", "flat")


def test_numbered_images_are_in_the_order_of_their_numbers() -> None:
    assert sequences(["a10.png", "a9.png", "b1.png"]) == [[(9, 1), (10, 0)], [(1, 2)]]
    assert sequences(["a10.png", "cover.png"]) == []


def test_frames_of_a_film_stay_together(propose: Callable[..., tuple[Params, str]], reference_data: Path) -> None:
    proposed, said = propose(reference_data / "mouse_joints.zip", "--inside", "mouse_joints/openfield")
    assert proposed.ingest.sequence_block == 6 and "which fades after" in said
