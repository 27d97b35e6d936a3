"""A folder that answers in the browser, from any static file host: `python -m stages.publish MODEL OUTPUT`.

It holds the ONNX file as it is, onnxruntime as WebAssembly, and a page of plain JavaScript (`stages/web/browser`).
Nothing else is fetched, and no image leaves the browser. `make publish` fetches the runtime first.
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
from stages.runtime import Model, digest_of
from stages.tasks import TASKS, instances, landmarks, multilabel, watershed
from stages.tasks.overlays import PALETTE
from stages.tasks.task_interface import SCALAR

HERE = Path(__file__).parent
CARD = Path("data/model_card/model-card.md")
RUNTIME = Path("infra/browser/node_modules/onnxruntime-web")
SHIPPED = {"ort.wasm.bundle.min.mjs": "onnxruntime.js", "ort-wasm-simd-threaded.wasm": "onnxruntime.wasm"}
"""Of the runtime's folder `dist`: under names that every web server knows the types of."""
LISTED = (
    *("task", "representation", "target", "labels", "points", "scalars", "units", "masks"),
    *("channels", "depth", "size", "fit", "overlap", "name", "version", "data_version", "commit"),
)
ABOUT = "about.json"


def publish(model: Path, output: Path, runtime: Path = RUNTIME, card: Path = CARD) -> int:
    """Write the folder, with the card where it is this model's; returns its bytes.

    Raises:
        UserError: the model cannot be opened, the runtime is not there, or the folder holds something else.
    """
    carded = card.is_file() and digest_of(model) in card.read_text(encoding="utf-8")
    about = about_of(model) | {"runtime": _version(runtime), "card": card.name if carded else None}
    if output.exists() and not (output / ABOUT).is_file():
        raise UserError(f"{output} exists and was not published; name another folder, or remove it")
    part = output.with_name(f"{output.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(HERE / "web/browser", part)
    shutil.copy(HERE / "reports/page.css", part)
    for name, shown in SHIPPED.items():
        shutil.copyfile(runtime / "dist" / name, part / shown)
    shutil.copyfile(model, part / "model.onnx")
    if carded:
        shutil.copyfile(card, part / card.name)
    (part / ABOUT).write_text(json.dumps(about, indent=1) + "\n")
    shutil.rmtree(output, ignore_errors=True)
    part.rename(output)
    return sum(file.stat().st_size for file in output.iterdir())


def about_of(file: Path) -> dict[str, Any]:
    """What the page needs to know: what the model is, and the constants by which answers are read.

    Raises:
        UserError: the model cannot be opened.
    """
    said = Model(file, engine="onnxruntime").metadata
    data = file.read_bytes()
    return {
        "model": {key: said[key] for key in LISTED if key in said},
        "score": _score(said),
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


def _score(said: dict[str, Any]) -> dict[str, Any] | None:
    """The score that the model was held to, with its interval and unit; none where the file does not say."""
    name = said.get("objective", {}).get("score")
    if name not in said.get("scores", {}) or name not in TASKS[said["task"]].SCORES:
        return None
    known = TASKS[said["task"]].SCORES[name]
    units = set(said.get("units", {}).values())
    unit = (units.pop() if len(units) == 1 else "") if known.unit == SCALAR else known.unit
    return {"name": name, **said["scores"][name], "unit": unit, "better": known.better}


def _version(runtime: Path) -> str:
    """Of onnxruntime-web; raises UserError where a file of it is missing."""
    missing = [name for name in SHIPPED if not (runtime / "dist" / name).is_file()]
    if missing or not (runtime / "package.json").is_file():
        raise UserError(
            f"{runtime} is not the npm package onnxruntime-web; `make publish` fetches it, --runtime names it"
        )
    return json.loads((runtime / "package.json").read_text())["version"]


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "publish")
    runpy.run_module("stages", run_name="__main__")
