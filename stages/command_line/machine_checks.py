"""Checks of `macula doctor`: installation, disk, memory and devices; see also `cpu_speed` and `service_checks`."""

import importlib.util
import multiprocessing
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from stages.core.cpu import cores
from stages.core.errors import UserError
from stages.core.memory import allowed
from stages.core.plurals import list_names

PROJECT = Path(__file__).parents[2]
LOCKS = PROJECT / "infra/locks"
PYTHON = (3, 11)
"""Oldest supported version, as in pyproject.toml."""
GIB = 2**30
WORKER_MEMORY = 4
"""GiB that one image may take while it is decoded; see stages/images/sandbox."""
COPIES = 4
"""Estimated disk space of a run, in sizes of the source: data/ingest and data/prepare, each again in the cache."""
MODELS = 1
"""GiB for models, estimated from the largest ONNX file in the README, 82 MB: five times that in the checkpoint
(weights, two moments of AdamW, averaged and best weights), and weights and two exported files, each again in the cache.
"""
MAX_LISTED = 10
"""Maximum number of packages that a message names."""
SHARED = Path("/dev/shm")  # noqa: S108  # a file system of the kernel; nothing is written there
SHARED_MEMORY = 64
"""MiB of /dev/shm that Docker gives to a container by default."""

State = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """Result of one check."""

    name: str
    state: State
    found: str
    """Result in words, with its value."""
    advice: str = ""
    """What to do; empty if nothing is wrong."""


def checks(quick: bool) -> Iterator[Check]:
    """Run the checks one after another and yield their results.

    Args:
        quick: skip the devices and the speed of the CPU, which take seconds.
    """
    from stages.command_line.cpu_speed import settings, speed
    from stages.command_line.service_checks import dvc_remote, prefect_api

    always = [python, versions, disk, memory, shared_memory, settings, dvc_remote, prefect_api]
    for check in always + ([] if quick else [devices, speed]):
        yield from _guarded(check)


def _guarded(check: Callable[[], Iterator[Check]]) -> Iterator[Check]:
    """Yield the results of a check; an exception in the check is reported as an error."""
    try:
        yield from check()
    except Exception as error:
        name = check.__name__.replace("_", " ")
        yield Check(name, "error", f"the check failed: {type(error).__name__}: {error}", "report this as a bug")


def python() -> Iterator[Check]:
    """Check the version of Python."""
    found = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < PYTHON:
        wanted = ".".join(map(str, PYTHON))
        yield Check(
            "python", "error", f"{found}; {wanted} or newer is required",
            f"install Python {wanted} and run `make env PYTHON=/path/to/python{wanted}`",
        )  # fmt: skip
    else:
        yield Check("python", "ok", found)


def versions() -> Iterator[Check]:
    """Compare the installed packages with the lock of this environment."""
    lock = LOCKS / ("pipeline.txt" if importlib.util.find_spec("dvc") else "serving.txt")
    if not lock.is_file():
        yield Check("packages", "ok", "not checked: the wheel is installed outside of a clone, without a lock file")
        return
    locked = locked_versions(lock.read_text(encoding="utf-8"))
    installed = {name: _version(name) for name in locked}
    missing = sorted(name for name, version in installed.items() if version is None)
    other = sorted(
        f"{name} {version} (locked {locked[name]})"
        for name, version in installed.items()
        if version not in (None, locked[name])
    )
    shown = lock.relative_to(PROJECT)
    if missing:
        yield Check(
            "packages",
            "error",
            f"packages of {shown} that are not installed: {list_names(missing, MAX_LISTED)}",
            "run `make env`",
        )
    if other:
        yield Check(
            "packages",
            "warning",
            f"packages whose version differs from {shown}: {list_names(other, MAX_LISTED)}",
            "run `make env`",
        )
    if not missing and not other:
        yield Check("packages", "ok", f"all {len(locked)} packages have the versions of {shown}")


