"""Images of 16 bits are drawn with visible contrast on every page, sheet and overlay; those of 8 bits are unchanged."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from stages.dataset.pixel_store import PixelStore
from stages.images.display import display_range, to_display
from stages.reports import thumbnails
from stages.tasks.image_to_image import draw
from stages.tasks.overlays import as_rgb
from stages.tasks.task_spec import TaskSpec
from stages.training.batch_loader import Batch
from stages.training.batch_preview import draw_example, drawn_levels

TWELVE_BITS = np.linspace(300, 4095, 48 * 48).round().astype(np.uint16).reshape(48, 48)
IMAGE_SPEC = TaskSpec("image", "image", "image", channels=1, depth=16)


@pytest.mark.parametrize("image", [TWELVE_BITS, np.dstack([TWELVE_BITS] * 3), np.dstack([TWELVE_BITS] * 5)])
def test_twelve_bits_in_sixteen_are_drawn_from_black_to_white(image: np.ndarray) -> None:
    for drawn in (to_display(image), as_rgb(image), draw(image, image, IMAGE_SPEC)):
        assert drawn.dtype == np.uint8 and (drawn.min(), drawn.max()) == (0, 255)
        assert abs(float(drawn.mean()) - 127.5) < 2


def test_a_predicted_image_of_sixteen_bits_is_drawn_with_its_levels() -> None:
    predicted = (TWELVE_BITS / 65535).astype(np.float32)[:, :, None]
    assert len(np.unique(draw(TWELVE_BITS, predicted, IMAGE_SPEC))) > 200


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        (np.full((4, 4), 700, np.uint16), (0, 65535)),
        (np.eye(64, dtype=np.uint16)[:1] * 900, (0, 900)),
        (np.where(np.arange(40_000) < 4, 65535, np.arange(40_000) % 1000).astype(np.uint16), (1, 999)),  # hot pixels
        (np.full((4, 4), 7, np.uint8), (0, 255)),
    ],
)
def test_the_drawn_range_ignores_hot_pixels_and_keeps_flat_images(
    levels: np.ndarray, expected: tuple[int, int]
) -> None:
    assert display_range(levels) == expected


def test_images_of_eight_bits_are_drawn_unchanged() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(3, 4) + 60
    assert np.array_equal(to_display(image), image) and np.array_equal(as_rgb(image)[:, :, 1], image)


def test_channels_share_a_range_so_that_colours_are_preserved() -> None:
    drawn = to_display(np.dstack([TWELVE_BITS, TWELVE_BITS // 2, TWELVE_BITS // 4]))
    assert drawn[-1, -1].tolist() == [255, pytest.approx(120, abs=8), pytest.approx(52, abs=12)]


def test_thumbnails_of_an_album_share_a_range_which_the_page_states(monkeypatch: pytest.MonkeyPatch) -> None:
    images = {"bright": TWELVE_BITS, "dark": TWELVE_BITS // 4}
    rows = pd.DataFrame({"path": list(images), "label": "", "depth": 16})
    shown: list[np.ndarray] = []
    monkeypatch.setattr(thumbnails.Album, "_decoded", lambda self, row: images[row["path"]])

    def keep(image: np.ndarray, alt: str, *_: Any) -> thumbnails.Thumbnail:
        shown.append(image)
        return thumbnails.Thumbnail("", alt)

    monkeypatch.setattr(thumbnails, "thumbnail", keep)
    album = thumbnails.Album(rows, Path())
    album.strip(rows["path"])
    bright, dark = (float(image.mean()) for image in shown)
    assert bright > 100 and 10 < dark < 0.4 * bright
    assert "The images have 16 bits: the levels " in album.note
    assert thumbnails.Album(rows.assign(depth=8), Path()).note == ""


def test_the_contact_sheet_of_training_is_stretched_equally_for_all_images() -> None:
    image_NHWC = np.stack([TWELVE_BITS, TWELVE_BITS // 2])[..., None]
    rows: Any = pd.DataFrame({"path": ["a", "b"]})
    levels = drawn_levels(PixelStore(image_NHWC, image_NHWC, rows, {}), IMAGE_SPEC)
    image_BCHW = torch.from_numpy(image_NHWC.astype(np.float32) / 65535).movedim(3, 1)
    batch = Batch(image_BCHW, image_BCHW, np.arange(2))
    bright, dark = (draw_example(batch, index, IMAGE_SPEC, levels) for index in (0, 1))
    assert bright.max() == 255 and float(bright.mean()) > 100
    assert 0.3 < float(dark.mean()) / float(bright.mean()) < 0.6
