"""Correct answers to layouts, written from the descriptions of the data sets."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.layouts.miniature import Miniature

Generate = Callable[[Miniature], None]
CLASSES, MASKS = ("classification", "ordinal"), ("segmentation",)
"""Acceptable tasks of layouts with one class per image, and with masks."""
NAMES = r"(file|image) names?|names of (the )?(files|images)"
"""Reason of a refusal where the labels are in the names of the images."""


@dataclass(frozen=True)
class Answer:
    """Correct answer to a layout, with the alternatives that are correct as well."""

    tasks: tuple[str, ...] = ()
    """Acceptable tasks; empty: the layout is not supported or not usable, and only a refusal is right."""
    formats: tuple[str, ...] = ()
    """Acceptable formats; empty: any, if images and labels are those of the truth."""
    related: str = ""
    """What relates images, in words; the truth of each image contains its scene or series."""
    split: str = "hash"
    """`hash`, `source`, or `either` where both are acceptable."""
    targets: str = ""
    """Regular expression that `ingest.targets` or `ingest.inside` must match, where other files could be taken."""
    refusal: str = ""
    """Regular expression that the reason of a refusal must match; empty: a refusal is never right."""
    asks: tuple[str, ...] = ()
    """Regular expressions that questions, blockers, observations or unread files must match."""
    ask_groups: bool = False
    """Whether a question about related images is a right answer, because files alone do not decide."""
    fewest_groups: int = 0
    """Smallest acceptable number of groups; 0: half of the scenes."""

    def in_words(self) -> str:
        """Return the answer as one line of a table."""
        words = ["or ".join(f"{task} " for task in self.tasks).strip()] if self.tasks else []
        if self.formats and self.tasks:
            words.append(f"format {' or '.join(self.formats)}")
        if self.tasks and self.split != "hash":
            words.append("split of the source" if self.split == "source" else "either split")
        if self.related:
            words.append(f"related: {self.related}" + (" (or ask)" if self.ask_groups else ""))
        if self.targets:
            words.append(f"targets `{_cell(self.targets)}`")
        if self.asks:
            words.append(f"must mention {', '.join(f'`{_cell(one)}`' for one in self.asks)}")
        if self.refusal:
            words.append(f"{'or refuse' if self.tasks else 'refuse'}, reason `{_cell(self.refusal)}`")
        return "; ".join(words)


def _cell(pattern: str) -> str:
    return pattern.replace("|", "\\|")


@dataclass(frozen=True)
class Layout:
    """A layout of the zoo: its description, its generator and its correct answer."""

    name: str
    domain: str
    description: str
    generate: Generate
    answer: Answer

    def build(self) -> Miniature:
        """Return the miniature folder."""
        folder = Miniature(self.name)
        self.generate(folder)
        return folder


def layouts_of(domain: str, answers: dict[Generate, Answer]) -> dict[str, Layout]:
    """Return layouts by name; the docstring of a generator is the description.

    >>> def tiles(folder: Miniature) -> None:
    ...     "Tiles of a slide."
    >>> layouts_of("medical", {tiles: Answer()})["tiles"].description
    'Tiles of a slide.'
    """
    return {
        generate.__name__: Layout(
            generate.__name__, domain, " ".join((generate.__doc__ or "").split()), generate, answer
        )
        for generate, answer in answers.items()
    }