def locked_versions(text: str) -> dict[str, str]:
    r"""Return the versions in a lock that apply to this platform, by package.

    >>> locked_versions("numpy==2.4.0 \\\n    --hash=sha256:00\nwinpty==1.0 ; sys_platform == 'win32' \\\n")
    {'numpy': '2.4.0'}
    """
    from packaging.markers import Marker

    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: *; *([^\\\n]+))?", text, re.MULTILINE)
    return {name: version for name, version, marker in found if not marker or Marker(marker.strip()).evaluate()}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def disk() -> Iterator[Check]:
    """Compare the free space of the current folder with what a run needs."""
    free = shutil.disk_usage(Path.cwd()).free / GIB
    source = _source()
    need = MODELS + COPIES * _size(source) / GIB if source else MODELS
    why = f"a run on {source} needs about {need:.1f} GiB" if source else f"models need about {need:.1f} GiB"
    found = f"{free:.1f} GiB free; {why}"
    if free < need:
        yield Check("disk", "error" if free < MODELS else "warning", found, "delete files, or run `dvc gc --workspace`")
    else:
        yield Check("disk", "ok", found)


def _source() -> Path | None:
    """Return the source in the current folder's params.yaml; None if either does not exist or params cannot be read."""
    try:
        from stages.config.load import load

        source = Path(load(Path("params.yaml")).ingest.source)
    except (ModuleNotFoundError, UserError):
        return None
    return source if source.exists() else None


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def memory() -> Iterator[Check]:
    """Compare the memory limit of this process with the memory that decoding an image may need."""
    found = allowed() / GIB
    state: State = "ok" if found >= WORKER_MEMORY else "warning"
    advice = (
        "raise the memory limit of the container or use a machine with more memory; or lower ingest.max_megapixels"
        if state != "ok"
        else ""
    )
    yield Check("memory", state, f"limit {found:.1f} GiB; decoding one image may take {WORKER_MEMORY} GiB", advice)


def shared_memory() -> Iterator[Check]:
    """Check that processes can share memory and locks."""
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        yield Check("shared memory", "error", f"cannot create a semaphore: {error}", "mount a writable /dev/shm")
        return
    if not SHARED.is_dir():
        yield Check("shared memory", "ok", f"provided by {platform.system()}")
        return
    free = shutil.disk_usage(SHARED).free / 2**20
    found = f"{free:,.0f} MiB free in {SHARED}"
    if free < SHARED_MEMORY:
        yield Check(
            "shared memory", "warning", f"{found}; at least {SHARED_MEMORY} MiB expected",
            "delete files there, or start the container with --shm-size=2g",
        )  # fmt: skip
    else:
        yield Check("shared memory", "ok", found)


def devices() -> Iterator[Check]:
    """Check every device that training or prediction can use; GPUs of CUDA compute a matrix product."""
    yield Check("cpu", "ok", f"{cores()} of {os.cpu_count()} CPUs usable")
    if importlib.util.find_spec("torch") is None:
        engines = [name for name in ("onnxruntime", "openvino") if importlib.util.find_spec(name)]
        yield Check(
            "engines",
            "ok" if engines else "error",
            ", ".join(engines) or "none installed",
            "" if engines else "run `make env`",
        )
        return
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield _gpu(torch, number)
    elif shutil.which("nvidia-smi"):
        yield Check(
            "gpu", "warning", f"nvidia-smi is installed, but torch {torch.__version__} detects no GPU",
            "install the torch build for the CUDA version that `nvidia-smi` shows, or a newer driver",
        )  # fmt: skip
    elif torch.backends.mps.is_available():
        yield Check("gpu", "ok", "Apple GPU (mps)")
    else:
        yield Check("gpu", "ok", "none; training runs on the CPU")


def _gpu(torch: "types.ModuleType", number: int) -> Check:  # type: ignore[name-defined]  # noqa: F821
    properties = torch.cuda.get_device_properties(number)
    free, total = (size / GIB for size in torch.cuda.mem_get_info(number))
    found = f"{properties.name}, {free:.1f} of {total:.1f} GiB free"
    try:
        ones = torch.ones(64, 64, device=f"cuda:{number}")
        right = bool((ones @ ones == 64).all())
    except RuntimeError as error:
        return Check(
            f"gpu {number}",
            "error",
            f"{found}: {str(error).splitlines()[0]}",
            "update the driver, or set train.device to cpu",
        )
    if not right:
        return Check(
            f"gpu {number}",
            "error",
            f"{found}: a matrix product is wrong",
            "do not use this GPU; set train.device to cpu",
        )
    return Check(f"gpu {number}", "ok", found)
