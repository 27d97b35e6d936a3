"""Checks of `macula doctor` on the CPU: settings that slow it down, and two short timed tests.

**Expectation.** A core of F Hz that executes P float32 operations per cycle multiplies matrices at no more than F x P
operations per second; a good BLAS reaches most of this rate. P follows from the widest vector instructions: 64 with
AVX-512 (two units of 16 numbers, each one multiplication and one addition), 32 with AVX2 and FMA, 16 with AVX or NEON,
8 with SSE. On an AMD EPYC (Zen 3, AVX2, 2.45 GHz nominal) OpenBLAS reached 0.70 to 1.0 of F x P, and 0.24 with the code
for a processor without AVX (`OPENBLAS_CORETYPE=Prescott`). Less than 0.5 is therefore reported. Decoding a JPEG of
512x512 pixels took 13 to 24 cycles per pixel there with the vector code of libjpeg-turbo, and 31 to 48 without
(`JSIMD_FORCENONE=1`). More than 28 is therefore reported. Times are processor times of one thread, so that other
processes do not affect them; the load by other processes is a separate check. CPUs that do not report a frequency are
timed without an expectation.
"""

import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.command_line.machine_checks import PROJECT, Check, State
from stages.core.cpu import GROUPS, cores
from stages.core.plurals import quantity
from stages.core.provenance import processor

