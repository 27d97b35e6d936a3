"""Inspection of images by configure, and the values and reasons it proposes."""

import errno
import io
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import ingest as ingest_stage
from stages.config.load import default_params, load, value_of
from stages.config.schema import Params
from stages.configuration import Choice, group_similarity, grouping, inspection, limit_epochs
from stages.configuration.class_names import find_similar_names
from stages.configuration.filename_patterns import find_groupings, find_sequences
from stages.configuration.grouping import detect_grouping
from stages.configuration.object_size import mask_thickness
from stages.configuration.orientation import covered_sectors
from stages.configuration.proposal import explained
from stages.configuration.summary import group_failures, list_rivals
from stages.core.errors import UserError
from stages.dataset.annotations import Annotation
from stages.images.decode import DecodedImage, decode_image
from stages.importers.format_candidate import FormatCandidate
from stages.importers.sample import Sample, fixed_annotation
from stages.runner.stage import call
from stages.training import epoch_timing
from stages.training.epoch_timing import EpochEstimate
from tests.command_line import macula
from tests.conftest import png
from tests.toys import TOYS

Propose = Callable[..., Params]
SIDE = 24


@pytest.fixture
def propose(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[Params, str]]:
    """Run configure without timing; return the proposed params and the output text."""

    def run(source: Path, *options: str) -> tuple[Params, str]:
        macula("configure", str(source), "--replace", "--quick", *options)
        return load(workspace / "params.proposed.yaml"), capsys.readouterr().out

    return run


def leaves(values: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return values by dotted key; mappings specific to a data set are one value."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        is_leaf = not isinstance(value, dict) or f"{path}{key}" in (
            "ingest.mask_values",
            "gate.waive",
            "task.units",
            "augment.amounts",
            "tune.space",
        )
        found |= {f"{path}{key}": value} if is_leaf else leaves(value, f"{path}{key}.")
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
    call(ingest_stage.main, paths, {"ingest": params.ingest, "split": params.split})
    return pd.read_parquet(workspace / "ingested" / "manifest.parquet")


@pytest.mark.parametrize("name", TOYS)
def test_changed_values_have_reasons(
    name: str, propose: Callable[..., tuple[Params, str]], params: Params, workspace: Path
) -> None:
    source = workspace / "toy"
    source.mkdir()
    TOYS[name].write(source, np.random.default_rng(0))
    proposed, output = propose(source)
    text = (workspace / "params.proposed.yaml").read_text()
    before, after = leaves(params.model_dump()), leaves(proposed.model_dump())
    changed = [key for key in after if after[key] != before.get(key)]
    assert len(changed) > 3
    for key in changed:
        found = re.search(rf"^  {re.escape(key)}: .*\n      (.+)$", output, re.MULTILINE)
        assert found, f"{key} is {after[key]!r} without a reason"
        assert f"# {found[1]}" in text, key


def figures(angles: np.ndarray, noise: float = 0.2, points: int = 4) -> list[Annotation]:
    rng = np.random.default_rng(0)
    shape = np.array([0, 1, 2 + 0.5j, 3 - 0.3j])[:points]
    turned = [5 * shape * np.exp(1j * angle) + rng.normal(0, noise, (2, points)).T @ [1, 1j] for angle in angles]
    return [Annotation(points={f"p{i}": (50 + xy.real, 50 + xy.imag) for i, xy in enumerate(one)}) for one in turned]


@pytest.mark.parametrize(
    ("annotations", "covered"),
    [
        (figures(np.linspace(0, 6.28, 48)), 8),
        (figures(np.random.default_rng(1).normal(1, 0.1, 48)), range(1, 3)),
        (figures(np.repeat([1.0, 1.0 + np.pi], 24)), range(2, 5)),
        (figures(np.linspace(0, 6.28, 48), noise=100), None),  # no common shape
        (figures(np.linspace(0, 6.28, 8)), None),  # too few
        (figures(np.linspace(0, 6.28, 48), points=1), None),
        ([Annotation(labels=("a",))] * 48, None),
    ],
)
def test_directions_of_figures_are_measured_from_their_points(annotations: list[Annotation], covered: Any) -> None:
    found = covered_sectors(annotations)
    assert found == covered if not isinstance(covered, range) else found in covered


