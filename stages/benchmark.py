"""Parity and latency of the export: `python -m stages.benchmark INGESTED PREPARED TRAINED EXPORTED OUTPUT`."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from stages.frame import In, Out, UserError, run
from stages.frame.provenance import processor
from stages.frame.sections import Benchmark, Task
from stages.images.manifest import read_manifest
from stages.images.shards import SHARD, read_member
from stages.images.store import Store, open_split
from stages.learning.checkpoints import load
from stages.learning.loop import predict
from stages.networks.preprocessing import scale
from stages.runtime import Model
from stages.tasks import TASKS

WARM_UP = 3  # calls


def main(
    ingested: In, prepared: In, trained: In, exported: In, output: Out, *, task: Task, benchmark: Benchmark
) -> dict[str, Any]:
    """Write `benchmark.json`: parity on every validation image, from file bytes to probabilities; and latencies.

    Raises:
        UserError: torch and ONNX disagree by more than `benchmark.max_difference`.
    """
    torch.set_num_threads(benchmark.threads)
    store = open_split(prepared, "val")
    network, _ = load(trained / "model.pt")
    model = Model(exported / "model.onnx", benchmark.threads)
    rows = read_manifest(ingested).set_index("path").loc[store.rows["path"]]
    located = list(zip(rows["offset"], rows["bytes"], strict=True))
    parity = _parity(task, store, network, model, (read_member(ingested / SHARD, *where) for where in located))
    print(f"parity on {parity['images']} images: largest difference {parity['largest_difference']:.2e}")
    if parity["largest_difference"] > benchmark.max_difference:
        raise UserError(
            f"export: the probabilities of {parity['worst']} differ by {parity['largest_difference']:.2g} between "
            f"torch and ONNX, above benchmark.max_difference {benchmark.max_difference:g}; do not ship this model"
        )
    latency = [_latency(r, f, b, benchmark) for b in benchmark.batches for r, f in _runners(network, model, store, b)]
    first = read_member(ingested / SHARD, *located[0])
    single = _time(lambda: model.answer(first), benchmark.seconds)
    summary = {"cpu": processor(), "parity": parity, "latency": latency, "single_prediction_ms": single["median_ms"]}
    (output / "benchmark.json").write_text(json.dumps(summary, indent=1) + "\n")
    return {
        "largest_difference": parity["largest_difference"],
        "agreement": parity["agreement"],
        "single_prediction_ms": single["median_ms"],
        **{f"{row['runtime']}_batch_{row['batch']}_ms": row["median_ms"] for row in latency},
    }


def _parity(task: Task, store: Store, network: torch.nn.Module, model: Model, files: Iterator[bytes]) -> dict[str, Any]:
    """Torch on the prepared pixels, as it was evaluated, against ONNX on the original files, as it will be used."""
    by_torch_NK = predict(network, store, 64, torch.device("cpu"))
    progress = tqdm(files, "parity", len(store), unit="img", disable=None)
    by_onnx_NK = np.concatenate([model.probabilities([model.decode_file(data)]) for data in progress])
    difference_N = np.abs(by_torch_NK - by_onnx_NK).max(axis=1)
    score = TASKS[task.name].score
    return {
        "images": len(store),
        "largest_difference": float(difference_N.max()),
        "worst": store.rows["path"].iloc[int(difference_N.argmax())],
        "agreement": float((by_torch_NK.argmax(axis=1) == by_onnx_NK.argmax(axis=1)).mean()),
        "score": task.score,
        "score_torch": score(task.score, store.label_N, by_torch_NK),
        "score_onnx": score(task.score, store.label_N, by_onnx_NK),
    }


def _runners(network: torch.nn.Module, model: Model, store: Store, batch: int) -> list[tuple[str, Callable[[], Any]]]:
    """The same pixels at the working size through both: ONNX with its resize, torch without."""
    image_NHWC = store.image_NHWC[np.arange(batch) % len(store)]
    image_NCHW = scale(torch.from_numpy(image_NHWC))
    images = list(image_NHWC)

    def by_torch() -> None:
        with torch.inference_mode():
            network(image_NCHW).softmax(dim=1)

    return [("onnxruntime", lambda: model.probabilities(images)), ("torch", by_torch)]


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
