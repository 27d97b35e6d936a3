"""Regions without a label that may show an object, compared with known objects whose labels are hidden.

Axes: S side of the downsampled image, K classes: the background and the classes of objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, label, uniform_filter

from stages.core.shapes import Array, Bool, Float, Integer
from stages.dataset.annotations import Annotation, ObjectAnnotation
from stages.probes.downsampled import box_in_pixels, object_mask

MIN_AREA = 4  # area of a region, downsampled pixels
LOWEST = 0.1
"""Largest share of the hidden known objects that is not admitted, half by probability and half by fit."""
NEAR = 0.8
"""Share of the median of the hidden known objects that is always admitted, because similar objects vary little."""
MAX_HIDDEN = 10  # maximum number of known objects of an image whose labels are hidden, one at a time
SMOOTH = 3  # side of the window that removes single pixels, downsampled pixels
COVER = 0.6  # share of predicted pixels in the window


@dataclass(frozen=True)
class Region:
    """Connected region of a predicted class without a label."""

    k: int
    """Predicted class, from 1."""
    objects: int
    """Estimated number of objects: its area divided by that of a typical object."""
    probability: float
    """Mean probability of the class."""
    fit: float
    """Largest mean probability in a window with the area of a typical object; labelled pixels count as 0.

    It is low for narrow regions between labelled objects, into which no object fits."""
    box: tuple[float, float, float, float]
    """Box (x0, y0, x1, y1) in pixels of the original image."""


@dataclass(frozen=True)
class ImageLabels:
    """Labels of one image, downsampled."""

    shapes: tuple[ObjectAnnotation, ...]
    """The labelled objects."""
    classes: list[int]
    """Class of each object, from 1."""
    covered: list[Bool[Array, "S S"]]
    """Pixels of each object."""
    typical_K: Float[Array, " K"]
    """Area of a typical object of each class, in this image where it has one."""
    size: tuple[int, int]
    """Height and width of the image in pixels."""


def downsample_labels(
    annotation: Annotation, names: list[str], size: tuple[int, int], typical_K: Float[Array, " K"]
) -> ImageLabels:
    """Return the downsampled labels of one image.

    Args:
        annotation: labels of the image.
        names: classes of objects.
        size: height and width of the image in pixels.
        typical_K: area of a typical object of each class in all images, downsampled pixels.
    """
    shapes = annotation.shapes or ()
    classes = [1 + names.index(shape.label) for shape in shapes]
    covered = [object_mask(shape, *size) for shape in shapes]
    own_K = typical_K.copy()
    for k in range(1, len(names) + 1):
        own = [c.sum() for c, s, of in zip(covered, shapes, classes, strict=True) if of == k and not s.crowd]
        own_K[k] = np.median(own) if own else typical_K[k]
    return ImageLabels(shapes, classes, covered, own_K, size)


def find_regions(
    p_SSK: Float[Array, "S S K"], k: int, unlabelled_SS: Bool[Array, "S S"], image: ImageLabels
) -> list[Region]:
    """Return the regions of a predicted class without a label, from half of the area of a typical object.

    Args:
        p_SSK: predicted probability of each class.
        k: class, from 1.
        unlabelled_SS: pixels without a label.
        image: labels of the image.
    """
    number_SS, large = _number_regions(p_SSK, k, unlabelled_SS, image)
    return _describe(p_SSK, k, unlabelled_SS, image, number_SS, large)


def hide_objects(
    p_SSK: Float[Array, "S S K"], unlabelled_SS: Bool[Array, "S S"], image: ImageLabels, seed: int
) -> list[Region]:
    """Return the regions of known objects, each as if it alone had no label; objects that give no region are left out.

    Args:
        p_SSK: predicted probability of each class.
        unlabelled_SS: pixels without a label.
        image: labels of the image.
        seed: seed of the choice of objects in images with many.
    """
    known = [place for place, shape in enumerate(image.shapes) if not shape.crowd]
    chosen = np.random.default_rng(seed).permutation(known)[:MAX_HIDDEN]
    labels_SS = np.sum(image.covered, axis=0) if known else np.zeros(unlabelled_SS.shape, int)
    regions = []
    for place in chosen.tolist():
        own_SS, k = image.covered[place], image.classes[place]
        without_SS = unlabelled_SS | (own_SS & (labels_SS == 1))
        number_SS, large = _number_regions(p_SSK, k, without_SS, image)
        covered = np.bincount(number_SS[own_SS], minlength=number_SS.max() + 1)
        largest = [max(large, key=lambda number: covered[number])] if covered[large].any() else []
        regions += _describe(p_SSK, k, without_SS, image, number_SS, largest)
    return regions


def _number_regions(
    p_SSK: Float[Array, "S S K"], k: int, unlabelled_SS: Bool[Array, "S S"], image: ImageLabels
) -> tuple[Integer[Array, "S S"], list[int]]:
    """Return the number of the region of each pixel, 0 outside, and the numbers of the large regions."""
    predicted_SS = uniform_filter((p_SSK.argmax(axis=2) == k).astype(float), SMOOTH) > COVER
    number_SS, _ = label(predicted_SS & unlabelled_SS)
    areas = np.bincount(number_SS.ravel())
    least = max(MIN_AREA, image.typical_K[k] / 2)
    return number_SS, [number for number in range(1, len(areas)) if areas[number] >= least]


def _describe(
    p_SSK: Float[Array, "S S K"],
    k: int,
    unlabelled_SS: Bool[Array, "S S"],
    image: ImageLabels,
    number_SS: Integer[Array, "S S"],
    numbers: list[int],
) -> list[Region]:
    """Return the regions with these numbers, with their probability and fit."""
    if not numbers:
        return []
    p_SS, typical = p_SSK[:, :, k], max(MIN_AREA, float(image.typical_K[k]))
    deviation = np.sqrt(typical / (2 * np.pi))  # the integral of the window, divided by its peak, is the typical area
    fit_SS = gaussian_filter(np.where(unlabelled_SS, p_SS, 0), deviation, truncate=3)
    regions = []
    for number in numbers:
        inside_SS = number_SS == number
        objects = max(1, round(float(inside_SS.sum()) / typical))
        probability, fit = float(p_SS[inside_SS].mean()), float(fit_SS[inside_SS].max())
        regions.append(Region(k, objects, probability, fit, box_in_pixels(inside_SS, *image.size)))
    return regions


@dataclass(frozen=True)
class Limits:
    """Least probability and fit of a region that is reported as an unlabelled object of a class."""

    probability: float
    fit: float

    def admit(self, region: Region) -> bool:
        """Return whether a region is as probable as known objects, and fits as well."""
        return region.probability >= self.probability and region.fit >= self.fit


def limits(hidden: Sequence[Region]) -> Limits:
    """Return limits that at least nine tenths of the hidden known objects reach; infinite without hidden objects."""
    if not hidden:
        return Limits(np.inf, np.inf)
    figures = [(region.probability, region.fit) for region in hidden]
    probability, fit = np.minimum(np.quantile(figures, LOWEST / 2, axis=0), NEAR * np.median(figures, axis=0))
    return Limits(float(probability), float(fit))
