"""Another image: denoised, restored, or any picture that lies pixel on pixel over the first.

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
"""Means over the images."""
TRUTHS = ("image",)
DRAWN = True
K1, K2, SIGMA = 0.01, 0.03, 1.5  # of SSIM (Wang et al. 2004)


def truth(annotation: Annotation, target: Array | None, height: int, width: int, spec: TaskSpec) -> Array:
    """The wanted image, as its file has it."""
    if target is None or target.shape[:2] != (height, width):
        raise ValueError("has no paired image of its own size")
    return target


def decode(outputs: dict[str, Array], spec: TaskSpec) -> Array:
    """[H, W, C], white = 1."""
    return outputs["restored"]


def _both(truth: Array, answer: Array) -> tuple[Array, Array]:
    """[H, W, C] of one number of channels, white = 1."""
    from stages.images.decode import to_channels

    white = 65535.0 if truth.dtype == np.uint16 else 255.0
    return to_channels(truth, answer.shape[2]).astype(np.float32) / white, answer


def psnr(truth: Array, answer: Array) -> float:
    """10 log10(1 / mean squared difference) in dB; of equal images 100, to stay finite."""
    true, given = _both(truth, answer)
    return float(min(100.0, -10 * np.log10(max(float(((true - given) ** 2).mean()), 1e-10))))


def ssim(truth: Array, answer: Array) -> float:
    """Structural similarity, Gaussian windows of deviation 1.5, mean over pixels and channels (Wang et al. 2004)."""
    from scipy.ndimage import gaussian_filter

    true, given = _both(truth, answer)

    def blurred(values: Array) -> Array:
        return gaussian_filter(values.astype(np.float64), (SIGMA, SIGMA, 0), truncate=3.5)

    mean_a, mean_b = blurred(true), blurred(given)
    var_a, var_b = blurred(true**2) - mean_a**2, blurred(given**2) - mean_b**2
    covariance = blurred(true * given) - mean_a * mean_b
    c1, c2 = K1**2, K2**2
    top = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def _off(truth: Array, answer: Array) -> float:
    true, given = _both(truth, answer)
    return float(np.abs(true - given).mean())


def scores(truths: Sequence[Array], answers: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> dict[str, Array]:
    """All scores under all weights: name to [R]."""
    pairs = list(zip(truths, answers, strict=True))
    each = {
        "psnr": np.array([psnr(t, a) for t, a in pairs]),
        "ssim": np.array([ssim(t, a) for t, a in pairs]),
        "mean_absolute_error": 255 * np.array([_off(t, a) for t, a in pairs]),
    }
    return {name: weight_RN @ value_N / weight_RN.sum(axis=1) for name, value_N in each.items()}


def parts(truths: Sequence[Array], answers: Sequence[Array], weight_RN: Array, spec: TaskSpec) -> Parts:
    """An image has no parts."""
    return Parts("image", (), (), np.zeros((len(truths), 0), bool), {})


def error(truth: Array, answer: Array, spec: TaskSpec) -> float:
    """Mean absolute difference, white = 1."""
    return _off(truth, answer)


def wrong(truth: Array, answer: Array, spec: TaskSpec) -> bool:
    """Images are never exact: every answer is worth its place in the order."""
    return True


def says(thing: Array, spec: TaskSpec) -> str:
    """How bright it is."""
    white = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}.get(thing.dtype, 1.0)
    return f"mean grey level {255 * float(thing.mean()) / white:.0f}"


def draw(image: Array, thing: Array, spec: TaskSpec) -> Array:
    """The truth or the answer itself."""
    return as_rgb(thing if thing.dtype in (np.uint8, np.uint16) else as_bytes(thing, 8))


def as_bytes(answer: Array, depth: int) -> Array:
    """An answered image as whole grey levels of 8 or 16 bits."""
    white, kind = (65535, np.uint16) if depth == 16 else (255, np.uint8)
    return (answer * white).round().clip(0, white).astype(kind)


def record(answer: Array, spec: TaskSpec) -> dict[str, Any]:
    """An image is a file of its own."""
    return {}


def details(truths: Sequence[Array], answers: Sequence[Array], spec: TaskSpec, bins: int) -> dict[str, Any]:
    """None beyond the scores."""
    return {}
