"""Tests of bones extracted from figures, and of bones along annotated points."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from stages.articulation.point_tree import bones_from_points, infer_point_tree, trees_from_pairs
from stages.articulation.skeleton import MAX_BONES, bones_from_foreground, segment_foreground

NAN = float("nan")


Colour = tuple[int, int, int]


def _spider(
    size: int = 128, legs: int = 5, figure: Colour = (40, 40, 40), ground: Colour = (250, 250, 250)
) -> np.ndarray:
    """Return an image of a body with legs in all directions."""
    image = Image.new("RGB", (size, size), ground)
    draw, middle, body = ImageDraw.Draw(image), size / 2, size / 10
    for leg in range(legs):
        direction = np.array([np.cos(2 * np.pi * leg / legs), np.sin(2 * np.pi * leg / legs)])
        draw.line([(middle, middle), tuple(middle + 3.5 * body * direction)], fill=figure, width=3)
    draw.ellipse([middle - body, middle - body, middle + body, middle + body], fill=figure)
    return np.asarray(image)


def _assert_valid_tree(bone_K7: np.ndarray) -> None:
    assert bone_K7.dtype == np.float32 and bone_K7.shape[1:] == (7,) and len(bone_K7) != 1
    assert len(bone_K7) <= MAX_BONES and np.isfinite(bone_K7).all()
    parent_K = bone_K7[:, 5]
    assert (parent_K[:1] == -1).all() and (parent_K[1:] >= 0).all() and (parent_K < np.arange(len(bone_K7))).all()
    assert (bone_K7[:, 4] > 0).all() and ((bone_K7[:, 6] >= 0) & (bone_K7[:, 6] <= 1)).all()


def test_each_leg_extends_from_the_body_outline_to_its_tip() -> None:
    bone_K7 = bones_from_foreground(_spider())
    _assert_valid_tree(bone_K7)
    assert 8 <= bone_K7[0, 4] <= 13.5 and (bone_K7[1:, 4] <= 2.5).all(), "the radii are half of 26 and of 3 pixels"
    assert np.abs(bone_K7[0, [0, 1, 2, 3]].reshape(2, 2).mean(axis=0) - 64).max() < 3
    leaf_K = np.setdiff1d(np.arange(1, len(bone_K7)), bone_K7[:, 5])
    assert len(leaf_K) == 5 and (bone_K7[:, 5] == 0).sum() == 5
    joint_5 = np.linalg.norm(bone_K7[bone_K7[:, 5] == 0, :2] - 64, axis=1)
    tip_5 = np.linalg.norm(bone_K7[leaf_K, 2:4] - 64, axis=1)
    assert np.abs(joint_5 - 13).max() < 3 and np.abs(tip_5 - 45).max() < 3


def test_a_child_bone_starts_at_the_end_of_its_parent() -> None:
    bone_K7 = bones_from_foreground(_spider(legs=3))
    later_K7 = bone_K7[bone_K7[:, 5] > 0]
    assert len(later_K7) >= 3
    assert (later_K7[:, :2] == bone_K7[later_K7[:, 5].astype(int), 2:4]).all()


def test_a_bent_limb_has_a_joint_at_its_bend() -> None:
    image = Image.new("L", (128, 128), 255)
    draw = ImageDraw.Draw(image)
    draw.ellipse([10, 50, 40, 80], fill=0)
    draw.line([(25, 65), (70, 65), (70, 110)], fill=0, width=3)
    bone_K7 = bones_from_foreground(np.asarray(image))
    assert len(bone_K7) >= 4
    assert np.linalg.norm(bone_K7[1:, :2] - (70, 65), axis=1).min() < 3


def test_bones_do_not_depend_on_colours_and_bit_depth() -> None:
    dark = bones_from_foreground(_spider())
    assert len(dark) > 5
    light = _spider(figure=(220, 220, 220), ground=(10, 10, 10))
    coloured = _spider(figure=(200, 60, 60), ground=(60, 143, 60))
    deep = (257 * _spider()[:, :, 0].astype(np.uint16)).astype(np.uint16)
    for same in (light, coloured, deep, _spider()[:, :, :1]):
        assert np.allclose(bones_from_foreground(same), dark, atol=0.01)


def test_bones_shift_with_the_figure() -> None:
    larger = np.pad(_spider()[:, :, 0], ((20, 0), (7, 0)), constant_values=250)
    moved_K7 = bones_from_foreground(_spider()) + np.array([7, 20, 7, 20, 0, 0, 0], np.float32)
    assert len(moved_K7) and np.allclose(bones_from_foreground(larger), moved_K7)


@pytest.mark.parametrize("shape", ["ellipse", "rectangle"])
def test_a_blob_has_no_bones(shape: str) -> None:
    image = Image.new("L", (96, 96), 255)
    getattr(ImageDraw.Draw(image), shape)([20, 30, 75, 70], fill=30)
    assert segment_foreground(np.asarray(image)).any()
    assert bones_from_foreground(np.asarray(image)).shape == (0, 7)


def test_a_stubby_limb_is_less_flexible_than_a_worm() -> None:
    worm, stub = Image.new("L", (128, 128), 255), Image.new("L", (128, 128), 255)
    ImageDraw.Draw(worm).line([(10, 64), (118, 64)], fill=0, width=7)
    draw = ImageDraw.Draw(stub)
    draw.ellipse([20, 34, 80, 94], fill=0)
    draw.rectangle([60, 57, 108, 71], fill=0)
    worm_K7, stub_K7 = (bones_from_foreground(np.asarray(image)) for image in (worm, stub))
    assert len(worm_K7) >= 5 and len(stub_K7) == 2
    assert stub_K7[1, 6] < 0.5 < worm_K7[1:, 6].max()


def test_a_figure_with_many_legs_has_the_maximum_number_of_bones() -> None:
    image = Image.new("L", (224, 224), 255)
    draw = ImageDraw.Draw(image)
    for leg in range(24):
        direction = np.array([np.cos(np.pi * leg / 12), np.sin(np.pi * leg / 12)]) * (60 if leg % 2 else 100)
        draw.line([(112, 112), tuple(112 + direction)], fill=0, width=3)
    draw.ellipse([82, 82, 142, 142], fill=0)
    bone_K7 = bones_from_foreground(np.asarray(image))
    _assert_valid_tree(bone_K7)
    assert len(bone_K7) == MAX_BONES


def test_arbitrary_images_give_valid_trees() -> None:
    random, checked, moving = np.random.default_rng(0), 0, 0
    for trial in range(400):
        height, width = random.integers(1, 48, 2)
        noise_HW = random.random((height, width))
        blotches_HW = np.kron(random.random((height // 4 + 1, width // 4 + 1)) > 0.7, np.ones((4, 4)))[:height, :width]
        dot_HW = np.zeros((height, width))
        dot_HW[height // 2, width // 2] = 1
        image_HW = (noise_HW, blotches_HW, dot_HW, np.ones((height, width)), 0.1 * noise_HW + 0.9 * blotches_HW)[
            trial % 5
        ]
        image = (image_HW * 65535).astype(np.uint16) if trial % 2 else (image_HW * 255).astype(np.uint8)
        bone_K7 = bones_from_foreground(np.repeat(image[:, :, None], trial % 4, axis=2) if trial % 4 else image)
        _assert_valid_tree(bone_K7)
        checked, moving = checked + 1, moving + (len(bone_K7) > 0)
    assert checked == 400 and moving > 20


def test_images_without_a_clear_figure_have_no_bones() -> None:
    random = np.random.default_rng(0)
    busy = random.integers(0, 256, (64, 64), np.uint8)
    faint = np.where(_spider()[:, :, 0] < 128, 128, 132).astype(np.uint8)
    close = _spider()[40:88, 40:88]
    for image in (busy, faint, close[:, :, 0][14:34, 14:34], np.zeros((64, 64), np.uint8)):
        assert bones_from_foreground(image).shape == (0, 7)


def _mice(images: int = 6) -> np.ndarray:
    """Return points of mice: nose, neck, hip and tail, and one that is never annotated."""
    xy_NP2 = np.full((images, 5, 2), NAN)
    xy_NP2[:, :4] = [[0, 0], [10, 0], [25, 0], [37, 0]]
    return xy_NP2 + np.arange(images)[:, None, None]


def test_the_point_tree_joins_neighbours_and_is_rooted_in_the_middle() -> None:
    xy_NP2 = _mice()
    xy_NP2[0, 1] = xy_NP2[3, 3] = NAN
    assert infer_point_tree(xy_NP2) in ([1, 2, -1, 2, -1], [1, -1, 1, 2, -1])


def test_points_that_never_occur_together_are_in_one_tree() -> None:
    xy_NP2 = _mice()
    xy_NP2[::2, 0] = xy_NP2[1::2, 1:] = NAN
    parents = infer_point_tree(xy_NP2)
    assert parents[:4].count(-1) == 1 and parents[4] == -1
    assert infer_point_tree(np.full((3, 4, 2), NAN)) == [-1] * 4


def test_bones_from_points_skip_missing_points() -> None:
    parents = [1, 2, -1, 2, -1]
    whole_K7 = bones_from_points(_mice()[0], [parents], 100)
    _assert_valid_tree(whole_K7)
    assert whole_K7[:, :4].tolist() == [[25, 0, 10, 0], [25, 0, 37, 0], [10, 0, 0, 0]]
    assert whole_K7[:, 4].tolist() == pytest.approx([4.5, 3.6, 3]) and whole_K7[:, 5].tolist() == [-1, 0, 0]
    without_neck = _mice()[0]
    without_neck[1] = NAN
    assert bones_from_points(without_neck, [parents], 100)[:, :4].tolist() == [[25, 0, 0, 0], [25, 0, 37, 0]]
    without_hip = _mice()[0]
    without_hip[2] = NAN
    assert bones_from_points(without_hip, [parents], 100)[:, :4].tolist() == [[10, 0, 37, 0], [10, 0, 0, 0]]
    without_hip[3] = NAN
    assert bones_from_points(without_hip, [parents], 100).shape == (0, 7), "two points do not form a figure"


def test_many_points_are_limited_to_bones_near_the_root() -> None:
    xy_P2 = np.stack([np.arange(30.0), np.zeros(30)], axis=1)
    bone_K7 = bones_from_points(xy_P2, [[-1, *range(29)]], 100)
    _assert_valid_tree(bone_K7)
    assert len(bone_K7) == MAX_BONES and bone_K7[:, 2].tolist() == list(range(1, 17))


POINTS = ("nose", "neck", "hip", "paw")


def test_pairs_of_points_form_trees_with_separate_roots() -> None:
    assert trees_from_pairs([("neck", "nose"), ("hip", "paw")], POINTS) == [[1, -1, -1, -1], [-1, -1, -1, 2]]
    assert trees_from_pairs([], POINTS) == []
    assert trees_from_pairs([("neck", "nose"), ("neck", "hip"), ("hip", "paw")], POINTS) == [[1, -1, 1, 2]]
    xy_P2 = np.array([[0, 0], [10, 0], [30, 0], [30, 20], [0, 50], [0, 60], [9, 60]], float)
    bone_K7 = bones_from_points(xy_P2, [[-1, 0, 1, 2, -1, -1, -1], [-1, -1, -1, -1, -1, 4, 5]], 100)
    assert bone_K7[:, 5].tolist() == [-1, 0, 1, -1, 3]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([("neck", "tail")], "tail is not a point; the points are nose, neck, hip, paw"),
        ([("neck", "nose"), ("hip", "nose")], "nose has the parents neck and hip"),
        ([("neck", "hip"), ("hip", "neck")], "is its own ancestor"),
    ],
)
def test_pairs_that_do_not_form_a_tree_are_reported(pairs: list[tuple[str, str]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        trees_from_pairs(pairs, POINTS)
