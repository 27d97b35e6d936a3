"""Labels go where the pixels go: a dot painted at a point ends where the point ends."""

import numpy as np
import pytest
import torch

from stages.augmentations import Policy, move

SIZE = 96
STILL = {"flip_horizontal": False, "flip_vertical": False, "brightness": 0.0, "contrast": 0.0, "noise": 0.0}
POLICIES = {
    "similarity": {**STILL, "rotation": 40.0, "translation": 0.1, "scale": 0.3},
    "flips": {
        **STILL,
        "rotation": 0.0,
        "translation": 0.0,
        "scale": 0.0,
        "flip_horizontal": True,
        "flip_vertical": True,
    },
    "all": {**STILL, "rotation": 20.0, "translation": 0.1, "scale": 0.2, "flip_horizontal": True},
}


def policy(name: str, outside: str = "zeros") -> Policy:
    return Policy(**POLICIES[name], outside=outside)  # type: ignore[arg-type]


def spots(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a soft spot each, and where it is."""
    rng = np.random.default_rng(seed)
    xy_B12 = torch.from_numpy(rng.uniform(25, SIZE - 25, (count, 1, 2))).float()
    place = torch.arange(SIZE).float()
    far = (place[None, :, None] - xy_B12[:, :, 1:]) ** 2 + (place[None, None, :] - xy_B12[:, :, :1]) ** 2
    return (-far / 8).exp()[:, None], xy_B12


def middle_of(image_BCHW: torch.Tensor) -> torch.Tensor:
    place = torch.arange(SIZE).float()
    weight_BHW = image_BCHW[:, 0]
    total_B = weight_BHW.sum(dim=(1, 2))
    x_B = (weight_BHW.sum(dim=1) * place).sum(dim=1) / total_B
    y_B = (weight_BHW.sum(dim=2) * place).sum(dim=1) / total_B
    return torch.stack([x_B, y_B], dim=1)


@pytest.mark.parametrize("name", POLICIES)
def test_a_spot_ends_where_its_point_ends(name: str) -> None:
    image_BCHW, xy_B12 = spots(32)
    moved_BCHW, matrix_B33 = policy(name)(image_BCHW, seed=3)
    assert matrix_B33 is not None
    moved_B12 = move("points", xy_B12, matrix_B33, SIZE, "zeros")
    seen_B = ((moved_B12 > 12) & (moved_B12 < SIZE - 12)).all(dim=2)[:, 0]  # whole spots only
    assert seen_B.sum() > 16
    assert (middle_of(moved_BCHW)[seen_B] - moved_B12[seen_B, 0]).abs().max() < 0.03
    assert (moved_B12[seen_B] - xy_B12[seen_B]).abs().max() > 5


@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("name", POLICIES)
def test_a_mask_warped_is_the_mask_of_the_warped_shape(name: str, outside: str) -> None:
    image_BCHW, _ = spots(16)
    mask_BHW = (image_BCHW[:, 0] > 0.1).long()
    moved_BCHW, matrix_B33 = policy(name, outside)(image_BCHW, seed=5)
    assert matrix_B33 is not None
    moved_BHW = move("labels", mask_BHW, matrix_B33, SIZE, outside)
    known = moved_BHW != 255
    clear = (moved_BCHW[:, 0] - 0.1).abs() > 0.05  # not on the very edge, where nearest and bilinear part
    assert ((moved_BHW == 1) == (moved_BCHW[:, 0] > 0.1))[known & clear].float().mean() > 0.999
    assert known.all() == (outside != "zeros" or name == "flips")


def test_points_that_leave_the_image_become_missing_and_missing_ones_stay_so() -> None:
    matrix_B33 = torch.eye(3)[None].clone()
    matrix_B33[0, 0, 2] = 50
    xy_BP2 = torch.tensor([[[10.0, 10.0], [90.0, 10.0], [torch.nan, torch.nan]]])
    moved_BP2 = move("points", xy_BP2, matrix_B33, SIZE, "zeros")
    assert moved_BP2[0, 0].tolist() == pytest.approx([60.0, 10.0])
    assert moved_BP2[0, 1:].isnan().all()


def test_left_and_right_change_names_in_a_mirror_only() -> None:
    mirror_33 = torch.tensor([[-1.0, 0, SIZE - 1], [0, 1, 0], [0, 0, 1]])
    xy_BP2 = torch.tensor([[[10.0, 20.0], [80.0, 30.0]]]).repeat(2, 1, 1)
    moved_BP2 = move("points", xy_BP2, torch.stack([mirror_33, torch.eye(3)]), SIZE, "zeros", swap=[1, 0])
    assert moved_BP2[0].tolist() == [pytest.approx([15, 30]), pytest.approx([85, 20])]
    assert moved_BP2[1].tolist() == [pytest.approx([10, 20]), pytest.approx([80, 30])]


@pytest.mark.parametrize("name", ["similarity", "all"])
def test_a_density_keeps_its_sum(name: str) -> None:
    image_BCHW, _ = spots(16)
    density = image_BCHW / image_BCHW.sum(dim=(1, 2, 3), keepdim=True)
    moved_BCHW, matrix_B33 = policy(name)(image_BCHW, seed=3)
    assert matrix_B33 is not None
    whole_B = moved_BCHW[:, 0, :4].sum() == 0
    sums_B = move("density", density, matrix_B33, SIZE, "zeros").sum(dim=(1, 2, 3))
    assert whole_B or sums_B.max() <= 1.02
    assert sums_B.median() == pytest.approx(1.0, abs=0.02)


def test_boxes_stay_tight_around_their_masks_and_leave_with_them() -> None:
    image_BCHW, _ = spots(8)
    mask_BHW = (image_BCHW[:, 0] > 0.1).to(torch.uint8)
    things = [{"boxes": torch.zeros(1, 4), "labels": torch.tensor([2]), "masks": mask_HW[None]} for mask_HW in mask_BHW]
    _, matrix_B33 = policy("all")(image_BCHW, seed=3)
    assert matrix_B33 is not None
    moved = move("things", things, matrix_B33, SIZE, "zeros")
    kept = [one for one in moved if len(one["boxes"])]
    assert len(kept) > 4
    for one in kept:
        rows, columns = one["masks"][0].nonzero(as_tuple=True)
        tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert one["boxes"][0].tolist() == [float(v) for v in tight]
        assert one["labels"].tolist() == [2]


def test_boxes_without_masks_hold_their_moved_corners() -> None:
    mirror_33 = torch.tensor([[-1.0, 0, SIZE - 1], [0, 1, 0], [0, 0, 1]])
    things = [{"boxes": torch.tensor([[10.0, 20.0, 30.0, 60.0]]), "labels": torch.tensor([0])}]
    (moved,) = move("things", things, mirror_33[None], SIZE, "zeros")
    assert moved["boxes"][0].tolist() == pytest.approx([SIZE - 30, 20, SIZE - 10, 60], abs=1e-3)
