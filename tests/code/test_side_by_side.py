"""Several images of one object or place side by side: pairs, views, channels, dates, copies and thumbnails."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from stages.config.load import load
from stages.config.schema import Params
from stages.importers import open_source
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.pair_evidence import measure_likeness
from tests.command_line import macula
from tests.conftest import png

Files = dict[str, bytes | str]
Image = np.ndarray
SIDE, COUNT = 32, 10
CLASSES = ("ripe", "unripe")


def scene(seed: int) -> Image:
    """Return a smooth colour image with random content, 0 to 255."""
    content = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(SIDE, SIDE, 3)), (3, 3, 0))
    return np.asarray(128 + 90 * content / np.abs(content).max())


def stored(image: Image, noise: float = 3.0) -> bytes:
    noisy = image + np.random.default_rng(int(image.sum()) % 1000).normal(0, noise, image.shape)
    return png(noisy.clip(0, 255).astype(np.uint8))


def mask(seed: int, values: int = 2) -> Image:
    levels = ndimage.gaussian_filter(np.random.default_rng(seed + 500).normal(size=(SIDE, SIDE)), 4)
    return np.digitize(levels, np.quantile(levels, np.linspace(0.4, 0.9, values - 1))).astype(np.uint8)


def moved(image: Image) -> Image:
    return np.roll(image, 2, axis=1)


def changed(image: Image) -> Image:
    place = int(image[0, 0, 0]) % 16
    return np.where((np.arange(SIDE) // 6 == place // 6)[:, None, None], 200.0, image)


def smaller(image: Image) -> Image:
    return np.asarray(image.reshape(SIDE // 2, 2, SIDE // 2, 2, 3).mean(axis=(1, 3)))


def side_by_side(
    first: str, second: str, change: Callable[[Image], Image], noise: tuple[float, float] = (3, 3)
) -> Files:
    """Return two versions of each of some scenes; `{kind}` in the names is a class."""
    files: Files = {}
    for number in range(2 * COUNT):
        image, names = scene(number), {"n": f"{number:03}", "kind": CLASSES[number % 2]}
        files[first.format(**names)] = stored(image, noise[0])
        files[second.format(**names)] = stored(change(image), noise[1])
    return files


def detect(params: Params, files: Files) -> tuple[list[FormatCandidate], list[str]]:
    contents = {path: data.encode() if isinstance(data, str) else data for path, data in files.items()}
    return find_formats({path: partial(bytes, data) for path, data in contents.items()}, params.ingest)


@pytest.mark.parametrize(
    ("first", "second", "change"),
    [
        ("{kind}/f{n}_lampA.png", "{kind}/f{n}_lampB.png", lambda image: 0.6 * image),
        ("{kind}/s_{n}_L.png", "{kind}/s_{n}_R.png", moved),
        ("{kind}/{n}_1.png", "{kind}/{n}_2.png", moved),
        ("{kind}/{n}_day.png", "{kind}/{n}_night.png", lambda image: 0.3 * image),
        ("{kind}/{n}-front.png", "{kind}/{n}-back.png", moved),
        ("{kind}/p{n}_field01.png", "{kind}/p{n}_field02.png", changed),
        ("{kind}/{n}_2019-05-01.png", "{kind}/{n}_2019-06-01.png", changed),
    ],
)
def test_several_images_of_an_object_in_class_folders_are_images_of_a_class(
    first: str, second: str, change: Callable[[Image], Image], params: Params
) -> None:
    found, _ = detect(params, side_by_side(first, second, change))
    assert [(one.format, len(one.samples)) for one in found] == [("folders", 4 * COUNT)]


@pytest.mark.parametrize(
    ("first", "second", "noise", "targets"),
    [
        ("noisy/{n}.png", "clean/{n}.png", (30, 1), "clean/{key}.png"),
        ("d/{n}_blur.png", "d/{n}_sharp.png", (1, 3), "{key}_sharp.png"),
        ("low/{n}.png", "high/{n}.png", (3, 3), "high/{key}.png"),
        ("{kind}/{n}_noisy.png", "{kind}/{n}_clean.png", (30, 1), "{folder}/{key}_clean.png"),
    ],
)
def test_words_for_input_and_target_denote_pairs(
    first: str, second: str, noise: tuple[float, float], targets: str, params: Params
) -> None:
    best = detect(params, side_by_side(first, second, lambda image: image, noise))[0][0]
    assert (best.format, best.changes["targets"], len(best.samples)) == ("pairs", targets, 2 * COUNT)
    assert not best.question


def test_named_inputs_and_targets_may_look_different(params: Params) -> None:
    best = detect(params, side_by_side("inputs/{n}.png", "targets/{n}.png", lambda image: 255 - image))[0][0]
    assert (best.format, best.changes["images"]) == ("pairs", "inputs/{key}.png")


def test_pages_in_a_folder_of_a_split_are_paired_with_clean_pages(params: Params) -> None:
    files: Files = {}
    for number in range(COUNT):
        page = np.full((SIDE, SIDE), 250.0)
        page[4:28:6, 3 : 10 + number] = 20  # a clean page has as few levels as a mask
        files |= {
            f"train/{number}.png": stored(page - 40, 15),
            f"train_cleaned/{number}.png": png(page.astype(np.uint8)),
        }
        files[f"test/t{number}.png"] = stored(page - 40, 15)
    best = detect(params, files)[0][0]
    assert (best.format, best.changes["targets"], len(best.samples)) == ("pairs", "train_cleaned/{key}.png", COUNT)


def test_a_measured_but_unnamed_relation_is_a_question_with_the_lines_to_change(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = side_by_side("a/{n}.png", "b/{n}.png", lambda image: image, (25, 1))
    for path, data in files.items():
        (workspace / "s" / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace / "s" / path).write_bytes(data if isinstance(data, bytes) else data.encode())
    macula("configure", str(workspace / "s"), "--quick")
    printed = capsys.readouterr().out
    assert load(workspace / "params.proposed.yaml").ingest.format == "pairs"
    assert printed.count("  ingest.format: a/000.png and b/000.png show the same scenes (correlation ") == 1
    assert "and the first consistently has more fine detail" in printed
    assert "set `format: pairs`, `images: a/{key}.png` and `targets: b/{key}.png`, or exchange" in printed


@pytest.mark.parametrize(
    ("first", "second", "change", "reason"),
    [
        ("p/{n}_dapi.png", "p/{n}_gfp.png", moved, "are named like channels of one image"),
        ("p/{n}_w1.png", "p/{n}_w2.png", lambda image: 255 - image, "are named like channels of one image"),
        ("pre/{n}.png", "post/{n}.png", changed, "before and after a change"),
        ("2018/{n}.png", "2021/{n}.png", changed, "are named like two times of one place"),
        ("o{n}_front.png", "o{n}_side.png", moved, "are named like views of one object"),
        ("LR/{n}.png", "HR/{n}.png", None, "both must have one size: enlarge the smaller ones"),
        ("t/x2/{n}x2.png", "t/full/{n}.png", None, "both must have one size: enlarge the smaller ones"),
    ],
)
def test_images_that_no_format_supports_are_refused_with_the_reason(
    first: str, second: str, change: Callable[[Image], Image] | None, reason: str, params: Params
) -> None:
    files = side_by_side(first, second, change or (lambda image: image))
    if change is None:
        names = {first.format(n=f"{number:03}"): smaller(scene(number)) for number in range(2 * COUNT)}
        files |= {path: stored(image) for path, image in names.items()}
    found, failures = detect(params, files)
    assert not found
    assert any(reason in failure for failure in failures[:5])


@pytest.mark.parametrize(("before", "after"), [("A", "B"), ("pre", "post"), ("2018", "2021"), ("t1", "t2")])
@pytest.mark.parametrize("splits", [("",), ("train/", "val/", "test/")])
def test_two_images_before_and_after_a_change_with_one_mask_are_refused(
    before: str, after: str, splits: tuple[str, ...], params: Params
) -> None:
    files: Files = {}
    for number in range(3 * COUNT):
        place, image = splits[number % len(splits)], scene(number)
        files |= {
            f"{place}{before}/{number}.png": stored(image),
            f"{place}{after}/{number}.png": stored(changed(image)),
        }
        files[f"{place}label/{number}.png"] = png(255 * mask(number))
    found, failures = detect(params, files)
    assert not found
    assert "has two images, as before and after a change: " in " ".join(failures[:2])
    assert f"{after}/" in " ".join(failures[:2])


def test_several_images_of_one_mask_are_a_question(params: Params) -> None:
    files: Files = {}
    for number in range(COUNT):
        files |= {f"train_{name}/{number}.png": stored(scene(number)[..., i]) for i, name in enumerate(("red", "nir"))}
        files[f"train_gt/{number}.png"] = png(255 * mask(number))
    best = detect(params, files)[0][0]
    assert best.format == "masks"
    assert "has 2 images: train_nir/0.png, train_red/0.png: which of them is the image" in best.question


@pytest.mark.parametrize("names", [("image_2", "image_3", "disp_noc_0"), ("left", "right", "depth")])
@pytest.mark.parametrize("few", [False, True])
def test_disparities_of_stereo_pairs_are_the_target(names: tuple[str, str, str], few: bool, params: Params) -> None:
    files: Files = {}
    for number in range(COUNT):
        left, right, target = (f"d/{name}/{number:06}_10.png" for name in names)
        levels = mask(number, 6).astype(int) if few else (200 * scene(number)[..., 0]).astype(int)
        known = np.random.default_rng(number).uniform(size=(SIDE, SIDE)) < 0.4
        files |= {left: stored(scene(number)), right: stored(moved(scene(number)))}
        files[target] = png(np.where(known, levels * (256 if few else 1), 0).astype(np.uint16))
    best = detect(params, files)[0][0]
    assert (best.format, best.changes["targets"]) == ("pairs", f"{names[2]}/{{key}}.png")
    assert f"has 2 images: d/{names[0]}/000000_10.png, d/{names[1]}/000000_10.png" in best.question


def test_coloured_masks_are_neither_pairs_nor_classes(params: Params) -> None:
    colours = np.array([[0, 255, 255], [255, 255, 0], [0, 0, 255]], np.uint8)
    files: Files = {}
    for number in range(COUNT):
        label = colours[mask(number, 3)]
        files |= {f"land/{number}_sat.png": stored(0.6 * label + 40, 12), f"land/{number}_mask.png": png(label)}
    found, failures = detect(params, files)
    assert not [one for one in found if one.format == "pairs"]
    assert found or any("few colours, as coloured masks of classes do" in failure for failure in failures)


def test_a_folder_per_patch_with_a_file_per_band_is_refused(params: Params) -> None:
    files: Files = {}
    for number in range(COUNT):
        for i, band in enumerate(("B02", "B03", "B04", "B8A")):
            files[f"s/patch_{number}_{3 * number}/{band}.png"] = stored(scene(number)[..., i % 3] + 5 * i)
        files[f"s/patch_{number}_{3 * number}/labels.json"] = '{"labels": ["forest"]}'
    found, failures = detect(params, files)
    assert not found
    assert "the labels may be in the file of each, such as s/patch_0_0/labels.json" in failures[0]
    assert "(B02.png, B03.png, B04.png, B8A.png), as the bands or channels of one image" in failures[0]


@pytest.mark.parametrize("table", [True, False])
def test_numbered_folders_of_few_images_are_labelled_by_a_table_of_them_or_asked(table: bool, params: Params) -> None:
    files: Files = {f"w/field_{n // 3:04}/{n:05}.png": stored(scene(n)) for n in range(10 * 3)}
    if table:
        files["fields.csv"] = "field,crop\n" + "".join(
            f"field_{n:04},{'maize' if n % 2 else 'rye'}\n" for n in range(10)
        )
    found, failures = detect(params, files)
    if table:
        assert [one.format for one in found] == ["table"]
        assert "fields.csv has a row for each in the column field" in failures[0]
    else:
        assert found[0].question.startswith("the 10 folders field_0000, field_0001, field_0002 and 7 more have about 3")


@pytest.mark.parametrize("numbers", [range(10), range(3)])
def test_folders_that_count_from_zero_are_classes(numbers: range, params: Params) -> None:
    files: Files = {f"{n}/{n}_{i}.png": stored(scene(10 * n + i)) for n in numbers for i in range(6)}
    best = detect(params, files)[0][0]
    assert best.format == "folders" and not best.question


def test_folders_of_the_first_characters_of_names_are_not_classes(params: Params) -> None:
    files: Files = {}
    for number in range(24):
        name = f"{7919 * (number + 1) % 2**16:04x}"
        files[f"images0/{name[0]}/{name[1]}/{name}.png"] = stored(scene(number))
    found, failures = detect(params, files)
    assert not found
    assert "are the first characters of file names, by which files are sorted, and not classes" in failures[0]


@pytest.mark.parametrize("line", ["{name} ok 7 word{n}", "images/{folder}/{name}.png {n}"])
def test_a_text_list_that_contradicts_the_folders_is_a_reason_to_refuse(line: str, params: Params) -> None:
    rows = [(f"w{n // 8}", f"w{n // 8}-{n:02}", n % 8) for n in range(24)]
    files: Files = {f"images/{folder}/{name}.png": stored(scene(i)) for i, (folder, name, _) in enumerate(rows)}
    files["labels.txt"] = "\n".join(line.format(folder=folder, name=name, n=n) for folder, name, n in rows)
    found, failures = detect(params, files)
    assert not found
    assert "labels.txt lists the images with labels or text (w0-00: " in failures[0]


@pytest.mark.parametrize("line", ["{folder}/{n}.png {folder}", "{folder}/{n}.png {index}", "{folder}/{n}.png"])
def test_a_text_list_that_agrees_with_the_folders_or_has_no_labels_changes_nothing(line: str, params: Params) -> None:
    rows = [(folder, f"{folder}{n}", index) for index, folder in enumerate(CLASSES) for n in range(COUNT)]
    files: Files = {f"{folder}/{n}.png": stored(scene(i)) for i, (folder, n, _) in enumerate(rows)}
    files["train.txt"] = "\n".join(line.format(folder=folder, n=n, index=index) for folder, n, index in rows)
    found, _ = detect(params, files)
    assert found[0].format == "folders" and not found[0].question


@pytest.mark.parametrize("copy", ["ripe - Copy", "ripe (1)", "ripe_copy"])
@pytest.mark.parametrize("part", [1, 3])
def test_copied_folders_are_left_out(copy: str, part: int, workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(4 * COUNT):
        kind = CLASSES[number % 2]
        names = [kind, copy] if kind == "ripe" and number % part == 0 else [kind]
        for name in names:
            (workspace / "s" / name).mkdir(parents=True, exist_ok=True)
            (workspace / "s" / name / f"{number:03}.png").write_bytes(stored(scene(number)))
    macula("configure", str(workspace / "s"), "--quick")
    proposed = load(workspace / "params.proposed.yaml").ingest
    assert proposed.files == (f"!{copy}/**",)
    assert "of those of the same names in ripe" in capsys.readouterr().out
    with open_source(workspace / "s", proposed, False) as (samples, refused):
        assert len(samples) == 4 * COUNT and {one.path.split("/")[0] for one in samples} == set(CLASSES)
        assert {one.is_unused for one in refused} == {True}


def test_a_folder_named_as_a_copy_with_other_files_is_a_question(params: Params) -> None:
    files: Files = {
        f"{kind}/{n}.png": stored(scene(len(kind) * 20 + n)) for kind in (*CLASSES, "ripe (1)") for n in range(9)
    }
    best = detect(params, files)[0][0]
    assert best.format == "folders"
    assert best.question.startswith("the folder ripe (1) is named as a copy of ripe, but has other files")


@pytest.mark.parametrize("name", ["thumbs/{n}_thumb.png", "thumbs/{n}.png", "{n}_small.png"])
def test_thumbnails_and_previews_are_left_out_and_documents_not_rejected(name: str, params: Params) -> None:
    files: Files = {"t/README.md": "", "t/LICENSE": "", "t/ripe/LICENSE": "", "t/preview.png": stored(scene(99))}
    for number in range(2 * COUNT):
        folder = f"t/{CLASSES[number % 2]}"
        files[f"{folder}/{number:03}.png"] = stored(scene(number))
        files[f"{folder}/{name.format(n=f'{number:03}')}"] = stored(smaller(scene(number)))
    best = detect(params, files)[0][0]
    assert (best.format, len(best.samples), best.rejected) == ("folders", 2 * COUNT, ())
    assert len(best.changes["files"]) == 2 and "t/preview.png: by its name" in best.reasons["files"]


def test_smaller_images_of_other_objects_are_not_thumbnails(params: Params) -> None:
    files: Files = {}
    for number in range(COUNT):
        files |= {
            f"large/{number}.png": stored(scene(number)),
            f"small/{number}.png": stored(smaller(scene(50 + number))),
        }
    best = detect(params, files)[0][0]
    assert (best.format, len(best.samples)) == ("folders", 2 * COUNT) and "files" not in best.changes


@pytest.mark.parametrize(("noise", "factor"), [((3, 3), 1.0), ((3, 25), 8.0), ((25, 3), 1 / 8.0)])
def test_the_detail_of_paired_images_is_compared(noise: tuple[float, float], factor: float) -> None:
    rng = np.random.default_rng(0)
    pairs = [
        tuple((scene(n) + rng.normal(0, one, (SIDE, SIDE, 3))).clip(0, 255).astype(np.uint8) for one in noise)
        for n in range(8)
    ]
    likeness = measure_likeness([(a, b) for a, b in pairs])
    assert likeness.correlation > 0.95 and not likeness.identical
    assert likeness.target_detail == pytest.approx(factor, rel=0.5)
