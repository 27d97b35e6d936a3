"""Answer with an exported model: `python -m stages.predict MODEL IMAGES...`, to CSV, JSON lines, JSON or COCO.

Images are files, folders, archives (zip, tar) and lists, any number of them: they stream through one process a core,
and a run that was ended goes on where it stopped when the command is repeated. Masks and images that are answered
become files in `--files`; `--overlays` draws every answer over its image. Runs without torch.
"""

import os
import runpy
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.batch_prediction import (
    FORMS,
    Order,
    answered,
    asked,
    began_with,
    count,
    names_of,
    output_to,
    refuse_sources,
)
from stages.core.errors import UserError
from stages.images.decode import IMAGE_SUFFIXES
from stages.images.decoder_logging import silence_decoders
from stages.runtime import Model, digest_of
from stages.tasks.image_outputs import PICTURED
from stages.tasks.task_spec import TaskSpec


@dataclass(frozen=True)
class PredictOptions:
    """Options of `macula predict`, which documents them and sets their defaults."""

    model: Path
    images: list[str]
    format: str
    output: Path | None
    restart: bool
    files: Path | None
    overlays: Path | None
    workers: int
    threads: int
    engine: str
    seconds: float
    memory: float


def main(options: PredictOptions) -> int:
    """Write one row per image; an image that cannot be predicted gets a row with the reason.

    Returns:
        1 if an image could not be predicted, otherwise 0.

    Raises:
        UserError: an option does not fit the model, or a file cannot be written.
        KeyboardInterrupt: with a text that states how to resume.
    """
    silence_decoders()
    options = replace(options, output=_file_behind(options.output))
    try:
        return _run(options)
    except UserError as error:
        raise UserError(f"{error}{_kept(options)}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"not all images were predicted{_kept(options)}") from None


def _run(options: PredictOptions) -> int:
    digest = digest_of(options.model)
    model = Model(options.model, options.threads, *_engine(options, digest))
    spec, engine, precision = model.spec, model.engine.name, model.engine.precision
    del model  # each process has its own
    _refuse_misfit(spec, options)
    refuse_sources(options.images)
    _refuse_overwriting(options)
    order = Order(
        options.model, options.format, options.files, options.overlays,
        options.threads, engine, precision, options.workers,
        options.seconds, int(options.memory * 2**30), digest,
    )  # fmt: skip
    images = asked(options.images)
    began = _began(options, order)
    with output_to(options.output, FORMS[order.form], spec, began, options.restart) as output:
        output.start(images)
        with _progress(options, output.rows) as tell:
            for some, lines in answered(images, order, spec):
                output.add(some, lines)
                tell(len(lines))
    if output.failed:
        print(f"{output.failed} of {output.rows} images could not be answered; their rows say why", file=sys.stderr)
    return 1 if output.failed else 0


def _engine(options: PredictOptions, digest: str) -> tuple[str, str]:
    """Engine and precision, '' of any; a run that goes on has those that it began with, whichever is faster by now."""
    began = {} if options.restart else began_with(options.output)
    if began.get("model") == digest and options.engine in ("auto", began["--engine"]):
        return began["--engine"], began.get("precision", "")
    return options.engine, ""


def _began(options: PredictOptions, order: Order) -> dict[str, Any]:
    """What rows depend on: a run with others does not go on where one with these stopped."""
    return {
        "model": order.digest,
        "--engine": order.engine,
        "precision": order.precision,
        "--format": options.format,
        "--files": options.files and str(options.files),
        "--overlays": options.overlays and str(options.overlays),
    }


def _kept(options: PredictOptions) -> str:
    """Return the sentence that states how to resume, or an empty text where nothing was kept."""
    part = options.output and options.output.with_name(f"{options.output.name}.part")
    if part is None or not os.access(part, os.F_OK):
        return ""
    return f"\nFinished rows are kept in {part}; repeat the command to resume"


@contextmanager
def _progress(options: PredictOptions, done: int) -> Iterator[Any]:
    """A bar on the terminal, unless the rows are written there; the number of images is found out on the way."""
    if not sys.stderr.isatty() or (options.output is None and sys.stdout.isatty()):
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(initial=done, unit=" images", smoothing=0.05) as bar:

        def find_total() -> None:
            bar.total = count(options.images)

        threading.Thread(target=find_total, daemon=True).start()
        yield bar.update


def _refuse_misfit(spec: TaskSpec, options: PredictOptions) -> None:
    if spec.task == "image" and options.files is None:
        raise UserError("this model answers with images: name a folder for them, --files FOLDER")
    if options.files is not None and spec.task not in PICTURED:
        raise UserError(f"--files: answers of task {spec.task} are no images; leave it out")
    if options.format == "coco" and spec.task != "instances":
        raise UserError(f"--format coco holds instances, this model's task is {spec.task}; use csv or json")


def _file_behind(output: Path | None) -> Path | None:
    """What is written: of a link its end, so that the link stays; raises UserError where that is no regular file."""
    if output is None:
        return None
    try:
        end = Path(os.path.realpath(output)) if output.is_symlink() else output
        if end.is_symlink() or (output.exists() and not output.is_file()):
            raise UserError(f"--output {output} is no regular file: name one, or leave --output out and redirect")
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror}") from error
    return end


def _refuse_overwriting(options: PredictOptions) -> None:
    """What is written never takes the place of what is read, nor lies where images are looked for."""
    given = {source: Path(source).resolve() for source in options.images if source != "-"}
    output = options.output and options.output.resolve()
    if output and (output in [*given.values(), options.model.resolve()] or output.suffix.lower() in IMAGE_SUFFIXES):
        raise UserError(f"--output {options.output} is, or would look like, what is read; name another file")
    for option, named in (("--files", options.files), ("--overlays", options.overlays)):
        if named is None:
            continue
        for source, place in given.items():
            if _may_meet(named.resolve(), place, names_of(options.images)):
                raise UserError(f"{option} {named}: {source} is, or holds, images to be answered; name another folder")
    if options.files and options.overlays and options.files.resolve() == options.overlays.resolve():
        raise UserError("--files and --overlays are one folder; name two")


def _may_meet(folder: Path, place: Path, names: list[str]) -> bool:
    """Whether what is written in a folder, NAME.png or NAME/..., may be where a source has its images."""
    if place.is_dir():
        return folder.is_relative_to(place) or place.is_relative_to(folder)
    return (place.parent == folder and place.stem in names) or any(place.is_relative_to(folder / n) for n in names)


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "predict")
    runpy.run_module("stages", run_name="__main__")
