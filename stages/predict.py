"""Predict images with an exported model: `python -m stages.predict MODEL IMAGES...`.

The output is CSV, JSON lines, JSON or COCO. Images are files, folders, archives (zip, tar) and lists; they are
predicted in one process per core by default, or by the workers of a Dask cluster (`--dask`). With `--output`, repeating
the command resumes an interrupted run. Predicted masks and images are written to `--files`; `--overlays` draws each
prediction over its image. Torch is not required.
"""

import os
import runpy
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from stages.batch_prediction import (
    FORMATS,
    InputImage,
    OutputRow,
    PredictionJob,
    check_sources,
    count_images,
    describe_skipped,
    iterate_images,
    open_output,
    predict_images,
    predict_on_cluster,
    read_run_settings,
    unique_source_names,
    write_legends,
)
from stages.core.errors import UserError
from stages.core.path_parts import IMAGE_SUFFIXES
from stages.core.plurals import quantity
from stages.images.decoder_logging import silence_decoders
from stages.images.display import STRETCHED
from stages.runtime import Model, compute_digest
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
    statistics: bool = False
    dask: str = ""


def main(options: PredictOptions) -> int:
    """Write one row per image; an image that cannot be predicted gets a row with the reason.

    Returns:
        1 if an image could not be predicted, otherwise 0.

    Raises:
        UserError: the model cannot be opened, an option does not fit it, a source does not exist, or a file cannot be
            written or is an input.
        KeyboardInterrupt: the run was interrupted; the text states how to resume.
    """
    silence_decoders()
    options = replace(options, output=_resolve_output(options.output))
    try:
        return _run(options)
    except UserError as error:
        hint = (
            "" if "--restart" in str(error) else _resume_hint(options, "fix the cause and repeat the command to resume")
        )
        raise UserError(f"{error}{hint}") from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"not all images were predicted{_resume_hint(options, 'repeat the command to resume')}"
        ) from None


def _run(options: PredictOptions) -> int:
    digest = compute_digest(options.model)
    model = Model(options.model, options.threads, *_engine(options, digest))
    spec, engine, precision = model.spec, model.engine.name, model.engine.precision
    del model  # each process opens its own
    _check_options(spec, options)
    check_sources(options.images)
    _refuse_overwriting(options)
    job = PredictionJob(
        options.model, options.format, options.files, options.overlays,
        options.threads, engine, precision, options.workers,
        options.seconds, int(options.memory * 2**30), digest, options.statistics,
    )  # fmt: skip
    skipped = Counter[str]()
    images = iterate_images(options.images, skipped)
    began = _run_settings(options, job)
    with open_output(options.output, FORMATS[job.format], spec, began, options.restart) as output:
        output.start(images)
        write_legends(spec, options.files, options.overlays)
        with _progress(options, output.rows) as report_progress:
            for chunk, rows in _predicted(images, job, spec, options):
                output.add(chunk, rows)
                report_progress(len(rows))
    if options.overlays is not None and spec.depth == 16:
        print(f"--overlays: {STRETCHED}", file=sys.stderr)
    if left_out := describe_skipped(skipped):
        print(f"skipped {left_out}; to predict them, name them or list them in a .txt file", file=sys.stderr)
    if output.failed:
        share = f"{output.failed} of {quantity(output.rows, 'image')}"
        print(f"{share} could not be predicted; the output contains the reason for each", file=sys.stderr)
    return 1 if output.failed else 0


def _predicted(
    images: Iterator[InputImage], job: PredictionJob, spec: TaskSpec, options: PredictOptions
) -> Iterator[tuple[Sequence[InputImage], Sequence[OutputRow]]]:
    """Return the images in chunks with their rows, predicted on this machine or a Dask cluster."""
    if not options.dask:
        return predict_images(images, job, spec)
    return predict_on_cluster(images, job, spec, options.dask, [str(options.model), *options.images])


def _engine(options: PredictOptions, digest: str) -> tuple[str, str]:
    """Return the engine and precision ('' for any): those of the run to resume if its model and --engine agree."""
    began = {} if options.restart else read_run_settings(options.output)
    if began.get("model") == digest and options.engine in ("auto", began["--engine"]):
        return began["--engine"], began.get("precision", "")
    return options.engine, ""


