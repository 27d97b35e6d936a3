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
from stages.networks.heads import HEADS, OUTPUTS
from stages.networks.mask_rcnn_export import ShippedInstances
from stages.networks.preprocessing import fitted, scale
from stages.runtime.model import INPUT
from stages.tasks.outline import Outline

OPSET = 20
LARGEST = 16384  # pixels of a side
MOST_IMAGES = 1024  # in a call


class Shipped(nn.Module):
    """uint8 or uint16 [N, H, W, C] of any size to answers: resize, divide by white, network, decoding."""

    def __init__(self, network: nn.Module, outline: Outline) -> None:
        super().__init__()
        self.network, self.outline = network, outline

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The whole way from pixels to the answer, at the size of the image."""
        raw = self.network(scale(fitted(image, self.outline.fit, self.outline.size)))
        return HEADS[self.outline.representation](raw, image.shape[1], image.shape[2], self.outline)


def main(trained: In, evaluated: In, output: Out) -> dict[str, Any]:
    """Write `model.onnx` and its metadata once more as `metadata.json`."""
    network, outline, about = load(trained / "model.pt")
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
    to_onnx(network, outline, file)
    _write_metadata(file, metadata)
    (output / "metadata.json").write_text(json.dumps(metadata, indent=1) + "\n")
    return {"bytes": file.stat().st_size}


def to_onnx(network: nn.Module, outline: Outline, file: Path) -> None:
    """Export with free numbers of images, rows and columns; of instances one image a call."""
    if outline.representation == "boxes":
        shipped: nn.Module = ShippedInstances(network, outline.size, outline.masks)
        _write(shipped, outline, file, 1, ["box", "label", "score", *(["mask"] if outline.masks else [])])
    else:
        _write(Shipped(network, outline), outline, file, 2, [OUTPUTS[outline.representation]])


def _write(model: nn.Module, outline: Outline, file: Path, batch: int, names: list[str]) -> None:
    """A batch of 1 would be taken for a constant, which is right where only one image goes in."""
    kind = torch.uint16 if outline.depth == 16 else torch.uint8
    example = torch.zeros((batch, 40, 50, outline.channels), dtype=kind)
    sizes = {1: Dim("H", min=1, max=LARGEST), 2: Dim("W", min=1, max=LARGEST)}
    free = {0: Dim("N", min=1, max=MOST_IMAGES), **sizes} if batch > 1 else sizes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's deprecations of its own internals
        torch.onnx.export(
            model.eval(),
            (example,),
            str(file),
            input_names=[INPUT],
            output_names=names,
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=(free,),
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
