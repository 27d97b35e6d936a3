"""`macula publish`: a page that predicts in the browser."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import AsJson, print_json

EXAMPLE = "macula publish data/export/model.onnx data/published"


def publish(
    model: Annotated[Path, Argument(help="ONNX file that the stage export wrote.")],
    output: Annotated[Path, Argument(help="Folder to write; an earlier published folder is replaced.")],
    runtime: Annotated[
        Path | None,
        Option(help="Folder of the npm package onnxruntime-web.  [default: the one that `make publish` installs]"),
    ] = None,
    card: Annotated[
        Path | None,
        Option(
            help="Model card to include; left out if it is missing or describes another model.  "
            "[default: data/model_card/model-card.md]"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a page that predicts in the browser, as a folder for any static file host."""
    from stages.publish import CARD, RUNTIME
    from stages.publish import publish as write

    size = write(model, output, runtime or RUNTIME, card or CARD)
    if as_json:
        print_json({"output": output, "bytes": size})
        return
    print(f"{output}: {size / 1e6:.0f} MB, for any static file host; to open it on this machine, run")
    print(f"python3 -m http.server --bind 127.0.0.1 --directory {output}")
    print("and browse to http://127.0.0.1:8000")
