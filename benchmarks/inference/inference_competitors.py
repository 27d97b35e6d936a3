"""Run one competitor of `compare_inference` in its own process.

`python -m benchmarks.inference.inference_competitors NAME FOLDER THREADS` reads jobs as lines of JSON from stdin and
writes the results as lines of JSON to stdout. It runs in the environment that `COMPETITORS` lists and imports nothing
that its competitor does not need.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference.benchmark_models import ROWS, YOLO, to_pixels, to_uint8

EAGER, INT8 = "torch eager", "macula, int8"
MACULA, TORCH, SERVING, LIBRARIES = "macula", ".venv", ".venv-serving", ".venv-inference-peers"
Array = np.ndarray[Any, Any]
PredictFiles = Callable[[list[bytes]], Any]
"""Function from the bytes of JPEGs to predictions."""
PredictPixels = Callable[[int], Any]
"""Function from a number of images, which are decoded already, to outputs of the network."""
MAX_CALLS = 200


class Competitor:
    """Functions that are timed: `network` alone, `whole` from JPEG to prediction, and `read`, which decodes a JPEG.

    `whole` and `read` are None if the competitor does not provide them.
    """

    def __init__(self, network: PredictPixels, whole: PredictFiles | None, read: Callable[[bytes], Any] | None) -> None:
        self.network, self.whole, self.read = network, whole, read


def macula(folder: Path, threads: int, variant: str = "whole", engine: str = "onnxruntime") -> Competitor:
    """Return a competitor that runs Macula's model file in `stages.runtime`; `network` gets uint8 working images.

    Args:
        folder: folder with the models.
        threads: threads of the session.
        variant: stem of the model file.
        engine: engine of the runtime.
    """
    from stages.runtime import Model

    model = Model(folder / f"{variant}.onnx", threads, engine)
    images = list(to_uint8(np.load(folder / "shown.npy")[:ROWS]))
    return Competitor(
        lambda count: model.run(images[:count]),
        lambda files: model.predict_batch([model.decode_file(data) for data in files]),
        model.decode_file,
    )


def torch_eager(folder: Path, threads: int, compiled: bool = False, half: bool = False) -> Competitor:
    """Return a competitor that runs the network in torch.

    Args:
        folder: folder with the models.
        threads: threads of torch.
        compiled: compile the network with frozen weights, as torch documents for inference on CPUs.
        half: use bf16 by autocast.
    """
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

    return _network_alone(folder, run)


def onnxruntime(folder: Path, threads: int) -> Competitor:
    """Return a competitor that runs the network as `torch.onnx.export` writes it, in ONNX Runtime.

    Except for the threads, the session has default options.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "plain.onnx", options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    return _network_alone(folder, lambda images: session.run(None, {given: images})[0])


def openvino(folder: Path, threads: int, precision: str = "f32", file: str = "plain.onnx") -> Competitor:
    """Return a competitor that runs the network in OpenVINO's runtime, in its low-latency mode.

    Args:
        folder: folder with the models.
        threads: threads of the runtime.
        precision: `f32` or `bf16`.
        file: name of the model file.
    """
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }
    request = openvino.Core().compile_model(folder / file, "CPU", settings).create_infer_request()
    return _network_alone(folder, lambda images: request.infer([images], share_inputs=True)[0])


def ultralytics(folder: Path, threads: int) -> Competitor:
    """Return a competitor that runs Ultralytics' exported classifier; `whole` uses its `predict` on decoded images."""
    import io

    import onnxruntime
    import ultralytics as package
    from PIL import Image

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "yolo.onnx", options, providers=["CPUExecutionProvider"])
    given = session.get_inputs()[0].name
    shown = np.load(folder / "shown.npy")[:ROWS]
    model = package.YOLO(folder / "yolo.onnx", task="classify")

    def predict(files: list[bytes]) -> Any:
        images = [Image.open(io.BytesIO(data)).convert("RGB") for data in files]
        return [one.probs.top1 for one in model.predict(images, imgsz=224, device="cpu", verbose=False)]

    return Competitor(lambda count: session.run(None, {given: shown[:count]})[0], predict, None)


