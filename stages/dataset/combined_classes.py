"""Classes that overlap in a mask: a pixel of several classes has the class `a + b`, their combination.

A mask of combinations is a mask of one class per pixel, so that augmentations, losses and exports need no other format
(the label powerset of Tsoumakas and Katakis 2007, "Multi-label classification: an overview"). Scores and area shares
are computed for each single class, from all pixels whose combination contains it.

Axes: L labels of the mask, K single classes.
"""

from collections.abc import Iterable, Mapping

import numpy as np

from stages.core.errors import UserError
from stages.core.shapes import Array, Bool, Integer
from stages.dataset.annotations import IGNORE_INDEX, Annotation, ObjectAnnotation, decode_rle

JOINT = " + "
BACKGROUND = "background"
Classes = frozenset[str]


def combine(names: Iterable[str]) -> str:
    """Return the label of a pixel that has all of these classes; "background" if there are none.

    >>> combine(["mitochondrion", "membrane"])
    'membrane + mitochondrion'
    """
    return JOINT.join(sorted(names)) or BACKGROUND


def single_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the classes that the labels of a mask contain, each once, in the order of the labels.

    >>> single_classes(["background", "cell", "cell + nucleus"])
    ('background', 'cell', 'nucleus')
    """
    return tuple(dict.fromkeys(name for label in labels for name in label.split(JOINT)))


def membership(labels: tuple[str, ...]) -> Bool[Array, "L K"]:
    """Return whether each label of a mask contains each single class.

    >>> membership(("background", "cell", "cell + nucleus")).astype(int).tolist()
    [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    """
    singles = single_classes(labels)
    return np.array([[name in label.split(JOINT) for name in singles] for label in labels], bool)


def refuse_joined_names(names: Iterable[str]) -> None:
    """Raise UserError if the name of a class contains " + ", which joins the names of combined classes."""
    for name in sorted(names):
        if JOINT in name:
            raise UserError(
                f"ingest.overlaps: the class {name!r} contains {JOINT!r}, which joins the names of combined classes; "
                "rename it in the source"
            )


def order_labels(found: Iterable[str]) -> tuple[str, ...]:
    """Return the background and the labels that were found, first those of one class, in alphabetical order.

    Raises:
        UserError: there are more labels than a mask can have.

    >>> order_labels(["cell + nucleus", "dirt", "cell"])
    ('background', 'cell', 'dirt', 'cell + nucleus')
    """
    labels = (BACKGROUND, *sorted({*found} - {BACKGROUND}, key=lambda name: (name.count(JOINT), name)))
    if len(labels) > IGNORE_INDEX:
        raise UserError(
            f"ingest.overlaps: the labels have {len(labels)} combinations of classes, more than {IGNORE_INDEX}; use "
            "fewer classes"
        )
    return labels


def combine_masks(
    masks: Iterable[tuple[str, Bool[Array, "H W"]]], height: int, width: int
) -> tuple[Integer[Array, "H W"], list[Classes]]:
    """Return the number of the combination of classes of each pixel, and the classes of these combinations.

    Args:
        masks: classes with their pixels.
        height: height of the masks, pixels.
        width: width of the masks, pixels.

    >>> number_HW, found = combine_masks([("a", np.array([[True, True]])), ("b", np.array([[False, True]]))], 1, 2)
    >>> [sorted(found[number]) for number in number_HW[0]]
    [['a'], ['a', 'b']]
    """
    number_HW, found = np.zeros((height, width), np.int64), [Classes()]
    for label, mask_HW in masks:
        marked = found + [classes | ({label} - {BACKGROUND}) for classes in found]
        number_HW = number_HW + len(found) * mask_HW
        used = np.flatnonzero(np.bincount(number_HW.ravel(), minlength=len(marked)))
        number_HW, found = np.searchsorted(used, number_HW), [marked[number] for number in used]
    return number_HW, found


def combine_objects(annotation: Annotation, height: int, width: int) -> tuple[Integer[Array, "H W"], list[Classes]]:
    """Return the number of the combination of classes of each pixel in the objects of an image, and these combinations.

    Args:
        annotation: labels of the image; crowds are left out.
        height: height of the image, pixels.
        width: width of the image, pixels.
    """
    return combine_masks(_masks_of_classes(annotation, height, width).items(), height, width)


def covered_pixels(shape: ObjectAnnotation, height: int, width: int) -> Bool[Array, "{height} {width}"]:
    """Return the pixels of an object: its mask, or else its box.

    Args:
        shape: object.
        height: height of the image, pixels.
        width: width of the image, pixels.
    """
    if shape.rle is not None:
        return decode_rle(shape.rle, height, width)
    covered = np.zeros((height, width), bool)
    x0, y0, x1, y1 = (round(v) for v in shape.box)
    covered[max(0, y0) : y1, max(0, x0) : x1] = True
    return covered


def _masks_of_classes(annotation: Annotation, height: int, width: int) -> Mapping[str, Bool[Array, "H W"]]:
    masks: dict[str, Bool[Array, "H W"]] = {}
    for shape in annotation.shapes or ():
        if not shape.crowd:
            pixels = covered_pixels(shape, height, width)
            masks[shape.label] = masks[shape.label] | pixels if shape.label in masks else pixels
    return masks
