"""Provenance of a result: the code, the packages and the machine."""

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stages.core.cpu import cores

LOGGED = (
    "torch",
    "torchvision",
    "lightning-fabric",
    "kornia",
    "optuna",
    "onnx",
    "onnxruntime",
    "numpy",
    "pandas",
    "pillow",
)


def commit() -> str:
    """Return the commit of the code, with `-dirty` if tracked files differ; `unknown` without git or a repository."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + ("-dirty" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (subprocess.CalledProcessError, FileNotFoundError):
        return "unknown"


def environment() -> dict[str, Any]:
    """Return the commit, the versions of Python and of the main packages, the processor and the number of cores."""
    return {
        "commit": commit(),
        "python": platform.python_version(),
        "cpu": processor(),
        "cores": cores(),
        "packages": {name: metadata.version(name) for name in LOGGED},
    }


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def digest(sections: Mapping[str, BaseModel]) -> str:
    """Return a digest of params sections, 12 hexadecimal digits."""
    values = {name: section.model_dump(mode="json") for name, section in sections.items()}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def content(parts: Sequence[str | Path]) -> str:
    """Return a digest of texts, files and the files directly in folders (names and contents), 16 hexadecimal digits."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            total.update(part.encode() + b"\0")
            continue
        for file in sorted(part.iterdir()) if part.is_dir() else [part]:
            with file.open("rb") as opened:
                total.update(file.name.encode() + hashlib.file_digest(opened, "sha256").digest())
    return total.hexdigest()[:16]


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()
