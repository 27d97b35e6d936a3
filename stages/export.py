"""Export the model as one ONNX file: `python -m stages.export INGESTED PREPARED TRAINED EVALUATED OUTPUT`."""

import base64
import json
import shutil
import tempfile
import warnings
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import torch
from onnx import numpy_helper
from torch import nn
from torch.export import Dim

from stages.config.schema_export import Benchmark, Export
from stages.config.schema_task import Evaluate, Task
from stages.core.provenance import commit
from stages.dataset.manifest import read_image_files, read_manifest
from stages.dataset.pixel_store import PixelStore, open_split
from stages.deployment.golden_images import GOLDEN_FILE, write_golden
from stages.deployment.golden_selection import golden_set
from stages.drift import build_reference, summarize_prediction
from stages.images.image_statistics import MONITORED
from stages.networks.heads import HEADS, OUTPUTS
from stages.networks.mask_rcnn_export import ExportedDetector
from stages.preprocessing.resize import fit_image, scale
from stages.quantization.magnified_change import ALTERATIONS
from stages.quantization.onnx_graph import count_parameters, extract_preprocessing, simplify
from stages.quantization.score_drop import DropEvaluator
from stages.quantization.selection import (
    LabelFreeImages,
    Variant,
    VariantSetup,
    open_variant,
    select_variant,
    write_metadata,
    write_metadata_with_probe,
)
from stages.runner.stage import In, Out, run
from stages.runtime import Model
from stages.runtime.engines import INPUT
from stages.tasks import TASKS
from stages.tasks.ground_truth import truths_of
from stages.tasks.task_spec import TaskSpec
from stages.training.adjustment import load_adjusted

