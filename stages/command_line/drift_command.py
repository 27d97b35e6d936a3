"""`macula drift`: comparison of predicted images with the training images."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import AsJson, print_json

EXAMPLE = "macula drift data/export/model.onnx new.jsonl --page new-drift"


def drift(
    model: Annotated[Path, Argument(help="ONNX file that the stage export wrote.")],
    rows: Annotated[list[Path], Argument(help="Outputs of `macula predict --statistics --format jsonl`.")],
    output: Annotated[Path | None, Option(help="JSON file to write.")] = None,
    page: Annotated[
        Path | None,
        Option(help="Folder for drift.md and a picture of the images that are furthest from the training images."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the images and predictions of a batch with those of training and validation, which the model file states.

    Drift is reported for at most 1 % of batches of independent images that come from the same distribution.
    """
    from stages.check_drift import main

    result = main(model, rows, output, page)
    if as_json:
        print_json(result)
        return
    print(f"{result['verdict']}: {result['sentence']}")
