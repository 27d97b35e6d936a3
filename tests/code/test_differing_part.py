"""Near-duplicates that differ in one part, such as different objects on one background."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from stages.near_duplicates.differing_part import differs_in_one_part
from stages.near_duplicates.image_similarity import grey_thumbnail


def scene(radius: int, seed: int = 0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(60, 140, (12, 12)).astype(np.uint8)
    image = Image.fromarray(noise).resize((128, 128), Image.Resampling.BICUBIC)
    if radius:
        ImageDraw.Draw(image).ellipse((64 - radius, 64 - radius, 64 + radius, 64 + radius), fill=230)
    return image


def differ(one: Image.Image, other: Image.Image) -> bool:
    return differs_in_one_part(*(grey_thumbnail(np.asarray(image)) for image in (one, other)))


@pytest.mark.parametrize("radius", [0, 12])
def test_another_object_on_the_same_background_differs_in_one_part(radius: int) -> None:
    assert differ(scene(24), scene(radius))


def test_edited_copies_do_not_differ_in_one_part() -> None:
    image = scene(24)
    noisy = np.asarray(image) + np.random.default_rng(1).normal(0, 6, (128, 128))
    for copy in (
        image,
        ImageEnhance.Brightness(image).enhance(0.8),
        ImageEnhance.Contrast(image).enhance(1.2),
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)),
        image.resize((90, 90)),
    ):
        assert not differ(image, copy)
