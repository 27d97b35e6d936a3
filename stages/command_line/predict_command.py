"""`macula predict`: predictions for images, with an exported model."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import Engine, PredictFormat

EXAMPLE = "macula predict data/export/model.onnx photo.jpg folder/ --output predictions.csv"


def predict(
    model: Annotated[Path, Argument(help="ONNX file that the stage export wrote, such as data/export/model.onnx.")],
    images: Annotated[
        list[str],
        Argument(
            help="Image files, folders, zip or tar archives, or lists of paths: files named *.txt, or - for a list on "
            "standard input."
        ),
    ],
    format: Annotated[PredictFormat, Option(help="Format of the output.")] = "csv",  # noqa: A002
    json: Annotated[bool, Option("--json", help="The same as --format json.")] = False,
    output: Annotated[Path | None, Option(help="File to write.  [default: standard output]")] = None,
    restart: Annotated[
        bool, Option("--restart", help="Discard the unfinished run of the same --output instead of resuming it.")
    ] = False,
    files: Annotated[
        Path | None,
        Option(
            help="Folder for predicted masks (pixel values are those of the source's masks, see legend.json, or object "
            "numbers) or images; required if the model predicts images."
        ),
    ] = None,
    overlays: Annotated[
        Path | None, Option(help="Folder for images with the prediction drawn over them.  [default: none are drawn]")
    ] = None,
    statistics: Annotated[
        bool,
        Option(
            "--statistics", help="Add statistics of each image to its row, for `macula drift`; --format jsonl or json."
        ),
    ] = False,
    workers: Annotated[
        int | None,
        Option(
            min=0,
            help="Number of worker processes; 0: predict in this process.  [default: one per core; with --dask one per "
            "thread of the cluster]",
        ),
    ] = None,
    dask: Annotated[
        str,
        Option(
            help="Address of a Dask scheduler, such as tcp://HOST:8786, whose workers predict; their machines require "
            "the same files.  [default: this machine]",
            show_default=False,
        ),
    ] = "",
    threads: Annotated[int, Option(min=0, help="Threads of the engine per process; 0: one per core.")] = 1,
    engine: Annotated[Engine, Option(help="Inference engine; auto: the faster one on this machine.")] = "auto",
    seconds: Annotated[float, Option(min=0, help="Time limit for one image, in seconds; none with --workers 0.")] = 120,
    memory: Annotated[float, Option(min=0, help="Memory limit for one image, in GiB; none with --workers 0.")] = 4,
) -> int:
    """Predict images with an exported model, without torch.

    Rows are written in the order of the images. An interrupted run with --output resumes when the command is repeated.
    An image that cannot be predicted gets a row with the reason, and the exit code is 1.
    """
    from stages.images.sandbox import WORKERS
    from stages.predict import PredictOptions, main

    return main(
        PredictOptions(
            model=model,
            images=images,
            format="json" if json else format,
            output=output,
            restart=restart,
            files=files,
            overlays=overlays,
            workers=(1 if dask else WORKERS) if workers is None else workers,
            dask=dask,
            threads=threads,
            engine=engine,
            seconds=seconds,
            memory=memory,
            statistics=statistics,
        )
    )