def _network_alone(folder: Path, run: Callable[[Array], Array]) -> Competitor:
    """Return a competitor that adds to a network decoding by Pillow and the most probable class per image or pixel."""
    shown = np.load(folder / "shown.npy")[:ROWS]
    size = shown.shape[-1]

    def predict(files: list[bytes]) -> Any:
        output = run(np.stack([to_pixels(data, size) for data in files]))
        if output.ndim == 2:
            shares = np.exp(output - output.max(axis=1, keepdims=True))
            return (shares / shares.sum(axis=1, keepdims=True)).argmax(axis=1)
        return [_resize_to_image(mask, data) for mask, data in zip(output.argmax(axis=1), files, strict=True)]

    return Competitor(lambda count: run(shown[:count]), predict, lambda data: to_pixels(data, size))


def _resize_to_image(mask: Array, data: bytes) -> Array:
    """Resize a mask to the size of the image in a file."""
    import io

    from PIL import Image

    size = Image.open(io.BytesIO(data)).size
    return np.asarray(Image.fromarray(mask.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))


COMPETITORS: dict[str, tuple[str, Callable[..., Competitor], dict[str, Any]]] = {
    MACULA: (SERVING, macula, {}),
    INT8: (SERVING, macula, {"variant": "whole-int8"}),
    "macula, bf16 by openvino": (LIBRARIES, macula, {"engine": "openvino"}),
    "macula, int8 by openvino": (LIBRARIES, macula, {"variant": "whole-int8", "engine": "openvino"}),
    EAGER: (TORCH, torch_eager, {}),
    "torch.compile": (TORCH, torch_eager, {"compiled": True}),
    "torch.compile, bf16": (TORCH, torch_eager, {"compiled": True, "half": True}),
    "onnxruntime, plain export": (SERVING, onnxruntime, {}),
    "openvino": (LIBRARIES, openvino, {}),
    "openvino, bf16": (LIBRARIES, openvino, {"precision": "bf16"}),
    "openvino, int8 by nncf": (LIBRARIES, openvino, {"file": "nncf.xml"}),
    f"ultralytics, {YOLO}": (LIBRARIES, ultralytics, {}),
}
"""Environment, function that makes the competitor, and settings of that function, by name of the competitor."""


def time_calls(call: Callable[[], Any], seconds: float) -> dict[str, list[float]]:
    """Repeat a call, at least once and until `seconds` have passed, but at most `MAX_CALLS` times.

    Returns:
        Seconds of each call: `wall` by the clock, and `cpu` of the processor, summed over all threads.
    """
    wall: list[float] = []
    cpu: list[float] = []
    began = time.perf_counter()
    while not wall or (time.perf_counter() - began < seconds and len(wall) < MAX_CALLS):
        clock, processor = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - clock)
        cpu.append(time.process_time() - processor)
    return {"wall": wall, "cpu": cpu}


def process_megabytes() -> dict[str, float]:
    """Return the memory of this process in MB: resident (`rss`), proportional (`pss`) and its peak (`most`)."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:] + [
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    ]
    found = {line.split(":")[0]: int(line.split()[1]) / 1000 * 1.024 for line in lines}
    return {"rss": found["Rss"], "pss": found["Pss"], "most": found["VmHWM"]}


def main(name: str, folder: Path, threads: int) -> None:
    """Run jobs until stdin ends.

    Args:
        name: a key of `COMPETITORS`.
        folder: folder with the images and models.
        threads: threads of the competitor.
    """
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the results
    began = time.perf_counter()
    _, make, settings = COMPETITORS[name]
    competitor = make(folder, threads, **settings)
    files = [file.read_bytes() for file in sorted((folder / "images").iterdir())[:ROWS]]
    print(json.dumps({"ready": time.perf_counter() - began}), file=results, flush=True)
    for line in sys.stdin:
        print(json.dumps(_run_job(competitor, json.loads(line), files)), file=results, flush=True)


def _run_job(competitor: Competitor, job: dict[str, Any], files: list[bytes]) -> dict[str, Any]:
    given = files[: job.get("count", 1)]
    whole, read = competitor.whole, competitor.read
    match job["what"]:
        case "memory":
            return process_megabytes()
        case "output":
            output = competitor.network(ROWS)
            np.save(job["file"], output["probability"] if isinstance(output, dict) else output)
        case "network":
            return time_calls(lambda: competitor.network(job["count"]), job["seconds"])
        case "whole" if whole:
            return time_calls(lambda: whole(given), job["seconds"])
        case "read" if read:
            return time_calls(lambda: [read(data) for data in given], job["seconds"])
    return {}


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
