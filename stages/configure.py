"""Inspect images and propose params: `python -m stages.configure SOURCE`, or `make configure SOURCE=...`.

The output states the reasons for the values, other interpretations of the source, and open questions.
"""

import os
import runpy
import shlex
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML

from stages.config.edit import edited, nested, one_line
from stages.config.load import check, default_params, load, value_of
from stages.config.registry_names import NETWORK_OUTPUTS
from stages.config.schema import Params
from stages.configuration import (
    Choice,
    SourceFacts,
    estimate_data_amount,
    inspect_images,
    limit_epochs,
    propose_params,
    summarize,
)
from stages.configuration.appearance_groups import QUICK, THOROUGH, AppearanceOptions
from stages.configuration.group_table_files import draw_groups
from stages.configuration.resolution import smaller_size
from stages.configuration.source_proposal import name_data_set, such_as
from stages.configuration.summary import MAX_LISTED, find_unused_images, group_failures
from stages.configuration.training_budget import suffices
from stages.core.dependency_errors import explain
from stages.core.errors import UserError
from stages.core.memory import without_cyclic_collection
from stages.core.path_parts import suffix_of
from stages.core.plurals import quantity
from stages.core.progress import announce
from stages.images.archives import HIDDEN_FILES, SourceFiles, list_source_files
from stages.images.decode import Unreadable, decode_image, is_image_path
from stages.images.sandbox import without_isolation
from stages.images.unsupported_formats import describe_unsupported
from stages.importers.format_candidate import FormatCandidate
from stages.importers.format_detection import find_formats
from stages.importers.group_table import format_group_table, name_group_table, read_group_table
from stages.importers.sample import read_annotation

TIMED_ON = 8  # number of images on which training is timed


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
    """Result of `configure`: proposed values with reasons."""

    output: Path
    """File that was written."""
    groups: tuple[Path, Path] | None
    """Table of groups that was written beside it, and its place in the project; None if no table is proposed."""
    choices: list[Choice]
    """Proposed values with reasons."""
    lines: list[str]
    """Text summary: interpretation of the source, alternatives and open questions."""


def main(options: ConfigureOptions) -> Proposal:
    """Inspect a source and write proposed params; overwrite an existing file only if `options.replace`.

    Raises:
        UserError: params.yaml has mistakes, the source cannot be read, no labelled images were recognized, or the
            output file exists or cannot be written.
    """
    params, text = load(Path("params.yaml")), Path("params.yaml").read_text(encoding="utf-8")
    for file in (options.output, table_file(options.output)):
        if file.exists() and not options.replace:
            raise UserError(f"{file} exists; use another --output, or --replace to overwrite it")
    appearance = _appearance_options(options)
    with ExitStack() as stack:
        stack.enter_context(without_isolation())
        if options.quick:  # a fifth of the time for 60,000 files (docs/results/configure-cost.md)
            stack.enter_context(without_cyclic_collection())
        with announce(f"configure: listing the files of {options.source}"):
            files, refused = list_source_files(options.source, stack)
        with announce(f"configure: reading the labels among {quantity(len(files), 'file')}"):
            found, failures = find_formats(files, params.ingest)
        if refused:
            number = quantity(len(refused), "file is refused", "files are refused")
            failures.insert(0, f"{number}, {such_as(len(refused))}{refused[0].path!a}: {refused[0].reason}")
        found = [one for one in found if _matches_options(one, options)]
        with announce("configure: inspecting images"):
            chosen, facts = _first_usable(files, found, params, failures, options, appearance)
            proposed, counts = propose_params(chosen, facts, options.source, params)
        if not options.quick:
            with announce("configure: comparing pretrained features with random patches"):
                proposed = _choose_weights(proposed, chosen, facts, params.ingest.max_megapixels)
            with announce("configure: timing training steps"):
                proposed = _fit_to_time_budget(proposed, chosen, facts, text, options.minutes)
        left_out = find_unused_images(files, chosen)
    groups = _write_groups(chosen, facts.grouping.table, appearance, options.output, params.ingest.max_megapixels)
    _write(_text(text, proposed), options.output)
    rivals = [one for one in found if one is not chosen]
    lines = [one_line(line) for line in summarize(chosen, rivals, facts, proposed, counts, left_out, failures, params)]
    return Proposal(options.output, groups, proposed, lines)


