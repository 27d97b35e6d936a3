"""Tests of the properties that `prepare` measures for augmentation: symmetries of the images and articulated parts."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from stages import ingest, prepare
from stages.articulation.symmetry import black_border_share, measure_symmetries
from stages.augmentations import AugmentationData, choose_augmentations
from stages.augmentations.similarity import MIN_DISTINGUISHABLE_AUC
from stages.config.schema import Params
from stages.config.schema_training import Augment
from stages.core.errors import UserError
from stages.dataset.pixel_store import open_split
from stages.runner.stage import call
from stages.tasks.task_spec import TaskSpec
from tests.conftest import digit_images, prepare_digits
from tests.toys import TOYS

FLIP = "flip_horizontal"


def store_of(images: list[np.ndarray[Any, Any]], groups: int | None = None, inner: int = 48) -> Any:
    group = [str(i % (groups or len(images))) for i in range(len(images))]
    rows = pd.DataFrame({"group": group, "inner_height": 48, "inner_width": inner})
    return _Store(np.stack(images)[..., None], rows)


class _Store:
    """Pixel store with only the members that the measurements use."""

    def __init__(self, image_NHWC: np.ndarray[Any, Any], rows: pd.DataFrame) -> None:
        self.image_NHWC, self.rows = image_NHWC, rows

    def __len__(self) -> int:
        return len(self.rows)


def symmetry_auc(images: list[np.ndarray[Any, Any]], groups: int | None = None) -> dict[str, float]:
    return measure_symmetries(store_of(images, groups), None)["symmetry_auc"]


def letters(count: int, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    """Return images of the letter F at random positions: it differs from its mirror image and its rotations."""
    images = []
    for _ in range(count):
        image = Image.new("L", (48, 48), 230)
        x, y = rng.integers(6, 20, 2)
        for line in ((x, y, x, y + 22), (x, y, x + 14, y), (x, y + 10, x + 10, y + 10)):
            ImageDraw.Draw(image).line([int(v) for v in line], fill=20, width=3)
        images.append((np.asarray(image) + rng.normal(0, 8, (48, 48))).clip(0, 255).astype(np.uint8))
    return images


def blobs(count: int, rng: np.random.Generator) -> list[np.ndarray[Any, Any]]:
    """Return images of discs at random positions: their distribution has no preferred direction."""
    images = []
    for _ in range(count):
        image = Image.new("L", (48, 48), 0)
        for x, y, r in rng.integers((4, 4, 2), (44, 44, 8), (4, 3)):
            ImageDraw.Draw(image).ellipse(
                [int(v) for v in (x - r, y - r, x + r, y + r)], fill=int(rng.integers(90, 250))
            )
        images.append(np.asarray(image))
    return images


def test_asymmetric_images_are_distinguished_and_symmetric_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    assert min(symmetry_auc(letters(120, rng)).values()) > 0.95
    highest = [max(symmetry_auc(blobs(120, np.random.default_rng(seed))).values()) for seed in range(10)]
    assert max(highest) < MIN_DISTINGUISHABLE_AUC, "symmetric images are not reported as asymmetric"


def test_images_with_mirror_symmetry_only_are_distinguished_upside_down() -> None:
    rng = np.random.default_rng(0)
    images = [image if rng.random() < 0.5 else image[:, ::-1] for image in letters(160, rng)]
    found = symmetry_auc(images)
    assert found["mirror"] < MIN_DISTINGUISHABLE_AUC and found["upside_down"] > 0.9


def test_symmetries_of_few_images_or_groups_are_not_reported() -> None:
    rng = np.random.default_rng(0)
    assert symmetry_auc(letters(49, rng)) == {}
    assert symmetry_auc(letters(60, rng), groups=4) == {}
    assert symmetry_auc([np.full((48, 48), 7, np.uint8)] * 100)["mirror"] == pytest.approx(0.5 + 1.96 / 300**0.5)


def test_classes_that_mirror_each_other_disable_the_flip() -> None:
    """The data set as a whole is mirror-symmetric, but its classes are not."""
    rng = np.random.default_rng(0)
    class_N = np.arange(200) % 2
    images = [image[:, ::-1] if mirrored else image for image, mirrored in zip(letters(200, rng), class_N, strict=True)]
    found = measure_symmetries(store_of(images), class_N)
    assert found["symmetry_auc"]["mirror"] < MIN_DISTINGUISHABLE_AUC and found["symmetry_score_drop"]["mirror"] > 1.5
    random_labels = measure_symmetries(store_of(blobs(200, rng)), (rng.random(200) < 0.5).astype(int))
    assert random_labels["symmetry_score_drop"] == {}, "no score drop is reported for a probe without skill"
    augmentation_data = AugmentationData(TaskSpec("classification", "class", "label", labels=("OD", "OS2")), **found)  # type: ignore[arg-type]
    (flip,) = [
        augmentation
        for augmentation in choose_augmentations(Augment(preset="auto", padding="auto", amounts={}), augmentation_data)
        if augmentation.name == FLIP
    ]
    assert flip.amounts is None


@pytest.mark.parametrize(("cause", "is_signal"), [("colour", True), ("shape", False)])
def test_hue_is_not_changed_where_grey_images_lose_the_class(cause: str, is_signal: bool) -> None:
    rng, images, class_N = np.random.default_rng(0), [], np.arange(120) % 2
    for one in class_N:
        colour, shape = (one, rng.integers(2)) if cause == "colour" else (rng.integers(2), one)
        image = Image.new("RGB", (48, 48), (128, 128, 128))
        x, y = rng.integers(4, 24, 2).tolist()
        fill = ((200, 94, 94), (94, 148, 94))[colour]  # equal in grey
        (ImageDraw.Draw(image).ellipse if shape else ImageDraw.Draw(image).rectangle)(
            (x, y, x + 18, y + (18 if shape else 8)), fill=fill
        )
        images.append(np.asarray(image))
    rows = pd.DataFrame({"group": [str(i) for i in range(120)], "inner_height": 48, "inner_width": 48})
    store: Any = _Store(np.stack(images), rows)
    drop = measure_symmetries(store, class_N)["symmetry_score_drop"]
    assert (drop.get("grey", 0.0) > 0.5) == is_signal
    spec = TaskSpec("classification", "class", "label", labels=("a", "b"))
    data = AugmentationData(spec, {}, drop)
    preset = {
        one.name: one
        for one in choose_augmentations(Augment(preset="strong", padding="auto", amounts={"tint": 0.3}), data)
    }
    assert (preset["hue"].amounts is None) == is_signal
    assert preset["tint"].amounts is not None and ("colours may determine" in preset["tint"].why) == is_signal


def test_black_border_share_ignores_the_padding() -> None:
    rng = np.random.default_rng(0)
    assert black_border_share(store_of(blobs(20, rng))) > 0.8 and black_border_share(store_of(letters(20, rng))) < 0.1
    padded = [np.pad(image[:, :24], ((0, 0), (0, 24))) for image in letters(20, rng)]
    assert black_border_share(store_of(padded, inner=24)) < 0.1


def test_skeletons_are_stored_with_the_training_images(tmp_path: Path) -> None:
    images = digit_images(per_class=8, classes=4)
    _, prepared = prepare_digits(
        tmp_path, {"train": images[::2], "val": images[1::2]}, size=32, articulated_parts="foreground"
    )
    bones = open_split(prepared, "train").bones
    assert bones is not None and len(bones.first) == len(images) // 2 + 1 and bones.first[-1] == len(bones.bone_T7)
    bone_BK7 = bones.padded(np.array([3, 0]))
    assert bone_BK7.shape[0] == 2 and bone_BK7.shape[2] == 7
    assert open_split(prepared, "val").bones is None


def prepare_landmarks(workspace: Path, params: Params, skeleton: Any, parts: str = "auto") -> Path:
    toy, source = TOYS["landmarks"], workspace / "toy"
    source.mkdir()
    toy.write(source, np.random.default_rng(0))
    sections: dict[str, Any] = {name: getattr(params, name) for name in type(params).model_fields}
    columns = {**params.ingest.columns.model_dump(), **toy.columns}
    changes = {
        "task": {"name": "landmarks", **toy.task, "skeleton": skeleton},
        "ingest": {"name": "toy", "columns": columns, **toy.ingest},
        "prepare": {"size": 32, "channels": 3, "articulated_parts": parts},
    }
    for name, change in changes.items():
        sections[name] = type(sections[name]).model_validate(sections[name].model_dump() | change)
    folders = [workspace / name for name in ("splits", "sealed", "ingested", "prepared")]
    call(ingest.main, [source, *folders[:3]], {name: sections[name] for name in ("ingest", "split")})
    needed = {name: sections[name] for name in ("task", "representation", "prepare")}
    call(prepare.main, [folders[2], folders[2], folders[3]], needed)
    return folders[3]


def test_a_skeleton_with_an_unknown_point_is_rejected(workspace: Path, params: Params) -> None:
    with pytest.raises(UserError, match=r"task.skeleton: knee is not a point; the points are"):
        prepare_landmarks(workspace, params, [["knee", "foot"]])


def test_articulated_parts_from_points_require_points(workspace: Path, params: Params, tmp_path: Path) -> None:
    images = digit_images(per_class=4, classes=2)
    with pytest.raises(UserError, match=r"prepare.articulated_parts: points: the task classification has no points"):
        prepare_digits(tmp_path / "d", {"train": images[::2], "val": images[1::2]}, size=16, articulated_parts="points")
