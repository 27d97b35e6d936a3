"""Measure parity and latency of the export: `python -m stages.benchmark DATA_FOLDERS... OUTPUT`."""

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from stages.config.schema_export import Benchmark
from stages.config.schema_task import Task
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.core.progress import track
from stages.core.provenance import processor
from stages.dataset.manifest import read_image_files, read_manifest
from stages.dataset.pixel_store import PixelStore, open_split
from stages.preprocessing.resize import scale
from stages.runner.stage import In, Out, run
from stages.runtime import Model, open_shipped_model
from stages.tasks import TASKS
from stages.tasks.ground_truth import truths_of
from stages.tasks.postprocessing import decode, difference
from stages.tasks.task_spec import TaskSpec
from stages.training.adjustment import load_adjusted
from stages.training.network_inference import graph_outputs

WARM_UP = 3  # calls
BATCH_SIZE = 16  # images


def main(
    ingested: In,
    prepared: In,
    trained: In,
    evaluated: In,
    exported: In,
    output: Out,
    *,
    task: Task,
    benchmark: Benchmark,
) -> dict[str, Any]:
    """Write `benchmark.json`: parity of torch and float32 ONNX on every validation image, and latencies.

    The latencies are those of torch and of the shipped model.

    Args:
        ingested: output folder of ingest, for the original files and the labels.
        prepared: output folder of prepare; its pixels are the input of torch.
        trained: output folder of train.
        evaluated: output folder of evaluate, for the adjustment of the network.
        exported: output folder of export.
        output: folder to write to.
        task: params of the task; its score is computed with torch and with ONNX.
        benchmark: params of this stage.

    Returns:
        Metrics of the stage.

    Raises:
        UserError: a model cannot be opened, or the outputs of torch and ONNX differ by more than
            `benchmark.max_difference`.
    """
    torch.set_num_threads(benchmark.threads)
    store = open_split(prepared, "val")
    network, spec, _ = load_adjusted(trained, evaluated)
    exact = Model(exported / "float32.onnx", benchmark.threads, "onnxruntime")
    model = open_shipped_model(exported, benchmark.threads)
    paths = [path for path, _ in store.rows_by_original()]
    rows = read_manifest(ingested).set_index("path").loc[paths]
    parity = _parity(store, network, exact, read_image_files(rows, ingested), paths)
    parity |= _scores(task.score, spec, truths_of(ingested, paths, spec), parity.pop("predictions"))
    images = quantity(parity["images"], "image")
    print(f"largest difference between torch and ONNX on {images}: {parity['largest_difference']:.2e}")
    if parity["largest_difference"] > benchmark.max_difference:
        raise UserError(
            f"the predictions for {parity['worst']} differ by {parity['largest_difference']:.3g} between "
            f"torch and ONNX, above benchmark.max_difference {benchmark.max_difference:g}; do not ship this model"
        )
    batches = (1,) if spec.representation == "boxes" else benchmark.batch_sizes  # its graph takes one image per call
    latency = [_latency(r, f, b, benchmark) for b in batches for r, f in _runtime_calls(network, model, store, b)]
    first = next(read_image_files(rows, ingested))
    single = _measure_duration(lambda: model.predict_file(first), benchmark.seconds)
    summary = {"cpu": processor(), "parity": parity, "latency": latency, "single_prediction_ms": single["median_ms"]}
    (output / "benchmark.json").write_text(json.dumps(summary, indent=1) + "\n")
    return {
        "largest_difference": parity["largest_difference"],
        "agreement": parity["agreement"],
        "single_prediction_ms": single["median_ms"],
        **{f"{row['runtime']}_batch_{row['batch']}_ms": row["median_ms"] for row in latency},
    }


def _parity(
    store: PixelStore, network: torch.nn.Module, model: Model, files: Iterator[bytes], paths: list[str]
) -> dict[str, Any]:
    """Compare torch on the prepared pixels, as in evaluate, with ONNX on the original files, as in deployment."""
    spec, describe = model.spec, TASKS[model.spec.task].describe
    by_torch = graph_outputs(network, store, spec, BATCH_SIZE, torch.device("cpu"))
    differences, same, predictions = [], 0, []
    for torch_output, data in track(zip(by_torch, files, strict=True), "benchmark: parity", len(paths)):
        image = model.decode_file(data)
        onnx_output = model.outputs(image)
        differences.append(difference(torch_output, onnx_output, spec, math.hypot(*image.shape[:2])))
        predictions.append((decode(torch_output, spec), decode(onnx_output, spec)))
        same += describe(predictions[-1][0], spec) == describe(predictions[-1][1], spec)
    return {
        "images": len(paths),
        "largest_difference": max(differences),
        "worst": paths[int(np.argmax(differences))],
        "agreement": same / len(paths),
        "predictions": predictions,
    }


def _scores(score: str, spec: TaskSpec, truths: list[Any], predictions: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Return the score of the predictions of torch and of ONNX; None where it is undefined."""
    weight_1N = np.ones((1, len(truths)))
    both = [
        TASKS[spec.task].scores(truths, list(values), weight_1N, spec)[score][0]
        for values in zip(*predictions, strict=True)
    ]
    torch_, onnx_ = (float(value) if np.isfinite(value) else None for value in both)
    return {"score": score, "score_torch": torch_, "score_onnx": onnx_}


def _runtime_calls(
    network: torch.nn.Module, model: Model, store: PixelStore, batch: int
) -> list[tuple[str, Callable[[], Any]]]:
    """Return the name of each runtime with a function that runs it on the same images.

    The shipped model includes resizing and the decoding of outputs; torch does not.
    """
    image_NHWC = store.image_NHWC[np.arange(batch) % len(store)]
    image_NCHW = scale(torch.from_numpy(image_NHWC), model.spec.white_level)
    images = list(image_NHWC)

    def by_torch() -> None:
        with torch.inference_mode():
            network(image_NCHW)

    return [(model.engine.name, lambda: model.run(images)), ("torch", by_torch)]


def _latency(runtime: str, call: Callable[[], Any], batch: int, benchmark: Benchmark) -> dict[str, Any]:
    timing = _measure_duration(call, benchmark.seconds)
    return {
        "runtime": runtime,
        "batch": batch,
        "threads": benchmark.threads,
        **timing,
        "images_per_second": batch / timing["median_ms"] * 1e3,
    }


def _measure_duration(call: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Return the median and 95th percentile of the duration of repeated calls, in milliseconds."""
    for _ in range(WARM_UP):
        call()
    milliseconds: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(milliseconds) < WARM_UP:
        started = time.perf_counter()
        call()
        milliseconds.append((time.perf_counter() - started) * 1e3)
    return {"median_ms": float(np.median(milliseconds)), "p95_ms": float(np.percentile(milliseconds, 95))}


if __name__ == "__main__":
    run(main)
