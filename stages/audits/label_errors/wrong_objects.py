"""Wrong objects: unlabelled objects, labels without an object, and objects with a wrong class.

Axes: N images, S side of the downsampled image, K classes: the background and the classes of objects.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stages.audits.audit_data import AuditData
from stages.audits.label_errors.not_understood import unless_too_many
from stages.audits.label_errors.unlabelled_regions import (
    MIN_AREA,
    ImageLabels,
    Limits,
    Region,
    downsample_labels,
    find_regions,
    hide_objects,
    limits,
)
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.label_errors.wrong_numbers import compare_numbers, list_weak
from stages.audits.power import Power, choose_planted, require_power
from stages.core.findings import Finding
from stages.core.plurals import quantity
from stages.core.shapes import Array, Bool, Float, UInt8
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation
from stages.dataset.manifest import parse_annotations
from stages.probes.downsampled import downsample_images, downsample_objects, object_classes
from stages.probes.pixel_classifier import predict_pixels

MIN_IMAGES = 10
MIN_DICE = 0.5  # minimum Dice of the baseline for a class, over all images
NO_OBJECT = 0.1  # mean probability of the labelled class in an object, below which the label has no object
OTHER_CLASS = 0.7  # mean probability of another class in an object, from which the class is wrong
MAX_PLANTED = 20  # maximum number of images with a planted fault
FAR = 3.5  # robust standard deviations of the number of unlabelled objects


@dataclass
class ImageErrors:
    """Possible label errors of one image."""

    unlabelled: list[Region]
    """Regions of predicted classes without a label."""
    without_object: list[int]
    """Indices of labels without a predicted object."""
    wrong_class: list[tuple[int, int]]
    """Indices of labels with another predicted class, and that class."""


@dataclass(frozen=True)
class Predictions:
    """Possible label errors of all images according to the out-of-fold predictions of the baseline."""

    errors: list[ImageErrors]
    """Possible label errors of each image."""
    of_planted: dict[tuple[str, int], ImageErrors]
    """Possible label errors of an image with a planted fault, by fault and image."""
    hidden: list[Region]
    """Regions of known objects whose labels were hidden."""
    dice_K: Float[Array, " K"]
    """Dice of the baseline for each class."""


@dataclass(frozen=True)
class Suspect:
    """Image with possible label errors that are reported."""

    weight: float
    """Order in the report: the highest first."""
    place: int
    """Index of the image."""
    words: str
    """The errors in words."""
    boxes: list[tuple[float, float, float, float]]
    """Boxes (x0, y0, x1, y1) of the errors, in pixels of the original image."""


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
    predicted = _predict(data, all_annotations, names, index_NSS, typical_K, planted)
    dice_K = predicted.dice_K
    skilled = [k for k in range(1, len(dice_K)) if dice_K[k] >= MIN_DICE]
    weak = [f"{names[k - 1]} (Dice {dice_K[k]:.2f})" for k in range(1, len(dice_K)) if k not in skilled]
    unchecked: list[str] = []
    if weak:
        unchecked = [
            f"Objects were not checked for {list_weak(weak)}: the Dice of the baseline must be at least {MIN_DICE}."
        ]
    if not skilled:
        return [], unchecked
    limit_K = {k: limits([region for region in predicted.hidden if region.k == k]) for k in skilled}
    if invisible := [names[k - 1] for k in skilled if limit_K[k].probability == np.inf]:
        unchecked.append(
            f"Unlabelled objects of {list_weak(invisible)} were not checked: no known object whose label was hidden is "
            "found again."
        )
    errors = [_only_certain(*one, names, limit_K) for one in zip(predicted.errors, all_annotations, strict=True)]
    found = _finding(data, all_annotations, names, errors, predicted, skilled)
    powers = []
    for fault, annotations in planted.items() if found.severity == "passed" else ():
        count = 0
        for n, annotation in annotations.items():
            changed = [*all_annotations[:n], annotation, *all_annotations[n + 1 :]]
            with_fault = _only_certain(predicted.of_planted[fault, n], annotation, names, limit_K)
            suspects, _ = _suspects([*errors[:n], with_fault, *errors[n + 1 :]], changed, names, skilled)
            count += n in {suspect.place for suspect in suspects}
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


def _predict(
    data: AuditData,
    all_annotations: list[Annotation],
    names: list[str],
    index_NSS: UInt8[Array, "N S S"],
    typical_K: Float[Array, " K"],
    planted: dict[str, dict[int, Annotation]],
) -> Predictions:
    """Compare the labels of each image with its out-of-fold prediction, as they are and with planted faults.

    Args:
        data: input of the audit.
        all_annotations: labels of each image.
        names: classes of objects.
        index_NSS: class of each pixel, as in `downsample_objects`.
        typical_K: area of a typical object of each class, downsampled pixels.
        planted: changed labels of some images, by fault and image.
    """
    rows, classes = data.sample, len(names) + 1
    sizes = list(zip(rows["height"].tolist(), rows["width"].tolist(), strict=True))
    image_NSSC = downsample_images(rows, data.folder)
    errors: list[Any] = [None] * len(rows)
    of_planted: dict[tuple[str, int], ImageErrors] = {}
    hidden: list[Region] = []
    both_K, sum_K = np.zeros(classes), np.zeros(classes)
    for n, p_SSK in predict_pixels(image_NSSC, index_NSS, rows["group"].to_numpy(), classes):
        given_SS, predicted_SS = index_NSS[n], p_SSK.argmax(axis=2)
        known_SS = given_SS != IGNORE_INDEX
        for k in range(classes):
            both_K[k] += ((given_SS == k) & (predicted_SS == k)).sum()
            sum_K[k] += (given_SS == k).sum() + ((predicted_SS == k) & known_SS).sum()
        image = downsample_labels(all_annotations[n], names, sizes[n], typical_K)
        errors[n] = _errors_of_image(p_SSK, given_SS == 0, image)
        hidden += hide_objects(p_SSK, given_SS == 0, image, n)
        for fault, annotations in planted.items():
            if n in annotations:
                unlabelled_SS = known_SS if not annotations[n].shapes else given_SS == 0
                changed = downsample_labels(annotations[n], names, sizes[n], typical_K)
                of_planted[fault, n] = _errors_of_image(p_SSK, unlabelled_SS, changed)
    return Predictions(errors, of_planted, hidden, 2 * both_K / np.maximum(sum_K, 1))


def _errors_of_image(
    p_SSK: Float[Array, "S S K"], unlabelled_SS: Bool[Array, "S S"], image: ImageLabels
) -> ImageErrors:
    """Return the possible label errors of one image.

    Args:
        p_SSK: predicted probability of each class.
        unlabelled_SS: pixels without a label.
        image: labels of the image.
    """
    classes = range(1, len(image.typical_K))
    of_image = ImageErrors([r for k in classes for r in find_regions(p_SSK, k, unlabelled_SS, image)], [], [])
    for place, (shape, covered_SS) in enumerate(zip(image.shapes, image.covered, strict=True)):
        if shape.crowd or covered_SS.sum() < MIN_AREA:
            continue
        inside_K = p_SSK[covered_SS].mean(axis=0)
        best, own_class = int(inside_K.argmax()), image.classes[place]
        if best not in (0, own_class) and inside_K[best] > OTHER_CLASS:
            of_image.wrong_class.append((place, best))
        elif inside_K[own_class] < NO_OBJECT:
            of_image.without_object.append(place)
    return of_image


def _only_certain(
    of_image: ImageErrors, annotation: Annotation, names: list[str], limit_K: dict[int, Limits]
) -> ImageErrors:
    """Return the errors of classes that the baseline detects, without regions that look less like an object.

    Args:
        of_image: possible label errors of an image.
        annotation: labels of the image.
        names: classes of objects.
        limit_K: least probability and fit of regions, for each class that the baseline detects.
    """
    labels = [1 + names.index(shape.label) for shape in annotation.shapes or ()]
    return replace(
        of_image,
        unlabelled=[
            region for region in of_image.unlabelled if region.k in limit_K and limit_K[region.k].admit(region)
        ],
        without_object=[place for place in of_image.without_object if labels[place] in limit_K],
        wrong_class=[(place, k) for place, k in of_image.wrong_class if k in limit_K],
    )


def _suspects(
    errors: list[ImageErrors], all_annotations: list[Annotation], names: list[str], skilled: list[int]
) -> tuple[list[Suspect], dict[str, float]]:
    """Return the images with errors to report, and the median number of unlabelled objects of each class."""
    labelled_NK = np.array(
        [[sum(s.label == name for s in annotation.shapes or ()) for name in names] for annotation in all_annotations]
    )
    missing_NK = np.array(
        [[sum(r.objects for r in one.unlabelled if r.k == k + 1) for k in range(len(names))] for one in errors], float
    )
    median_K = np.median(missing_NK, axis=0)
    spread_K = np.maximum(1.4826 * np.median(abs(missing_NK - median_K), axis=0), 1)
    surplus_NK = (missing_NK - median_K) / spread_K
    unusual_NK = (surplus_NK > FAR) | ((missing_NK > labelled_NK) & (surplus_NK >= 1))
    suspects = []
    for n, (of_image, annotation) in enumerate(zip(errors, all_annotations, strict=True)):
        unlabelled = [k for k in range(len(names)) if unusual_NK[n, k] and k + 1 in skilled]
        words = [f"{missing_NK[n, k]:g} {names[k]} unlabelled?" for k in unlabelled]
        words += [f"{len(of_image.without_object)} without an object?"] if of_image.without_object else []
        others = [names[k - 1] for _, k in of_image.wrong_class]
        words += [f"{others.count(name)} {name} instead?" for name in sorted(set(others))]
        if words:
            weight = sum(surplus_NK[n, unlabelled]) + len(of_image.without_object) + len(others)
            places = [*of_image.without_object, *(place for place, _ in of_image.wrong_class)]
            boxes = [region.box for region in of_image.unlabelled if region.k - 1 in unlabelled]
            boxes += [(annotation.shapes or ())[place].box for place in places]
            suspects.append(Suspect(float(weight), n, ", ".join(words), boxes))
    return sorted(suspects, key=lambda one: -one.weight), dict(zip(names, median_K.tolist(), strict=True))


def _finding(
    data: AuditData,
    all_annotations: list[Annotation],
    names: list[str],
    errors: list[ImageErrors],
    predicted: Predictions,
    skilled: list[int],
) -> Finding:
    """Return the finding.

    Args:
        data: input of the audit.
        all_annotations: labels of each image.
        names: classes of objects.
        errors: errors of each image that are certain enough.
        predicted: possible errors of each image, hidden objects and Dice.
        skilled: classes that the baseline detects, from 1.
    """
    paths = list(data.sample["path"])
    suspects, usual = _suspects(errors, all_annotations, names, skilled)
    hidden = sum(region.k in skilled for region in predicted.hidden)
    regions = sum(region.k in skilled for one in predicted.errors for region in one.unlabelled)
    probable = sum(len(one.unlabelled) for one in errors)
    evidence: dict[str, Any] = {
        "images": len(paths),
        "objects": sum(len(annotation.shapes or ()) for annotation in all_annotations),
        "dice_of_class": {name: float(predicted.dice_K[k]) for k, name in enumerate(names, 1)},
        "usually_unlabelled": {names[k - 1]: usual[names[k - 1]] for k in skilled},
        "hidden_objects": hidden,
        "regions": regions,
        "probable_regions": probable,
    }
    compared = (
        f"{probable:,} of {quantity(regions, 'region')} without a label {'is' if probable == 1 else 'are'} as probable "
        f"as known objects whose labels were hidden ({hidden:,} compared)."
    )
    if not suspects:
        message = (
            "The out-of-fold predictions of the baseline do not suggest label errors of objects in "
            f"{quantity(len(paths), 'image')}. {compared}"
        )
        return Finding("label_errors/objects", "passed", message, evidence)
    evidence["which"] = [f"{paths[one.place]} ({one.words})" for one in suspects[:50]]
    unlabelled = sum("unlabelled" in one.words for one in suspects)
    without = sum(len(of_image.without_object) for of_image in errors)
    wrong = sum(len(of_image.wrong_class) for of_image in errors)
    message = (
        f"The out-of-fold predictions of the baseline suggest {quantity(unlabelled, 'image')} with unlabelled objects, "
        f"{quantity(without, 'label')} without an object, and {quantity(wrong, 'object')} with a wrong class in "
        f"{quantity(len(paths), 'image')}. {compared} The regions are outlined: check them."
    )
    captions = {paths[one.place]: one.words for one in suspects[:24]}
    places = {paths[one.place]: one.boxes for one in suspects[:24]}
    found = Finding("label_errors/objects", "warning", message, evidence, list(captions), captions, places)
    return unless_too_many(found, unlabelled + without + wrong, max(1, evidence["objects"]), "objects")