def table_file(output: Path) -> Path:
    """Return the table of groups that is written beside the proposed params, such as `params.proposed.groups.csv`."""
    return output.with_suffix(".groups.csv")


def _appearance_options(options: ConfigureOptions) -> AppearanceOptions:
    """Return the limits of the comparison of all images, and the accepted table of groups.

    Raises:
        UserError: the accepted table cannot be read.
    """
    words = ["macula", "configure", str(options.source), "--replace"]
    for name, value in (("--inside", options.inside), ("--format", options.format)):
        words += [name, value] if value else []
    words += [] if options.output == Path("params.proposed.yaml") else ["--output", str(options.output)]
    file = Path(name_group_table(name_data_set(options.source)))
    accepted = read_group_table(file) if file.exists() else {}
    return AppearanceOptions(QUICK if options.quick else THOROUGH, shlex.join(words), str(file), accepted)


def _write_groups(
    chosen: FormatCandidate,
    rows: Mapping[str, str],
    appearance: AppearanceOptions,
    output: Path,
    max_megapixels: float,
) -> tuple[Path, Path] | None:
    """Write a table of groups beside the output, with pictures of some groups; an accepted table stays as it is.

    Args:
        chosen: chosen interpretation of the source.
        rows: group by path; empty if no table is proposed.
        appearance: the accepted table.
        output: file of the proposed params.
        max_megapixels: value of `ingest.max_megapixels`.

    Returns:
        The table, and its place in the project; None if there is nothing new.
    """
    if not rows or rows == appearance.accepted:
        return None
    file = table_file(output)
    draw_groups(chosen.samples, rows, max_megapixels).save(file.with_suffix(".png"))
    _write(format_group_table(rows), file)
    return file, Path(appearance.file)


def _text(text: str, proposed: list[Choice]) -> str:
    """Return the params file with the values that differ from their defaults or have reasons, which are comments."""
    written = [c for c in proposed if c.why or c.value != value_of(default_params(), c.key)]
    values = nested({c.key: c.value for c in written})
    dropped = {c.key for c in proposed} - {c.key for c in written}
    return edited(text, [values], "the proposed params", {c.key: c.why for c in written if c.why}, sorted(dropped))


def _write(text: str, output: Path) -> None:
    """Write a file atomically: an existing file is kept until the new one is complete."""
    part = output.with_name(f"{output.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, output)  # noqa: PTH105  # same as Path.replace
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"--output {output} cannot be written: {error.strerror}; name another file") from None


def _matches_options(reading: FormatCandidate, options: ConfigureOptions) -> bool:
    if options.format and reading.format != options.format:
        return False
    if options.inside == ".":
        return reading.inside == ""
    return not options.inside or f"{reading.inside}/".startswith(f"{options.inside.strip('/')}/")


def _first_usable(
    files: SourceFiles,
    found: list[FormatCandidate],
    params: Params,
    failures: list[str],
    options: ConfigureOptions,
    appearance: AppearanceOptions,
) -> tuple[FormatCandidate, SourceFacts]:
    """Return the first interpretation with usable images, and the statistics of these images.

    The reasons against the interpretations before it are added to `failures`.

    Args:
        files: files of the source.
        found: interpretations of the source.
        params: current params.
        failures: reasons against other interpretations; more are added.
        options: options of the command.
        appearance: limits of the comparison of all images, and the accepted table of groups.

    Raises:
        UserError: no interpretation has usable images.
    """
    for reading in found:
        try:
            return reading, inspect_images(reading, params.ingest.max_megapixels, appearance)
        except UserError as error:
            failures.append(f"{reading.format} in {reading.inside or 'the source'}: {error}")
    if not files:
        refused = f" ({failures[0]})" if failures else ""
        raise UserError(
            f"{options.source} contains no files that can be read{refused}; name a folder, zip, tar or npz of labelled "
            "images"
        )
    inside = "" if options.inside == "." else options.inside.strip("/")
    where = f"{options.source}/{inside}".rstrip("/")
    named = [path for path in files if not inside or f"{path}/".startswith(f"{inside}/")]
    image_count = sum(is_image_path(path) for path in named)
    expected = f"the format {options.format}" if options.format else "a known format"
    reasons = "".join(f"\n  {one_line(failure)}" for failure in group_failures(failures)[:MAX_LISTED])
    unsupported = _describe_unsupported_images(files, named)
    raise UserError(
        f"{where} contains no labelled images in {expected}, among {quantity(image_count, 'image')} and "
        f"{quantity(len(named) - image_count, 'other file')}{unsupported}. Known formats: a folder of images per "
        "class, a table of paths, masks or other files next to images, COCO, Pascal VOC, YOLO, DeepLabCut, npz; see "
        "docs/guides/your-images.md" + (f". Rejected interpretations:{reasons}" if reasons else "")
    )


