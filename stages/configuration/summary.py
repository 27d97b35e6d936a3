"""Text summary of a proposal: reasons, alternatives, observations, blockers, open questions and unread files."""

import re
from collections.abc import Iterator, Sequence

from stages.config.schema import Params
from stages.configuration.choice import Choice
from stages.configuration.class_names import describe_odd_classes
from stages.configuration.contract_thresholds import PerClass, find_unmet_checks
from stages.configuration.doubtful_folders import ask_about_altered_copies, ask_about_folders_of_labels
from stages.configuration.inspection import SourceFacts
from stages.configuration.orientation import MAX_UPRIGHT, MIN_COVERED, SECTORS, covered_sectors
from stages.configuration.source_proposal import ask_about_few_groups, find_rejected, such_as
from stages.core.path_parts import name_of, suffix_of
from stages.core.plurals import list_names, quantity
from stages.dataset.annotations import class_names
from stages.images.archives import HIDDEN_FILES, LABEL_SUFFIXES, NOTES, SourceFiles
from stages.images.decode import is_image_path
from stages.importers import IMPORTERS
from stages.importers.file_selection import select_files
from stages.importers.format_candidate import FormatCandidate

MAX_LISTED = 5
MAX_FOLDERS = 3  # maximum number of folders named with a reason
OF_FOLDER = re.compile(rf"(?P<format>{'|'.join(IMPORTERS)}) in (?P<folder>.+?): (?P<reason>.+)", re.DOTALL)
DARK, BRIGHT = 10, 245  # grey levels
FEWEST_IMAGES = 10


def summarize(
    chosen: FormatCandidate,
    rivals: list[FormatCandidate],
    facts: SourceFacts,
    choices: list[Choice],
    counts: PerClass,
    left_out: list[str],
    failures: list[str],
    params: Params,
) -> Iterator[str]:
    """Yield the lines of the summary.

    Args:
        chosen: chosen interpretation of the source.
        rivals: other interpretations.
        facts: statistics of the images.
        choices: proposed values.
        counts: images per split and class.
        left_out: images that the chosen interpretation does not use.
        failures: reasons why other interpretations failed.
        params: current params, whose guards stay as they are.
    """
    yield f"{quantity(len(chosen.samples), 'image')}, read as {chosen.format}: {chosen.reason}"
    for choice in choices:
        if choice.why:
            yield f"  {choice.key}: {choice.value}"
            yield f"      {choice.why}"
    yield from _titled("The source could also be read as", list_rivals(chosen, rivals))
    yield from _titled("Observations", _observations(facts, chosen.has_split))
    yield from _titled("Will stop the pipeline", find_blockers(chosen, facts, counts, params))
    yield from _titled("Questions that only you can answer", _questions(chosen, rivals, facts))
    yield from _titled(
        "Not read",
        [
            *_rejected_files(chosen, facts, left_out),
            *group_failures([one for one in failures if "{key}" not in one])[:MAX_LISTED],
        ],
    )


