"""Layouts with masks that `configure` must pair, choose or leave out: by names and by measurement of the files."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from stages.config.schema import Params
from stages.core.errors import UserError
from stages.importers import IMPORTERS
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.label_image_files import read_values
from stages.importers.label_regions import Array, is_label_image, number_objects
from tests.conftest import png

Files = dict[str, bytes]
HEIGHT, WIDTH = 36, 40
SPLITS = {"train": 6, "val": 4, "test": 4}


def photo(number: int) -> bytes:
    return png(np.random.default_rng(number).integers(60, 250, (HEIGHT, WIDTH), dtype=np.uint8))


def mask_of(number: int, value: int = 255, shift: int = 0) -> Array:
    mask_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    row, column = 2 + 5 * number % 20, 2 + 7 * number % 22 + shift
    mask_HW[row : row + 9, column : column + 11] = value
    return mask_HW


def mask(number: int, value: int = 255, shift: int = 0) -> bytes:
    return png(mask_of(number, value, shift))


def numbered(number: int, first: int = 1, count: int = 0, deep: bool = True) -> bytes:
    """Return a label image of squares of several sizes with a number each, of which some have a gap before them."""
    rng = np.random.default_rng(number)
    label_HW = np.zeros((HEIGHT, WIDTH), np.uint16 if deep else np.uint8)
    for k in range(count or 2 + number % 5):
        y, x, side = 1 + 9 * (k // 4), 1 + 9 * (k % 4), rng.integers(2, 8)
        label_HW[y : y + side, x : x + side] = first + k + (k > 2 and first > 1)
    return png(label_HW)


def read_all(params: Params, files: Files) -> tuple[list[FormatCandidate], list[str]]:
    reading: dict[str, Callable[[], bytes]] = {path: partial(bytes, data) for path, data in files.items()}
    return find_formats(reading, params.ingest)


def detect(params: Params, files: Files) -> FormatCandidate:
    return read_all(params, files)[0][0]


def targets_of(best: FormatCandidate) -> str:
    return f"{best.inside}/{best.changes['targets']}".removeprefix("/")


def of_splits(image: str, target: str) -> Files:
    """Return images with masks, named alike in all splits."""
    numbers = [(split, n, 10 * k + n) for k, split in enumerate(SPLITS) for n in range(SPLITS[split])]
    files = {image.format(split=split, n=n): photo(k) for split, n, k in numbers}
    return files | {target.format(split=split, n=n): mask(k, 3) for split, n, k in numbers}


@pytest.mark.parametrize(
    ("image", "target", "has_split"),
    [
        ("{split}/{n:03d}.png", "{split}annot/{n:03d}.png", True),
        ("d/{split}_images/{n}.png", "d/{split}_labels/{n}.png", False),
        ("img8/{split}/a{n}/s_{n}_img8.png", "fine/{split}/a{n}/s_{n}_fine_ids.png", True),
        ("{split}/pictures/{n}_{split}.png", "{split}/1st_manual/{n}_manual1.png", True),
    ],
)
def test_masks_of_splits_are_matched_with_the_images_of_their_own_split(
    image: str, target: str, has_split: bool, params: Params
) -> None:
    files = of_splits(image, target)
    best = detect(params, files)
    assert (best.format, len(best.samples), best.rejected, best.has_split) == ("masks", 14, (), has_split)
    for sample in best.samples:
        assert sample.target is not None
        number = next(k for k in range(30) if files[f"{best.inside}/{sample.path}".removeprefix("/")] == photo(k))
        assert sample.target(HEIGHT, WIDTH) == png((mask_of(number) > 0).astype(np.uint8))


def test_all_films_are_read_with_the_numbered_objects_of_their_own_folder(params: Params) -> None:
    films = [(film, n) for film in (1, 2) for n in range(8)]
    files = {f"cells/0{film}/t{n:03d}.tif": photo(10 * film + n) for film, n in films}
    files |= {f"cells/0{film}_GT/SEG/man_seg{n}.tif": numbered(n, 3 + film, 6) for film, n in films}
    best = detect(params, files)
    assert (best.format, len(best.samples), best.rejected) == ("instances", 16, ())
    assert targets_of(best) == "cells/{folder}_GT/SEG/man_seg{key}.tif"


@pytest.mark.parametrize("deep", [False, True])
def test_few_numbered_objects_per_image_are_objects(deep: bool, params: Params) -> None:
    files = {f"i/{n}.png": photo(n) for n in range(12)} | {f"l/{n}.png": numbered(n, deep=deep) for n in range(12)}
    best = detect(params, files)
    assert (best.format, len(best.samples)) == ("instances", 12)
    found = [len(one.annotate(HEIGHT, WIDTH).shapes or ()) for one in best.samples]
    assert found == [2 + int(one.path[2:-4]) % 5 for one in best.samples]


def organs(number: int) -> Array:
    """Return a mask of four classes of one region each, of which some images lack the last; each has its own size."""
    label_HW = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, side in enumerate((3, 14, 6, 9)[: 2 + number % 3]):
        label_HW[1 : 1 + side, 10 * value : 10 * value + min(side, 9)] = value + 1
    return label_HW


def test_classes_of_one_region_each_are_not_numbers_of_objects() -> None:
    assert not number_objects([organs(n) for n in range(12)])
    assert not number_objects([mask_of(n) for n in range(12)])


@pytest.mark.parametrize(
    ("others", "chosen", "note"),
    [
        ({"predictions/{n}.png": partial(mask, shift=1)}, "annotated/{key}.png", "the output of a model (predictions)"),
        ({"mask/{n}_mask.png": lambda n: mask(0, shift=n % 2)}, "annotated/{key}.png", "nearly the same in all images"),
        ({"colour/{n}.png": partial(mask, value=99)}, "annotated/{key}.png", "coloured copy (colour)"),
        ({"levels/{n}.png": partial(mask, value=9)}, "annotated/{key}.png", "the same regions"),
        ({"net/{n}.png": partial(mask, shift=1), "roi/{n}.png": partial(mask, shift=2)}, "annotated/{key}.png",
         "field of view (roi)"),
    ],
)  # fmt: skip
def test_the_annotation_is_chosen_among_several_targets(
    others: dict[str, Callable[[int], bytes]], chosen: str, note: str, params: Params
) -> None:
    files = {f"images/{n}.png": photo(n) for n in range(12)} | {f"annotated/{n}.png": mask(n, 3) for n in range(12)}
    files |= {name.format(n=n): make(n) for name, make in others.items() for n in range(12)}
    best = detect(params, files)
    assert (best.format, targets_of(best), best.asks) == ("masks", chosen, ())
    assert note in best.reasons["targets"]


def test_class_ids_are_chosen_before_ids_that_number_objects_within_classes(params: Params) -> None:
    files = {f"images/{n}.png": photo(n) for n in range(12)}
    for n in range(12):
        class_HW = np.where(mask_of(n) > 0, 24, 7).astype(np.uint16)
        files[f"gt/{n}_labelIds.png"] = png(class_HW.astype(np.uint8))
        files[f"gt/{n}_instanceIds.png"] = png(np.where(class_HW == 24, 24001, 7).astype(np.uint16))
        files[f"gt/{n}_color.png"] = png(np.stack([class_HW * 9, class_HW, class_HW], 2).astype(np.uint8))
    best = detect(params, files)
    assert (best.format, targets_of(best)) == ("masks", "gt/{key}_labelIds.png")
    assert "times 1000 plus a number" in best.reasons["targets"]


@pytest.mark.parametrize("names", [("grader1/{n}.png", "grader2/{n}.png"), ("images/{n}_a.png", "images/{n}_b.png")])
def test_masks_of_two_graders_are_one_question_and_not_two_classes(names: tuple[str, str], params: Params) -> None:
    files = {f"images/{n}.jpg": photo(n) for n in range(12)}
    files |= {name.format(n=n): mask(n, shift=k) for k, name in enumerate(names) for n in range(12)}
    best = detect(params, files)
    patterns = [name.format(n="{key}") for name in names]
    assert best.format == "masks" and targets_of(best) in patterns and "{label}" not in targets_of(best)
    (ask,) = best.asks
    assert all(pattern in ask for pattern in patterns) and "which one is it?" in ask


def of_some(image: str, target: str) -> Files:
    files = {image.format(n=n): photo(n) for n in range(20)}
    return files | {target.format(n=n): mask(n) for n in range(20) if n % 5 == 0}


@pytest.mark.parametrize(
    ("image", "target"),
    [("photos/{n}.png", "annotated/{n}.png"), ("a/{n:03d}.PNG", "a/Label/{n:03d}_label.PNG"), ("{n}.png", "{n}_m.png")],
)
def test_images_without_mask_are_a_question_and_not_rejected(image: str, target: str, params: Params) -> None:
    best = detect(params, of_some(image, target))
    assert (best.format, len(best.samples), best.rejected) == ("masks", 4, ())
    assert best.changes["unlabelled"] == "skip" and len(best.unused) == 16
    assert any("16 of 20 images have no mask" in ask and "(skip)" in ask and "(empty)" in ask for ask in best.asks)


def test_images_without_mask_may_be_images_without_objects(params: Params) -> None:
    files: dict[str, Callable[[], bytes]] = {
        path: partial(bytes, data) for path, data in of_some("i/{n}.png", "m/{n}.png").items()
    }
    values = {0: "background", 255: "defect"}
    change = {"images": "i/{key}.png", "targets": "m/{key}.png", "mask_values": values, "unlabelled": "empty"}
    samples, rejected = IMPORTERS["masks"](files, "", params.ingest.model_copy(update=change), False)
    bare = next(one for one in samples if one.path == "i/1.png")
    assert len(samples) == 20 and not rejected and bare.target is not None
    assert bare.target(5, 4) == png(np.zeros((5, 4), np.uint8))
    instances, _ = IMPORTERS["instances"](files, "", params.ingest.model_copy(update=change), False)
    assert [one.annotate(5, 4).shapes for one in instances if one.path == "i/1.png"] == [()]
    change["mask_values"] = {255: "defect"}
    with pytest.raises(UserError, match="no value of ingest.mask_values is `background`"):
        IMPORTERS["masks"](files, "", params.ingest.model_copy(update=change), False)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("{c}/Label/{n}_l.png", "**/Label/*"), ("{c}/{n}_mask_{n}.png", "**mask*"), ("{c}/{n}.bmp", "**.bmp")],
)
def test_masks_among_the_images_of_classes_are_left_out_and_named(name: str, pattern: str, params: Params) -> None:
    files = {f"{c}/{n}.png": photo(n + 50 * (c == "oak")) for c in ("oak", "elm") for n in range(20)}
    files |= {name.format(c=c, n=n): mask(n) for c, n in (("oak", 1), ("elm", 7))}
    found, _ = read_all(params, files)
    classes = next(one for one in found if one.format == "folders" and not one.inside)
    assert len(classes.samples) == 40 and classes.changes["targets"] == pattern
    assert {one.path for one in classes.unused} == {name.format(c=c, n=n) for c, n in (("oak", 1), ("elm", 7))}
    (ask,) = classes.asks
    assert "2 files are masks by measurement" in ask and "are they images of a class?" in ask


def test_binary_images_of_classes_are_images(params: Params) -> None:
    files = {f"{c}/{n}.png": mask(n, shift=k) for k, c in enumerate(("circle", "square")) for n in range(10)}
    found, _ = read_all(params, files)
    assert [(one.format, len(one.samples)) for one in found if one.format == "folders"] == [("folders", 20)]


def test_photos_and_images_of_one_value_are_not_label_images() -> None:
    rng = np.random.default_rng(0)
    assert is_label_image(mask_of(3)) and is_label_image(np.stack([mask_of(3), mask_of(4), mask_of(5)], 2))
    assert not is_label_image(rng.integers(0, 255, (40, 40), dtype=np.uint8))
    assert not is_label_image(rng.integers(0, 2, (40, 40), dtype=np.uint8)), "noise of two values has no regions"
    assert not is_label_image(np.zeros((40, 40), np.uint8))


def test_an_image_of_too_many_pixels_is_not_measured() -> None:
    side = b"\xff\xff"
    header = b"GIF89a" + side + side + bytes(3) + b"," + bytes(4) + side + side + b"\0\2\0;"
    assert read_values({"a.gif": lambda: header}, "a.gif") is None
