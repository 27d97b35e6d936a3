"""Where the images are, how they are labelled, which belong together, and how they are divided."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stages.config.schema import Params
from stages.config.schema_data import Columns
from stages.configuration.choice import Choice
from stages.configuration.inspection import Facts
from stages.importers.format_detection import SOURCE_DEFAULTS, FormatCandidate
from stages.importers.table_columns import NO_COLUMNS

FEW, SHARE, SHARE_OF_FEW = 300, 0.15, 0.2  # of fewer images a larger share validates
TOLERABLE = 0.2  # share of refused files that is proposed to be borne, at most


def where(reading: FormatCandidate, facts: Facts, source: Path, params: Params) -> Iterator[Choice]:
    """The section `ingest`."""
    named = re.sub(r"[^a-z0-9_-]+", "_", source.name.split(".")[0].lower()).strip("_-") or "images"
    yield Choice("ingest.name", named, "names data/splits/NAME.json")
    yield Choice("ingest.source", str(source), "as it was given")
    yield Choice("ingest.inside", reading.inside, "where what is read lies in the source" if reading.inside else "")
    yield Choice("ingest.format", reading.format, reading.reason)
    together = {"group_regex": facts.belonging.group, "sequence_block": facts.belonging.block}
    for key, value in (SOURCE_DEFAULTS | together | reading.changes).items():
        if key == "columns":
            continue
        own = "as the images are named" if key == "images" and value else ""
        if key in together and value == together[key] != SOURCE_DEFAULTS[key]:
            own = facts.belonging.why
        yield Choice(f"ingest.{key}", value, reading.reasons.get(key, own))
    table = reading.changes.get("columns")
    unused = Columns().model_dump(mode="json")  # where no table is read, the columns have their defaults
    for key, value in (NO_COLUMNS | table if table else unused).items():
        known = "as the table's header has it" if table and value != NO_COLUMNS[key] else ""
        yield Choice(f"ingest.columns.{key}", value, reading.reasons.get(f"columns.{key}", known))
    yield Choice("ingest.max_rejected", *_rejected(reading, facts, params.ingest.max_rejected))
    yield Choice("ingest.max_megapixels", params.ingest.max_megapixels)


def refused_share(reading: FormatCandidate, facts: Facts) -> float:
    """Of all files, those that ingest will refuse; of what is in the images, as those that were opened tell."""
    opened = len(facts.unusable) + len(facts.opened)
    unusable = len(reading.samples) * len(facts.unusable) / opened
    return (len(reading.rejected) + unusable) / (len(reading.rejected) + len(reading.samples))


def _rejected(reading: FormatCandidate, facts: Facts, borne: float) -> tuple[float, str]:
    share = refused_share(reading, facts)
    if share <= borne or share > TOLERABLE:
        return borne, ""
    reasons = []
    if reading.rejected:
        first = reading.rejected[0]
        reasons.append(f"{len(reading.rejected)} files are no images of the data set, as {first.path}: {first.reason}")
    if facts.unusable:
        path, why = next(iter(facts.unusable.items()))
        opened = len(facts.unusable) + len(facts.opened)
        reasons.append(f"{len(facts.unusable)} of {opened} images that were opened are unusable, as {path}: {why}")
        share = min(TOLERABLE, 2 * share)  # few were opened
    return math.ceil(100 * share) / 100, "; ".join(reasons) + "; look at them, ingest lists them all"


def divided(reading: FormatCandidate, facts: Facts) -> Iterator[Choice]:
    """The section `split`."""
    known = Counter(item.split for item in reading.samples if item.split)
    if reading.has_split:
        told = ", ".join(f"{count} {name}" for name, count in known.items())
        yield Choice("split.by", "source", f"the source names train, val and test for every image: {told}")
    elif known:
        named = ", ".join(sorted(known))
        yield Choice("split.by", "hash", f"the source names {named} alone: the images are divided anew")
    else:
        yield Choice("split.by", "hash", "the source names no split")
    few = facts.count < FEW
    share = SHARE_OF_FEW if few else SHARE
    for part in ("validation", "test"):
        why = f"some {share * facts.count:.0f} images" + (f", of so few as {facts.count} a larger share" if few else "")
        yield Choice(f"split.{part}", share, "" if reading.has_split else why)