OPSET = 20
MAX_SIDE = 16384  # pixels
MAX_BATCH = 1024  # images per call
GOLDEN_CANDIDATES = 256  # validation images from which golden images are chosen
LABEL_FREE = 512  # images in each set on which variants are compared without labels
STATISTICS = ("width", "height", "brightness", "contrast", "entropy", "black", "white", "redness", "blueness")
"""Columns of the manifest whose quantiles are exported."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class ExportedModel(nn.Module):
    """Exported module: resizes images (unless tiled), scales them to 0..1, runs the network and decodes its outputs."""

    def __init__(self, network: nn.Module, spec: TaskSpec) -> None:
        super().__init__()
        self.network, self.spec = network, spec

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the outputs for images [N, H, W, C], uint8 or uint16 of any size; maps have the size of the images."""
        raw = self.network(scale(fit_image(image, self.spec.fit, self.spec.size), self.spec.white_level))
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
    """Export the model and choose the variant to ship.

    The fastest variant with an acceptable score drop is shipped if it is clearly faster than float32. Writes
    `float32.onnx` and, if requested, `int8.onnx`, the file of the shipped variant as `model.onnx`, its metadata as
    `metadata.json`, the measurements of each variant as `variants.json`, and validation images with recorded
    predictions, by which a deployment checks the model, as `golden.zip`.

    Args:
        ingested: output folder of ingest.
        prepared: output folder of prepare.
        trained: output folder of train.
        evaluated: output folder of evaluate: scores for the metadata, and the adjustment of the network.
        output: folder to write to.
        task: params of the task.
        evaluate: params of evaluate, for the confidence intervals.
        export: params of this stage.
        benchmark: params of benchmark; the variants are timed with its threads.

    Returns:
        Name of the shipped variant, its size in bytes and the number of variants.

    Raises:
        UserError: the manifest was written by another version, or the labels do not contain the ground truth.
    """
    network, spec, about = load_adjusted(trained, evaluated)
    exact = output / "float32.onnx"
    with tempfile.TemporaryDirectory() as work:
        raw = Path(work) / "raw.onnx"
        to_onnx(network, spec, raw)
        simplify(raw, exact)
    rows = read_manifest(ingested)
    metadata = _metadata(exact, about, json.loads((evaluated / "scores.json").read_text()), rows, export)
    write_metadata_with_probe(exact, metadata)
    bench = _variant_setup(ingested, prepared, rows, spec, task.score, evaluate, export, benchmark)
    name, variants = select_variant(exact, metadata, export.variants, bench)
    shipped = next(variant for variant in variants if variant.name == name)
    inputs = _input_reference(rows[rows["split"] == "train"])
    for file in {variant.file for variant in variants}:
        of_file = shipped if file == shipped.file else next(v for v in variants if v.file == file)
        measured = {
            "openvino_precisions": [
                v.precision for v in variants if v.engine == "openvino" and v.holds and v.file == file
            ],
            "drift_reference": {"inputs": inputs, "predictions": _predictions(bench.summaries[of_file.name], bench)},
        }
        stored = _add_measured_metadata(output / file, measured)
        if file == shipped.file:
            (output / "metadata.json").write_text(json.dumps(stored, indent=1) + "\n")
    shutil.copyfile(output / shipped.file, output / "model.onnx")
    if export.golden_images:
        _write_golden(output, name, variants, bench, export.golden_images)
    summary = {
        "shipped": name,
        "max_drop": export.max_score_drop,
        "score": task.score,
        "images": bench.count,
        "variants": [asdict(variant) for variant in variants],
    }
    (output / "variants.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    for variant in variants:
        print(f"{variant.name}: {variant.verdict}{' (shipped)' if variant.name == name else ''}")
    return {"shipped": name, "bytes": (output / "model.onnx").stat().st_size, "variants": len(variants)}


def _write_golden(folder: Path, shipped: str, variants: list[Variant], bench: VariantSetup, count: int) -> None:
    """Write the golden images, chosen from at most `GOLDEN_CANDIDATES` validation images."""
    models = {v.name: open_variant(folder, v, bench.threads) for v in variants if v.holds}
    reference = Model(folder / "float32.onnx", bench.threads, "onnxruntime")
    every = max(1, -(-bench.count // GOLDEN_CANDIDATES))
    golden = golden_set(
        folder / "model.onnx", reference, models, shipped, lambda: islice(bench.files(), 0, None, every), count
    )
    write_golden(folder / GOLDEN_FILE, golden)
    print(f"golden images: {len(golden.images)}, {sum(len(image.data) for image in golden.images) / 1e6:.2f} MB")


def _variant_setup(
    ingested: Path,
    prepared: Path,
    rows: pd.DataFrame,
    spec: TaskSpec,
    score: str,
    evaluate: Evaluate,
    export: Export,
    benchmark: Benchmark,
) -> VariantSetup:
    """Return the setup with the validation images and, to measure the activation ranges of int8, training images."""
    train, val = open_split(prepared, "train"), open_split(prepared, "val")
    paths = [path for path, _ in val.rows_by_original()]
    judged = rows.set_index("path", drop=False).loc[paths]
    judge = DropEvaluator(
        truths_of(ingested, paths, spec), judged["group"].to_numpy(), spec, score, evaluate.resamples,
        evaluate.confidence,
    )  # fmt: skip
    drawn_N = np.random.default_rng(0).permutation(len(train))
    calibration = _images(train, drawn_N[: export.calibration_images])
    return VariantSetup(
        lambda: read_image_files(judged, ingested),
        len(paths),
        judge,
        calibration,
        export.max_score_drop,
        benchmark.threads,
        export.engine,
        _label_free_images(train, val, drawn_N[export.calibration_images :]),
        lambda prediction: summarize_prediction(TASKS[spec.task].record(prediction, spec), spec),
    )


def _label_free_images(train: PixelStore, val: PixelStore, unused_N: np.ndarray[Any, Any]) -> list[LabelFreeImages]:
    """Return altered validation images, and training images that did not calibrate the ranges of int8."""
    spread_V = np.unique(np.linspace(0, len(val) - 1, min(len(val), LABEL_FREE // len(ALTERATIONS))).astype(int))
    altered = [alter(image) for image in _images(val, spread_V) for alter in ALTERATIONS]
    groups_V = val.rows["group"].to_numpy()[spread_V]
    found = [LabelFreeImages("altered validation images", altered, np.repeat(groups_V, len(ALTERATIONS)))]
    if len(unused_N):
        used_N = np.sort(unused_N[:LABEL_FREE])
        groups_N = train.rows["group"].to_numpy()[used_N]
        found.append(LabelFreeImages("training images", _images(train, used_N), groups_N))
    return found


def _images(store: PixelStore, index_N: np.ndarray[Any, Any]) -> list[np.ndarray[Any, Any]]:
    return [np.ascontiguousarray(store.image_NHWC[i]) for i in np.sort(index_N)]


def _metadata(
    exact: Path, about: dict[str, Any], scores: dict[str, Any], rows: pd.DataFrame, export: Export
) -> dict[str, Any]:
    """Return the metadata that all variants share."""
    model = onnx.load(exact)
    cut = extract_preprocessing(model) if about["representation"] != "boxes" else None
    return {
        **about,
        "commit": commit(),
        "data_version": about["version"],
        "scores": scores["scores"],
        "objective": scores["objective"],
        "opset": OPSET,
        "licence": export.licence,
        "parameters": count_parameters(model.graph),
        "precision": "float32",
        "input_quantiles": _input_quantiles(rows[rows["split"] == "train"]),
        **({"preprocessing_output": cut[0], "preprocessing": base64.b64encode(cut[1]).decode()} if cut else {}),
    }


def _input_quantiles(rows: pd.DataFrame) -> dict[str, Any]:
    """Return quantiles of statistics of the training images, for the model card."""
    known = [name for name in STATISTICS if rows[name].notna().any()]
    at = {name: [round(float(q), 6) for q in rows[name].dropna().quantile(list(QUANTILES))] for name in known}
    return {"images": len(rows), "quantiles": list(QUANTILES), **at}


def _input_reference(rows: pd.DataFrame) -> dict[str, Any]:
    """Return the distributions of the statistics of the training images, with which `macula drift` compares others."""
    return build_reference({name: rows[name].astype(float).tolist() for name in MONITORED}, rows["group"].to_numpy())


def _predictions(summaries: list[dict[str, Any]], bench: VariantSetup) -> dict[str, Any]:
    """Return the distributions of the predictions for the validation images."""
    names = dict.fromkeys(name for summary in summaries for name in summary)
    columns = {name: [summary.get(name, np.nan) for summary in summaries] for name in names}
    return build_reference(columns, bench.judge.group_N)


def _add_measured_metadata(file: Path, measured: dict[str, Any]) -> dict[str, Any]:
    """Add the size of the weights and measured values to a file's metadata; return all metadata."""
    model = onnx.load(file)
    stored = {prop.key: json.loads(prop.value) for prop in model.metadata_props}
    stored |= {"weight_bytes": _weight_bytes(model.graph), **measured}
    write_metadata(file, stored)
    return stored


def _weight_bytes(graph: onnx.GraphProto) -> int:
    """Return the size of all initializers, bytes.

    The size of the file would change with the metadata that contain it.
    """
    return sum(numpy_helper.to_array(tensor).nbytes for tensor in graph.initializer)


def to_onnx(network: nn.Module, spec: TaskSpec, file: Path) -> None:
    """Export a network to ONNX with dynamic batch size, height and width; for `boxes`, with one image per call.

    Args:
        network: trained network.
        spec: task specification.
        file: ONNX file to write.
    """
    if spec.representation == "boxes":
        shipped: nn.Module = ExportedDetector(network, spec.size, spec.masks, spec.white_level)
        _write(shipped, spec, file, 1, ["box", "label", "score", *(["mask"] if spec.masks else [])])
    else:
        _write(ExportedModel(network, spec), spec, file, 2, [OUTPUTS[spec.representation]])


def _write(model: nn.Module, spec: TaskSpec, file: Path, batch: int, names: list[str]) -> None:
    """Write the ONNX file.

    The exporter would treat a batch of 1 as a constant, so the example has 2 images if the batch size is dynamic.
    """
    dtype = torch.uint16 if spec.depth == 16 else torch.uint8
    example = torch.zeros((batch, 40, 50, spec.channels), dtype=dtype)
    sizes = {1: Dim("H", min=1, max=MAX_SIDE), 2: Dim("W", min=1, max=MAX_SIDE)}
    free = {0: Dim("N", min=1, max=MAX_BATCH), **sizes} if batch > 1 else sizes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of the exporter about its own internals
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
    exported = onnx.load(file)
    _remove_traces(exported.graph)
    onnx.save(exported, file)


def _remove_traces(graph: onnx.GraphProto) -> None:
    """Remove what the exporter writes about its own work, in place: source lines and paths of this machine per node."""
    for part in (graph, *graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _remove_traces(inner)


if __name__ == "__main__":
    run(main)
