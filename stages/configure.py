"""Look at images and propose params for them: `python -m stages.configure SOURCE`, or `make configure SOURCE=...`.

Every value comes with its reason, what else the source could be is listed, and what files cannot tell is asked.
"""

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path

from ruamel.yaml import YAML

from stages.configuration import Choice, Facts, amount, choices, looked_at, told, within_budget
from stages.configuration.summary import MOST_TOLD, left_out_of
from stages.core.errors import UserError
from stages.frame.editing import edited, nested, one_line
from stages.frame.params import check, load
from stages.frame.sections import Params
from stages.images.archives import Files, files_of
from stages.images.decode import SUFFIXES, Unreadable, read
from stages.importers import FORMS
from stages.importers.format_detection import Reading, readings

TIMED_ON = 8  # images on which training is timed
MINUTES = 15.0


def main(argv: list[str] | None = None) -> None:
    """Write the proposal and say why; an existing file is left alone unless asked."""
    arguments = _arguments(argv)
    try:
        params, text = load(Path("params.yaml")), Path("params.yaml").read_text(encoding="utf-8")
        if arguments.output.exists() and not arguments.replace:
            raise UserError(f"{arguments.output} exists; name another --output, or say --replace")
        with ExitStack() as stack:
            files, _ = files_of(arguments.source, stack)
            found, failures = readings(files, params.ingest)
            found = [one for one in found if _is_wanted(one, arguments)]
            chosen, facts = _first_usable(files, found, params, failures, arguments)
            proposed, counts = choices(chosen, facts, arguments.source, params)
            if not arguments.quick:
                proposed = _for_this_machine(proposed, chosen, facts, text, arguments.minutes)
            left_out = left_out_of(files, chosen)
        _write(_text(text, proposed), arguments.output)
    except UserError as error:
        sys.exit(f"error: {error}")
    rivals = [one for one in found if one is not chosen]
    print("\n".join(one_line(line) for line in told(chosen, rivals, facts, proposed, counts, left_out, failures)))
    print(f"\nWritten to {arguments.output}, with the reasons beside the values. Read it, then")
    print(f"  mv {arguments.output} params.yaml && make repro")


def _text(text: str, proposed: list[Choice]) -> str:
    values = nested({choice.key: choice.value for choice in proposed})
    return edited(text, [values], "what is proposed", {c.key: c.why for c in proposed if c.why})


def _write(text: str, output: Path) -> None:
    """Whole or not at all: what was there stays until the new file is complete."""
    part = output.with_name(f"{output.name}.part")
    try:
        part.write_text(text, encoding="utf-8")
        os.replace(part, output)  # noqa: PTH105  # as Path.replace; names what it does
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UserError(f"--output {output} cannot be written: {error.strerror}") from None


def _is_wanted(reading: Reading, arguments: argparse.Namespace) -> bool:
    if arguments.form and reading.form != arguments.form:
        return False
    if arguments.inside == ".":
        return reading.inside == ""
    return not arguments.inside or f"{reading.inside}/".startswith(f"{arguments.inside.strip('/')}/")


def _first_usable(
    files: Files, found: list[Reading], params: Params, failures: list[str], arguments: argparse.Namespace
) -> tuple[Reading, Facts]:
    """The first reading of which images can be used, and what was seen of them."""
    for reading in found:
        try:
            return reading, looked_at(reading, params.ingest.max_megapixels)
        except UserError as error:
            failures.append(f"{reading.form} in {reading.inside or 'the source'}: {error}")
    where = f"{arguments.source}/{arguments.inside}".rstrip("/")
    pictures = sum(Path(path).suffix.lower() in SUFFIXES for path in files)
    if not files:
        raise UserError(f"{arguments.source} holds no files")
    reasons = "".join(f"\n  {one_line(failure)}" for failure in failures[:MOST_TOLD])
    raise UserError(
        f"{where} holds no labelled images in a form that is known, of {pictures} images and {len(files) - pictures} "
        "other files: a folder of several images per class, a table of paths, masks or other files beside images, "
        "COCO, Pascal VOC, YOLO, DeepLabCut, npz; docs/guides/your-images.md shows each"
        + (f". What came near:{reasons}" if reasons else "")
    )


def _for_this_machine(proposed: list[Choice], chosen: Reading, facts: Facts, text: str, minutes: float) -> list[Choice]:
    """With as many epochs as there is time for, by some steps of just that training."""
    from stages.tasks.ground_truth import Labelled
    from stages.training.epoch_timing import timed  # torch takes seconds to come

    params = check(YAML(typ="safe", pure=True).load(_text(text, proposed)), "what is proposed")
    samples = []
    for item in chosen.items:
        try:
            image = read(item.read(), params.ingest.max_megapixels).image
            height, width = image.shape[:2]
            target = None if item.target is None else read(item.target(height, width)).image
            samples.append((Labelled(item.path, item.annotate(height, width), target, height, width), image))
        except (Unreadable, OSError):  # `facts` says so
            continue
        if len(samples) == TIMED_ON:
            break
    given = amount(chosen, facts, params.prepare)
    try:
        measured = timed(samples, facts.annotations, params, given.training, given.validation)
    except (UserError, RuntimeError, MemoryError) as error:
        return [
            Choice(c.key, c.value, f"{c.why}; not timed: {error}") if c.key == "train.epochs" else c for c in proposed
        ]
    return [
        within_budget(c, measured.seconds, measured.said, minutes) if c.key == "train.epochs" else c for c in proposed
    ]


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.configure", description=__doc__)
    parser.add_argument("source", type=Path, help="folder, zip, tar or npz")
    parser.add_argument("--inside", default="", help="folder or file inside it, where it holds several data sets")
    parser.add_argument("--form", default="", choices=["", *FORMS], help="how the labels are written")
    parser.add_argument("--output", type=Path, default=Path("params.proposed.yaml"), help="default: %(default)s")
    parser.add_argument("--replace", action="store_true", help="write over an existing --output")
    parser.add_argument("--minutes", type=_minutes, default=MINUTES, help="for training; default: %(default)g")
    parser.add_argument("--quick", action="store_true", help="do not time training on this machine")
    return parser.parse_args(argv)


def _minutes(text: str) -> float:
    minutes = float(text)
    if not 0 < minutes < float("inf"):
        raise ValueError(f"{text} is no time")
    return minutes


if __name__ == "__main__":
    main()
