"""Answer with an exported model: `python -m stages.predict MODEL IMAGES...`, files or folders, to CSV or JSON.

Runs on onnxruntime, numpy and Pillow alone.
"""

import argparse
import csv
import io
import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

from stages.frame.errors import UserError
from stages.images.reading import SUFFIXES, Unreadable
from stages.runtime import Model


def main(argv: list[str] | None = None) -> int:
    """Write one row per image; 1 when an image could not be read, which then has its reason as a row of its own."""
    arguments = _arguments(argv)
    try:
        model = Model(arguments.model, arguments.threads)
        files = list(images_below(arguments.images))
        rows = (_row(model, file) for file in files)
        with _opened(arguments.output) as stream:
            failed = {"csv": _write_csv, "json": _write_json}[arguments.format](rows, model.labels, stream)
    except UserError as error:
        sys.exit(f"error: {error}")
    if failed:
        print(f"{failed} of {len(files)} images could not be read; their rows say why", file=sys.stderr)
    return 1 if failed else 0


def images_below(paths: list[Path]) -> Iterator[Path]:
    """The files named, and the images in the folders named, sorted.

    Raises:
        UserError: a path does not exist, or a folder holds no image.
    """
    for path in paths:
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not found:
                raise UserError(f"{path} holds no image; known endings: {' '.join(sorted(SUFFIXES))}")
            yield from found
        elif path.is_file():
            yield path
        else:
            raise UserError(f"{path} does not exist; name image files or folders of them")


def _row(model: Model, file: Path) -> dict[str, Any]:
    try:
        return {"path": str(file), **model.answer(file.read_bytes()), "error": ""}
    except (Unreadable, OSError) as error:
        return {"path": str(file), "label": "", "confidence": None, "probabilities": {}, "error": str(error)}


def _write_csv(rows: Iterator[dict[str, Any]], labels: list[str], stream: TextIO) -> int:
    writer = csv.writer(stream)
    writer.writerow(["path", "label", "confidence", *(f"p_{label}" for label in labels), "error"])
    failed = 0
    for row in rows:
        failed += bool(row["error"])
        confidence = "" if row["confidence"] is None else f"{row['confidence']:.6f}"
        probabilities = [f"{row['probabilities'][label]:.6f}" if row["probabilities"] else "" for label in labels]
        writer.writerow([row["path"], row["label"], confidence, *probabilities, row["error"]])
    return failed


def _write_json(rows: Iterator[dict[str, Any]], labels: list[str], stream: TextIO) -> int:
    """One JSON array, a line per image."""
    failed = 0
    for number, row in enumerate(rows):
        failed += bool(row["error"])
        stream.write(("[\n" if number == 0 else ",\n") + json.dumps(row))
    stream.write("\n]\n")
    return failed


def _opened(output: Path | None) -> Any:
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return nullcontext(sys.stdout)
    return output.open("w", newline="", encoding="utf-8", errors="backslashreplace")  # names may be no text


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description="Answer with an exported model.")
    parser.add_argument("model", type=Path, help="ONNX file, as data/export/model.onnx")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--format", choices=("csv", "json"), default="csv", help="default: csv")
    parser.add_argument("--output", type=Path, help="file to write; default: standard output")
    parser.add_argument("--threads", type=int, default=0, help="of onnxruntime; default: all cores")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
