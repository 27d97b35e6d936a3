"""Look at images and propose params for them: `python -m stages.configure SOURCE`, or `make configure SOURCE=...`.

Every value comes with its reason, what else the source could be is listed, and what files cannot tell is asked.
"""

import os
import runpy
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from stages.config.edit import edited, nested, one_line
from stages.config.load import check, load, value_of
from stages.config.schema import Params
from stages.configuration import Choice, Facts, amount, choices, looked_at, told, within_budget
from stages.configuration.summary import MOST_TOLD, left_out_of
from stages.core.errors import UserError
from stages.images.archives import SourceFiles, list_source_files
from stages.images.decode import IMAGE_SUFFIXES, Unreadable, decode_image
from stages.importers.format_detection import FormatCandidate, find_formats

TIMED_ON = 8  # images on which training is timed


@dataclass(frozen=True)
class ConfigureOptions:
    """Options of `macula configure`, which documents them and sets their defaults."""

    source: Path
    inside: str
    format: str
    output: Path
    replace: bool
    minutes: float
    quick: bool


@dataclass(frozen=True)
class Proposal:
    """What was proposed, and why."""

    output: Path
    """The file that was written."""
    choices: list[Choice]
    """Values that differ from params.yaml, each with its reason."""
    lines: list[str]
    """The same in sentences: what the source is, what else it could be, and what only a person can decide."""


def main(options: ConfigureOptions) -> Proposal:
    """Look at a source and write proposed params for it; an existing file is kept unless `options.replace`.

    Raises:
        UserError: no labelled images were recognized, or the file exists or cannot be written.
    """
    params, text = load(Path("params.yaml")), Path("params.yaml").read_text(encoding="utf-8")
    if options.output.exists() and not options.replace:
        raise UserError(f"{options.output} exists; name another --output, or replace it with --replace")
    with ExitStack() as stack:
        files, _ = list_source_files(options.source, stack)
        found, failures = find_formats(files, params.ingest)
        found = [one for one in found if _is_wanted(one, options)]
        chosen, facts = _first_usable(files, found, params, failures, options)
        proposed, counts = choices(chosen, facts, options.source, params)
        if not options.quick:
            proposed = _for_this_machine(proposed, chosen, facts, text, options.minutes)
        left_out = left_out_of(files, chosen)
    _write(_text(text, proposed), options.output)
    rivals = [one for one in found if one is not chosen]
    lines = [one_line(line) for line in told(chosen, rivals, facts, proposed, counts, left_out, failures)]
    return Proposal(options.output, proposed, lines)


def _text(text: str, proposed: list[Choice]) -> str:
    """Return the params file with what differs from the defaults or has a reason, the reason as a comment above it."""
    defaults = check({"ingest": {"name": "data", "source": "data"}})
    written = [c for c in proposed if c.why or c.value != value_of(defaults, c.key)]
    values = nested({c.key: c.value for c in written})
    dropped = {c.key for c in proposed} - {c.key for c in written}
    return edited(text, [values], "what is proposed", {c.key: c.why for c in written if c.why}, sorted(dropped))


def _write(text: str, output: Path) -> None:
    """Whole or not at all: what was there stays until the new file is complete."""
    part = output.with_name(f"{output.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, output)  # noqa: PTH105  # as Path.replace; names what it does
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"--output {output} cannot be written: {error.strerror}") from None


def _is_wanted(reading: FormatCandidate, options: ConfigureOptions) -> bool:
    if options.format and reading.format != options.format:
        return False
    if options.inside == ".":
        return reading.inside == ""
    return not options.inside or f"{reading.inside}/".startswith(f"{options.inside.strip('/')}/")


def _first_usable(
    files: SourceFiles, found: list[FormatCandidate], params: Params, failures: list[str], options: ConfigureOptions
) -> tuple[FormatCandidate, Facts]:
    """The first reading of which images can be used, and what was seen of them."""
    for reading in found:
        try:
            return reading, looked_at(reading, params.ingest.max_megapixels)
        except UserError as error:
            failures.append(f"{reading.format} in {reading.inside or 'the source'}: {error}")
    where = f"{options.source}/{options.inside}".rstrip("/")
    pictures = sum(Path(path).suffix.lower() in IMAGE_SUFFIXES for path in files)
    if not files:
        raise UserError(f"{options.source} holds no files")
    reasons = "".join(f"\n  {one_line(failure)}" for failure in failures[:MOST_TOLD])
    raise UserError(
        f"{where} holds no labelled images in a form that is known, of {pictures} images and {len(files) - pictures} "
        "other files: a folder of several images per class, a table of paths, masks or other files beside images, "
        "COCO, Pascal VOC, YOLO, DeepLabCut, npz; docs/guides/your-images.md shows each"
        + (f". What came near:{reasons}" if reasons else "")
    )


def _for_this_machine(
    proposed: list[Choice], chosen: FormatCandidate, facts: Facts, text: str, minutes: float
) -> list[Choice]:
    """With as many epochs as there is time for, by some steps of just that training."""
    from stages.tasks.ground_truth import Labelled
    from stages.training.epoch_timing import estimate_epoch  # torch takes seconds to come

    params = check(YAML(typ="safe", pure=True).load(_text(text, proposed)), "what is proposed")
    samples = []
    for item in chosen.samples:
        try:
            image = decode_image(item.read(), params.ingest.max_megapixels).image
            height, width = image.shape[:2]
            target = None if item.target is None else decode_image(item.target(height, width)).image
            samples.append((Labelled(item.path, item.annotate(height, width), target, height, width), image))
        except (Unreadable, OSError):  # `facts` says so
            continue
        if len(samples) == TIMED_ON:
            break
    given = amount(chosen, facts, params.prepare)
    try:
        measured = estimate_epoch(samples, facts.annotations, params, given.training, given.validation)
    except (UserError, RuntimeError, MemoryError) as error:
        return [
            Choice(c.key, c.value, f"{c.why}; not timed: {error}") if c.key == "train.epochs" else c for c in proposed
        ]
    return [
        within_budget(c, measured.seconds, measured.measurement, minutes) if c.key == "train.epochs" else c
        for c in proposed
    ]


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "configure")
    runpy.run_module("stages", run_name="__main__")
