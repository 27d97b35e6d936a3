"""Options that several commands share, and the choices of options whose registries take long to import."""

import json
from typing import Annotated, Any, Literal

import typer

Engine = Literal["auto", "onnxruntime", "openvino"]
PredictFormat = Literal["csv", "jsonl", "json", "coco"]
ImageFormat = Literal[
    "deeplabcut", "coco", "voc", "yolo", "instances", "masks", "dots", "table", "arrays", "pairs", "folders", "names"
]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print JSON to standard output, and other text to standard error.")
]


def print_json(value: Any) -> None:
    """Print a value as indented JSON; types that JSON does not support, such as paths, become text."""
    print(json.dumps(value, indent=1, default=str))
