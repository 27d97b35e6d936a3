"""One ONNX file with everything in it: `python -m stages.export TRAINED EVALUATED OUTPUT`."""

import json
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn
from torch.export import Dim

from stages.frame import In, Out, run
from stages.frame.provenance import commit
from stages.learning.checkpoints import load
from stages.networks.preprocessing import resize, scale
from stages.runtime.model import INPUT, OUTPUT

OPSET = 20
LARGEST = 16384  # pixels of a side
MOST_IMAGES = 1024  # in a call


class Shipped(nn.Module):
    """uint8 [N, H, W, C] of any size to probabilities [N, K]: resize, divide by 255, network, softmax."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The whole way from pixels to probabilities."""
        return self.network(scale(resize(image, self.size))).softmax(dim=1)


def main(trained: In, evaluated: In, output: Out) -> dict[str, Any]:
    """Write `model.onnx` and its metadata once more as `metadata.json`."""
    network, about = load(trained / "model.pt")
    scores = json.loads((evaluated / "scores.json").read_text())
    metadata = {
        **about,
        "commit": commit(),
        "data_version": about["version"],
        "scores": scores["scores"],
        "objective": scores["objective"],
        "opset": OPSET,
    }
    file = output / "model.onnx"
    to_onnx(Shipped(network, about["size"]).eval(), about["channels"], file)
    _write_metadata(file, metadata)
    (output / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    return {"bytes": file.stat().st_size}


def to_onnx(model: nn.Module, channels: int, file: Path) -> None:
    """Export with free numbers of images, rows and columns."""
    example = torch.zeros((2, 40, 50, channels), dtype=torch.uint8)  # a batch of 1 would be taken for a constant
    sizes = {0: Dim("N", min=1, max=MOST_IMAGES), 1: Dim("H", min=1, max=LARGEST), 2: Dim("W", min=1, max=LARGEST)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's deprecations of its own internals
        torch.onnx.export(
            model,
            (example,),
            str(file),
            input_names=[INPUT],
            output_names=[OUTPUT],
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(sizes,),
            external_data=False,
            verbose=False,
        )


def _write_metadata(file: Path, metadata: dict[str, Any]) -> None:
    graph = onnx.load(file)
    onnx.helper.set_model_props(graph, {key: json.dumps(value) for key, value in metadata.items()})
    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, file)


if __name__ == "__main__":
    run(main)