@pytest.mark.parametrize(
    ("step", "amounts", "asked"), [(0.2, {"rotation": 180}, False), (0.0, {}, False), (0.08, {}, True)]
)
def test_rotation_is_proposed_or_asked_by_the_directions_of_the_points(
    step: float, amounts: dict[str, float], asked: bool, propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    lines, files = ["path,nose_x,nose_y,tail_x,tail_y"], {}
    for number in range(32):
        x, y = np.cos(step * number), np.sin(step * number)
        files[f"{number}.png"] = png(noise(number))
        lines.append(f"{number}.png,{12 + 6 * x:.2f},{12 + 6 * y:.2f},{12 - 6 * x:.2f},{12 - 6 * y:.2f}")
    proposed, output = propose(write(workspace / "mice", {**files, "points.csv": "\n".join(lines)}))
    assert proposed.augment.amounts == amounts
    assert ("can the objects lie in every direction" in output) == asked


def test_images_of_a_patient_are_grouped(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    files = {
        f"{'ill' if (number + side) % 3 else 'well'}/p{number:02}_{'LR'[side]}.png": png(noise(2 * number + side))
        for number in range(40)
        for side in (0, 1)
    }
    proposed, output = propose(write(workspace / "eyes", files))
    assert "80 images into 40 groups, and 2 endings recur" in output
    rows = ingested(proposed, workspace)
    groups = rows["path"].str.extract(r"/(p\d+)")[0]
    assert (rows.groupby(groups.to_numpy())["split"].nunique() == 1).all() and rows["group"].nunique() < len(rows)


@pytest.mark.parametrize(
    ("paths", "groups"),
    [
        ([f"a/patient{n // 4}_{n % 4}.png" for n in range(40)], 10),
        ([f"scan_{n // 3:03}-{'xyz'[n % 3]}.png" for n in range(60)], 20),
        ([f"{n}-{n}_GTEX-{'ABCD'[n % 4]}{n // 8}_Fat.png" for n in range(60)], 32),
        ([f"clips/v{n // 10}/f{n % 10}.png" for n in range(80)], 8),
        ([f"{'xyz'[n % 3]}_{n // 3:03}.png" for n in range(60)], 20),
        ([f"{n:04}.png" for n in range(60)], None),
        ([f"BloodImage_{n:05}.jpg" for n in range(60)], None),
        ([f"{kind}/{kind}_{n}.png" for n in range(12) for kind in "abcdef"], None),
        ([f"train/x/{n:08x}-{7 * n:04x}.png" for n in range(60)], None),
    ],
)
def test_groups_by_file_name(paths: list[str], groups: int | None) -> None:
    labels = [path.split("/")[0] if path[0] in "abcdef" and path[1] == "/" else "" for path in paths]
    found = [len(set(one.keys)) for one in find_groupings(paths, labels)]
    assert groups in found if groups else not found


def drifting(count: int, step: float) -> list[bytes]:
    """Return images that each keep part of the previous one."""
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


def test_consecutive_slices_are_grouped(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    proposed, output = propose(write(workspace / "stack", masked(drifting(60, 0.3))))
    assert 2 <= proposed.ingest.sequence_block <= 6 and "of consecutive images, 59 pairs correlate at 0." in output
    assert ingested(proposed, workspace)["group"].nunique() <= 60 / proposed.ingest.sequence_block


def test_frames_whose_counter_runs_across_class_folders_are_grouped(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    frames = {f"{'abc'[n % 3]}/frame_{n:04}.png": image for n, image in enumerate(drifting(90, 0.05))}
    proposed, output = propose(write(workspace / "hands", frames))
    assert proposed.ingest.format == "folders" and proposed.ingest.sequence_block > 3
    assert "90 images are numbered across folders from a/frame_0000.png to c/frame_0089.png" in output
    rows = ingested(proposed, workspace)
    block = rows["path"].str.extract(r"_(\d+)")[0].astype(int) // proposed.ingest.sequence_block
    assert (rows.groupby(block.to_numpy())["split"].nunique() == 1).all()


def test_numbered_unrelated_images_are_not_grouped(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    proposed, output = propose(write(workspace / "stack", masked([png(noise(n)) for n in range(60)])))
    assert proposed.ingest.sequence_block == 1 and "no block is proposed" in output


def test_images_sorted_by_class_are_not_grouped(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    images = {f"i/{n:03}.png": png(np.clip(noise(n) // 4 + 60 * (n // 20), 0, 255).astype(np.uint8)) for n in range(60)}
    table = "\n".join(["path,label", *(f"i/{n:03}.png,{'abc'[n // 20]}" for n in range(60))])
    proposed, _ = propose(write(workspace / "ordered", images | {"t.csv": table}))
    assert proposed.ingest.format == "table" and proposed.ingest.sequence_block == 1


def exposures(objects: int, copies: int) -> dict[tuple[int, int], bytes]:
    """Return noisy images of each object under different light, by object and copy."""
    images = {}
    for number in range(objects):
        shape = noise(number).astype(float) - 155
        for copy in range(copies):
            other = noise(1000 + 100 * number + copy).astype(float) - 155
            view = 120 + 6 * copy + (0.6 + 0.08 * copy) * shape + 0.4 * other
            images[number, copy] = png(np.clip(view, 0, 255).astype(np.uint8))
    return images


def test_copies_with_a_common_number_are_grouped(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    files = {f"{'ab'[n % 2]}/s{copy}_k{n:04}.png": image for (n, copy), image in exposures(16, 5).items()}
    proposed, output = propose(write(workspace / "lamps", files))
    groups = ingested(proposed, workspace).groupby("group")["path"].agg(lambda p: p.str.extract(r"k(\d+)")[0].nunique())
    assert (groups == 1).all() and "do not keep them together" not in output and "no names explain" not in output


def test_split_of_the_source_is_used_with_a_question(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    frames = drifting(90, 0.5)
    files: dict[str, bytes | str] = {}
    for part, some in (("train", frames[:60]), ("val", frames[60:75]), ("test", frames[75:])):
        for n, frame in enumerate(some):
            files[f"{part}/{'ab'[2 * n // len(some)]}/{n:03}.png"] = frame
    proposed, output = propose(write(workspace / "own", files))
    assert proposed.split.by == "source" and proposed.ingest.sequence_block == 1
    assert "does the split of the source keep consecutive images together?" in output
    assert "60 train" in output


@pytest.mark.parametrize(("classes", "drift"), [(2, 0), (7, 0), (2, 12)])
def test_numbered_images_of_alternating_classes_are_compared_within_a_class(classes: int, drift: int) -> None:
    """Test noise images, and with `drift` images in which a bright spot moves a little from one to the next."""
    images = [np.random.default_rng(number).integers(0, 9, (SIDE, SIDE), dtype=np.uint8) for number in range(42)]
    for number, image in enumerate(images):
        if drift:
            image[:, number // 2 : number // 2 + 3] += 200
    items = [
        Sample(f"{number:03d}.png", fixed_annotation(Annotation()), None, None, partial(png, image))
        for number, image in enumerate(images)
    ]
    found = detect_grouping(items, [str(number % classes) for number in range(42)], {}, has_split=False)
    text = " ".join((found.why, *found.asks))
    assert f"of images of one class at a distance of {classes}, " in text
    assert (found.block > 1) == bool(drift), text


def test_finest_grouping_column_is_chosen(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    lines = ["path,label,hospital,subject,scan_id"]
    lines += [f"{n}.png,{'ab'[n % 2]},h{n % 5},s{n // 3},{n}" for n in range(60)]
    files = {f"{n}.png": png(noise(n)) for n in range(60)}
    proposed, output = propose(write(workspace / "scans", files | {"t.csv": "\n".join(lines)}))
    assert proposed.ingest.columns.group == "subject"
    assert (
        "20 values in 60 rows" in output
        and "hospital has 5 values; choose it if the model must generalize to new ones" in output
    )


GUARDS = {
    "ingest": ("max_rejected", "max_megapixels"),
    "checks": ("min_classes", "min_train_per_class", "min_validation_per_class", "min_side", "max_aspect", "max_blank"),
}


def guards(params: Params) -> dict[str, Any]:
    return {name: getattr(getattr(params, section), name) for section, names in GUARDS.items() for name in names}


def uneven(small: int) -> dict[str, bytes | str]:
    return {f"{kind}/{n}.png": png(noise(100 * i + n)) for i, (kind, count) in enumerate((("many", 60), ("few", small)))
            for n in range(count)}  # fmt: skip


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        (uneven(8), ["min_train_per_class: 4", "min_validation_per_class: 2"]),
        (uneven(20) | {f"many/{n}.png": b"not an image" for n in range(6)}, ["max_rejected: 0.16"]),
        (uneven(20) | {"many/0.png": png(noise(7)[:, :5])}, ["min_side: 5"]),
        (uneven(20) | {"many/0.png": png(np.tile(noise(7)[:9], (1, 5)))}, ["max_aspect: 14"]),
        (uneven(20) | {"many/0.png": png(np.full((SIDE, SIDE), 90, np.uint8))}, ["max_blank: 0.02"]),
    ],
)
def test_guards_are_not_changed_but_listed_with_the_line_to_change(
    files: dict[str, bytes | str],
    lines: list[str],
    propose: Callable[..., tuple[Params, str]],
    params: Params,
    workspace: Path,
) -> None:
    proposed, output = propose(write(workspace / "uneven", files))
    assert guards(proposed) == guards(params)
    stops = output.split("Will stop the pipeline")[1].split("Questions")[0]
    assert re.findall(r"by the line `(.*?)` in section", stops) == lines


def test_guards_of_the_params_file_are_kept(
    propose: Callable[..., tuple[Params, str]], params: Params, workspace: Path
) -> None:
    (workspace / "params.yaml").write_text((workspace / "params.yaml").read_text() + "\nchecks: {max_aspect: 30}\n")
    proposed, output = propose(write(workspace / "uneven", uneven(20) | {"many/0.png": png(noise(7)[:, :1])}))
    assert guards(proposed) == guards(params) | {"max_aspect": 30}
    assert "below checks.min_side 8" in output and "above checks.max_aspect" not in output


def test_expected_images_of_a_rare_class_are_those_of_ingest(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    proposed, output = propose(write(workspace / "uneven", uneven(8)))
    counts = ingested(proposed, workspace).groupby(["split", "label"]).size()
    assert f"(checks.min_train_per_class): few (about {counts['train', 'few']});" in output
    assert proposed.train.class_weights == "balanced"


def test_tiny_classes_and_similar_names_are_questions(
    propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    sizes = {"healthy": 30, "helthy": 2, "rust": 30, "grade II": 30, "grade III": 30, "class1": 30, "class2": 30}
    files: dict[str, bytes | str] = {
        f"{name}/{n}.png": png(noise(100 * i + n)) for i, (name, size) in enumerate(sizes.items()) for n in range(size)
    }
    _, output = propose(write(workspace / "names", files))
    assert re.findall(r"classes: (.*)", output)[1:] == [
        "helthy (2 images): is this class a mistake or a remainder? Half of the classes have at least 30",
        "healthy (30) and helthy (2) have nearly the same name: is one a misspelling of the other? If so, merge them",
    ]


@pytest.mark.parametrize(
    ("one", "other", "similar"),
    [
        ("healthy", "heathly", False),
        ("healthy", "haelthy", True),
        ("dog", "dogs", True),
        ("red_fox", "RedFox", True),
        ("grey", "gray", True),
        ("grade a", "grade b", False),
        ("plate 1", "plate 12", False),
        ("stage II", "stage III", False),
        ("benign", "malignant", False),
    ],
)
def test_similar_class_names(one: str, other: str, similar: bool) -> None:
    assert bool(find_similar_names([one, other, "quartz"])) == similar


def test_smallest_structure_is_reported(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    stripes = np.zeros((400, 400), np.uint8)
    stripes[:, ::16] = stripes[:, 1::16] = 255
    assert mask_thickness(stripes // 255) == pytest.approx(2, abs=0.5)
    files = {f"images/{n}.png": png(noise(n, 400)) for n in range(12)} | {
        f"masks/{n}.png": png(stripes) for n in range(12)
    }
    _, output = propose(write(workspace / "stripes", files))
    assert "the thickness of the thinnest class is 2 pixels, unchanged in tiles" in output


def test_blockers_are_reported(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    deep = [png(noise(n).astype(np.uint16) if n % 2 else noise(n)) for n in range(40)]
    _, output = propose(write(workspace / "deep", {f"{'ab'[n // 20]}/{n}.png": image for n, image in enumerate(deep)}))
    assert (
        "different depths (8 and 16 bits per value)" in output and "20 of 40 opened images are nearly black" in output
    )
    bad = {f"{'ab'[n % 2]}/{n}.png": b"not an image" if n % 3 == 0 else png(noise(n)) for n in range(40)}
    proposed, output = propose(write(workspace / "bad", bad))
    assert "about 35.0% of the files will be rejected" in output and "suggest another format" in output
    assert proposed.ingest.max_rejected == 0.01
    _, output = propose(write(workspace / "two", {f"{c}/{n}.png": png(noise(n)) for n in range(2) for c in "ab"}))
    assert "4 images are too few" in output


def test_a_table_without_paths_of_images_is_listed(propose: Callable[..., tuple[Params, str]], workspace: Path) -> None:
    files: dict[str, bytes | str] = {f"{'ab'[n % 2]}/{n}.png": png(noise(n)) for n in range(60)}
    _, output = propose(write(workspace / "s", files | {"labels.csv": "file,age\nx.jpg,3"}))
    assert (
        "labels.csv: no column contains paths of the images in at least half of its rows; the columns are file, "
        "age, and the first row is x.jpg, 3" in output
    )


def test_failed_write_keeps_existing_file(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(workspace / "s", {f"{'ab'[n % 2]}/{n}.png": png(noise(n)) for n in range(20)})
    (workspace / "old.yaml").write_text("old")

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="old.yaml cannot be written: No space left"):
        macula("configure", str(source), "--quick", "--replace", "--output", "old.yaml")
    assert (workspace / "old.yaml").read_text() == "old" and not list(workspace.glob("*.part"))


def test_epochs_fit_the_time_budget() -> None:
    choice = Choice("train.epochs", 40, "some 600 steps")
    assert limit_epochs(choice, 2.0, "it took 1 s", 15).value == 40
    limited = limit_epochs(choice, 60.0, "it took 1 s", 15)
    assert limited.value == 15 and "40 epochs would be better but take 40 minutes" in limited.why
    few = limit_epochs(choice, 6000.0, "it took 1 s", 15)
    assert few.value == 10 and "the time budget does not suffice: --minutes allows 15" in few.why
    assert limit_epochs(Choice("train.epochs", 4, ""), 6000.0, "it took 1 s", 15).value == 4


@pytest.mark.parametrize(("side", "proposed"), [(28, 32), (60, 56), (100, 96), (128, 128), (300, 128)])
def test_the_working_size_does_not_enlarge_the_images(
    side: int, proposed: int, propose: Callable[..., tuple[Params, str]], workspace: Path
) -> None:
    files = {f"{'ab'[n % 2]}/{n}.png": png(noise(n, side)) for n in range(12)}
    assert propose(write(workspace / "s", files))[0].prepare.size == proposed


@pytest.mark.parametrize(("minutes", "size"), [(15.0, 128), (4.0, 64), (0.001, 32)])
def test_a_smaller_size_is_proposed_where_too_few_epochs_fit(
    minutes: float, size: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def estimate(samples: Any, annotations: Any, params: Any, training: float, validation: float) -> EpochEstimate:
        return EpochEstimate(60.0 * (params.prepare.size / 128) ** 2, "an epoch was measured")

    monkeypatch.setattr(epoch_timing, "estimate_epoch", estimate)
    source = write(workspace / "s", {f"{'ab'[n % 2]}/{n}.png": png(noise(n, 128)) for n in range(12)})
    macula("configure", str(source), "--minutes", str(minutes))
    proposed = load(workspace / "params.proposed.yaml")
    assert proposed.prepare.size == size and proposed.train.epochs >= 10


@pytest.mark.parametrize(
    ("name", "repeated"), [("classification", True), ("regression", False), ("segmentation", False)]
)
def test_proposed_training_is_timed(
    name: str, repeated: bool, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_timing, "MIN_SECONDS", 1000.0 if repeated else 0.0)
    monkeypatch.setattr(epoch_timing, "MAX_BATCHES", 2)
    source = workspace / "toy"
    source.mkdir()
    TOYS[name].write(source, np.random.default_rng(0))
    macula("configure", str(source), "--minutes", "0.01")
    output = capsys.readouterr().out
    measured = r"[\d,]+ working images? in batches of [\d,]+, with [\d,]+ validation images?, took [\d.e+-]+ s"
    assert re.search(r"about .+ for \d+ epochs?: " + measured, output)
    assert load(workspace / "params.proposed.yaml").train.epochs < 60, "the time budget limits the epochs"


@dataclass(frozen=True)
class Sized:
    size: int


@pytest.mark.parametrize(("size", "times"), [(256, 1), (512, 4), (1024, 16)])
def test_the_pixels_of_timed_batches_depend_neither_on_the_proposed_batch_size_nor_on_the_working_size(
    size: int, times: int, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def measure(samples: Any, spec: Sized, params: Params, run: Any) -> Any:
        assert spec.size == 256
        runs.append(run)
        return epoch_timing._MeasuredEpoch(1.0, 1.0, run.images, 1, "cuda")

    monkeypatch.setattr(epoch_timing, "_spec", lambda *arguments: Sized(size))
    monkeypatch.setattr(epoch_timing, "_measure", measure)
    large = params.model_copy(update={"train": params.train.model_copy(update={"batch_size": 32})})
    estimate = epoch_timing.estimate_epoch([], [], large, training=320, validation=64)
    assert {run.batch_size for run in runs} == {2} and estimate.seconds == times * 320 / runs[-1].images


def test_empty_folder_and_file_give_different_errors(workspace: Path) -> None:
    (workspace / "empty").mkdir()
    with pytest.raises(UserError, match="empty contains no files"):
        macula("configure", "empty")
    with pytest.raises(UserError, match="params.yaml is not a folder, archive or npz"):
        macula("configure", "params.yaml")
    write(workspace / "flat", {f"{n}.png": png(noise(n)) for n in range(5)} | {"a.txt": "no"})
    with pytest.raises(UserError, match="no labelled images in a known format, among 5 images and 1 other file"):
        macula("configure", "flat")


def test_numbered_images_are_sorted_numerically() -> None:
    assert find_sequences(["a10.png", "a9.png", "b1.png"]) == [[(9, 1), (10, 0)], [(1, 2)]]
    assert find_sequences(["a10.png", "cover.png"]) == []


def test_video_frames_are_grouped(propose: Callable[..., tuple[Params, str]], reference_data: Path) -> None:
    proposed, output = propose(reference_data / "mouse_joints.zip", "--inside", "mouse_joints/openfield")
    assert proposed.ingest.sequence_block == 6 and "images at a distance of" in output


def test_large_images_are_opened_up_to_a_limit_of_megapixels(
    tmp_path: Path, propose: Callable[..., tuple[Params, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "MOST_MEGAPIXELS", 0.1)
    monkeypatch.setattr(grouping, "MEGAPIXELS", 0.1)
    monkeypatch.setattr(grouping, "MEGAPIXELS_OF_LOOK_ALIKES", 0.1)
    opened = []

    def counted(data: bytes, *arguments: Any, **options: Any) -> DecodedImage:
        opened.append(data)
        return decode_image(data, *arguments, **options)

    monkeypatch.setattr(group_similarity, "decode_image", counted)
    files = {f"{'ab'[i % 2]}/photo{i:02}.png": png(noise(i, 200)) for i in range(40)}
    propose(write(tmp_path / "photos", files))
    assert inspection.FEWEST <= len(opened) <= inspection.FEWEST + 3 * 3  # 0.04 megapixels each, 3 limits


def test_a_photo_is_decoded_at_a_reduced_scale_for_its_statistics() -> None:
    image = Image.fromarray(noise(0, 64)).resize((1600, 1200)).convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0")
    decoded = group_similarity.decode_for_signature(buffer.getvalue(), 100)
    assert decoded.size == (1600, 1200) and decoded.image.shape[:2] == (800, 600)
    full = decode_image(buffer.getvalue())
    assert full.size == full.image.shape[:2] == (1600, 1200)
    one, other = (group_similarity.compute_signature(image, buffer.getvalue()) for image in (decoded, full))
    assert np.abs(one.thumbnail - other.thumbnail).max() < 4 and np.abs(one.tone - other.tone).max() < 4
    assert one.pixels != other.pixels and one.megapixels < other.megapixels


@pytest.mark.parametrize("count", [200, 800])
def test_the_number_of_compared_pairs_depends_on_the_opened_images_only(count: int) -> None:
    labels = CountedLabels([""] * count)
    signature = group_similarity.ImageSignature(np.arange(1024, dtype=np.float32), np.zeros(6), "", 1)
    known = dict.fromkeys(range(0, count, count // 40), signature)
    list(grouping._similarity_by_lag(range(count), labels, known))
    assert labels.read < 5 * 40**2


class CountedLabels(list[str]):
    """A list that counts how often an item is read."""

    read = 0

    def __getitem__(self, place: Any) -> Any:
        self.read += 1
        return super().__getitem__(place)


def test_a_value_that_replaces_a_default_is_not_said_to_belong_to_other_data(workspace: Path) -> None:
    params = load(workspace / "params.yaml")
    changed = params.model_copy(update={"train": params.train.model_copy(update={"epochs": 77})})
    choice = Choice("train.epochs", 5, "")
    default = value_of(default_params(), "train.epochs")
    own = params.model_copy(update={"train": params.train.model_copy(update={"epochs": default})})
    assert explained(choice, own).why == f"replaces the default {default}"
    assert explained(choice, changed).why == "replaces the previous value 77, which belongs to other data"


def test_a_reason_of_several_folders_is_stated_once_with_the_folders() -> None:
    failures = [f"voc in {letter}: no file" for letter in "abcde"] + ["coco in the source: no file", "a note: x in y"]
    assert group_failures([*failures, failures[0]]) == [
        "voc in a, b, c and 2 more: no file",
        "coco in the source: no file",
        "a note: x in y",
    ]


def test_the_proposal_itself_is_not_an_alternative() -> None:
    chosen, other = (FormatCandidate(name, "a", reason="r") for name in ("folders", "table"))
    same, wider = FormatCandidate("folders", "a", reason="other targets"), FormatCandidate("folders", "", reason="r")
    assert [line.partition(":")[0] for line in list_rivals(chosen, [same, other, wider])] == [
        "--inside a --format table",
        "--inside . --format folders",
    ]
