"""One ONNX file with everything in it: `python -m stages.export INGESTED PREPARED TRAINED EVALUATED OUTPUT`."""

import base64
import json
import shutil
import tempfile
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from onnx import numpy_helper
from torch import nn
from torch.export import Dim

from stages.config.schema_task import Benchmark, Evaluate, Export, Task
from stages.core.provenance import commit
from stages.dataset.manifest import read_image_files, read_manifest
from stages.dataset.pixel_store import open_split
from stages.networks.heads import HEADS, OUTPUTS
from stages.networks.mask_rcnn_export import ExportedDetector
from stages.preprocessing.resize import fit_image, scale
from stages.quantization.onnx_graph import front, parameters, simplify
from stages.quantization.score_drop import Judge
from stages.quantization.selection import Bench, chosen, write_metadata, write_with_probe
from stages.runner.stage import In, Out, run
from stages.runtime.engines import INPUT
from stages.tasks.ground_truth import truths_of
from stages.tasks.task_spec import TaskSpec
from stages.training.model_file import load_model

OPSET = 20
LARGEST = 16384  # pixels of a side
MOST_IMAGES = 1024  # in a call
DESCRIBED = ("width", "height", "brightness", "contrast", "entropy", "black", "white", "redness", "blueness")
"""Columns of the manifest."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Shipped(nn.Module):
    """uint8 or uint16 [N, H, W, C] of any size to answers: resize, divide by white, network, decoding."""

    def __init__(self, network: nn.Module, spec: TaskSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """The whole way from pixels to the answer, at the size of the image."""
        raw = self.network(scale(fit_image(image, self.spec.fit, self.spec.size)))
        return HEADS[self.spec.representation](raw, image.shape[1], image.shape[2], self.spec)


def main(
    ingested: In,
    prepared: In,
    trained: In,
    evaluated: In,
    output: Out,
    *,
    task: Task,
    evaluate: Evaluate,
    export: Export,
    benchmark: Benchmark,
) -> dict[str, Any]:
    """Export the model and choose the fastest variant that keeps the score.

    Writes `float32.onnx` and its cheaper variants, the chosen one as `model.onnx`, its metadata as `metadata.json`, and
    the measurements of each variant as `variants.json`.
    """
    network, spec, about = load_model(trained / "model.pt")
    exact = output / "float32.onnx"
    with tempfile.TemporaryDirectory() as work:
        raw = Path(work) / "raw.onnx"
        to_onnx(network, spec, raw)
        simplify(raw, exact)
    rows = read_manifest(ingested)
    metadata = _metadata(exact, about, json.loads((evaluated / "scores.json").read_text()), rows, export)
    write_with_probe(exact, metadata)
    bench = _bench(ingested, prepared, rows, spec, task.score, evaluate, export, benchmark)
    name, found = chosen(exact, metadata, export.variants, bench)
    shipped = next(variant for variant in found if variant.name == name)
    for file in {variant.file for variant in found}:
        stored = _completed(
            output / file, [v.precision for v in found if v.engine == "openvino" and v.holds and v.file == file]
        )
        if file == shipped.file:
            (output / "metadata.json").write_text(json.dumps(stored, indent=1) + "\n")
    shutil.copyfile(output / shipped.file, output / "model.onnx")
    told = {
        "shipped": name,
        "max_drop": export.max_score_drop,
        "score": task.score,
        "images": bench.count,
        "variants": [asdict(variant) for variant in found],
    }
    (output / "variants.json").write_text(json.dumps(told, indent=1, allow_nan=False) + "\n")
    for variant in found:
        print(f"{variant.name}: {variant.verdict}{' (shipped)' if variant.name == name else ''}")
    return {"shipped": name, "bytes": (output / "model.onnx").stat().st_size, "variants": len(found)}


def _bench(
    ingested: Path,
    prepared: Path,
    rows: pd.DataFrame,
    spec: TaskSpec,
    score: str,
    evaluate: Evaluate,
    export: Export,
    benchmark: Benchmark,
) -> Bench:
    """Validation images from their files' bytes, and working images of the training split for the ranges of int8."""
    train, val = open_split(prepared, "train"), open_split(prepared, "val")
    paths = [path for path, _ in val.rows_by_original()]
    judged = rows.set_index("path", drop=False).loc[paths]
    judge = Judge(
        truths_of(ingested, paths, spec), judged["group"].to_numpy(), spec, score, evaluate.resamples,
        evaluate.confidence,
    )  # fmt: skip
    drawn_C = np.random.default_rng(0).permutation(len(train))[: export.calibration_images]
    calibration = [np.ascontiguousarray(train.image_NHWC[i]) for i in np.sort(drawn_C)]
    return Bench(
        lambda: read_image_files(judged, ingested),
        len(paths),
        judge,
        calibration,
        export.max_score_drop,
        benchmark.threads,
        export.engine,
    )


def _metadata(
    exact: Path, about: dict[str, Any], scores: dict[str, Any], rows: pd.DataFrame, export: Export
) -> dict[str, Any]:
    """What every variant says of itself, but for what is its own."""
    model = onnx.load(exact)
    cut = front(model) if about["representation"] != "boxes" else None
    return {
        **about,
        "commit": commit(),
        "data_version": about["version"],
        "scores": scores["scores"],
        "objective": scores["objective"],
        "opset": OPSET,
        "licence": export.licence,
        "parameters": parameters(model.graph),
        "precision": "float32",
        "input_quantiles": _inputs(rows[rows["split"] == "train"]),
        **({"preprocessing_output": cut[0], "preprocessing": base64.b64encode(cut[1]).decode()} if cut else {}),
    }


def _inputs(rows: pd.DataFrame) -> dict[str, Any]:
    """Quantiles of what the training images are like, against which a deployed model's inputs can be held."""
    known = [name for name in DESCRIBED if rows[name].notna().any()]
    at = {name: [round(float(q), 6) for q in rows[name].dropna().quantile(list(QUANTILES))] for name in known}
    return {"images": len(rows), "quantiles": list(QUANTILES), **at}


def _completed(file: Path, precisions: list[str]) -> dict[str, Any]:
    """Note in a file how large its weights are, and in what arithmetic OpenVINO may run it; returns its metadata."""
    model = onnx.load(file)
    stored = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    stored |= {"weight_bytes": _weight_bytes(model.graph), "openvino_precisions": precisions}
    write_metadata(file, stored)
    return stored


def _weight_bytes(graph: onnx.GraphProto) -> int:
    """Bytes of all tensors that a graph holds: a file cannot know its own size, which its metadata would change."""
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)


def to_onnx(network: nn.Module, spec: TaskSpec, file: Path) -> None:
    """Export with free numbers of images, rows and columns; of instances one image a call."""
    if spec.representation == "boxes":
        shipped: nn.Module = ExportedDetector(network, spec.size, spec.masks)
        _write(shipped, spec, file, 1, ["box", "label", "score", *(["mask"] if spec.masks else [])])
    else:
        _write(Shipped(network, spec), spec, file, 2, [OUTPUTS[spec.representation]])


def _write(model: nn.Module, spec: TaskSpec, file: Path, batch: int, names: list[str]) -> None:
    """A batch of 1 would be taken for a constant, which is right where only one image goes in."""
    kind = torch.uint16 if spec.depth == 16 else torch.uint8
    example = torch.zeros((batch, 40, 50, spec.channels), dtype=kind)
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


if __name__ == "__main__":
    run(main)
