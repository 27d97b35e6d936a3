"""Publish a model as a web page that predicts in the browser: `python -m stages.publish MODEL OUTPUT`.

The output folder works on any static file host. It contains the unchanged ONNX file, onnxruntime as WebAssembly, and a
page of plain JavaScript (`stages/web/browser`). The page loads nothing else, and no image leaves the browser. `make
publish` downloads the runtime first.
"""

import hashlib
import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.images.decode import MAX_MEGAPIXELS
from stages.runtime import Model, compute_digest
from stages.tasks import TASKS, instances, landmarks, multilabel, watershed
from stages.tasks.overlays import PALETTE
from stages.tasks.task_interface import SCALAR

HERE = Path(__file__).parent
CARD = Path("data/model_card/model-card.md")
RUNTIME = Path("infra/browser/node_modules/onnxruntime-web")
RUNTIME_FILES = {"ort.wasm.bundle.min.mjs": "onnxruntime.js", "ort-wasm-simd-threaded.wasm": "onnxruntime.wasm"}
"""Files in the runtime's folder `dist`, and their published names, whose content type every web server knows."""
METADATA_KEYS = (
    *("task", "representation", "target", "labels", "mask_values", "points", "scalars", "units", "masks"),
    *("channels", "depth", "size", "fit", "overlap", "name", "version", "data_version", "commit"),
)
ABOUT = "about.json"


def publish(model: Path, output: Path, runtime: Path = RUNTIME, card: Path = CARD) -> int:
    """Write the folder of the page, including the model card if it belongs to the model.

    Args:
        model: ONNX file written by `export`.
        output: folder to write to; it must be new, or an earlier published folder, which is replaced.
        runtime: folder of the npm package onnxruntime-web.
        card: model card.

    Returns:
        Size of the folder in bytes.

    Raises:
        UserError: the model cannot be opened, the runtime is missing, or `output` exists and is not a published
            folder.
    """
    has_card = card.is_file() and compute_digest(model) in card.read_text(encoding="utf-8")
    about = collect_about(model) | {"runtime": _version(runtime), "card": card.name if has_card else None}
    if output.exists() and not (output / ABOUT).is_file():
        raise UserError(f"{output} exists and is not a published model; name another folder, or remove it")
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(HERE / "web/browser", part)
    shutil.copy(HERE / "reports/page.css", part)
    for name, shown in RUNTIME_FILES.items():
        shutil.copyfile(runtime / "dist" / name, part / shown)
    shutil.copyfile(model, part / "model.onnx")
    if has_card:
        shutil.copyfile(card, part / card.name)
    (part / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
    return sum(file.stat().st_size for file in output.iterdir())


def collect_about(file: Path) -> dict[str, Any]:
    """Return what `about.json` states about a model: its metadata, score, size and digest, and decoding constants.

    Raises:
        UserError: the model cannot be opened.
    """
    metadata = Model(file, engine="onnxruntime").metadata
    data = file.read_bytes()
    return {
        "model": {key: metadata[key] for key in METADATA_KEYS if key in metadata},
        "score": _score(metadata),
        "bytes": len(data),
        "digest": hashlib.sha256(data).hexdigest()[:16],
        "rules": {
            "threshold": multilabel.THRESHOLD,
            "seen": landmarks.VISIBLE,
            "sure": instances.CONFIDENT,
            "least": watershed.FOREGROUND,
            "smallest": watershed.MIN_SEED,
            "megapixels": MAX_MEGAPIXELS,
            "palette": PALETTE,
        },
    }


def _score(metadata: dict[str, Any]) -> dict[str, Any] | None:
    """Return the score of the objective with interval and unit; None if the metadata lack it."""
    name = metadata.get("objective", {}).get("score")
    if name not in metadata.get("scores", {}) or name not in TASKS[metadata["task"]].SCORES:
        return None
    known = TASKS[metadata["task"]].SCORES[name]
    units = set(metadata.get("units", {}).values())
    unit = (units.pop() if len(units) == 1 else "") if known.unit == SCALAR else known.unit
    return {"name": name, **metadata["scores"][name], "unit": unit, "better": known.better}


def _version(runtime: Path) -> str:
    """Return the version of onnxruntime-web.

    Raises:
        UserError: a file of the package is missing.
    """
    missing = [
        name for name in ("package.json", *(f"dist/{file}" for file in RUNTIME_FILES)) if not (runtime / name).is_file()
    ]
    if missing:
        raise UserError(
            f"{runtime} lacks {missing[0]}, so it is not the npm package onnxruntime-web; `make publish` downloads it, "
            "and --runtime sets its folder"
        )
    return json.loads((runtime / "package.json").read_text())["version"]


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "publish")
    runpy.run_module("stages", run_name="__main__")
