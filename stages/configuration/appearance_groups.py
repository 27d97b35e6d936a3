"""Groups of similar images, such as exposures of one object, where neither names nor times tell which belong together.

A sample of the images shows whether there are clusters (`look_alikes`). If so, all images are compared, and connected
components of similar images become the rows of a table, which `ingest.group_table` names.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from stages.configuration.group_similarity import ImageSignature, add_signatures
from stages.configuration.look_alikes import MOST_COMPARED, LookAlikes
from stages.core.plurals import quantity
from stages.core.progress import track
from stages.importers.sample import Sample
from stages.near_duplicates.image_similarity import SIDE, image_details
from stages.near_duplicates.similarity_links import SimilarityLinks, find_links

LARGEST = 0.2  # share of the images in the largest group, above which similar images form chains
FEWEST_GROUPS = 8  # groups from which validation and test have several each
FEW = 0.2  # share of the images in no group, up to which they are a question
SECONDS = 0.1  # processor time of a decoded megapixel, at most


@dataclass(frozen=True)
class ComparisonLimits:
    """Numbers of images up to which all are compared."""

    images: int
    """Maximum number of images of which a sample forms clusters."""
    megapixels: float
    """Maximum number of their megapixels that are opened."""
    unclustered_images: int
    """The same of images of which a sample forms no clusters."""
    unclustered_megapixels: float


QUICK = ComparisonLimits(2_000, 100.0, 0, 0.0)
THOROUGH = ComparisonLimits(20_000, 6_000.0, 10_000, 300.0)


@dataclass(frozen=True)
class AppearanceOptions:
    """Limits of comparing all images, and the groups that were accepted before."""

    limits: ComparisonLimits = QUICK
    command: str = "macula configure"
    """Command that compares more images."""
    file: str = ""
    """Table of groups of the project, such as `data/splits/flowers.groups.csv`."""
    accepted: Mapping[str, str] = field(default_factory=dict)
    """Group by path in that table; empty if it does not exist."""


@dataclass(frozen=True)
class AppearanceGroups:
    """Table of groups of similar images."""

    rows: Mapping[str, str]
    """Group by path; empty if no table is proposed."""
    why: str = ""
    ask: str = ""
    """Question, if similar images do not form a table."""


def compare_all(
    items: Sequence[Sample], known: dict[int, ImageSignature], options: AppearanceOptions
) -> LookAlikes | None:
    """Compare all images although a sample shows no clusters; None if they are too many or form no clusters either.

    Args:
        items: images of the source.
        known: signatures of opened images by index; more are added.
        options: limits of the comparison.
    """
    limits = options.limits
    if len(items) <= MOST_COMPARED or not _fits(items, known, limits.unclustered_images, limits.unclustered_megapixels):
        return None
    places, links = _link(items, known, limits.unclustered_megapixels)
    if links is None or not links.exist:
        return None
    near_NK = links.far_nearer_NK
    found = np.flatnonzero(near_NK.any(axis=1))
    return LookAlikes(len(places), [(places[i], [places[j] for j in links.nearest_NK[i][near_NK[i]]]) for i in found])


def group_by_appearance(
    items: Sequence[Sample],
    known: dict[int, ImageSignature],
    question: str,
    options: AppearanceOptions,
) -> AppearanceGroups:
    """Return a table of the groups of similar images, which keeps the groups that were accepted before.

    Args:
        items: images of the source.
        known: signatures of opened images by index; more are added.
        question: question about similar images that neither names nor times explain; empty if there are none.
        options: limits of the comparison, and accepted groups.
    """
    kept = _describe_kept(items, options)
    before = AppearanceGroups(options.accepted if kept else {}, kept)
    limits = options.limits
    if not question:
        return before
    if not _fits(items, known, limits.images, limits.megapixels):
        return replace(before, ask=f"{question}. {_describe_cost(items, known, options)}")
    places, links = _link(items, known, limits.megapixels)
    groups = [] if links is None else _components(items, known, places, links)
    largest = max(map(len, groups), default=0)
    apart = len(items) - sum(map(len, groups))
    if largest > LARGEST * len(items) or not groups or len(groups) + apart < FEWEST_GROUPS:
        chained = f"groups of similar images would divide the images into {len(groups) + apart}, the largest of "
        ask = f"{question}. No table of groups is proposed, because {chained}{quantity(largest, 'image')}"
        return replace(before, ask=ask)
    rows = extend_groups(options.accepted, groups)
    why = "; ".join(filter(None, (_describe(items, groups), kept)))
    asks = filter(None, (_ask_about_nearest(items, places, links), _ask_about_rest(items, rows)))
    return AppearanceGroups(rows, why, ". ".join(asks))


def extend_groups(accepted: Mapping[str, str], groups: Sequence[Sequence[str]]) -> dict[str, str]:
    """Return the group by path: accepted rows as they are, and new ones, whose groups are named by their first path.

    New images join the accepted group that most images of their group have.

    Args:
        accepted: accepted group by path.
        groups: paths of similar images.

    >>> extend_groups({"a.png": "cup"}, [["a.png", "b.png"], ["d.png", "c.png"]])
    {'a.png': 'cup', 'b.png': 'cup', 'd.png': 'c.png', 'c.png': 'c.png'}
    """
    rows = dict(accepted)
    for paths in groups:
        names = Counter(accepted[path] for path in paths if path in accepted)
        name = names.most_common(1)[0][0] if names else min(paths)
        rows |= {path: name for path in paths if path not in accepted}
    return rows


def _fits(items: Sequence[Sample], known: dict[int, ImageSignature], images: int, megapixels: float) -> bool:
    return bool(known) and len(items) <= images and _megapixels(items, known) <= megapixels


def _megapixels(items: Sequence[Sample], known: dict[int, ImageSignature]) -> float:
    """Return the expected number of megapixels of all images."""
    return len(items) * float(np.mean([one.megapixels for one in known.values()]))


def _link(
    items: Sequence[Sample], known: dict[int, ImageSignature], megapixels: float
) -> tuple[list[int], SimilarityLinks | None]:
    """Open all images; return the indices of distinct ones that have details, and the links between them."""
    rest = [place for place in range(len(items)) if place not in known]
    add_signatures(items, track(rest, "configure: comparing all images", len(rest)), known, 2 * megapixels)
    distinct = list({known[place].pixels: place for place in sorted(known, reverse=True)}.values())[::-1]
    thumb_NHW = np.array([known[place].thumbnail.reshape(SIDE, SIDE) for place in distinct])
    detailed = np.flatnonzero(image_details(thumb_NHW).any(axis=1))
    return [distinct[i] for i in detailed], find_links(thumb_NHW[detailed])


def _components(
    items: Sequence[Sample], known: dict[int, ImageSignature], places: list[int], links: SimilarityLinks
) -> list[list[str]]:
    """Return the paths of similar images and of their exact copies, without images that are alone."""
    component = {known[place].pixels: number for place, number in zip(places, links.components(), strict=True)}
    sizes = Counter(component.values())
    paths: dict[int, list[str]] = defaultdict(list)
    for place in sorted(known):
        number = component.get(known[place].pixels)
        if number is not None and sizes[number] > 1:
            paths[number].append(items[place].path)
    return list(paths.values())


def _describe(items: Sequence[Sample], groups: Sequence[Sequence[str]]) -> str:
    sizes = sorted(map(len, groups))
    images = f"{sum(sizes):,} of {quantity(len(items), 'image')}"
    span = f"{sizes[0]}" if sizes[0] == sizes[-1] else f"{sizes[0]} to {sizes[-1]}"
    one, other = next(pairwise(groups[0]))
    return (
        f"{quantity(len(groups), 'group')} of {span} similar images contain {images}: each is nearer to another of its "
        f"group than distinct images are, as {one} is to {other}, and no names or times explain this"
    )


def _ask_about_nearest(items: Sequence[Sample], places: list[int], links: SimilarityLinks | None) -> str:
    """Return the question about the nearest images of different groups, if distinct images are seldom as near."""
    pair = None if links is None else links.nearest_apart(links.components())
    if pair is None:
        return ""
    one, other = (items[places[i]].path for i in pair)
    return (
        f"{one} and {other} are in different groups of the table, but nearer than most distinct images: do they show "
        "the same object? If so, correct the table, also for similar pairs"
    )


def _ask_about_rest(items: Sequence[Sample], rows: Mapping[str, str]) -> str:
    """Return the question about images in no group, if they are few, since then each object seems to have several."""
    rest = [item.path for item in items if item.path not in rows]
    if not 0 < len(rest) <= FEW * len(items):
        return ""
    number = quantity(len(rest), "image is", "images are")
    return (
        f"{number} in no group of the table, such as {rest[0]}: do they show objects of groups? If so, add rows for "
        "them, because the split does not keep them together"
    )


def _describe_kept(items: Sequence[Sample], options: AppearanceOptions) -> str:
    listed = sum(item.path in options.accepted for item in items)
    images = f"{listed:,} of {quantity(len(items), 'image')}"
    return f"{options.file} exists, and its rows are kept; it names the groups of {images}" if listed else ""


def _describe_cost(items: Sequence[Sample], known: dict[int, ImageSignature], options: AppearanceOptions) -> str:
    """Return the command that compares all images, or that there are too many of them."""
    if not _fits(items, known, THOROUGH.images, THOROUGH.megapixels):
        return (
            f"All images are compared up to {THOROUGH.images:,} images and {THOROUGH.megapixels:,.0f} megapixels, so "
            "that no table of groups is proposed"
        )
    minutes = max(1, round(SECONDS * _megapixels(items, known) / 60))
    return (
        f"`{options.command}` compares all images and writes a table of groups, in up to "
        f"{quantity(minutes, 'minute')} of processor time"
    )
