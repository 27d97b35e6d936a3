"""Wrong objects: unlabelled objects, labels without an object, and objects with a wrong class.

Axes: N images, S side of the downsampled image, K classes: the background and the classes of objects.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.ndimage import label, uniform_filter

from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.label_errors.wrong_numbers import compare_numbers, list_weak
from stages.audits.power import Power, choose_planted, require_power
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.core.shapes import Array, Bool, Float, UInt8
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation
from stages.dataset.manifest import parse_annotations
from stages.probes.downsampled import box_in_pixels, downsample_images, downsample_objects, object_classes, object_mask
from stages.probes.pixel_classifier import predict_pixels

MIN_IMAGES = 10
MIN_DICE = 0.5  # minimum Dice of the baseline for a class, over all images
MIN_AREA = 4  # area of the median object, downsampled pixels; of smaller objects, only the count is checked
NO_OBJECT = 0.1  # mean probability of the labelled class in an object, below which the label has no object
OTHER_CLASS = 0.7  # mean probability of another class in an object, from which the class is wrong
MAX_PLANTED = 20  # maximum number of images with a planted fault
FAR = 3.5  # robust standard deviations of the number of unlabelled objects


@dataclass
class ImageErrors:
    """Possible label errors of one image."""

    missing_K: Float[Array, " K"]
    """Estimated number of unlabelled objects of each class."""
    without_object: list[int]
    """Indices of labels without a predicted object."""
    wrong_class: list[tuple[int, int]]
    """Indices of labels with another predicted class, and that class."""
    boxes: list[tuple[float, float, float, float]]
    """Boxes (x0, y0, x1, y1) of unlabelled regions, in pixels of the original image."""


def find(data: AuditData) -> Found:
    """Report wrong objects; for dots and very small objects, wrong counts per image (`label_errors/numbers`)."""
    rows = data.sample
    all_annotations = parse_annotations(rows)
    if all_annotations[0].shapes is None:
        return [], []
    names = object_classes(all_annotations)
    if len(rows) < MIN_IMAGES or not names:
        return [], [
            f"Objects were not checked: {quantity(len(rows), 'image')} with {quantity(len(names), 'class', 'classes')} "
            f"of objects; at least {MIN_IMAGES} images and 1 class are required."
        ]
    index_NSS, areas = downsample_objects(rows, names)
    if np.median(np.concatenate(areas)) < MIN_AREA:
        count_NK = [
            [sum(s.label == name for s in annotation.shapes or ()) for name in names] for annotation in all_annotations
        ]
        return compare_numbers(data, [f"number of {name}" for name in names], np.array(count_NK, float))
    typical_K = np.array([0, *(np.median(of_class) for of_class in areas)])
    planted = _plant(all_annotations, names)
    errors, dice_K, of_planted = _image_errors(data, all_annotations, names, index_NSS, typical_K, planted)
    skilled = [k for k in range(1, len(dice_K)) if dice_K[k] >= MIN_DICE]
    weak = [f"{names[k - 1]} (Dice {dice_K[k]:.2f})" for k in range(1, len(dice_K)) if k not in skilled]
    unchecked: list[str] = []
    if weak:
        unchecked = [
            f"Objects were not checked for {list_weak(weak)}: the Dice of the baseline must be at least {MIN_DICE}."
        ]
    if not skilled:
        return [], unchecked
    errors = [_only_skilled(*one, names, skilled) for one in zip(errors, all_annotations, strict=True)]
    found = _finding(data, all_annotations, names, errors, dice_K, skilled)
    powers = []
    for fault, annotations in planted.items() if found.severity == "passed" else ():
        count = 0
        for n, annotation in annotations.items():
            changed = [*all_annotations[:n], annotation, *all_annotations[n + 1 :]]
            with_fault = _only_skilled(of_planted[fault, n], annotation, names, skilled)
            ranked, _ = _ranked_images([*errors[:n], with_fault, *errors[n + 1 :]], changed, names, skilled)
            count += n in {place for _, place, _ in ranked}
        missing = "Objects that the baseline detects better, or more images, are required."
        alarms = f"false alarms in 0 of {quantity(len(rows), 'image')}"
        powers.append(Power(fault, count, len(annotations), missing, alarms))
    return require_power(found, powers), unchecked


def _plant(all_annotations: list[Annotation], names: list[str]) -> dict[str, dict[int, Annotation]]:
    """Return the changed annotations of some images, by fault and image."""
    labelled = np.flatnonzero([bool(annotation.shapes) for annotation in all_annotations])
    chosen = {int(n): all_annotations[n] for n in labelled[choose_planted(len(labelled), MAX_PLANTED)]}
    faults = {"images without the labels of their objects": {n: replace(one, shapes=()) for n, one in chosen.items()}}
    if len(names) > 1:
        faults["images with an object of another class"] = {
            n: replace(one, shapes=(_of_another_class(one, names), *(one.shapes or ())[1:]))
            for n, one in chosen.items()
        }
    return faults


def _of_another_class(annotation: Annotation, names: list[str]) -> ObjectAnnotation:
    """Return the first object with the next class."""
    first = (annotation.shapes or ())[0]
    return replace(first, label=names[(names.index(first.label) + 1) % len(names)])


def _image_errors(
    data: AuditData,
    all_annotations: list[Annotation],
    names: list[str],
    index_NSS: UInt8[Array, "N S S"],
    typical_K: Float[Array, " K"],
    planted: dict[str, dict[int, Annotation]],
) -> tuple[list[ImageErrors], Float[Array, " K"], dict[tuple[str, int], ImageErrors]]:
    """Return the possible label errors of each image, the Dice of the baseline, and the errors with planted labels."""
    rows, classes = data.sample, len(names) + 1
    sizes = list(zip(rows["height"].tolist(), rows["width"].tolist(), strict=True))
    image_NSSC = downsample_images(rows, data.folder)
    errors: list[Any] = [None] * len(rows)
    of_planted: dict[tuple[str, int], ImageErrors] = {}
    both_K, sum_K = np.zeros(classes), np.zeros(classes)
    for n, p_SSK in predict_pixels(image_NSSC, index_NSS, rows["group"].to_numpy(), classes):
        given_SS, predicted_SS = index_NSS[n], p_SSK.argmax(axis=2)
        known_SS = given_SS != IGNORE_INDEX
        for k in range(classes):
            both_K[k] += ((given_SS == k) & (predicted_SS == k)).sum()
            sum_K[k] += (given_SS == k).sum() + ((predicted_SS == k) & known_SS).sum()
        errors[n] = _errors_of_image(p_SSK, given_SS == 0, all_annotations[n], names, sizes[n], typical_K)
        for fault, annotations in planted.items():
            if n in annotations:
                unlabelled_SS = known_SS if not annotations[n].shapes else given_SS == 0
                of_planted[fault, n] = _errors_of_image(
                    p_SSK, unlabelled_SS, annotations[n], names, sizes[n], typical_K
                )
    return errors, 2 * both_K / np.maximum(sum_K, 1), of_planted


def _errors_of_image(
    p_SSK: Float[Array, "S S K"],
    unlabelled_SS: Bool[Array, "S S"],
    annotation: Annotation,
    names: list[str],
    size: tuple[int, int],
    typical_K: Float[Array, " K"],
) -> ImageErrors:
    """Return the possible label errors of one image.

    Args:
        p_SSK: predicted probability of each class.
        unlabelled_SS: pixels without a label.
        annotation: labels of the image.
        names: classes of objects.
        size: height and width of the image in pixels.
        typical_K: area of a typical object of each class, downsampled pixels.
    """
    of_image = ImageErrors(np.zeros(len(names) + 1), [], [], [])
    shapes, predicted_SS = annotation.shapes or (), p_SSK.argmax(axis=2)
    covered = [object_mask(shape, *size) for shape in shapes]
    for k in range(1, len(names) + 1):
        own = [c.sum() for c, s in zip(covered, shapes, strict=True) if s.label == names[k - 1] and not s.crowd]
        regions = _unlabelled_regions(predicted_SS == k, unlabelled_SS, float(np.median(own)) if own else typical_K[k])
        of_image.missing_K[k] = sum(count for count, _ in regions)
        of_image.boxes += [box_in_pixels(region, *size) for _, region in regions]
    for place, (shape, covered_SS) in enumerate(zip(shapes, covered, strict=True)):
        if shape.crowd or covered_SS.sum() < MIN_AREA:
            continue
        inside_K = p_SSK[covered_SS].mean(axis=0)
        best, own_class = int(inside_K.argmax()), 1 + names.index(shape.label)
        if best not in (0, own_class) and inside_K[best] > OTHER_CLASS:
            of_image.wrong_class.append((place, best))
        elif inside_K[own_class] < NO_OBJECT:
            of_image.without_object.append(place)
    return of_image


def _only_skilled(of_image: ImageErrors, annotation: Annotation, names: list[str], skilled: list[int]) -> ImageErrors:
    """Return the errors without labels of classes that the baseline does not detect, which are not checked.

    Args:
        of_image: possible label errors of an image.
        annotation: labels of the image.
        names: classes of objects.
        skilled: classes that the baseline detects, from 1.
    """
    labels = [1 + names.index(shape.label) for shape in annotation.shapes or ()]
    return replace(
        of_image,
        without_object=[place for place in of_image.without_object if labels[place] in skilled],
        wrong_class=[(place, k) for place, k in of_image.wrong_class if k in skilled],
    )


def _unlabelled_regions(
    predicted_SS: Bool[Array, "S S"], unlabelled_SS: Bool[Array, "S S"], typical: float
) -> list[tuple[int, Bool[Array, "S S"]]]:
    """Return (number of objects of typical area, mask) of each region of a predicted class without a label.

    Args:
        predicted_SS: pixels of the predicted class.
        unlabelled_SS: pixels without a label.
        typical: area of a typical object, downsampled pixels.
    """
    number_SS, _ = label((uniform_filter(predicted_SS.astype(float), 3) > 0.6) & unlabelled_SS)
    sizes = np.bincount(number_SS.ravel())
    large = [number for number in range(1, len(sizes)) if sizes[number] >= max(MIN_AREA, typical / 2)]
    return [(max(1, round(sizes[number] / max(MIN_AREA, typical))), number_SS == number) for number in large]


def _ranked_images(
    errors: list[ImageErrors], all_annotations: list[Annotation], names: list[str], skilled: list[int]
) -> Any:
    """Return (weight, index, description) of images with possible errors, and the median unlabelled count by class."""
    labelled_NK = np.array(
        [[sum(s.label == name for s in annotation.shapes or ()) for name in names] for annotation in all_annotations]
    )
    missing_NK = np.array([of_image.missing_K[1:] for of_image in errors])
    median_K = np.median(missing_NK, axis=0)
    spread_K = np.maximum(1.4826 * np.median(abs(missing_NK - median_K), axis=0), 1)
    surplus_NK = (missing_NK - median_K) / spread_K
    unusual_NK = (surplus_NK > FAR) | ((missing_NK > labelled_NK) & (surplus_NK >= 1))
    ranked = []
    for n, of_image in enumerate(errors):
        unlabelled = [k for k in range(len(names)) if unusual_NK[n, k] and k + 1 in skilled]
        words = [f"{missing_NK[n, k]:g} {names[k]} unlabelled?" for k in unlabelled]
        words += [f"{len(of_image.without_object)} without an object?"] if of_image.without_object else []
        others = [names[k - 1] for _, k in of_image.wrong_class]
        words += [f"{others.count(name)} {name} instead?" for name in sorted(set(others))]
        if words:
            ranked.append(
                (sum(surplus_NK[n, unlabelled]) + len(of_image.without_object) + len(others), n, ", ".join(words))
            )
    return sorted(ranked, key=lambda entry: -entry[0]), dict(zip(names, median_K.tolist(), strict=True))


def _finding(
    data: AuditData,
    all_annotations: list[Annotation],
    names: list[str],
    errors: list[ImageErrors],
    dice_K: Float[Array, " K"],
    skilled: list[int],
) -> Finding:
    paths = list(data.sample["path"])
    ranked, usual = _ranked_images(errors, all_annotations, names, skilled)
    evidence: dict[str, Any] = {
        "images": len(paths),
        "objects": sum(len(annotation.shapes or ()) for annotation in all_annotations),
        "dice_of_class": {name: float(dice_K[k]) for k, name in enumerate(names, 1)},
        "usually_unlabelled": {names[k - 1]: usual[names[k - 1]] for k in skilled},
    }
    if not ranked:
        message = (
            "The out-of-fold predictions of the baseline do not suggest label errors of objects in "
            f"{quantity(len(paths), 'image')}."
        )
        return Finding("label_errors/objects", "passed", message, evidence)
    evidence["which"] = [f"{paths[n]} ({words})" for _, n, words in ranked[:50]]
    unlabelled = sum("unlabelled" in words for *_, words in ranked)
    without = sum(len(of_image.without_object) for of_image in errors)
    wrong = sum(len(of_image.wrong_class) for of_image in errors)
    message = (
        f"The out-of-fold predictions of the baseline suggest {quantity(unlabelled, 'image')} with unlabelled objects, "
        f"{quantity(without, 'label')} without an object, and {quantity(wrong, 'object')} with a wrong class in "
        f"{quantity(len(paths), 'image')}. The regions are outlined: check them."
    )
    captions = {paths[n]: words for _, n, words in ranked[:24]}
    places = {paths[n]: _boxes(errors[n], all_annotations[n]) for _, n, _ in ranked[:24]}
    found = Finding("label_errors/objects", "warning", message, evidence, list(captions), captions, places)
    return unless_too_many(found, unlabelled + without + wrong, max(1, evidence["objects"]), "objects")


def _boxes(of_image: ImageErrors, annotation: Annotation) -> list[tuple[float, float, float, float]]:
    shapes = annotation.shapes or ()
    return [
        *of_image.boxes,
        *(shapes[p].box for p in of_image.without_object),
        *(shapes[p].box for p, _ in of_image.wrong_class),
    ]
