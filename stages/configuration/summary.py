"""What is said of a proposal: reasons, what else the source could be, what only a person knows, what is not read."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from stages.configuration.choice import Choice
from stages.configuration.contract_thresholds import LEAST_SIDE, MOST_ASPECT, PerClass, aspect
from stages.configuration.inspection import Facts
from stages.configuration.source_proposal import TOLERABLE, refused_share
from stages.images.archives import HIDDEN_FILES, SourceFiles
from stages.images.decode import IMAGE_SUFFIXES
from stages.importers.format_detection import FormatCandidate

MOST_TOLD = 5
DARK, BRIGHT = 10, 245  # grey levels
FEWEST_IMAGES = 10


def told(
    chosen: FormatCandidate,
    rivals: list[FormatCandidate],
    facts: Facts,
    choices: list[Choice],
    counts: PerClass,
    left_out: list[str],
    failures: list[str],
) -> Iterator[str]:
    """Lines for a person."""
    yield f"{len(chosen.samples)} images, read as {chosen.format}: {chosen.reason}"
    for choice in choices:
        if choice.why:
            yield f"  {choice.key}: {choice.value}"
            yield f"      {choice.why}"
    yield from _titled("The source could also be read as", _rivals(rivals))
    yield from _titled("Seen", _seen(facts))
    yield from _titled("Will stop the line", stops(chosen, facts, choices, counts))
    yield from _titled("Only you know", _asks(chosen, facts))
    yield from _titled(
        "Not read", [*_refused(chosen, facts, left_out), *[one for one in failures if "{key}" not in one][:MOST_TOLD]]
    )


def _titled(title: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    first = True
    for line in lines:
        if first:
            yield title
        first = False
        yield f"  {line}"


def _rivals(rivals: list[FormatCandidate]) -> Iterator[str]:
    for other in rivals[:MOST_TOLD]:
        yield f"--inside {other.inside or '.'} --form {other.format}: {len(other.samples)} images; {other.reason}"


def _seen(facts: Facts) -> Iterator[str]:
    """What no value follows from, and yet matters."""
    opened = len(facts.opened)
    if facts.copies:
        yield (
            f"of {facts.glances} images that were opened {facts.copies} are the same picture as another: the split "
            "keeps such together, the audit names them"
        )
    dark, bright = (facts.levels[:, 1] < DARK).sum(), (facts.levels[:, 0] > BRIGHT).sum()
    if dark:
        deep = ", perhaps of 12 bits in 16" if 16 in facts.depths else ""
        yield f"{dark} of {opened} are nearly black, no level above {DARK} of 255{deep}: a network sees little of them"
    if bright:
        yield f"{bright} of {opened} are nearly white, {BRIGHT} of 255 on average"


def stops(chosen: FormatCandidate, facts: Facts, choices: list[Choice], counts: PerClass) -> Iterator[str]:
    """What no value can mend, and why the line would stop at it."""
    value = {choice.key: choice.value for choice in choices}
    share = refused_share(chosen, facts)
    if share > max(TOLERABLE, value["ingest.max_rejected"]):
        yield f"ingest: some {share:.0%} of the files will be refused; so many are not borne unasked: see below"
    if facts.count < FEWEST_IMAGES:
        yield f"ingest: {facts.count} images are too few for training, validation and test: collect more"
    if len(facts.depths) > 1:
        yield f"prepare: images of {' and '.join(map(str, sorted(facts.depths)))} bits: convert them to one depth"
    if set(facts.channels) - {1, 3} and len(facts.channels) > 1:
        yield "prepare: images have unequal numbers of channels: convert them, or leave some out"
    if facts.sides.min() < LEAST_SIDE or aspect(facts) > MOST_ASPECT:
        yield f"validate: an image of {facts.sides.min()} pixels, or {aspect(facts):.0f} times as long as wide"
    if len(set(facts.labels)) == 1:
        yield f"validate: all images are of one class, {facts.labels[0]}: there is nothing to tell apart"
    missing = sorted({name for part in counts.values() for name, count in part.items() if count < 1})
    if facts.labels and missing:
        yield (
            f"validate: {len(missing)} classes will be missing in training or validation, as {missing[0]}: collect "
            "more, or leave them out"
        )


def _asks(chosen: FormatCandidate, facts: Facts) -> Iterator[str]:
    yield "objective: what must be reached for the answer to be worth something?"
    if not (facts.belonging.group or facts.belonging.block > 1 or chosen.changes.get("columns", {}).get("group")):
        yield "ingest.group_regex, ingest.sequence_block: which images belong together, of one patient, scene or film?"
    for ask in facts.belonging.asks:
        yield f"ingest.group_regex, ingest.sequence_block: {ask}"
    yield "augment: is what the report shows under `What training sees` still right, each with its label?"
    if reason := chosen.reasons.get("columns"):
        yield f"ingest.columns: {reason}; is it needed?"


def _refused(chosen: FormatCandidate, facts: Facts, left_out: list[str]) -> Iterator[str]:
    """Files that ingest will refuse, or not see."""
    if left_out:
        yield f"{len(left_out)} images lie elsewhere, as {left_out[0]}"
    if chosen.rejected:
        first, share = chosen.rejected[0], len(chosen.rejected) / (len(chosen.rejected) + len(chosen.samples))
        yield f"{len(chosen.rejected)} files ({share:.1%}) are refused, as {first.path}: {first.reason[:80]}"
    if facts.unusable:
        path, reason = next(iter(facts.unusable.items()))
        opened = len(facts.unusable) + len(facts.opened)
        yield f"of {opened} images that were opened {len(facts.unusable)} cannot be used, as {path}: {reason}"


def left_out_of(files: SourceFiles, chosen: FormatCandidate) -> list[str]:
    """Images of the source that the reading gives no meaning to."""
    folder = chosen.inside if chosen.inside not in files else chosen.inside.rpartition("/")[0]
    used = {f"{folder}/{item.path}".removeprefix("/") for item in chosen.samples} | chosen.targets
    used |= {f"{folder}/{one.path}".removeprefix("/") for one in chosen.rejected} | {
        item.path for item in chosen.samples
    }
    images = (path for path in files if Path(path).suffix.lower() in IMAGE_SUFFIXES and not HIDDEN_FILES.search(path))
    return [path for path in images if path not in used]
