"""Measure the time and memory of a new process until its first prediction.

`python -m benchmarks.inference.cold_start FOLDER` prints JSON; FOLDER is one that `benchmark_models` wrote. Each
process runs in the environment in which a model is deployed (`SERVING`, or this one if that does not exist) and reports
the seconds and the memory of each step. The seconds from its start to its prediction are measured by its parent
process. The default of `stages.runtime` is compared with variants that may need less time or memory: files in cheaper
arithmetic, and options of ONNX Runtime's sessions.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
ROUNDS, PREDICTIONS = 7, 15
SERVING = Path(".venv-serving/bin/python")
DEFAULT = "default"
ARENA = {"arena": False}
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    DEFAULT: ("whole.onnx", {}),
    "freed memory kept": ("whole.onnx", {"plain": True}),
    "no arena": ("whole.onnx", ARENA),
    "no prepacking": ("whole.onnx", {"config": {"session.disable_prepacking": "1"}}),
    "optimized beforehand": ("whole-optimized.onnx", {"optimized": True}),
    "optimized beforehand for this machine": ("whole-machine.onnx", {"optimized": True}),
    "optimized beforehand and again": ("whole-optimized.onnx", {"arena": True}),
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
    "int8, optimized beforehand": ("whole-int8-optimized.onnx", {"optimized": True}),
    "int8, optimized beforehand for this machine": ("whole-int8-machine.onnx", {"optimized": True}),
}
"""Model file, and the settings of its session that differ from the default."""


def prepare(folder: Path) -> None:
    """Write the models of `folder` as optimized by ONNX Runtime.

    Each of `whole.onnx` and `whole-int8.onnx`, if it exists, is written with optimizations for all machines, as ONNX
    and in the ORT format, and with those for this machine, as ONNX.
    """
    import onnxruntime

    for source in ("whole", "whole-int8"):
        if not (folder / f"{source}.onnx").exists():
            continue
        for suffix in ("-optimized.onnx", "-machine.onnx", ".ort"):
            options = onnxruntime.SessionOptions()
            options.optimized_model_filepath = str(folder / f"{source}{suffix}")
            options.log_severity_level = 3
            level = onnxruntime.GraphOptimizationLevel
            options.graph_optimization_level = (
                level.ORT_ENABLE_ALL if "machine" in suffix else level.ORT_ENABLE_EXTENDED
            )
            onnxruntime.InferenceSession(folder / f"{source}.onnx", options, providers=["CPUExecutionProvider"])


def session_with(settings: dict[str, Any]) -> Callable[..., Any]:
    """Return a replacement for `create_session` of `stages.runtime` with other settings."""
    import onnxruntime

    def create_session(source: Path, threads: int) -> Any:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        options.enable_cpu_mem_arena = settings.get("arena", True)
        if settings.get("optimized"):
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for key, value in settings.get("config", {}).items():
            options.add_session_config_entry(key, value)
        given = source.read_bytes() if settings.get("bytes") else source
        return onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])

    return create_session


def run_steps(folder: Path, variant: str) -> None:
    """Run all steps up to the first prediction in this process; print their time and memory and the prediction as JSON.

    A second line contains the median processor time of further predictions and the memory after them.
    """
    from benchmarks.inference.inference_competitors import process_megabytes  # imports numpy

    steps: list[dict[str, Any]] = []
    last = BEGAN

    def step(name: str) -> None:
        nonlocal last
        now = time.perf_counter()
        spent = time.process_time()  # since the process began
        cpu = spent - sum(s["cpu"] for s in steps)
        steps.append({"name": name, "seconds": now - last, "cpu": cpu, **process_megabytes()})
        last = time.perf_counter()

    step("import numpy")
    import PIL.Image  # noqa: F401

    step("import Pillow")
    import onnxruntime  # noqa: F401

    step("import onnxruntime")
    from stages.runtime import onnx_model as runtime

    step("import stages.runtime")
    file, settings = VARIANTS[variant]
    if settings:
        _replace(runtime, "create_session", session_with(settings))
    if settings.get("plain"):
        _replace(runtime, "freed_memory_given_back", nullcontext)
    if file.endswith(".ort"):
        _replace(runtime, "refuse_malicious", lambda _: None)  # it reads ONNX files only
    opened = runtime.Model(folder / file, 1)
    step("open the model")
    data = min((folder / "images").iterdir()).read_bytes()
    image = opened.decode_file(data)
    step("decode")
    answer = opened.predict(image)
    step("predict")
    print(json.dumps({"steps": steps, "answer": str(answer)}), flush=True)
    again = []
    for _ in range(PREDICTIONS):
        began = time.process_time()
        opened.predict(image)
        again.append(time.process_time() - began)
    print(json.dumps({"again": statistics.median(again), "after": process_megabytes()}), flush=True)


def _replace(module: Any, name: str, value: Any) -> None:
    """Replace an attribute of a module; fail if the module has no such attribute, for example after a renaming."""
    assert hasattr(module, name), f"{module.__name__} has no {name}"
    setattr(module, name, value)


def run_process(folder: Path, variant: str) -> dict[str, Any]:
    """Start a process; return the wall-clock and processor seconds until its first prediction, and its steps.

    Returns:
        What `run_steps` prints, with `wall` and `cpu`; only `error` if the process failed.
    """
    python = str(SERVING.absolute()) if SERVING.exists() else sys.executable
    command = [python, "-m", "benchmarks.inference.cold_start", str(folder), variant]
    lines, wall, error = time_first_line(command)
    if error:
        return {"error": error}
    first, rest = map(json.loads, lines)
    return first | rest | {"wall": wall, "cpu": sum(step["cpu"] for step in first["steps"])}


def time_first_line(command: Sequence[str]) -> tuple[list[str], float, str]:
    """Run a command and time its first line of output.

    Returns:
        The lines of its standard output, the wall-clock seconds from its start to the first of them, and its error:
        the last line of its standard error, or empty if it succeeded.
    """
    # Standard error goes to a file because `communicate` loses lines that `readline` has already buffered.
    with tempfile.TemporaryFile("w+") as errors:
        began = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            wall = time.perf_counter() - began
            lines = [first, *process.stdout]
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:]
    if process.returncode:
        return lines, wall, last[0] if last else f"ended by signal {-process.returncode}"
    return lines, wall, ""


def main(folder: Path, variants: Sequence[str] = tuple(VARIANTS), rounds: int = ROUNDS) -> dict[str, Any]:
    """Measure variants in turn.

    Args:
        folder: folder that `benchmark_models` wrote.
        variants: keys of `VARIANTS`.
        rounds: number of rounds.

    Returns:
        Medians over rounds, by variant.
    """
    prepare(folder)
    found: dict[str, list[dict[str, Any]]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            found[variant].append(run_process(folder, variant))
    return {variant: summarize(runs) for variant, runs in found.items()}


def summarize(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over runs, and the range of the wall-clock seconds; the error if the first run failed."""
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
        run_steps(Path(sys.argv[1]), sys.argv[2])
    else:
        print(json.dumps(main(Path(sys.argv[1]))))