def _run_settings(options: PredictOptions, job: PredictionJob) -> dict[str, Any]:
    """Return the settings on which rows depend; a run resumes only if they are unchanged."""
    return {
        "model": job.digest,
        "--engine": job.engine,
        "precision": job.precision,
        "--format": options.format,
        "--files": options.files and str(options.files),
        "--overlays": options.overlays and str(options.overlays),
        "--statistics": options.statistics or None,
    }


def _resume_hint(options: PredictOptions, advice: str) -> str:
    """Return the sentence that states how to resume, with advice, or an empty text if no rows were stored."""
    part = options.output and options.output.with_name(f"{options.output.name}.part")
    if part is None or not os.access(part, os.F_OK):
        return ""
    return f"\nFinished rows are kept in {part}; {advice}"


@contextmanager
def _progress(options: PredictOptions, done: int) -> Iterator[Any]:
    """Show a progress bar if standard error is a terminal, unless the rows are printed on a terminal as well.

    The function that is yielded advances the bar by a number of images.

    A thread counts the images while the first ones are predicted.
    """
    if not sys.stderr.isatty() or (options.output is None and sys.stdout.isatty()):
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(initial=done, unit=" images", smoothing=0.05) as bar:

        def find_total() -> None:
            bar.total = count_images(options.images)

        threading.Thread(target=find_total, daemon=True).start()
        yield bar.update


def _check_options(spec: TaskSpec, options: PredictOptions) -> None:
    if spec.task == "image" and options.files is None:
        raise UserError("this model predicts images; name a folder for them with --files FOLDER")
    if options.files is not None and spec.task not in PICTURED:
        raise UserError(f"--files: predictions of task {spec.task} are neither masks nor images; omit --files")
    if options.statistics and options.format not in ("json", "jsonl"):
        raise UserError(f"--statistics requires --format jsonl or json; {options.format} has no place for them")
    if options.format == "coco" and spec.task != "instances":
        raise UserError(f"--format coco requires task instances, but the model has task {spec.task}; use csv or json")


def _resolve_output(output: Path | None) -> Path | None:
    """Return the file to write, None for standard output; if the path is a symbolic link, the file to which it refers.

    Raises:
        UserError: the path is not a regular file or cannot be checked.
    """
    if output is None:
        return None
    try:
        end = Path(os.path.realpath(output)) if output.is_symlink() else output
        if end.is_symlink() or (output.exists() and not output.is_file()):
            raise UserError(
                f"--output {output} is not a regular file; name another, or omit --output and redirect standard output"
            )
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror}; name another file") from error
    return end


def _refuse_overwriting(options: PredictOptions) -> None:
    """Raise UserError if an output could overwrite the model, an input or another output, or --output is an image."""
    inputs = {source: Path(source).resolve() for source in options.images if source != "-"}
    output = options.output and options.output.resolve()
    if output and output in [*inputs.values(), options.model.resolve()]:
        raise UserError(f"--output {options.output} is the model or an input; name another file")
    if output and output.suffix.lower() in IMAGE_SUFFIXES:
        raise UserError(f"--output {options.output} has the suffix of an image; name another file")
    for option, folder in (("--files", options.files), ("--overlays", options.overlays)):
        if folder is None:
            continue
        for source, place in inputs.items():
            if _may_overlap(folder.resolve(), place, unique_source_names(options.images)):
                raise UserError(
                    f"{option} {folder}: files written there could overwrite input images of {source}; name another "
                    "folder"
                )
    if options.files and options.overlays and options.files.resolve() == options.overlays.resolve():
        raise UserError("--files and --overlays name the same folder; name two different folders")


def _may_overlap(folder: Path, place: Path, names: list[str]) -> bool:
    """Return whether files written to a folder, NAME.png or NAME/..., could overwrite images of a source."""
    if place.is_dir():
        return folder.is_relative_to(place) or place.is_relative_to(folder)
    return (place.parent == folder and place.stem in names) or any(place.is_relative_to(folder / n) for n in names)


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "predict")
    runpy.run_module("stages", run_name="__main__")
