"""Compare predicted images with the training images of a model: `python -m stages.check_drift MODEL ROWS...`.

The rows are written by `macula predict --statistics --format jsonl`. Torch is not required.
"""

import json
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.drift import compare_with_reference
from stages.drift.drift_page import write_page
from stages.drift.scored_rows import describe_failed, read_scored_images
from stages.images.decoder_logging import silence_decoders
from stages.runtime import Model, compute_digest

REFERENCE = "drift_reference"
"""Key of the metadata that contains the distributions of the training and validation images."""


def main(model: Path, rows: Sequence[Path], output: Path | None, page: Path | None) -> dict[str, Any]:
    """Compare images with the reference in the model file; return the report as plain values.

    Args:
        model: ONNX file that `export` wrote.
        rows: JSON lines files of `predict`.
        output: JSON file to write; None to write none.
        page: folder for `drift.md` and a picture; None to write none.

    Raises:
        UserError: the model or the rows cannot be read, or a file cannot be written.
    """
    silence_decoders()
    opened = Model(model, threads=1, engine="onnxruntime")
    images = read_scored_images(rows, opened.spec)
    values = {"inputs": images.inputs, "predictions": images.predictions}
    report = compare_with_reference(opened.metadata.get(REFERENCE), images.paths, values)
    about = {
        "name": opened.metadata.get("name", ""),
        "data_version": opened.metadata["version"],
        "sha256": compute_digest(model),
    }
    result = {**report.as_json(), "failed": images.failed, "model": about}
    try:
        if page is not None:
            described = f"{about['name']}, data version {about['data_version']}, SHA-256 {about['sha256'][:12]}"
            notes = [f"{failed}."] if (failed := describe_failed(images)) else []
            write_page(report, page, described, notes)
        if output is not None:
            output.parent.mkdir(parents=True, exist_ok=True)
            draft = output.with_name(f"{output.name}.part")
            draft.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            draft.replace(output)
    except OSError as error:
        raise UserError(f"{error.filename} cannot be written: {error.strerror}; name another place") from error
    return result


if __name__ == "__main__":  # the options are defined once, in stages/command_line
    sys.argv.insert(1, "drift")
    runpy.run_module("stages", run_name="__main__")
