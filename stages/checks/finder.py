"""How a finder tells what it found."""

from collections.abc import Callable, Iterable, Iterator

from stages.checks.subject import Subject
from stages.dataset.annotations import Annotation

MOST = 3  # faults told of one image

Offence = tuple[str, list[str]]
"""What is wrong, in a sentence with the offender and its value; and the images to look at."""
Finder = Callable[..., Iterator[Offence]]
"""From the subject, and arguments by name, to every offence; nothing where the rule is kept."""


def each(subject: Subject, faults: Iterable[str]) -> Iterator[Offence]:
    """An offence an image, from what is wrong with each in order; empty where nothing is."""
    for path, fault in zip(subject.paths, faults, strict=True):
        if fault:
            yield f"`{path}`: {fault}", [path]


def told_of(faults: list[str]) -> str:
    """The first few faults of one image, and how many more there are."""
    more = f" and {len(faults) - MOST} more" if len(faults) > MOST else ""
    return ", ".join(faults[:MOST]) + more


def with_sizes(subject: Subject) -> Iterator[tuple[Annotation, float, float]]:
    """Labels, width and height of every image; labels that cannot be read are another rule's business."""
    for a, width, height in zip(subject.annotations, subject.rows["width"], subject.rows["height"], strict=True):
        yield a or Annotation(), width, height


def count(number: int, word: str) -> str:
    """A number of things.

    >>> count(1, "image"), count(2, "class")
    ('1 image', '2 classes')
    """
    plural = word + ("es" if word.endswith("s") else "s")
    return f"{number} {word if number == 1 else plural}"
