"""Power laws of the error as a function of the number of training images, and their extrapolation."""

from dataclasses import dataclass

import numpy as np

from stages.core.shapes import Array, Float, Real

EXPONENTS = np.linspace(0.02, 2, 100)


@dataclass(frozen=True)
class PowerLaw:
    """Power laws a n^-b + c of B curves; each curve has its own a, b and c."""

    a: Float[Array, " B"]
    b: Float[Array, " B"]
    c: Float[Array, " B"]

    def __call__(self, images: Real[Array, " M"] | float) -> Float[Array, "B M"]:
        """Return the error of each curve at M numbers of images, or at a single number (M = 1)."""
        return self.a[:, None] * np.atleast_1d(images)[None] ** -self.b[:, None] + self.c[:, None]


def fit(images_J: Real[Array, " J"], error_BJ: Float[Array, "B J"], floor: bool) -> PowerLaw:
    """Fit power laws to B curves by least squares.

    Args:
        images_J: numbers of training images, positive.
        error_BJ: errors of the curves at these numbers.
        floor: whether to include a constant c >= 0; otherwise c is 0. Laws with a floor predict a smaller gain for many
            images (Hestness et al. 2017; Rosenfeld et al. 2020).
    """
    unit = float(images_J.mean())
    best, law = np.full(len(error_BJ), np.inf), np.zeros((3, len(error_BJ)))
    for b in EXPONENTS:
        x_J = (images_J / unit) ** -b
        a, c = _line(x_J, error_BJ) if floor else (error_BJ @ x_J / (x_J @ x_J), np.zeros(len(error_BJ)))
        left = ((error_BJ - a[:, None] * x_J - c[:, None]) ** 2).sum(axis=1)
        better = left < best - 1e-15
        best[better] = left[better]
        law[:, better] = a[better] * unit**b, np.full(better.sum(), b), c[better]
    return PowerLaw(*law)


def _line(x_J: Float[Array, " J"], error_BJ: Float[Array, "B J"]) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Return the non-negative slope and intercept of a least-squares line."""
    centred = x_J - x_J.mean()
    a = np.maximum(error_BJ @ centred / (centred @ centred), 0)
    c = error_BJ.mean(axis=1) - a * x_J.mean()
    through_zero = c < 0
    return np.where(through_zero, error_BJ @ x_J / (x_J @ x_J), a), np.maximum(c, 0)


@dataclass(frozen=True)
class Extrapolation:
    """Extrapolation of one curve and its bootstrap replicates by power laws with and without a floor.

    Values come from the law with a floor, which was unbiased in benchmarks. Intervals are the union of the
    intervals of both laws.
    """

    laws: tuple[PowerLaw, PowerLaw]
    """Laws of the measured curve, B = 1: with and without a floor."""
    resampled: tuple[PowerLaw, PowerLaw]
    """Laws of the bootstrap replicates: with and without a floor."""

    def error(
        self, images: Real[Array, " M"] | float
    ) -> tuple[Float[Array, " M"], Float[Array, " M"], Float[Array, " M"]]:
        """Return the error at M numbers of images, and the lower and upper ends of its 95 % interval."""
        middle = self.laws[0](images)[0]
        low = np.min([np.quantile(law(images), 0.025, axis=0) for law in self.resampled], axis=0)
        high = np.max([np.quantile(law(images), 0.975, axis=0) for law in self.resampled], axis=0)
        return middle, np.minimum(low, middle), np.maximum(high, middle)

    def gain(self, now: float, then: float) -> tuple[float, float, float]:
        """Return the reduction of the error from `now` to `then` images, and its 95 % interval."""
        middle = self.laws[0](now)[0, 0] - self.laws[0](then)[0, 0]
        gains = [(law(now) - law(then))[:, 0] for law in self.resampled]
        low, high = min(np.quantile(g, 0.025) for g in gains), max(np.quantile(g, 0.975) for g in gains)
        return float(middle), float(min(low, middle)), float(max(high, middle))

    def needed(self, now: float, gain: float, most: float) -> tuple[float, float, float]:
        """Return the number of images that reduces the error by `gain`, and its 95 % interval.

        Args:
            now: present number of images.
            gain: reduction of the error, 0 to 1.
            most: maximum number of images; the result is infinite if it does not suffice.
        """
        grid = np.geomspace(now, most, 2000)
        each = [_first(law(grid), gain, grid) for law in self.resampled]
        low = min(np.quantile(n, 0.025, method="lower") for n in each)
        high = max(np.quantile(n, 0.975, method="higher") for n in each)
        found = float(_first(self.laws[0](grid), gain, grid)[0])
        return found, float(min(low, found)), float(max(high, found))


def extrapolate(
    images_J: Real[Array, " J"], error_J: Float[Array, " J"], resampled_BJ: Float[Array, "B J"]
) -> Extrapolation:
    """Fit power laws with and without a floor to a curve and to its bootstrap replicates.

    The replicates share the training subsets. The uncertainty due to these subsets is added as normal noise with the
    residual standard deviation of the law with a floor (J - 3 degrees of freedom).

    Args:
        images_J: numbers of training images.
        error_J: measured errors.
        resampled_BJ: bootstrap replicates of the errors.
    """
    both = (True, False)
    one, other = (fit(images_J, error_J[None], floor) for floor in both)
    deviation = np.sqrt(((one(images_J)[0] - error_J) ** 2).sum() / max(1, len(images_J) - 3))
    scattered_BJ = resampled_BJ + np.random.default_rng(0).normal(0, deviation, resampled_BJ.shape)
    found, without = (fit(images_J, np.maximum(scattered_BJ, 0), floor) for floor in both)
    return Extrapolation((one, other), (found, without))


def _first(error_BM: Float[Array, "B M"], gain: float, grid_M: Float[Array, " M"]) -> Float[Array, " B"]:
    """Return the smallest number of images at which the error of each curve is lower by `gain`; infinity if none."""
    fallen = error_BM <= error_BM[:, :1] - gain
    return np.where(fallen.any(axis=1), grid_M[fallen.argmax(axis=1)], np.inf)