def _describe_unsupported_images(files: SourceFiles, paths: list[str]) -> str:
    """Return how to convert those files that are images of unsupported formats; one file per suffix is read."""
    by_suffix = {suffix_of(path).lower(): path for path in paths if not HIDDEN_FILES.search(path)}
    reasons = []
    for path in by_suffix.values():
        with suppress(Unreadable, OSError):  # `ingest` reports unreadable files
            if reason := describe_unsupported(files[path]()):
                reasons.append(f". {path!a} {reason}")
    return "".join(reasons)


def _choose_weights(
    proposed: list[Choice], chosen: FormatCandidate, facts: SourceFacts, max_megapixels: float
) -> list[Choice]:
    from stages.training.pretrained_choice import choose_weights  # importing torch takes seconds

    return choose_weights(proposed, chosen, facts, max_megapixels)


def _fit_to_time_budget(
    proposed: list[Choice], chosen: FormatCandidate, facts: SourceFacts, text: str, minutes: float
) -> list[Choice]:
    """Return the choices with `train.epochs` limited to a time budget, for which some training steps are timed.

    If too few epochs fit, the next smaller `prepare.size` is timed, as long as the finest structure stays visible. If
    the steps cannot be timed, the number of epochs is kept, and the error is added to its reason.
    """
    from stages.tasks.ground_truth import Labelled
    from stages.training.epoch_timing import estimate_epoch  # importing torch takes seconds

    params = check(YAML(typ="safe", pure=True).load(_text(text, proposed)), "the proposed params")
    samples = []
    for item in chosen.samples:
        try:
            content = item.read()
            decoded = decode_image(content, params.ingest.max_megapixels)
            height, width = decoded.image.shape[:2]
            target = None if item.target is None else decode_image(item.target(height, width)).image
            annotation = read_annotation(item, content, height, width, decoded.turned)
            samples.append((Labelled(item.path, annotation, target, height, width), decoded.image))
        except (Unreadable, OSError):  # reported in `facts`
            continue
        if len(samples) == TIMED_ON:
            break
    data = estimate_data_amount(chosen, facts, params.prepare)
    try:
        measured = estimate_epoch(samples, facts.annotations, params, data.training, data.validation)
    except (UserError, RuntimeError, MemoryError) as error:
        reason = str(error) if isinstance(error, UserError) else explain(error) or f"{type(error).__name__}: {error}"
        return [
            Choice(c.key, c.value, f"{c.why}; not timed: {reason}") if c.key == "train.epochs" else c for c in proposed
        ]
    smaller = smaller_size(facts, NETWORK_OUTPUTS[params.network.name], params.prepare.size, params.prepare.fit)
    if smaller and not suffices(params.train.epochs, measured.seconds, minutes):
        why = f"at size {params.prepare.size}, --minutes {minutes:g} would not suffice to train"
        resized = [Choice(c.key, smaller, f"{c.why}; {why}") if c.key == "prepare.size" else c for c in proposed]
        return _fit_to_time_budget(resized, chosen, facts, text, minutes)
    return [
        limit_epochs(c, measured.seconds, measured.measurement, minutes) if c.key == "train.epochs" else c
        for c in proposed
    ]


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "configure")
    runpy.run_module("stages", run_name="__main__")
