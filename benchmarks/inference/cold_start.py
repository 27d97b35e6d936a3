"""What a new process takes to its first answer, and what memory: `python -m benchmarks.inference.cold_start FOLDER`.

FOLDER is that of `benchmarks.inference.benchmark_models`. Every process runs in the environment a model is deployed in and says of
each step its seconds and its memory; from outside come the seconds from its start to its answer. Ways to need less of
either are tried beside the way of `stages.runtime`: files in cheaper arithmetic, options of ONNX Runtime's sessions.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
ROUNDS, ANSWERS = 7, 15
SERVING = Path(".venv-serving/bin/python")
AS_IT_IS = "as it is"
ARENA = {"arena": False}
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    AS_IT_IS: ("whole.onnx", {}),
    "memory as the C library keeps it": ("whole.onnx", {"plain": True}),
    "no arena": ("whole.onnx", ARENA),
    "no prepacking": ("whole.onnx", {"config": {"session.disable_prepacking": "1"}}),
    "optimized before": ("whole-optimized.onnx", {"optimized": True}),
    "optimized before for this machine": ("whole-machine.onnx", {"optimized": True}),
    "optimized before and again": ("whole-optimized.onnx", {"arena": True}),
    "ORT format": ("whole.ort", {"optimized": True}),
    "ORT format, bytes used in place": (
        "whole.ort",
        {
            "optimized": True,
            "bytes": True,
            "config": {
                "session.use_ort_model_bytes_directly": "1",
                "session.use_ort_model_bytes_for_initializers": "1",
            },
        },
    ),
    "int8": ("whole-int8.onnx", {}),
    "int8, no arena": ("whole-int8.onnx", ARENA),
    "int8, optimized before": ("whole-int8-optimized.onnx", {"optimized": True}),
    "int8, optimized before for this machine": ("whole-int8-machine.onnx", {"optimized": True}),
}
"""File, and how its session differs."""


def prepare(folder: Path) -> None:
    """Write files of which ONNX Runtime has done its optimizations already, those that fit any machine, or all."""
    import onnxruntime

    for source in ("whole", "whole-int8"):
        for suffix in ("-optimized.onnx", "-machine.onnx", ".ort"):
            options = onnxruntime.SessionOptions()
            options.optimized_model_filepath = str(folder / f"{source}{suffix}")
            options.log_severity_level = 3
            level = onnxruntime.GraphOptimizationLevel
            options.graph_optimization_level = (
                level.ORT_ENABLE_ALL if "machine" in suffix else level.ORT_ENABLE_EXTENDED
            )
            onnxruntime.InferenceSession(folder / f"{source}.onnx", options, providers=["CPUExecutionProvider"])


def session_by(settings: dict[str, Any]) -> Callable[..., Any]:
    """In place of `session_of` of `stages.runtime`."""
    import onnxruntime

    def session_of(source: Path, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.enable_cpu_mem_arena = settings.get("arena", True)
        if settings.get("optimized"):
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for key, value in settings.get("config", {}).items():
            options.add_session_config_entry(key, value)
        given = source.read_bytes() if settings.get("bytes") else source
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])

    return session_of


def child(folder: Path, way: str) -> None:
    """One process: each step with its seconds and its memory, and the answer at last."""
    from benchmarks.inference.inference_competitors import memory  # and numpy with it

    steps: list[dict[str, Any]] = []
    last = BEGAN

    def step(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent = time.process_time()  # since the process began
        steps.append({"name": name, "seconds": now - last, "cpu": spent - sum(s["cpu"] for s in steps), **memory()})
        last = time.perf_counter()

    step("import numpy")
    import PIL.Image  # noqa: F401

    step("import Pillow")
    import onnxruntime  # noqa: F401

    step("import onnxruntime")
    from stages.runtime import onnx_model as runtime

    step("import stages.runtime")
    file, settings = WAYS[way]
    if settings:
        runtime.session_of = session_by(settings)
    if settings.get("plain"):
        runtime.freed_memory_given_back = nullcontext
    if file.endswith(".ort"):
        runtime.refuse_malicious = lambda _: None  # which reads ONNX
    opened = runtime.Model(folder / file, 1)
    step("open the model")
    data = min((folder / "images").iterdir()).read_bytes()
    image = opened.decode_file(data)
    step("decode")
    answer = opened.answer(image)
    step("answer")
    print(json.dumps({"steps": steps, "answer": str(answer)}), flush=True)
    again = []
    for _ in range(ANSWERS):
        began = time.process_time()
        opened.answer(image)
        again.append(time.process_time() - began)
    print(json.dumps({"again": statistics.median(again), "after": memory()}), flush=True)


def once(folder: Path, way: str) -> dict[str, Any]:
    """A process from its start to its answer: seconds by the clock and of the processor."""
    command = [SERVING.absolute(), "-m", "benchmarks.inference.cold_start", str(folder), way]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    wall = time.perf_counter() - began
    rest, errors = process.communicate()
    if not line:
        return {"error": (errors.strip().splitlines() or [f"ended by signal {-process.returncode}"])[-1]}
    told = json.loads(line)
    return told | json.loads(rest) | {"wall": wall, "cpu": sum(step["cpu"] for step in told["steps"])}


def main(folder: Path) -> dict[str, Any]:
    """All ways, in turns."""
    prepare(folder)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            found[way].append(once(folder, way))
    return {way: summary(runs) for way, runs in found.items()}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over runs; of the clock the spread as well."""
    if "error" in runs[0]:
        return {"error": runs[0]["error"]}
    middle = statistics.median
    steps = [
        {"name": same[0]["name"]} | {key: middle(one[key] for one in same) for key in same[0] if key != "name"}
        for same in zip(*(run["steps"] for run in runs), strict=True)
    ]
    walls = [run["wall"] for run in runs]
    return {
        "wall": middle(walls),
        "least": min(walls),
        "most": max(walls),
        "cpu": middle(run["cpu"] for run in runs),
        "again": middle(run["again"] for run in runs),
        "answer": runs[0]["answer"],
        "steps": steps,
    }


if __name__ == "__main__":
    if len(sys.argv) > 2:
        child(Path(sys.argv[1]), sys.argv[2])
    else:
        print(json.dumps(main(Path(sys.argv[1]))))
