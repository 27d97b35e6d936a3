"""Finders of labels that do not fit their image: points, boxes, outlines and numbers."""

from collections.abc import Iterator
from math import isfinite
from typing import Any

from stages.checks.finder import Offence, each, told_of, with_sizes
from stages.checks.subject import Subject
from stages.dataset.annotations import Annotation, ObjectAnnotation

POINT_SLACK = 1.0  # pixels: the edge of the last pixel is half of one beyond its centre, and tools round
BOX_SLACK = 0.5  # pixels: COCO's edges are rounded


def points_inside(subject: Subject) -> Iterator[Offence]:
    """Points outside of their image, by more than a pixel."""

    def fault(a: Annotation, width: float, height: float) -> str:
        seen = [(name, *xy) for name, xy in (a.points or {}).items() if xy is not None]
        out = [
            (n, x, y) for n, x, y in seen if not (_within(x, width, POINT_SLACK) and _within(y, height, POINT_SLACK))
        ]
        told = [f"point {n} is at x {x:g}, y {y:g}" for n, x, y in out]
        return f"{told_of(told)}, outside of {width:g}x{height:g}" if told else ""

    yield from each(subject, (fault(*one) for one in with_sizes(subject)))


def _within(value: float, side: float, slack: float) -> bool:
    return -slack <= value <= side - 1 + slack  # false of NaN too


def points_seen(subject: Subject) -> Iterator[Offence]:
    """Points that are not visible in a single image of a split."""
    splits = subject.rows["split"].tolist()
    for split, words in (("train", "training"), ("val", "validation")):
        here = [a.points or {} for a, s in zip(subject.annotations, splits, strict=True) if a and s == split]
        for name in dict.fromkeys(name for points in here for name in points):
            if all(points.get(name) is None for points in here):
                yield f"point `{name}` is visible in none of {len(here)} {words} images", []


def scalars_finite(subject: Subject) -> Iterator[Offence]:
    """Numbers that are none."""

    def fault(a: Annotation | None) -> str:
        held = (a.scalars or {}).items() if a else ()
        return told_of([f"{name} is {value!r}, no finite number" for name, value in held if not _is_finite(value)])

    yield from each(subject, map(fault, subject.annotations))


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def boxes_inside(subject: Subject) -> Iterator[Offence]:
    """Boxes that reach out of their image, by more than half a pixel."""

    def fault(a: Annotation, width: float, height: float) -> str:
        limits = (width, height, width, height)
        out = [s for s in a.shapes or () if not all(_on(v, w) for v, w in zip(s.box, limits, strict=True))]
        return f"{told_of([_box(s) for s in out])}, outside of {width:g}x{height:g}" if out else ""

    yield from each(subject, (fault(*one) for one in with_sizes(subject)))


def _on(value: float, side: float) -> bool:
    return -BOX_SLACK <= value <= side + BOX_SLACK  # false of NaN too


def _box(shape: ObjectAnnotation) -> str:
    x0, y0, x1, y1 = shape.box
    return f"a box of {shape.label} from x {x0:g}, y {y0:g} to x {x1:g}, y {y1:g}"


def boxes_area(subject: Subject) -> Iterator[Offence]:
    """Boxes without an area."""

    def fault(a: Annotation | None) -> str:
        shapes = (a.shapes or ()) if a else ()
        return told_of([f"{_box(s)} is empty" for s in shapes if not (s.box[2] > s.box[0] and s.box[3] > s.box[1])])

    yield from each(subject, map(fault, subject.annotations))


def outlines_size(subject: Subject) -> Iterator[Offence]:
    """Outlines of things whose run lengths are not those of the image, or that hold nothing."""

    def fault(a: Annotation, width: float, height: float) -> str:
        drawn = [s for s in a.shapes or () if s.rle is not None]
        wrong = [s for s in drawn if min(s.rle or (0,)) < 0 or sum(s.rle or ()) != width * height]
        empty = [s for s in drawn if s not in wrong and not sum((s.rle or ())[1::2])]
        told = [f"the outline of a {s.label} has {sum(s.rle or ())} pixels" for s in wrong]
        told += [f"the outline of a {s.label} is empty" for s in empty]
        return f"{told_of(told)}, the image {width:g}x{height:g}" if told else ""

    yield from each(subject, (fault(*one) for one in with_sizes(subject)))
