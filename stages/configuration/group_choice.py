"""Choice among groupings by names: the coarsest whose images resemble one another, or a question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from stages.configuration.filename_patterns import CandidateGrouping
from stages.configuration.group_evidence import GroupEvidence, PairSimilarities
from stages.configuration.group_similarity import ImageSignature, add_signatures
from stages.importers.sample import Sample

ALIKE, ALIKE_ACROSS = 0.65, 0.6  # minimum AUC of groups, and of pairs that only the coarser of two groupings relates
CLEARLY_ALIKE = 0.9  # the same for groups that words name, which may be kinds
POSSIBLY = 0.55  # AUC from which a coarser grouping is a question
ENOUGH = 8  # groups that a coarser grouping must leave: validation and test require several each
MOST_COMPARED = 400  # images that are compared all with each other; of more, some of each group
GROUPS, OF_GROUP = 32, 3  # groups, and images of each, that are compared of more images
MEGAPIXELS = 100.0  # maximum number of megapixels opened
MOST_CANDIDATES = 24


class Considered(NamedTuple):
    """Grouping with the comparison of its images."""

    grouping: CandidateGrouping
    evidence: GroupEvidence | None

    @property
    def alike(self) -> bool:
        """True if images of a group resemble one another."""
        least = ALIKE if self.grouping.has_numbers else CLEARLY_ALIKE
        return bool(self.evidence and self.evidence.significant and self.evidence.auc >= least)


@dataclass
class GroupComparison:
    """Comparison of groupings by the images, which are opened on demand."""

    items: Sequence[Sample]
    labels: Sequence[str]
    known: dict[int, ImageSignature]
    """Signatures of opened images by index; more are added."""
    megapixels: float = MEGAPIXELS
    """Megapixels that may still be opened."""

    def compare(self, grouping: CandidateGrouping, finer: CandidateGrouping | None = None) -> GroupEvidence | None:
        """Compare the images of groups, or those that a finer grouping does not relate; None if there are too few."""
        chosen = self._choose(grouping)
        before = sum(one.megapixels for one in self.known.values())
        if self.megapixels > 0:
            add_signatures(self.items, chosen, self.known, self.megapixels)
            self.megapixels -= sum(one.megapixels for one in self.known.values()) - before
        opened = {place: self.known[place] for place in chosen if place in self.known}
        if len(opened) < 2:
            return None
        found = PairSimilarities(opened, self.labels).compare(grouping.division, finer.division if finer else None)
        return found[0] if found else None

    def _choose(self, grouping: CandidateGrouping) -> list[int]:
        """Return the indices of all images, or of the first, middle and last ones of some groups."""
        if len(self.items) <= MOST_COMPARED:
            return list(range(len(self.items)))
        groups = list(grouping.groups.values())
        some = np.unique(np.linspace(0, len(groups) - 1, min(GROUPS, len(groups))).astype(int))
        return [
            groups[i][j]
            for i in some
            for j in np.unique(np.linspace(0, len(groups[i]) - 1, OF_GROUP).astype(int)).tolist()
        ]


def choose_grouping(
    candidates: Sequence[CandidateGrouping], comparison: GroupComparison
) -> tuple[Considered | None, list[str]]:
    """Return the coarsest grouping whose images resemble one another, if any, and at most one question.

    Groups that are too fine leak, and groups that are too coarse only cost images. A grouping by a word such as
    patient, or by a few recurring endings, needs no comparison, but a coarser one does.

    Args:
        candidates: groupings by names.
        comparison: images to compare.
    """
    considered = [Considered(one, comparison.compare(one)) for one in candidates[:MOST_CANDIDATES]]
    supported = [one for one in considered if one.alike or one.grouping.certain]
    if not supported:
        return None, list(_ask_unconfirmed(considered))
    supported.sort(key=lambda one: -max(one.grouping.division))
    chosen = next((one for one in considered if one.grouping.word), supported[0])
    questions: list[str] = []
    for other in supported:
        if max(other.grouping.division) >= max(chosen.grouping.division):
            continue
        across = comparison.compare(other.grouping, chosen.grouping)
        is_coarser = _refines(chosen.grouping, other.grouping)
        related = across is not None and across.significant and across.auc >= ALIKE_ACROSS
        if related and not is_coarser:
            better, worse = sorted((other, chosen), key=_auc, reverse=True)
            questions = [_question(better, worse, str(worse.evidence), comparison)]
            chosen = better
        elif related and max(other.grouping.division) + 1 < ENOUGH:
            questions = [_question(chosen, other, f"{across}, but these groups are few", comparison)]
        elif related:
            chosen, questions = other, []
    return chosen, questions or list(_ask_coarser(chosen, considered, comparison))


def _auc(one: Considered) -> float:
    return one.evidence.auc if one.evidence else 0.0


def _refines(finer: CandidateGrouping, coarser: CandidateGrouping) -> bool:
    return len(set(zip(finer.division, coarser.division, strict=True))) == len(set(finer.division))


def _ask_coarser(chosen: Considered, considered: Sequence[Considered], comparison: GroupComparison) -> Iterator[str]:
    """Yield a question about a coarser grouping by numbers, if its images may resemble one another."""
    for other in considered:
        if other.alike or not other.grouping.has_numbers or not _refines(chosen.grouping, other.grouping):
            continue
        if max(other.grouping.division) < max(chosen.grouping.division):
            across = comparison.compare(other.grouping, chosen.grouping)
            if across and across.auc >= POSSIBLY:
                yield _question(chosen, other, str(across), comparison)
                return


def _question(chosen: Considered, other: Considered, evidence: str, comparison: GroupComparison) -> str:
    """Return the question which of two patterns groups related images, with two files that only the other relates."""
    keys = list(zip(chosen.grouping.division, other.grouping.division, strict=True))
    first: dict[int, int] = {}
    pair = next(
        (
            (first[of_other], place)
            for place, (of_chosen, of_other) in enumerate(keys)
            if keys[first.setdefault(of_other, place)][0] != of_chosen
        ),
        (0, 0),
    )
    one, another = (comparison.items[place].path for place in pair)
    return (
        f"`{chosen.grouping.pattern}` is proposed; does `{other.grouping.pattern}` identify related images instead: "
        f"are {one} and {another} related? {other.grouping.why}; {evidence}"
    )


def _ask_unconfirmed(considered: Sequence[Considered]) -> Iterator[str]:
    """Yield a question about the grouping whose images are most similar, with two files of a group."""
    asked = [one for one in considered if one.grouping.has_numbers or _auc(one) >= ALIKE]
    if asked:
        best = max(asked, key=lambda one: (one.alike, one.grouping.is_beginning, _auc(one)))
        seen = f"; the images do not confirm it: {best.evidence}" if best.evidence else ""
        yield f"`{best.grouping.pattern}` may identify related images: {best.grouping.why}{seen}"
