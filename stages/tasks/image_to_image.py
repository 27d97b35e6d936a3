"""Image-to-image: predict an image of the same size, such as a denoised or restored image.

Axes: N images, R resamples, H and W of the original image, C channels.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.dataset.annotations import Annotation
from stages.tasks.overlays import as_rgb
from stages.tasks.task_interface import Parts, Score
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]

SCORES = {
    "psnr": Score("higher", "dB", share=False),
    "ssim": Score("higher"),
    "mean_absolute_error": Score("lower", "grey levels of 255", share=False),
}
"""Scores; each is a mean over images."""
TRUTHS = ("image",)
DRAWN = True
K1, K2, SIGMA = 0.01, 0.03, 1.5  # constants of SSIM (Wang et al. 2004)


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Array:
    """Return the target image with the levels of its file."""
    if target is None or target.shape[:2] != (height, width):
        raise ValueError("has no paired image of its own size")
    return target


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Array:
    """Return the predicted image [H, W, C], white = 1."""
    return outputs["restored"]


def _both(truth: Array, prediction: Array) -> tuple[Array, Array]:
    """Return truth and prediction [H, W, C] with the same number of channels, white = 1."""
    from stages.images.decode import to_channels

    white = 65535.0 if truth.dtype == np.uint16 else 255.0
    return to_channels(truth, prediction.shape[2]).astype(np.float32) / white, prediction


def psnr(truth: Array, prediction: Array) -> float:
    """Return the peak signal-to-noise ratio, 10 log10(1 / mean squared error), in dB; 100 for equal images."""
    true, given = _both(truth, prediction)
    return float(min(100.0, -10 * np.log10(max(float(((true - given) ** 2).mean()), 1e-10))))


def ssim(truth: Array, prediction: Array) -> float:
    """Return the structural similarity with Gaussian windows (deviation 1.5), averaged (Wang et al. 2004)."""
    from scipy.ndimage import gaussian_filter

    true, given = _both(truth, prediction)

    def blurred(values: Array) -> Array:
        return gaussian_filter(values.astype(np.float64), (SIGMA, SIGMA, 0), truncate=3.5)

    mean_a, mean_b = blurred(true), blurred(given)
    var_a, var_b = blurred(true**2) - mean_a**2, blurred(given**2) - mean_b**2
    covariance = blurred(true * given) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _off(truth: Array, prediction: Array) -> float:
    true, given = _both(truth, prediction)
    return float(np.abs(true - given).mean())


def scores(truths: Sequence[Array], predictions: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> dict[str, Array]:
    """Return every score under all bootstrap weights, each [R]."""
    pairs = list(zip(truths, predictions, strict=True))
    each = {
        "psnr": np.array([psnr(t, a) for t, a in pairs]),
        "ssim": np.array([ssim(t, a) for t, a in pairs]),
        "mean_absolute_error": 255 * np.array([_off(t, a) for t, a in pairs]),
    }
    return {name: weight_RN @ value_N / weight_RN.sum(axis=1) for name, value_N in each.items()}


def parts(truths: Sequence[Array], predictions: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> Parts:
    """Return no parts, because an image has none."""
    return Parts("image", (), (), np.zeros((len(truths), 0), bool), {})


def error(truth: Array, prediction: Array, spec: TaskSpec) -> float:
    """Return the mean absolute difference, white = 1."""
    return _off(truth, prediction)


def wrong(truth: Array, prediction: Array, spec: TaskSpec) -> bool:
    """Return True, because predicted images are never exact."""
    return True


def describe(value: Array, spec: TaskSpec) -> str:
    """Return the mean grey level."""
    white = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(value.dtype, 1.0)
    return f"mean grey level {255 * float(value.mean()) / white:.0f}"


def draw(image: Array, value: Array, spec: TaskSpec) -> Array:
    """Return the true or predicted image."""
    return as_rgb(value if value.dtype in (np.uint8, np.uint16) else as_bytes(value, 8))


def as_bytes(prediction: Array, depth: int) -> Array:
    """Return a predicted image as integer levels of 8 or 16 bits."""
    white, kind = (65535, np.uint16) if depth == 16 else (255, np.uint8)
    return (prediction * white).round().clip(0, white).astype(kind)


def record(prediction: Array, spec: TaskSpec) -> dict[str, Any]:
    """Return an empty record, because the image is a separate file."""
    return {}


def details(truths: Sequence[Array], predictions: Sequence[Array], spec: TaskSpec, bins: int) -> dict[str, Any]:
    """Return no details."""
    return {}
