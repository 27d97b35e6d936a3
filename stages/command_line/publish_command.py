"""`macula publish`: a page that predicts in the browser."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from stages.command_line.options import AsJson, print_json

EXAMPLE = "macula publish data/export/model.onnx data/published"


def publish(
    model: Annotated[Path, Argument(help="ONNX file that the stage export wrote.")],
    output: Annotated[Path, Argument(help="Folder to write; one that was published before is replaced.")],
    runtime: Annotated[
        Path | None, Option(help="npm package onnxruntime-web.  [default: the one that `make publish` installs]")
    ] = None,
    card: Annotated[
        Path | None, Option(help="Model card, left out if it is another model's.  [default: data/card/model-card.md]")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a folder that predicts in the browser, for any static file host."""
    from stages.publish import CARD, RUNTIME
    from stages.publish import publish as write

    size = write(model, output, runtime or RUNTIME, card or CARD)
    if as_json:
        print_json({"output": output, "bytes": size})
        return
    print(f"{output}: {size / 1e6:.0f} MB, for any static file host; to see it on this machine:")
    print(f"python3 -m http.server --bind 127.0.0.1 --directory {output}")
