"""Answer with an exported model: `python -m stages.predict MODEL IMAGES...`, to CSV, JSON lines, JSON or COCO.

Images are files, folders, archives (zip, tar) and lists, any number of them: they stream through one process a core,
and a run that was ended goes on where it stopped when the command is repeated. Masks and images that are answered
become files in `--files`; `--overlays` draws every answer over its image. Runs without torch.
"""

import argparse
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
from stages.images.decode import SUFFIXES
from stages.images.decoder_logging import silence_decoders
from stages.images.sandbox import WORKERS
from stages.runtime import Model, digest_of
from stages.runtime.engine_selection import ENGINES
from stages.tasks.image_outputs import PICTURED
from stages.tasks.task_spec import TaskSpec

INTERRUPTED = 130  # exit status, as shells have it


def main(argv: list[str] | None = None) -> int:
    """Write one row per image; 1 when an image could not be answered, which then has its reason as a row of its own."""
    arguments = _arguments(argv)
    silence_decoders()
    try:
        return _run(arguments)
    except UserError as error:
        sys.exit(f"error: {error}{_kept(arguments)}")
    except KeyboardInterrupt:
        print(f"ended before the last image{_kept(arguments)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # who read the rows wants no more of them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED


def _run(arguments: argparse.Namespace) -> int:
    arguments.output = _file_behind(arguments.output)
    digest = digest_of(arguments.model)
    model = Model(arguments.model, arguments.threads, *_engine(arguments, digest))
    spec, engine, precision = model.spec, model.engine.name, model.engine.precision
    del model  # each process has its own
    _refuse_misfit(spec, arguments)
    refuse_sources(arguments.images)
    _refuse_overwriting(arguments)
    order = Order(
        arguments.model, arguments.format, arguments.files, arguments.overlays,
        arguments.threads, engine, precision, arguments.workers,
        arguments.seconds, int(arguments.memory * 2**30), digest,
    )  # fmt: skip
    images = asked(arguments.images)
    began = _began(arguments, order)
    with output_to(arguments.output, FORMS[order.form], spec, began, arguments.restart) as output:
        output.start(images)
        with _progress(arguments, output.rows) as tell:
            for some, lines in answered(images, order, spec):
                output.add(some, lines)
                tell(len(lines))
    if output.failed:
        print(f"{output.failed} of {output.rows} images could not be answered; their rows say why", file=sys.stderr)
    return 1 if output.failed else 0


def _engine(arguments: argparse.Namespace, digest: str) -> tuple[str, str]:
    """Engine and precision, '' of any; a run that goes on has those that it began with, whichever is faster by now."""
    began = {} if arguments.restart else began_with(arguments.output)
    if began.get("model") == digest and arguments.engine in ("auto", began["--engine"]):
        return began["--engine"], began.get("precision", "")
    return arguments.engine, ""


def _began(arguments: argparse.Namespace, order: Order) -> dict[str, Any]:
    """What rows depend on: a run with others does not go on where one with these stopped."""
    return {
        "model": order.digest,
        "--engine": order.engine,
        "precision": order.precision,
        "--format": arguments.format,
        "--files": arguments.files and str(arguments.files),
        "--overlays": arguments.overlays and str(arguments.overlays),
    }


def _kept(arguments: argparse.Namespace) -> str:
    """Where a run that ended goes on."""
    part = arguments.output and arguments.output.with_name(f"{arguments.output.name}.part")
    if part is None or not os.access(part, os.F_OK):
        return ""
    return f"\nwhat is done is kept in {part}; the same command goes on there"


@contextmanager
def _progress(arguments: argparse.Namespace, done: int) -> Iterator[Any]:
    """A bar on the terminal, unless the rows are written there; the number of images is found out on the way."""
    if not sys.stderr.isatty() or (arguments.output is None and sys.stdout.isatty()):
        yield lambda images: None
        return
    from tqdm import tqdm

    with tqdm(initial=done, unit=" images", smoothing=0.05) as bar:

        def find_total() -> None:
            bar.total = count(arguments.images)

        threading.Thread(target=find_total, daemon=True).start()
        yield bar.update


def _refuse_misfit(spec: TaskSpec, arguments: argparse.Namespace) -> None:
    if spec.task == "image" and arguments.files is None:
        raise UserError("this model answers with images: name a folder for them, --files FOLDER")
    if arguments.files is not None and spec.task not in PICTURED:
        raise UserError(f"--files: answers of task {spec.task} are no images; leave it out")
    if arguments.format == "coco" and spec.task != "instances":
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


def _refuse_overwriting(arguments: argparse.Namespace) -> None:
    """What is written never takes the place of what is read, nor lies where images are looked for."""
    given = {source: Path(source).resolve() for source in arguments.images if source != "-"}
    output = arguments.output and arguments.output.resolve()
    if output and (output in [*given.values(), arguments.model.resolve()] or output.suffix.lower() in SUFFIXES):
        raise UserError(f"--output {arguments.output} is, or would look like, what is read; name another file")
    for option, named in (("--files", arguments.files), ("--overlays", arguments.overlays)):
        for source, place in given.items() if named is not None else ():
            if _may_meet(named.resolve(), place, names_of(arguments.images)):
                raise UserError(f"{option} {named}: {source} is, or holds, images to be answered; name another folder")
    if arguments.files and arguments.overlays and arguments.files.resolve() == arguments.overlays.resolve():
        raise UserError("--files and --overlays are one folder; name two")


def _may_meet(folder: Path, place: Path, names: list[str]) -> bool:
    """Whether what is written in a folder, NAME.png or NAME/..., may be where a source has its images."""
    if place.is_dir():
        return folder.is_relative_to(place) or place.is_relative_to(folder)
    return (place.parent == folder and place.stem in names) or any(place.is_relative_to(folder / n) for n in names)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description="Answer with an exported model.")
    parser.add_argument("model", type=Path, help="ONNX file, as data/export/model.onnx")
    parser.add_argument(
        "images",
        nargs="+",
        help="image files, folders, zips and tars of them; lists of paths: *.txt, or -, standard input",
    )
    parser.add_argument("--format", choices=FORMS, default="csv", help="default: csv")
    parser.add_argument("--output", type=Path, help="file to write; default: standard output")
    parser.add_argument("--restart", action="store_true", help="begin anew, though an unfinished run could go on")
    parser.add_argument(
        "--files", type=Path, help="folder for answered masks (indices of classes, or numbers of things) and images"
    )
    parser.add_argument("--overlays", type=Path, help="folder for images with the answer drawn over them")
    parser.add_argument("--workers", type=int, default=WORKERS, help="processes; 0: none; default: one a core")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime, a process; 0: all cores; default: 1")
    parser.add_argument(
        "--engine", choices=ENGINES, default="auto", help="default: auto, the faster one on this machine"
    )
    parser.add_argument("--seconds", type=float, default=120, help="that an image may take; default: 120")
    parser.add_argument("--memory", type=float, default=4, help="GiB that an image may take; default: 4")
    return parser.parse_args(argv)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as if by Ctrl-C
    sys.exit(main())
