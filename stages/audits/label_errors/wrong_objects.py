"""Things without a box or an outline, and boxes and outlines without a thing, or of another class.

Axes: N images, S side of the working picture, K classes of things and, first, none.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import label, uniform_filter

from stages.audits.audit_data import Subject
from stages.audits.label_errors.wrong_classes import Found
from stages.audits.label_errors.wrong_numbers import compare
from stages.core.findings import Finding
from stages.dataset.annotations import IGNORE_INDEX, Annotation
from stages.dataset.manifest import parse_annotations
from stages.probes.downsampled import box_in_pixels, names_of_things, small_pictures, small_things, thing
from stages.probes.pixel_classifier import foretold

Array = np.ndarray[Any, Any]
FEWEST_IMAGES = 10
SKILLED = 0.5  # Dice of a class, over all images
SMALLEST = 4  # small pixels of the median thing; smaller ones are counted, not looked at
NOTHING = 0.1  # mean probability of its class, within a mark, below which there is no such thing
OTHER = 0.7  # mean probability of another class, within a thing, from which it is that
FAR = 3.5  # robust deviations of the number that is missing


@dataclass
class Doubts:
    """What is doubted in one image."""

    missing_K: Array
    """About how many things of each class are not marked."""
    nothing: list[int]
    """Places of marks where nothing like it is foretold."""
    other: list[tuple[int, int]]
    """Places of marks where another class is foretold, and which."""
    boxes: list[tuple[float, float, float, float]]
    """Where to look, in pixels."""


def find(subject: Subject) -> Found:
    """Report wrong objects; for dots and very small objects their number per image (`label_errors/numbers`)."""
    rows = subject.sample
    all_annotations = parse_annotations(rows)
    if all_annotations[0].shapes is None:
        return [], []
    names = names_of_things(all_annotations)
    if len(rows) < FEWEST_IMAGES or not names:
        return [], [f"{len(rows)} images with {len(names)} classes of things are too few to tell wrong marks."]
    index_NSS, areas = small_things(rows, names)
    if np.median(np.concatenate(areas)) < SMALLEST:
        count_NK = [[sum(s.label == name for s in one.shapes or ()) for name in names] for one in all_annotations]
        return compare(subject, [f"number of {name}" for name in names], np.array(count_NK, float))
    typical_K = np.array([0, *(np.median(of_class) for of_class in areas)])
    doubts, dice_K = _doubts(subject, all_annotations, names, index_NSS, typical_K)
    skilled = [k for k in range(1, len(dice_K)) if dice_K[k] >= SKILLED]
    weak = [f"{names[k - 1]} (Dice {dice_K[k]:.2f})" for k in range(1, len(dice_K)) if k not in skilled]
    unknown = [f"Wrong marks cannot be told of {', '.join(weak)}: a plain model does not find it."] if weak else []
    return ([_finding(subject, all_annotations, names, doubts, dice_K, skilled)] if skilled else []), unknown


def _doubts(
    subject: Subject, all_annotations: list[Annotation], names: list[str], index_NSS: Array, typical_K: Array
) -> tuple[list[Doubts], Array]:
    """Of each image, and the Dice of each class."""
    rows, classes = subject.sample, len(names) + 1
    heights, widths = rows["height"].to_numpy(), rows["width"].to_numpy()
    image_NSSC = small_pictures(rows, subject.folder)
    doubts: list[Any] = [None] * len(rows)
    both_K, sum_K = np.zeros(classes), np.zeros(classes)
    for n, p_SSK in foretold(image_NSSC, index_NSS, rows["group"].to_numpy(), classes):
        given_SS, answer_SS = index_NSS[n], p_SSK.argmax(axis=2)
        known_SS = given_SS != IGNORE_INDEX
        for k in range(classes):
            both_K[k] += ((given_SS == k) & (answer_SS == k)).sum()
            sum_K[k] += (given_SS == k).sum() + ((answer_SS == k) & known_SS).sum()
        one = Doubts(np.zeros(classes), [], [], [])
        shapes = all_annotations[n].shapes or ()
        covered = [thing(shape, heights[n], widths[n]) for shape in shapes]
        for k in range(1, classes):
            own = [c.sum() for c, s in zip(covered, shapes, strict=True) if s.label == names[k - 1] and not s.crowd]
            regions = _unmarked(answer_SS == k, given_SS == 0, float(np.median(own)) if own else typical_K[k])
            one.missing_K[k] = sum(count for count, _ in regions)
            one.boxes += [box_in_pixels(region, heights[n], widths[n]) for _, region in regions]
        for place, (shape, covered_SS) in enumerate(zip(shapes, covered, strict=True)):
            if shape.crowd or covered_SS.sum() < SMALLEST:
                continue
            inside_K = p_SSK[covered_SS].mean(axis=0)
            best, own_class = int(inside_K.argmax()), 1 + names.index(shape.label)
            if best not in (0, own_class) and inside_K[best] > OTHER:
                one.other.append((place, best))
            elif inside_K[own_class] < NOTHING:
                one.nothing.append(place)
        doubts[n] = one
    return doubts, 2 * both_K / np.maximum(sum_K, 1)


def _unmarked(answer_SS: Array, bare_SS: Array, typical: float) -> list[tuple[int, Array]]:
    """Regions where a class is foretold and nothing is marked, each with how many things of typical area it holds."""
    number_SS, _ = label((uniform_filter(answer_SS.astype(float), 3) > 0.6) & bare_SS)
    sizes = np.bincount(number_SS.ravel())
    large = [number for number in range(1, len(sizes)) if sizes[number] >= max(SMALLEST, typical / 2)]
    return [(max(1, round(sizes[number] / max(SMALLEST, typical))), number_SS == number) for number in large]


def _in_words(doubts: list[Doubts], all_annotations: list[Annotation], names: list[str], skilled: list[int]) -> Any:
    """Weight, place and words of each image with something to say, the weightiest first; what is usually missing."""
    marked_NK = np.array(
        [[sum(s.label == name for s in one.shapes or ()) for name in names] for one in all_annotations]
    )
    missing_NK = np.array([one.missing_K[1:] for one in doubts])
    usual_K = np.median(missing_NK, axis=0)
    spread_K = np.maximum(1.4826 * np.median(abs(missing_NK - usual_K), axis=0), 1)
    surplus_NK = (missing_NK - usual_K) / spread_K
    odd_NK = (surplus_NK > FAR) | ((missing_NK > marked_NK) & (surplus_NK >= 1))
    said = []
    for n, one in enumerate(doubts):
        unmarked = [k for k in range(len(names)) if odd_NK[n, k] and k + 1 in skilled]
        words = [f"{missing_NK[n, k]:g} {names[k]} unmarked?" for k in unmarked]
        words += [f"{len(one.nothing)} on nothing?"] if one.nothing else []
        others = [names[k - 1] for _, k in one.other]
        words += [f"{others.count(name)} rather {name}?" for name in sorted(set(others))]
        if words:
            said.append((sum(surplus_NK[n, unmarked]) + len(one.nothing) + len(others), n, ", ".join(words)))
    return sorted(said, key=lambda entry: -entry[0]), dict(zip(names, usual_K.tolist(), strict=True))


def _finding(
    subject: Subject,
    all_annotations: list[Annotation],
    names: list[str],
    doubts: list[Doubts],
    dice_K: Array,
    skilled: list[int],
) -> Finding:
    paths = list(subject.sample["path"])
    for one, annotation in zip(doubts, all_annotations, strict=True):  # of other classes nothing can be said
        labels = [1 + names.index(shape.label) for shape in annotation.shapes or ()]
        one.nothing = [place for place in one.nothing if labels[place] in skilled]
        one.other = [(place, k) for place, k in one.other if k in skilled]
    ranked, usual = _in_words(doubts, all_annotations, names, skilled)
    evidence: dict[str, Any] = {
        "images": len(paths),
        "things": sum(len(one.shapes or ()) for one in all_annotations),
        "dice_of_class": {name: float(dice_K[k]) for k, name in enumerate(names, 1)},
        "usually_unmarked": {names[k - 1]: usual[names[k - 1]] for k in skilled},
    }
    if not ranked:
        says = f"The marks of {len(paths)} images agree with what a plain model, which had not seen the image, finds."
        return Finding("label_errors/objects", "passed", says, evidence)
    evidence["which"] = [f"{paths[n]} ({words})" for _, n, words in ranked[:50]]
    nothing, other = sum(len(one.nothing) for one in doubts), sum(len(one.other) for one in doubts)
    says = (
        f"By a plain model, which had not seen the image, {sum('unmarked' in words for *_, words in ranked)} of "
        f"{len(paths)} images have things that are not marked (far more than other images, or more than are marked), "
        f"{nothing} marks lie on nothing like it and {other} on things of another class. Where to look is framed."
    )
    captions = {paths[n]: words for _, n, words in ranked[:24]}
    places = {paths[n]: _where(doubts[n], all_annotations[n]) for _, n, _ in ranked[:24]}
    return Finding("label_errors/objects", "warning", says, evidence, list(captions), captions, places)


def _where(one: Doubts, annotation: Annotation) -> list[tuple[float, float, float, float]]:
    shapes = annotation.shapes or ()
    return [*one.boxes, *(shapes[p].box for p in one.nothing), *(shapes[p].box for p, _ in one.other)]
