"""Image transforms from which faults are made, each with a strength; strength 0 changes nothing.

A `Transform` takes a sample and returns a changed one. The samples to which it is applied determine the fault: all
images of one class (a confounder), a copy of another image (a duplicate), all validation images (drift), or one
image (an outlier). `injected_faults` does this.
"""

from dataclasses import replace

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.audits.fault_sample import Array, FaultSample, Rng, Transform

CAMERAS = ("Alpha", "Beta")
STAMP = 8  # side of the image divided by the side of the stamp


def brightness(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Add `strength` grey levels.

    Args:
        sample: the sample to change.
        strength: grey levels.
        rng: random generator; not used.
    """
    return _with_levels(sample, sample.image + float(strength))


def contrast(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply the differences from middle grey by 1 + `strength`.

    Args:
        sample: the sample to change.
        strength: relative change, above -1.
        rng: random generator; not used.
    """
    return _with_levels(sample, 127.5 + (sample.image - 127.5) * (1 + strength))


def colour_cast(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Add `strength` levels to red and subtract them from blue; a grey image stays unchanged.

    Args:
        sample: the sample to change.
        strength: levels.
        rng: random generator; not used.
    """
    if sample.image.ndim != 3:
        return sample
    return _with_levels(sample, sample.image + strength * np.array([1, 0, -1]))


def noise(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Add Gaussian noise with a standard deviation of `strength` levels.

    Args:
        sample: the sample to change.
        strength: standard deviation, levels.
        rng: random generator.
    """
    if not strength:
        return sample
    return _with_levels(sample, sample.image + rng.normal(0, strength, sample.image.shape))


def blur(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Apply a Gaussian blur whose standard deviation is `strength` times the shorter side.

    Args:
        sample: the sample to change.
        strength: standard deviation, as a share of the shorter side.
        rng: random generator; not used.
    """
    if not strength:
        return sample
    radius = strength * min(sample.image.shape[:2])
    return replace(sample, image=np.asarray(Image.fromarray(sample.image).filter(ImageFilter.GaussianBlur(radius))))


def border(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Add `strength` levels to a border that is a sixteenth of the shorter side wide, at least one pixel.

    Args:
        sample: the sample to change.
        strength: grey levels.
        rng: random generator; not used.
    """
    rim = max(1, round(min(sample.image.shape[:2]) / 16))
    inside = np.zeros(sample.image.shape[:2], bool)
    inside[rim:-rim, rim:-rim] = True
    brighter = _with_levels(sample, sample.image + float(strength)).image
    mask = inside if sample.image.ndim == 2 else inside[:, :, None]
    return replace(sample, image=np.where(mask, sample.image, brighter))


def stamp(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Draw a white rectangle in the upper right corner, with probability `strength`.

    Args:
        sample: the sample to change.
        strength: probability, 0 to 1.
        rng: random generator.
    """
    if rng.random() >= strength:
        return sample
    image = sample.image.copy()
    height, width = (max(1, side // STAMP) for side in image.shape[:2])
    image[:height, -width:] = 255
    return replace(sample, image=image)


def compression(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Set the JPEG quality to 95 - `strength`.

    Args:
        sample: the sample to change.
        strength: loss of JPEG quality, 0 to 94.
        rng: random generator; not used.
    """
    return replace(sample, quality=95 - round(strength)) if strength else sample


def padding(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Add a comment of `strength` bytes to the file.

    Args:
        sample: the sample to change.
        strength: bytes.
        rng: random generator; not used.
    """
    return replace(sample, padding=round(strength))


def camera(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Set the camera to the first of `CAMERAS` with probability `strength`; otherwise leave it unchanged.

    Args:
        sample: the sample to change.
        strength: probability, 0 to 1.
        rng: random generator.
    """
    return replace(sample, camera=CAMERAS[0]) if rng.random() < strength else sample


def date(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Move the date of exposure `strength` days later.

    Args:
        sample: the sample to change.
        strength: days.
        rng: random generator; not used.
    """
    return replace(sample, day=sample.day + strength)


def reduced(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply both sides by 1 - `strength`.

    Args:
        sample: the sample to change.
        strength: share of each side, 0 to 1.
        rng: random generator; not used.
    """
    return _scaled(sample, 1 - strength, 1 - strength)


def enlarged(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply both sides by 1 + `strength`.

    Args:
        sample: the sample to change.
        strength: share of each side.
        rng: random generator; not used.
    """
    return _scaled(sample, 1 + strength, 1 + strength)


def elongated(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply the longer side by 1 + `strength`.

    Args:
        sample: the sample to change.
        strength: share of the longer side.
        rng: random generator; not used.
    """
    height, width = sample.image.shape[:2]
    return _scaled(sample, 1 + strength * (height > width), 1 + strength * (height <= width))


def cropped(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Crop the image by `strength` times each side, at a random position.

    Args:
        sample: the sample to change.
        strength: share of each side, 0 to 1.
        rng: random generator.
    """
    height, width = sample.image.shape[:2]
    rows, columns = round(height * strength), round(width * strength)
    top, left = int(rng.integers(rows + 1)), int(rng.integers(columns + 1))
    return replace(sample, image=sample.image[top : top + height - rows, left : left + width - columns])


def mirrored(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Mirror the image horizontally if `strength` is not 0.

    Args:
        sample: the sample to change.
        strength: 0 or 1.
        rng: random generator; not used.
    """
    return replace(sample, image=sample.image[:, ::-1]) if strength else sample


def dimmed(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply the levels by 1 - `strength`.

    Args:
        sample: the sample to change.
        strength: share, 0 to 1.
        rng: random generator; not used.
    """
    return _with_levels(sample, sample.image * (1 - strength))


def washed_out(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply the differences from white by 1 - `strength`.

    Args:
        sample: the sample to change.
        strength: share, 0 to 1.
        rng: random generator; not used.
    """
    return _with_levels(sample, 255 - (255.0 - sample.image) * (1 - strength))


def blanked(sample: FaultSample, strength: float, rng: Rng) -> FaultSample:
    """Multiply the differences from the image's mean by 1 - `strength`.

    Args:
        sample: the sample to change.
        strength: share, 0 to 1.
        rng: random generator; not used.
    """
    return _with_levels(sample, sample.image.mean() + (sample.image - sample.image.mean()) * (1 - strength))


def _with_levels(sample: FaultSample, levels: Array) -> FaultSample:
    return replace(sample, image=np.asarray(levels).round().clip(0, 255).astype(np.uint8))


def _scaled(sample: FaultSample, vertical: float, horizontal: float) -> FaultSample:
    height, width = sample.image.shape[:2]
    size = (max(1, round(width * horizontal)), max(1, round(height * vertical)))
    if size == (width, height):
        return sample
    return replace(sample, image=np.asarray(Image.fromarray(sample.image).resize(size, Image.Resampling.LANCZOS)))


CONFOUNDERS: dict[str, tuple[Transform, tuple[float, ...]]] = {
    "brightness, levels": (brightness, (10, 20, 40)),
    "colour cast, levels": (colour_cast, (20, 40)),
    "blur, share of side": (blur, (0.02, 0.04)),
    "border, levels": (border, (40,)),
    "stamp, share of images": (stamp, (0.25, 0.5, 1)),
    "JPEG quality, below 95": (compression, (2, 15)),
    "file size, bytes": (padding, (1000,)),
    "camera, share of images": (camera, (0.5, 1)),
    "date, days": (date, (5, 15)),
}
"""Transforms applied to the images of one class, with their strengths."""
COPIES: dict[str, tuple[Transform, float]] = {
    "JPEG quality 90": (compression, 5),
    "JPEG quality 50": (compression, 45),
    "JPEG quality 20": (compression, 75),
    "3/4 of the size": (reduced, 0.25),
    "1/2 of the size": (reduced, 0.5),
    "cropped by 2 %": (cropped, 0.02),
    "cropped by 5 %": (cropped, 0.05),
    "cropped by 10 %": (cropped, 0.1),
    "mirrored": (mirrored, 1),
    "10 levels brighter": (brightness, 10),
    "30 levels brighter": (brightness, 30),
    "half the contrast": (contrast, -0.5),
}
"""Transforms from an original to its copy, with their strengths."""
DRIFTS: dict[str, tuple[Transform, tuple[float, ...]]] = {
    "brightness, levels": (brightness, (10, 20)),
    "contrast, share": (contrast, (-0.2,)),
    "blur, share of side": (blur, (0.01, 0.02)),
    "noise, levels": (noise, (5,)),
}
"""Transforms applied to validation images, or to images of a later arrival or another origin."""
OUTLIERS: dict[str, tuple[Transform, float]] = {
    "dark": (dimmed, 0.9),
    "washed out": (washed_out, 0.9),
    "blurred": (blur, 0.1),
    "blank": (blanked, 1),
    "four times as large": (enlarged, 3),
    "five times as long": (elongated, 4),
}
"""Transforms applied to single images."""