def _titled(title: str, lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    first = True
    for line in lines:
        if first:
            yield title
        first = False
        yield f"  {line}"


def list_rivals(chosen: FormatCandidate, rivals: list[FormatCandidate]) -> list[str]:
    """Return the options of other interpretations, without those that select the chosen one."""
    by_options: dict[tuple[str, str], FormatCandidate] = {}
    for other in rivals:
        by_options.setdefault((other.inside, other.format), other)
    by_options.pop((chosen.inside, chosen.format), None)
    return [
        f"--inside {inside or '.'} --format {name}: {quantity(len(other.samples), 'image')}; {other.reason}"
        for (inside, name), other in by_options.items()
    ][:MAX_LISTED]


def group_failures(failures: list[str]) -> list[str]:
    """Return reasons why interpretations failed; a reason that several folders have is stated once, with the folders.

    >>> group_failures(["voc in a: no file", "voc in b: no file", "coco in a: no file"])
    ['voc in a, b: no file', 'coco in a: no file']
    """
    places: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        found = OF_FOLDER.fullmatch(failure)
        of_reason = places.setdefault((found["format"], found["reason"]) if found else ("", failure), [])
        if found and found["folder"] not in of_reason:
            of_reason.append(found["folder"])
    return [
        f"{name} in {list_names(folders, MAX_FOLDERS)}: {reason}" if folders else reason
        for (name, reason), folders in places.items()
    ]


def _observations(facts: SourceFacts, has_split: bool) -> Iterator[str]:
    """Yield observations that do not determine a value."""
    opened = len(facts.opened)
    if facts.copies:
        copies = "is a copy of another image" if facts.copies == 1 else "are copies of other images"
        kept = "" if has_split else "the split keeps copies together, and "
        yield f"{facts.copies} of {facts.inspected} opened images {copies}; {kept}the audit lists them"
    dark, bright = int((facts.levels[:, 1] < DARK).sum()), int((facts.levels[:, 0] > BRIGHT).sum())
    if dark:
        deep = ", possibly 12 bits stored in 16" if 16 in facts.depths else ""
        verb = "is" if dark == 1 else "are"
        yield (
            f"{dark} of {opened} opened images {verb} nearly black and contain{'s' if dark == 1 else ''} little "
            f"information: 99% of the pixels are below level {DARK} of 255{deep}"
        )
    if bright:
        verb = "is" if bright == 1 else "are"
        yield f"{bright} of {opened} opened images {verb} nearly white: the mean level is above {BRIGHT} of 255"


def find_blockers(chosen: FormatCandidate, facts: SourceFacts, counts: PerClass, params: Params) -> Iterator[str]:
    """Yield what will stop the pipeline, each with what to do; guards are named, with the line that would accept it.

    Args:
        chosen: chosen interpretation of the source.
        facts: statistics of the images.
        counts: number of images by split and class.
        params: current params.
    """
    yield from find_rejected(chosen, facts, params.ingest.max_rejected)
    if facts.count < FEWEST_IMAGES:
        images = quantity(facts.count, "image is", "images are")
        yield f"ingest: {images} too few for training, validation and test; collect more"
    if len(facts.depths) > 1:
        depths = " and ".join(map(str, sorted(facts.depths)))
        yield f"prepare: the images have different depths ({depths} bits per value); convert them to one depth"
    if set(facts.channels) - {1, 3} and len(facts.channels) > 1:
        channels = ", ".join(map(str, sorted(facts.channels)))
        yield f"prepare: the images have different numbers of channels ({channels}); convert or remove some"
    yield from find_unmet_checks(facts, counts, params.checks)
    if len(set(facts.labels)) == 1:
        yield f"validate: all images are of one class, {facts.labels[0]}; a classifier requires at least two"
    missing = sorted({name for part in counts.values() for name, count in part.items() if count < 1})
    if facts.labels and missing:
        remove = "this class" if len(missing) == 1 else "such classes"
        yield (
            f"validate: {quantity(len(missing), 'class', 'classes')} ({such_as(len(missing))}{missing[0]}) will be "
            f"missing in training or validation; collect more images, or remove {remove}"
        )


def _questions(chosen: FormatCandidate, rivals: list[FormatCandidate], facts: SourceFacts) -> Iterator[str]:
    yield "objective: which score makes the model useful?"
    yield from _ask_about_rivals(chosen, rivals)
    yield from chosen.asks
    yield from _ask_about_class_folders(chosen, rivals)
    yield from _ask_about_label_files(chosen)
    paths = [item.path for item in chosen.samples]
    yield from ask_about_altered_copies(paths)
    if chosen.format == "folders":
        yield from ask_about_folders_of_labels(paths, sorted(set().union(*map(class_names, facts.annotations))))
    if not (facts.grouping.exists or any(item.group is not None for item in chosen.samples)):
        yield "ingest.group_regex, ingest.sequence_block: which images are related (by patient, scene or video)?"
    yield from ask_about_few_groups(chosen)
    for ask in facts.grouping.asks:
        yield f"ingest.group_regex, ingest.sequence_block: {ask}"
    yield "augment: are the labels still correct for the images shown in the report under `Augmented training images`?"
    covered = covered_sectors(facts.annotations)
    if facts.annotations[0].scalars is None and (covered is None or MAX_UPRIGHT < covered < MIN_COVERED):
        seen = "" if covered is None else f" (their points do in {covered} of {SECTORS})"
        yield (
            f"augment.amounts: can the objects lie in every direction, as when seen from above{seen}? If so, set "
            "{rotation: 180}; the preset rotates by up to 10 degrees unless rotated images cannot be distinguished"
        )
    for ask in describe_odd_classes(facts.annotations):
        yield f"classes: {ask}"
    if reason := chosen.reasons.get("columns"):
        yield f"ingest.columns: {reason}"


def _ask_about_rivals(chosen: FormatCandidate, rivals: list[FormatCandidate]) -> Iterator[str]:
    """Yield the question that the evidence leaves open: about the chosen reading, else about a rival of its images."""
    if chosen.question:
        yield f"ingest.format: {chosen.question}"
        return
    paths = {f"{chosen.inside}/{item.path}".removeprefix("/") for item in chosen.samples}
    for other in rivals:
        if (
            other.question
            and other.format != chosen.format
            and not paths.isdisjoint(f"{other.inside}/{item.path}".removeprefix("/") for item in other.samples)
        ):
            yield f"ingest.format: now {chosen.format}; {other.question}"
            return


def _ask_about_class_folders(chosen: FormatCandidate, rivals: list[FormatCandidate]) -> Iterator[str]:
    """Yield a question if images with masks lie in folders that may be their classes."""
    paths = {f"{chosen.inside}/{item.path}".removeprefix("/") for item in chosen.samples}
    for other in rivals:
        if other.format != "folders" or "targets" not in other.changes:
            continue
        shared = [item for item in other.samples if f"{other.inside}/{item.path}".removeprefix("/") in paths]
        folders = sorted({label for item in other.samples for label in item.annotate(1, 1).labels or ()})
        if shared and len(folders) > 1:
            bare = len(other.samples) - len(shared)
            more = f"; {quantity(bare, 'image has', 'images have')} no mask" if bare else ""
            yield (
                f"task.name: the images with masks lie in the folders {list_names(folders, MAX_LISTED)}: are these "
                f"classes{more}? --inside {other.inside or '.'} --format folders classifies the images, without masks"
            )
            return


def _ask_about_label_files(chosen: FormatCandidate) -> Iterator[str]:
    """Yield a question if files that may contain labels lie among images whose folders are read as classes."""
    paths = [one.path for one in chosen.unused if suffix_of(one.path).lower() in LABEL_SUFFIXES]
    paths = [path for path in paths if not NOTES.match(name_of(path))]
    if chosen.format in ("folders", "names") and paths:
        files = quantity(len(paths), "file that may contain labels is", "files that may contain labels are")
        yield (
            f"ingest.format: {files} not used ({list_names(paths, MAX_LISTED)}), because {chosen.format} are read as "
            "labels: which of them are the labels?"
        )


def _rejected_files(chosen: FormatCandidate, facts: SourceFacts, left_out: list[str]) -> Iterator[str]:
    """Yield lines about the files that ingest does not read or rejects, and the opened images that cannot be used."""
    if left_out:
        images = quantity(len(left_out), "image is", "images are")
        yield f"{images} elsewhere in the source ({such_as(len(left_out))}{left_out[0]})"
    if reason := chosen.reasons.get("files"):
        yield f"files are not used because of ingest.files ({reason})"
    if chosen.unused:
        files = quantity(len(chosen.unused), "file is", "files are")
        first = chosen.unused[0]
        yield f"{files} not used ({such_as(len(chosen.unused))}{first.path}: {first.reason})"
    if chosen.rejected:
        first, share = chosen.rejected[0], len(chosen.rejected) / (len(chosen.rejected) + len(chosen.samples))
        files = quantity(len(chosen.rejected), "file is rejected", "files are rejected")
        example = f"{such_as(len(chosen.rejected))}{first.path}: {first.reason[:80]}"
        yield f"{files}, {share:.1%} of the files ({example})"
    if facts.unusable:
        path, reason = next(iter(facts.unusable.items()))
        opened = len(facts.unusable) + len(facts.opened)
        example = f"{such_as(len(facts.unusable))}{path}: {reason}"
        yield f"{len(facts.unusable)} of {quantity(opened, 'opened image')} cannot be used ({example})"


def find_unused_images(files: SourceFiles, chosen: FormatCandidate) -> list[str]:
    """Return the paths of the images in the source that the chosen interpretation neither uses nor rejects."""
    files, _ = select_files(files, chosen.changes.get("files", ()))
    folder = chosen.inside if chosen.inside not in files else chosen.inside.rpartition("/")[0]
    used = {f"{folder}/{item.path}".removeprefix("/") for item in chosen.samples} | chosen.targets
    used |= {f"{folder}/{one.path}".removeprefix("/") for one in (*chosen.rejected, *chosen.unused)} | {
        item.path for item in chosen.samples
    }
    images = (path for path in files if is_image_path(path) and not HIDDEN_FILES.search(path))
    return [path for path in images if path not in used]