OPERATIONS_PER_CYCLE = (("avx512f", 64), ("avx2", 32), ("avx", 16), ("asimd", 16), ("neon", 16), ("sse2", 8))
"""float32 operations per cycle of one core, by flag of /proc/cpuinfo; the first flag that the CPU has applies."""
LEAST_SHARE = 0.5
"""Smallest expected share of the product of frequency and operations per cycle."""
MOST_CYCLES = 28.0
"""Largest expected number of cycles per pixel of a decoded JPEG."""
MOST_WAITING = 0.25
"""Largest expected share of the time in which a busy thread waits for a CPU."""
SIDE, IMAGE = 768, 512
ROUNDS = 9
SLOWING = {
    "OPENBLAS_CORETYPE": "numpy uses the code for the named processor instead of the code for this one",
    "NPY_DISABLE_CPU_FEATURES": "numpy does not use all instructions of this processor",
    "ATEN_CPU_CAPABILITY": "torch does not use all instructions of this processor",
    "ONEDNN_MAX_CPU_ISA": "torch does not use all instructions of this processor",
    "DNNL_MAX_CPU_ISA": "torch does not use all instructions of this processor",
    "JSIMD_FORCENONE": "JPEG files are decoded without vector instructions",
}
"""Environment variables that slow down the CPU, and their effects."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def settings() -> Iterator[Check]:
    """Check for environment variables and limits of the container that slow down the CPU."""
    quiet = True
    for name, effect in SLOWING.items():
        if value := os.environ.get(name):
            quiet = False
            yield Check("settings", "warning", f"{name}={value}: {effect}", f"unset {name}")
    for name in THREADS:
        value = os.environ.get(name, "")
        if value.isdigit() and int(value) < cores():
            quiet = False
            yield Check(
                "settings",
                "warning",
                f"{name}={value}: libraries that read it use at most {quantity(int(value), 'core')} of {cores()}",
                f"unset {name}",
            )
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores() < seen:
        quiet = False
        yield Check(
            "settings", "warning", f"the container is limited to the time of {cores()} of {seen} CPUs ({GROUPS})",
            "raise its CPU limit (docker run --cpus, resources.limits.cpu) if that is not intended",
        )  # fmt: skip
    if quiet:
        yield Check(
            "settings", "ok", "none of the checked environment variables and no container limit slows down the CPU"
        )


def speed() -> Iterator[Check]:
    """Check the load of the CPU, and the times of a matrix product and of decoding a JPEG on one core."""
    waiting = share_of_waiting()
    state: State = "warning" if waiting > MOST_WAITING else "ok"
    advice = "end other programs, or use a machine whose CPUs are not shared" if state == "warning" else ""
    yield Check("cpu load", state, f"a busy thread waited for a CPU {waiting:.0%} of the time", advice)
    frequency, operations = hertz(), operations_per_cycle()
    measured = _measured_alone()
    yield compared(
        "multiplication",
        2 * SIDE**3 / measured["product"] / 1e9,
        "GFLOP/s",
        LEAST_SHARE * frequency * operations / 1e9 if frequency and operations else None,
        "install the locked numpy with `make env`, unset what `settings` reports, and check cooling and power settings",
    )
    yield compared(
        "jpeg decoding",
        IMAGE**2 / measured["decoding"] / 1e6,
        "megapixels/s",
        frequency / MOST_CYCLES / 1e6 if frequency else None,
        "install the locked Pillow with `make env`, which has libjpeg-turbo, and check cooling and power settings",
    )


def compared(name: str, rate: float, unit: str, least: float | None, advice: str) -> Check:
    """Return the check that compares a measured rate with the smallest expected one.

    Args:
        name: name of the check.
        rate: rate measured on one core.
        unit: unit of both rates.
        least: smallest expected rate; None if it is unknown.
        advice: what to do if the rate is smaller.

    >>> compared("decoding", 50.0, "megapixels/s", 80.0, "close other programs").state
    'warning'
    """
    found = f"{rate:.0f} {unit} on one core"
    if least is None:
        return Check(
            name, "ok", f"{found}; no expectation, because {processor()} does not report its frequency or instructions"
        )
    found += f"; at least {least:.0f} expected of {processor()}"
    return Check(name, "ok", found) if rate >= least else Check(name, "warning", found, advice)


def hertz() -> float | None:
    """Return the nominal frequency of the first core, in Hz; else the highest or the current one; None if unknown."""
    for file in ("base_frequency", "cpuinfo_max_freq"):
        path = Path("/sys/devices/system/cpu/cpu0/cpufreq", file)
        if path.is_file():
            return float(path.read_text()) * 1e3
    return _megahertz(_cpuinfo())


def _megahertz(cpuinfo: str) -> float | None:
    r"""Return the frequency that /proc/cpuinfo reports, in Hz.

    >>> _megahertz("cpu MHz\t\t: 2445.4\n"), _megahertz("")
    (2445400000.0, None)
    """
    found = re.search(r"^cpu MHz\s*: ([\d.]+)", cpuinfo, re.MULTILINE)
    return float(found.group(1)) * 1e6 if found else None


def operations_per_cycle() -> int | None:
    """Return the float32 operations of one core per cycle, or None if its instructions are not known."""
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", _cpuinfo(), re.MULTILINE)
    flags = set(found.group(1).split()) if found else set()
    return next((count for flag, count in OPERATIONS_PER_CYCLE if flag in flags), None)


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.is_file() else ""


def share_of_waiting(seconds: float = 0.3) -> float:
    """Return the share of time in which a busy thread was not running.

    Args:
        seconds: duration of the measurement.
    """
    began, own = time.perf_counter(), time.thread_time()
    while time.perf_counter() - began < seconds:
        pass
    return max(0.0, 1 - (time.thread_time() - own) / (time.perf_counter() - began))


def _measured_alone() -> dict[str, float]:
    """Return the seconds of the matrix product and of decoding, measured with one thread in a separate process."""
    one = dict.fromkeys((*THREADS, "VECLIB_MAXIMUM_THREADS"), "1")
    command = [sys.executable, "-m", "stages.command_line.cpu_speed"]
    paths = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    done = subprocess.run(
        command, env=os.environ | one | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def _product_seconds() -> float:
    """Return the processor seconds of a float32 matrix product [SIDE, SIDE] on one thread, the shortest of `ROUNDS`."""
    import numpy as np

    a_NN = np.random.default_rng(0).standard_normal((SIDE, SIDE), dtype=np.float32)
    return _fastest(lambda: a_NN @ a_NN)


def _decoding_seconds() -> float:
    """Return the processor seconds of decoding a JPEG of IMAGE x IMAGE pixels, three channels, quality 90."""
    import numpy as np
    from PIL import Image

    y_S1, x_1S = np.mgrid[0:IMAGE, 0:IMAGE]
    noise_SSC = np.random.default_rng(0).normal(0, 8, (IMAGE, IMAGE, 3))
    smooth_SSC = np.stack([127 + 60 * np.sin(x_1S / 17 + y_S1 / 31 + channel) for channel in range(3)], axis=2)
    file = io.BytesIO()
    Image.fromarray((smooth_SSC + noise_SSC).clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    data = file.getvalue()
    return _fastest(lambda: Image.open(io.BytesIO(data)).load())


def _fastest(body: Callable[[], object]) -> float:
    seconds = []
    for _ in range(ROUNDS):
        began = time.thread_time()
        body()
        seconds.append(time.thread_time() - began)
    return min(seconds)


if __name__ == "__main__":
    print(json.dumps({"product": _product_seconds(), "decoding": _decoding_seconds()}))
