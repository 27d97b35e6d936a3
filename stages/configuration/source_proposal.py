"""Proposal of the sections `ingest` and `split`: source, format, groups and split."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from stages.config.schema_data import Columns
from stages.configuration.choice import Choice
from stages.configuration.contract_thresholds import accept
from stages.configuration.inspection import SourceFacts
from stages.core.plurals import list_names, quantity
from stages.dataset.counters import NUMBER
from stages.dataset.manifest import SPLITS
from stages.importers.format_candidate import SOURCE_DEFAULTS, FormatCandidate
from stages.importers.group_table import name_group_table
from stages.importers.table_columns import NO_COLUMNS

FEWEST_GROUPS = 8  # groups of the source from which validation and test have several each
BLOCKS = 10  # number of blocks into which too few groups are divided
FEW, SHARE, SHARE_OF_FEW = 300, 0.15, 0.2  # with fewer images, validation and test each have a larger share
MANY = 0.2  # share of rejected files from which the format is in doubt


def propose_ingest(reading: FormatCandidate, facts: SourceFacts, source: Path) -> Iterator[Choice]:
    """Propose the section `ingest`, except for its guards (`max_rejected`, `max_megapixels`), which are not changed.

    Args:
        reading: chosen interpretation of the source.
        facts: statistics of its images.
        source: path of the source.
    """
    yield Choice("ingest.name", name_data_set(source), "names data/splits/NAME.json")
    yield Choice("ingest.source", str(source), "the given source")
    yield Choice(
        "ingest.inside",
        reading.inside,
        "part of the source that contains the images or their table" if reading.inside else "",
    )
    yield Choice("ingest.format", reading.format, reading.reason)
    together: dict[str, Any] = {"group_regex": facts.grouping.group, "sequence_block": facts.grouping.block}
    together["session_gap"] = facts.grouping.session_gap
    together["group_table"] = name_group_table(name_data_set(source)) if facts.grouping.table else ""
    blocks, why_blocks = _blocks_of_few_groups(reading)
    if blocks > 1 and facts.grouping.block == 1:
        together["sequence_block"] = blocks
    for key, value in (SOURCE_DEFAULTS | together | reading.changes).items():
        if key == "columns":
            continue
        own = "matches the names of the images" if key == "images" and value else ""
        if key in together and value == together[key] != SOURCE_DEFAULTS[key]:
            own = facts.grouping.why or why_blocks
        yield Choice(f"ingest.{key}", value, reading.reasons.get(key, own))
    table = reading.changes.get("columns")
    unused = Columns().model_dump(mode="json")  # without a table, the columns have their defaults
    for key, value in (NO_COLUMNS | table if table else unused).items():
        known = "from the header of the table" if table and value != NO_COLUMNS[key] else ""
        yield Choice(f"ingest.columns.{key}", value, reading.reasons.get(f"columns.{key}", known))


def name_data_set(source: Path) -> str:
    """Return the value of `ingest.name` for a source."""
    return re.sub(r"[^a-z0-9_-]+", "_", source.name.split(".")[0].lower()).strip("_-") or "images"


def _blocks_of_few_groups(reading: FormatCandidate) -> tuple[int, str]:
    """Return a length of blocks that divide groups too few for three splits, and the reason; 1 if not needed."""
    groups = {item.group for item in reading.samples}
    if None in groups or len(groups) >= len(SPLITS) or not all(re.search(r"\d", item.path) for item in reading.samples):
        return 1, ""
    block = max(2, len(reading.samples) // BLOCKS) * _number_gap(reading)
    return block, (
        f"{quantity(len(groups), 'group')} cannot be divided into training, validation and test, so that each is "
        f"divided into blocks of {block} consecutive images; images of one group are in several splits"
    )


def _number_gap(reading: FormatCandidate) -> int:
    """Return the median difference of successive numbers in a group: blocks divide the range of the numbers."""
    numbers: dict[str | None, list[int]] = defaultdict(list)
    for item in reading.samples:
        if match := NUMBER.fullmatch(item.path):
            numbers[item.group].append(int(match[2]))
    gaps = [b - a for some in numbers.values() for a, b in pairwise(sorted(some)) if b > a]
    return max(1, int(median(gaps))) if gaps else 1


def _last_number(path: str) -> tuple[int, str]:
    match = NUMBER.fullmatch(path)
    return int(match[2]) if match else 0, path


def ask_about_few_groups(reading: FormatCandidate) -> Iterator[str]:
    """Yield the question about groups of the source that are too few for validation and test."""
    of_group: dict[str | None, list[str]] = defaultdict(list)
    for item in reading.samples:
        of_group[item.group].append(item.path)
    if None in of_group or len(of_group) >= FEWEST_GROUPS or reading.has_split:
        return
    named = list_names((str(group) for group in of_group), FEWEST_GROUPS)
    largest = sorted(sorted(of_group.values(), key=len, reverse=True)[0], key=_last_number)
    divided = len(of_group) < len(SPLITS) <= len(largest)
    near = f": {largest[0]} and {largest[1]} may be in training and validation" if divided else ""
    yield (
        f"ingest.sequence_block: all images are of {quantity(len(of_group), 'group')} ({named}), so that scores hold "
        f"for these, not for new ones{near}. Can you add groups, such as further films, so that validation and test "
        "have several each?"
    )


def rejected_share(reading: FormatCandidate, facts: SourceFacts) -> float:
    """Return the expected share of files that `ingest` rejects, extrapolated from the opened images."""
    opened = len(facts.unusable) + len(facts.opened)
    unusable = len(reading.samples) * len(facts.unusable) / opened
    return (len(reading.rejected) + unusable) / (len(reading.rejected) + len(reading.samples))


def find_rejected(reading: FormatCandidate, facts: SourceFacts, max_rejected: float) -> Iterator[str]:
    """Yield the expected share of rejected files if it exceeds the tolerated one, with the line that would accept it.

    Args:
        reading: chosen interpretation of the source.
        facts: statistics of its images.
        max_rejected: tolerated share of files, 0 to 1.
    """
    share = rejected_share(reading, facts)
    if share <= max_rejected:
        return
    examples = [(one.path, one.reason) for one in reading.rejected[:1]] + list(facts.unusable.items())[:1]
    shown = "; ".join(f"{path}: {reason}" for path, reason in examples)
    needed = min(1.0, 2 * share if facts.unusable else share)  # few images were opened, so that the share is uncertain
    doubt = ". That many files suggest another format or folder" if share > MANY else ""
    yield (
        f"ingest: about {share:.1%} of the files will be rejected, more than ingest.max_rejected {max_rejected:g} "
        f"({shown}); correct or remove them, or {accept('ingest.max_rejected', math.ceil(100 * needed) / 100)}{doubt}"
    )


def such_as(count: int) -> str:
    """Return the introduction of an example; empty if there is only one element."""
    return "" if count == 1 else "such as "


def propose_split(reading: FormatCandidate, facts: SourceFacts) -> Iterator[Choice]:
    """Propose the section `split`."""
    known = Counter(item.split for item in reading.samples if item.split)
    if reading.has_split:
        counts = ", ".join(f"{count} {name}" for name, count in known.items())
        yield Choice("split.by", "source", f"the source defines train, val and test for every image: {counts}")
    elif known:
        named = ", ".join(sorted(known))
        why = (
            f"the source defines {named} for {known.total()} of {quantity(facts.count, 'image')}, not train, val and "
            "test for every image: the images are split again"
        )
        yield Choice("split.by", "hash", why)
    else:
        yield Choice("split.by", "hash", "the source does not define a split")
    few = facts.count < FEW
    share = SHARE_OF_FEW if few else SHARE
    for part in ("validation", "test"):
        why = f"about {quantity(round(share * facts.count), 'image')}" + (
            f"; a larger share, because there are only {quantity(facts.count, 'image')}" if few else ""
        )
        yield Choice(f"split.{part}", share, "" if reading.has_split else why)
