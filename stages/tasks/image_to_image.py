"""Image-to-image: predict an image of the same size, such as a denoised or restored image.

Axes: N images, R resamples, H and W of the original image, C channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.shapes import Array, Float, Integer, Real, UInt8
from stages.dataset.annotations import Annotation
from stages.tasks.overlays import as_rgb
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

SCORES = {
    "psnr": Score("higher", "dB", share=False),
    "ssim": Score("higher"),
    "mean_absolute_error": Score("lower", "grey levels of 255", share=False),
}
"""Scores; each is a mean over images."""
TRUTHS = ("image",)
DRAWN = True
K1, K2, SIGMA = 0.01, 0.03, 1.5  # constants of SSIM (Wang et al. 2004)


def truth(
    annotation: Annotation, target: Integer[Array, "..."] | None, height: int, width: int, spec: TaskSpec
) -> Integer[Array, "{height} {width} ..."]:
    """Return the target image with the grey levels of its file."""
    if target is None:
        raise ValueError("has no paired image")
    if target.shape[:2] != (height, width):
        size = f"{target.shape[1]}x{target.shape[0]}"
        raise ValueError(f"has {width}x{height} pixels, but its paired image has {size}; both must have the same size")
    return target


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Float[Array, "H W C"]:
    """Return the predicted image, white = 1."""
    return outputs["restored"]


def as_prediction(truth: Integer[Array, "H W ..."], spec: TaskSpec) -> Float[Array, "H W C"]:
    """Return the true image as a predicted image, white = 1."""
    return _as_floats(truth, 1 if truth.ndim == 2 else truth.shape[2])


def _as_floats(truth: Integer[Array, "H W ..."], channels: int) -> Float[Array, "H W {channels}"]:
    from stages.images.decode import to_channels

    white = 65535.0 if truth.dtype == np.uint16 else 255.0
    return to_channels(truth, channels).astype(np.float32) / white


def _both(
    truth: Integer[Array, "H W ..."], prediction: Float[Array, "H W C"]
) -> tuple[Float[Array, "H W C"], Float[Array, "H W C"]]:
    """Return truth and prediction with the same number of channels, white = 1."""
    return _as_floats(truth, prediction.shape[2]), prediction


def psnr(truth: Integer[Array, "H W ..."], prediction: Float[Array, "H W C"]) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(1 / mean squared error), in dB; 100 for equal images."""
    true, given = _both(truth, prediction)
    return float(min(100.0, -10 * np.log10(max(float(((true - given) ** 2).mean()), 1e-10))))


def ssim(truth: Integer[Array, "H W ..."], prediction: Float[Array, "H W C"]) -> float:
    """Return the mean structural similarity (SSIM), with a Gaussian window of deviation 1.5 (Wang et al. 2004)."""
    from scipy.ndimage import gaussian_filter

    true, given = _both(truth, prediction)

    def blurred(values: Float[Array, "H W C"]) -> Float[Array, "H W C"]:
        return gaussian_filter(values.astype(np.float64), (SIGMA, SIGMA, 0), truncate=3.5)

    mean_a, mean_b = blurred(true), blurred(given)
    var_a, var_b = blurred(true**2) - mean_a**2, blurred(given**2) - mean_b**2
    covariance = blurred(true * given) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _off(truth: Integer[Array, "H W ..."], prediction: Float[Array, "H W C"]) -> float:
    true, given = _both(truth, prediction)
    return float(np.abs(true - given).mean())


def scores(
    truths: Sequence[Integer[Array, "_ _ ..."]],
    predictions: Sequence[Float[Array, "_ _ C"]],
    weight_RN: Float[Array, "R N"],
    spec: TaskSpec,
) -> dict[str, Float[Array, " R"]]:
    """Return every score under all bootstrap weights."""
    pairs = list(zip(truths, predictions, strict=True))
    each = {
        "psnr": np.array([psnr(t, a) for t, a in pairs]),
        "ssim": np.array([ssim(t, a) for t, a in pairs]),
        "mean_absolute_error": 255 * np.array([_off(t, a) for t, a in pairs]),
    }
    return {name: weight_RN @ value_N / weight_RN.sum(axis=1) for name, value_N in each.items()}


def parts(
    truths: Sequence[Integer[Array, "_ _ ..."]],
    predictions: Sequence[Float[Array, "_ _ C"]],
    weight_RN: Float[Array, "R N"],
    spec: TaskSpec,
) -> Parts:
    """Return an empty table, because the scores of images are not divided into parts."""
    return Parts("image", (), (), np.zeros((len(truths), 0), bool), {})


def error(truth: Integer[Array, "H W ..."], prediction: Float[Array, "H W C"], spec: TaskSpec) -> float:
    """Return the mean absolute difference, white = 1."""
    return _off(truth, prediction)


def wrong(truth: Integer[Array, "H W ..."], prediction: Float[Array, "H W C"], spec: TaskSpec) -> bool:
    """Return True, because predicted images are never exact."""
    return True


def describe(value: Real[Array, "H W ..."], spec: TaskSpec) -> str:
    """Return the mean grey level, 0 to 255."""
    white = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(value.dtype, 1.0)
    return f"mean grey level {255 * float(value.mean()) / white:.0f}"


def draw(image: Integer[Array, "H W ..."], value: Real[Array, "H W ..."], spec: TaskSpec) -> UInt8[Array, "H W 3"]:
    """Return the true or predicted image instead of the input image."""
    return as_rgb(value if value.dtype in (np.uint8, np.uint16) else as_bytes(value, spec.depth))


def as_bytes(prediction: Float[Array, "H W C"], depth: int) -> Integer[Array, "H W C"]:
    """Return a predicted image as integer levels of 8 or 16 bits."""
    white, kind = (65535, np.uint16) if depth == 16 else (255, np.uint8)
    return (prediction * white).round().clip(0, white).astype(kind)


def record(prediction: Float[Array, "H W C"], spec: TaskSpec) -> dict[str, Any]:
    """Return an empty record, because the image is a separate file."""
    return {}


def details(
    truths: Sequence[Integer[Array, "_ _ ..."]], predictions: Sequence[Float[Array, "_ _ C"]], spec: TaskSpec, bins: int
) -> dict[str, Any]:
    """Return no details."""
    return {}
