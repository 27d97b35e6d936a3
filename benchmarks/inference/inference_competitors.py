"""One that answers, in a process of its own: `python -m benchmarks.inference.inference_competitors NAME FOLDER THREADS`.

It reads jobs as lines of JSON from stdin and tells what it took as lines of JSON on stdout. It runs in the environment
of `CONTESTANTS`; nothing is imported that its contestant does not need.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference.benchmark_models import ROWS, YOLO, pixels, whole_levels

EAGER, INT8 = "torch eager", "macula, int8"
MACULA, TORCH, SERVING, PEERS = "macula", ".venv", ".venv-serving", ".venv-inference-peers"
Array = np.ndarray[Any, Any]
Whole = Callable[[list[bytes]], Any]
"""Bytes of JPEGs to answers."""
Network = Callable[[int], Any]
"""Answers for so many images that are pixels already."""
MOST_CALLS = 200


class Contestant:
    """What one can do."""

    def __init__(self, network: Network, whole: Whole | None, read: Callable[[bytes], Any] | None) -> None:
        self.network, self.whole, self.read = network, whole, read


def macula(folder: Path, threads: int, variant: str = "whole", engine: str = "onnxruntime") -> Contestant:
    """The shipped file through `stages.runtime`; the network's row has uint8 working images and the answer in it."""
    from stages.runtime import Model

    model = Model(folder / f"{variant}.onnx", threads, engine)
    images = list(whole_levels(np.load(folder / "shown.npy")[:ROWS]))
    return Contestant(
        lambda count: model.run(images[:count]),
        lambda files: model.answers([model.decode_file(data) for data in files]),
        model.decode_file,
    )


def torch_eager(folder: Path, threads: int, compiled: bool = False, half: bool = False) -> Contestant:
    """The network as it was trained; compiled with weights frozen, as torch documents for inference on CPUs."""
    import torch

    torch.set_num_threads(threads)
    network = torch.load(folder / "network.pt", weights_only=False).eval()
    if compiled:
        import torch._inductor.config as settings

        settings.freezing = True
        network = torch.compile(network.to(memory_format=torch.channels_last), dynamic=False)

    def run(images: Array) -> Array:
        image_NCHW = torch.from_numpy(images)
        if compiled:
            image_NCHW = image_NCHW.to(memory_format=torch.channels_last)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            return network(image_NCHW).float().numpy()

    return _plain(folder, run)


def onnxruntime(folder: Path, threads: int) -> Contestant:
    """The network alone as `torch.onnx.export` writes it, in a session as it comes."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "plain.onnx", options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    return _plain(folder, lambda images: session.run(None, {given: images})[0])


def openvino(folder: Path, threads: int, precision: str = "f32", file: str = "plain.onnx") -> Contestant:
    """OpenVINO's own runtime, in its mode for low latency."""
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = openvino.Core().compile_model(folder / file, "CPU", settings).create_infer_request()
    return _plain(folder, lambda images: request.infer([images], share_inputs=True)[0])


def ultralytics(folder: Path, threads: int) -> Contestant:
    """Its exported classifier; end to end by its own `predict`, which takes decoded images."""
    import io

    import onnxruntime
    import ultralytics as package
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "yolo.onnx", options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    shown = np.load(folder / "shown.npy")[:ROWS]
    whole = package.YOLO(folder / "yolo.onnx", task="classify")

    def answers(files: list[bytes]) -> Any:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
        return [one.probs.top1 for one in whole.predict(images, imgsz=224, device="cpu", verbose=False)]

    return Contestant(lambda count: session.run(None, {given: shown[:count]})[0], answers, None)


def _plain(folder: Path, run: Callable[[Array], Array]) -> Contestant:
    """Around a network alone, what a program needs to answer for files: Pillow, and the largest of the outputs."""
    shown = np.load(folder / "shown.npy")[:ROWS]
    size = shown.shape[-1]

    def whole(files: list[bytes]) -> Any:
        output = run(np.stack([pixels(data, size) for data in files]))
        if output.ndim == 2:
            shares = np.exp(output - output.max(axis=1, keepdims=True))
            return (shares / shares.sum(axis=1, keepdims=True)).argmax(axis=1)
        return [_at_its_size(mask, data) for mask, data in zip(output.argmax(axis=1), files, strict=True)]

    return Contestant(lambda count: run(shown[:count]), whole, lambda data: pixels(data, size))


def _at_its_size(mask: Array, data: bytes) -> Array:
    """A mask as large as the image of the file."""
    import io

    from PIL import Image

    size = Image.open(io.BytesIO(data)).size
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))


CONTESTANTS: dict[str, tuple[str, Callable[..., Contestant], dict[str, Any]]] = {
    MACULA: (SERVING, macula, {}),
    INT8: (SERVING, macula, {"variant": "whole-int8"}),
    "macula, bf16 by openvino": (PEERS, macula, {"engine": "openvino"}),
    "macula, int8 by openvino": (PEERS, macula, {"variant": "whole-int8", "engine": "openvino"}),
    EAGER: (TORCH, torch_eager, {}),
    "torch.compile": (TORCH, torch_eager, {"compiled": True}),
    "torch.compile, bf16": (TORCH, torch_eager, {"compiled": True, "half": True}),
    "onnxruntime, plain export": (SERVING, onnxruntime, {}),
    "openvino": (PEERS, openvino, {}),
    "openvino, bf16": (PEERS, openvino, {"precision": "bf16"}),
    "openvino, int8 by nncf": (PEERS, openvino, {"file": "nncf.xml"}),
    f"ultralytics, {YOLO}": (PEERS, ultralytics, {}),
}
"""Environment, what makes it, and with which settings."""


def taken(call: Callable[[], Any], seconds: float) -> dict[str, list[float]]:
    """Seconds by the clock and of the processor, all threads together, of calls in a row."""
    wall: list[float] = []
    cpu: list[float] = []
    began = time.perf_counter()
    while not wall or (time.perf_counter() - began < seconds and len(wall) < MOST_CALLS):
        clock, processor = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - clock)
        cpu.append(time.process_time() - processor)
    return {"wall": wall, "cpu": cpu}


def memory() -> dict[str, float]:
    """Megabytes of this process: resident, its share of what is shared, and the most it had."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:] + [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 * 1.024 for line in lines}
    return {"rss": found["Rss"], "pss": found["Pss"], "most": found["VmHWM"]}


def main(name: str, folder: Path, threads: int) -> None:
    """Answer jobs until stdin ends."""
    telling = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    began = time.perf_counter()
    _, make, settings = CONTESTANTS[name]
    contestant = make(folder, threads, **settings)
    files = [file.read_bytes() for file in sorted((folder / "images").iterdir())[:ROWS]]
    print(json.dumps({"ready": time.perf_counter() - began}), file=telling, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        given = files[: job.get("count", 1)]
        calls: dict[str, Callable[[], Any]] = {
            "network": lambda: contestant.network(job["count"]),  # noqa: B023
            "whole": lambda: contestant.whole(given),  # type: ignore[misc]  # noqa: B023
            "read": lambda: [contestant.read(data) for data in given],  # type: ignore[misc]  # noqa: B023
        }
        told: dict[str, Any]
        match job["what"]:
            case "memory":
                told = memory()
            case "output":
                output = contestant.network(ROWS)
                np.save(job["file"], output["probability"] if isinstance(output, dict) else output)
                told = {}
            case what:
                told = taken(calls[what], job["seconds"]) if getattr(contestant, what, True) else {}
        print(json.dumps(told), file=telling, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
