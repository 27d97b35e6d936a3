"""Finders of masks and paired images that do not fit their image or their classes."""

from collections.abc import Iterator

from stages.checks.finder import Offence, each, told_of, with_sizes
from stages.checks.subject import Subject, Target
from stages.dataset.annotations import IGNORE_INDEX, Annotation


def target_readable(subject: Subject) -> Iterator[Offence]:
    """Masks and paired images that are missing, cannot be read, or are none."""

    def fault(a: Annotation | None, target: Target | None) -> str:
        what = _what(a)
        if target is None:
            return f"its {what} is missing" if what else ""
        return f"its {what or 'mask or paired image'} {target.fault}" if target.fault else ""

    yield from each(subject, map(fault, subject.annotations, subject.targets))


def target_size(subject: Subject) -> Iterator[Offence]:
    """Masks and paired images of another size than their image."""

    def fault(a: Annotation, width: float, height: float, target: Target | None) -> str:
        if target is None or target.size in (None, (width, height)):
            return ""
        return f"its {_what(a)} is {target.size[0]}x{target.size[1]}, the image {width:g}x{height:g}"

    yield from each(subject, (fault(*one, t) for one, t in zip(with_sizes(subject), subject.targets, strict=True)))


def _what(a: Annotation | None) -> str:
    return "" if a is None else "mask" if a.mask is not None else "paired image" if a.image else ""


def mask_values(subject: Subject) -> Iterator[Offence]:
    """Masks with values that no class has."""

    def fault(a: Annotation | None, target: Target | None) -> str:
        if a is None or a.mask is None or target is None:
            return ""
        strange = {v: n for v, n in target.counts.items() if v >= len(a.mask) and v != IGNORE_INDEX}
        told = told_of([f"{value} ({pixels} pixels)" for value, pixels in strange.items()])
        return f"its mask holds {told}; known are 0 to {len(a.mask) - 1} and {IGNORE_INDEX}" if told else ""

    yield from each(subject, map(fault, subject.annotations, subject.targets))


def mask_known(subject: Subject) -> Iterator[Offence]:
    """Masks of which no pixel is known."""

    def fault(target: Target | None) -> str:
        return "its truth is unknown in every pixel" if target and set(target.counts) == {IGNORE_INDEX} else ""

    yield from each(subject, map(fault, subject.targets))
