"""Classes that overlap in a mask: a pixel of several classes has the class `a + b`, their combination.

A mask of combinations is a mask of one class per pixel, so that augmentations, losses and exports need no other format
(the label powerset of Tsoumakas and Katakis 2007, "Multi-label classification: an overview"). Scores and area shares
are computed for each single class, from all pixels whose combination contains it.

Axes: L labels of the mask, K single classes.
"""

from collections.abc import Iterable

import numpy as np

from stages.core.shapes import Array, Bool

JOINT = " + "


def combine(names: Iterable[str]) -> str:
    """Return the name of the combination of classes.

    >>> combine(["mitochondrion", "membrane"])
    'membrane + mitochondrion'
    """
    return JOINT.join(sorted(names))


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
