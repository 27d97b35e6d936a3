"""Parity and latency of the export: `python -m stages.benchmark INGESTED PREPARED TRAINED EXPORTED OUTPUT`."""

import json
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stages.config.schema_task import Benchmark, Task
from stages.core.errors import UserError
from stages.core.provenance import processor
from stages.dataset.manifest import read_image_files, read_manifest
from stages.dataset.pixel_store import PixelStore, open_split
from stages.preprocessing.resize import scale
from stages.runner.stage import In, Out, run
from stages.runtime import Model, shipped
from stages.tasks import TASKS
from stages.tasks.ground_truth import truths_of
from stages.tasks.postprocessing import decode, difference
from stages.tasks.task_spec import TaskSpec
from stages.training.model_file import load_model
from stages.training.network_inference import graph_outputs

WARM_UP = 3  # calls
BATCH = 16  # images


def main(
    ingested: In, prepared: In, trained: In, exported: In, output: Out, *, task: Task, benchmark: Benchmark
) -> dict[str, Any]:
    """Write `benchmark.json`: parity on every validation image, from file bytes to the answer; and latencies.

    Raises:
        UserError: torch and ONNX disagree by more than `benchmark.max_difference`.
    """
    torch.set_num_threads(benchmark.threads)
    store = open_split(prepared, "val")
    network, spec, _ = load_model(trained / "model.pt")
    exact = Model(exported / "float32.onnx", benchmark.threads, "onnxruntime")
    model = shipped(exported, benchmark.threads)
    paths = [path for path, _ in store.rows_by_original()]
    rows = read_manifest(ingested).set_index("path").loc[paths]
    parity = _parity(store, network, exact, read_image_files(rows, ingested), paths)
    parity |= _scores(task.score, spec, truths_of(ingested, paths, spec), parity.pop("answers"))
    print(f"parity on {parity['images']} images: largest difference {parity['largest_difference']:.2e}")
    if parity["largest_difference"] > benchmark.max_difference:
        raise UserError(
            f"export: the answers for {parity['worst']} differ by {parity['largest_difference']:.2g} between "
            f"torch and ONNX, above benchmark.max_difference {benchmark.max_difference:g}; do not ship this model"
        )
    batches = (1,) if spec.representation == "boxes" else benchmark.batch_sizes  # its graph takes one image a call
    latency = [_latency(r, f, b, benchmark) for b in batches for r, f in _runners(network, model, store, b)]
    first = next(read_image_files(rows, ingested))
    single = _time(lambda: model.answer_file(first), benchmark.seconds)
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
    """Torch on the prepared pixels, as it was evaluated, against ONNX on the original files, as it will be used."""
    spec, describe = model.spec, TASKS[model.spec.task].describe
    by_torch = graph_outputs(network, store, spec, BATCH, torch.device("cpu"))
    differences, same, answers = [], 0, []
    for mine, data in tqdm(zip(by_torch, files, strict=True), "parity", len(paths), unit="img", disable=None):
        image = model.decode_file(data)
        theirs = model.outputs(image)
        differences.append(difference(mine, theirs, spec, math.hypot(*image.shape[:2])))
        answers.append((decode(mine, spec), decode(theirs, spec)))
        same += describe(answers[-1][0], spec) == describe(answers[-1][1], spec)
    return {
        "images": len(paths),
        "largest_difference": max(differences),
        "worst": paths[int(np.argmax(differences))],
        "agreement": same / len(paths),
        "answers": answers,
    }


def _scores(score: str, spec: TaskSpec, truths: list[Any], answers: list[tuple[Any, Any]]) -> dict[str, Any]:
    """The score by torch and by ONNX; null where it is undefined."""
    one = np.ones((1, len(truths)))
    both = [TASKS[spec.task].scores(truths, list(given), one, spec)[score][0] for given in zip(*answers, strict=True)]
    torch_, onnx_ = (float(value) if np.isfinite(value) else None for value in both)
    return {"score": score, "score_torch": torch_, "score_onnx": onnx_}


def _runners(
    network: torch.nn.Module, model: Model, store: PixelStore, batch: int
) -> list[tuple[str, Callable[[], Any]]]:
    """The same pixels at the working size through both: what is shipped with its resize and decoding, torch without."""
    image_NHWC = store.image_NHWC[np.arange(batch) % len(store)]
    image_NCHW = scale(torch.from_numpy(image_NHWC))
    images = list(image_NHWC)

    def by_torch() -> None:
        with torch.inference_mode():
            network(image_NCHW)

    return [(model.engine.name, lambda: model.run(images)), ("torch", by_torch)]


def _latency(runtime: str, call: Callable[[], Any], batch: int, benchmark: Benchmark) -> dict[str, Any]:
    timing = _time(call, benchmark.seconds)
    return {
        "runtime": runtime,
        "batch": batch,
        "threads": benchmark.threads,
        **timing,
        "images_per_second": batch / timing["median_ms"] * 1e3,
    }


def _time(call: Callable[[], Any], seconds: float) -> dict[str, float]:
    """Median and 95th percentile of repeated calls, in milliseconds."""
    for _ in range(WARM_UP):
        call()
    taken: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(taken) < WARM_UP:
        started = time.perf_counter()
        call()
        taken.append((time.perf_counter() - started) * 1e3)
    return {"median_ms": float(np.median(taken)), "p95_ms": float(np.percentile(taken, 95))}


if __name__ == "__main__":
    run(main)
