"""Answer with an exported model: `python -m stages.predict MODEL IMAGES...`, files or folders, to CSV, JSON or COCO.

Masks and images that are answered become files in `--files`; `--overlays` draws every answer over its image. Runs
without torch.
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

import numpy as np
from PIL import Image

from stages.frame.errors import UserError
from stages.images.annotations import decode_rle
from stages.images.reading import SUFFIXES, Unreadable
from stages.runtime import Model
from stages.tasks import TASKS
from stages.tasks.image import as_bytes
from stages.tasks.outline import Outline

WITH_FILES = ("segmentation", "image", "instances")
"""Tasks whose answer is, or holds, an image."""


def main(argv: list[str] | None = None) -> int:
    """Write one row per image; 1 when an image could not be read, which then has its reason as a row of its own."""
    arguments = _arguments(argv)
    try:
        model = Model(arguments.model, arguments.threads)
        _refuse_misfit(model.outline, arguments)
        files = list(images_below(arguments.images))
        names = _names(files)
        _refuse_overwriting(files, names, arguments)
        rows = (_row(model, file, name, arguments) for file, name in zip(files, names, strict=True))
        with _opened(arguments.output) as stream:
            write = {"csv": _write_csv, "json": _write_json, "coco": _write_coco}[arguments.format]
            failed = write(rows, model.outline, stream)
    except UserError as error:
        sys.exit(f"error: {error}")
    if failed:
        print(f"{failed} of {len(files)} images could not be read; their rows say why", file=sys.stderr)
    return 1 if failed else 0


def _refuse_misfit(outline: Outline, arguments: argparse.Namespace) -> None:
    if outline.task == "image" and arguments.files is None:
        raise UserError("this model answers with images: name a folder for them, --files FOLDER")
    if arguments.files is not None and outline.task not in WITH_FILES:
        raise UserError(f"--files: answers of task {outline.task} are no images; leave it out")
    if arguments.format == "coco" and outline.task != "instances":
        raise UserError(f"--format coco holds instances, this model's task is {outline.task}; use csv or json")


def _refuse_overwriting(files: list[Path], names: list[str], arguments: argparse.Namespace) -> None:
    """What is written never takes the place of an image that is read."""
    given = {file.resolve() for file in files}
    if arguments.output is not None and arguments.output.resolve() in given:
        raise UserError(f"--output {arguments.output} is an image to be answered; name another file")
    for option, folder, suffixes in (
        ("--files", arguments.files, (".png", ".npy")),
        ("--overlays", arguments.overlays, (".jpg",)),
    ):
        for name in names if folder is not None else ():
            for file in (folder / f"{name}{suffix}" for suffix in suffixes):
                if file.resolve() in given:
                    raise UserError(f"{option} {folder}: {file} is an image to be answered; name another folder")


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


def _names(files: list[Path]) -> list[str]:
    """Of what is written for each image: its own without the ending, with a number where several have one name."""
    taken: set[str] = set()
    names = []
    for file in files:
        name, number = file.stem, 2
        while name in taken:
            name, number = f"{file.stem}-{number}", number + 1
        taken.add(name)
        names.append(name)
    return names


def _row(model: Model, file: Path, name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    try:
        image = model.decode_file(file.read_bytes())
        answer = model.answer(image)
    except (Unreadable, OSError) as error:
        return {"path": str(file), "error": str(error)}
    row = {
        "path": str(file),
        "size": image.shape[:2],
        "record": TASKS[model.outline.task].record(answer, model.outline),
    }
    if arguments.files is not None:
        row["file"] = str(_written(_as_file(answer, model.outline), arguments.files / name))
    if arguments.overlays is not None:
        drawn = Image.fromarray(TASKS[model.outline.task].draw(image, answer, model.outline))
        _saved(drawn, arguments.overlays / f"{name}.jpg")
    return row | {"error": ""}


def _as_file(answer: Any, outline: Outline) -> np.ndarray[Any, Any]:
    """Indices of classes, numbers of things, or the image."""
    match outline.task:
        case "segmentation":
            return answer.index_HW
        case "image":
            levels = as_bytes(answer, outline.depth)
            return levels[:, :, 0] if levels.shape[2] == 1 else levels
        case _:
            number_HW = np.zeros((answer.height, answer.width), np.uint16)
            sure = answer.sure()
            for number, box in enumerate(sure.box_M4.round().astype(int)):
                if sure.mask_M is not None:
                    number_HW[decode_rle(sure.mask_M[number], sure.height, sure.width)] = number + 1
                else:
                    number_HW[box[1] : box[3], box[0] : box[2]] = number + 1
            return number_HW


def _written(values: np.ndarray[Any, Any], place: Path) -> Path:
    """A PNG; an array where Pillow knows no PNG of so many channels or bits."""
    if values.ndim == 2 or (values.shape[2] == 3 and values.dtype == np.uint8):
        return _saved(Image.fromarray(values), place.with_name(f"{place.name}.png"))
    file = place.with_name(f"{place.name}.npy")
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, values)
    return file


def _saved(picture: Image.Image, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.save(file)
    return file


def columns_of(outline: Outline) -> list[str]:
    """Columns between `path` and `error`."""
    match outline.task:
        case "classification":
            return ["label", "confidence", *(f"p_{label}" for label in outline.labels)]
        case "ordinal":
            return ["label", *(f"p_{label}" for label in outline.labels)]
        case "multilabel":
            return ["labels", *(f"p_{label}" for label in outline.labels)]
        case "regression":
            return list(outline.scalars)
        case "landmarks":
            return [f"{point}_{what}" for point in outline.points for what in ("x", "y", "confidence")]
        case "segmentation":
            shown = [label for label in outline.labels if label != "background"]
            return [*(f"share_{label}" for label in shown), "file"]
        case "instances":
            return [*(f"count_{label}" for label in outline.labels), "file"]
        case _:
            return ["file"]


def _cells(row: dict[str, Any], outline: Outline) -> dict[str, Any]:
    """The record of an answer, flat."""
    record, cells = row["record"], {"file": row.get("file", "")}
    cells |= {f"p_{label}": value for label, value in record.get("probabilities", {}).items()}
    match outline.task:
        case "multilabel":
            cells["labels"] = "|".join(record["labels"])
        case "landmarks":
            cells |= {f"{point}_{what}": value for point, found in record.items() for what, value in found.items()}
        case "segmentation":
            cells |= {f"share_{label}": share for label, share in record.items()}
        case "instances":
            cells |= {f"count_{label}": count for label, count in record["counts"].items()}
        case _:
            cells |= {key: value for key, value in record.items() if key != "probabilities"}
    return cells


def _write_csv(rows: Iterator[dict[str, Any]], outline: Outline, stream: TextIO) -> int:
    writer, columns, failed = csv.writer(stream), columns_of(outline), 0
    writer.writerow(["path", *columns, "error"])
    for row in rows:
        failed += bool(row["error"])
        cells = {} if row["error"] else _cells(row, outline)
        values = (cells.get(column, "") for column in columns)
        writer.writerow([row["path"], *(f"{v:.6f}" if isinstance(v, float) else v for v in values), row["error"]])
    return failed


def _write_json(rows: Iterator[dict[str, Any]], outline: Outline, stream: TextIO) -> int:
    """One JSON array, a line per image."""
    failed = 0
    for number, row in enumerate(rows):
        failed += bool(row["error"])
        flat = {"path": row["path"], **row.get("record", {}), "error": row["error"]}
        flat |= {"file": row["file"]} if "file" in row else {}
        stream.write(("[\n" if number == 0 else ",\n") + json.dumps(flat))
    stream.write("\n]\n")
    return failed


def _write_coco(rows: Iterator[dict[str, Any]], outline: Outline, stream: TextIO) -> int:
    """Images, categories and annotations; images that could not be read stand under `errors`."""
    held: dict[str, list[Any]] = {"images": [], "annotations": [], "errors": []}
    numbers = {label: number + 1 for number, label in enumerate(outline.labels)}
    for row in rows:
        if row["error"]:
            held["errors"].append({"file_name": row["path"], "error": row["error"]})
            continue
        image = len(held["images"]) + 1
        held["images"].append(
            {"id": image, "file_name": row["path"], "height": row["size"][0], "width": row["size"][1]}
        )
        for thing in row["record"]["things"]:
            label = thing.pop("label")
            annotation = {"id": len(held["annotations"]) + 1, "image_id": image, "category_id": numbers[label], **thing}
            held["annotations"].append(annotation | {"area": _area(thing), "iscrowd": 0})
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    stream.write(json.dumps(held | {"categories": categories}) + "\n")
    return len(held["errors"])


def _area(thing: dict[str, Any]) -> float:
    """Pixels of the mask, whose runs count background and thing in turn; else of the box."""
    if "segmentation" in thing:
        return float(sum(thing["segmentation"]["counts"][1::2]))
    return float(thing["bbox"][2] * thing["bbox"][3])


def _opened(output: Path | None) -> Any:
    if output is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        return nullcontext(sys.stdout)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        return output.open("w", newline="", encoding="utf-8", errors="backslashreplace")  # names may be no text
    except OSError as error:
        raise UserError(f"--output {output} cannot be written: {error.strerror}") from None


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.predict", description="Answer with an exported model.")
    parser.add_argument("model", type=Path, help="ONNX file, as data/export/model.onnx")
    parser.add_argument("images", type=Path, nargs="+", help="image files, or folders of them")
    parser.add_argument("--format", choices=("csv", "json", "coco"), default="csv", help="default: csv")
    parser.add_argument("--output", type=Path, help="file to write; default: standard output")
    parser.add_argument(
        "--files", type=Path, help="folder for answered masks (indices of classes, or numbers of things) and images"
    )
    parser.add_argument("--overlays", type=Path, help="folder for images with the answer drawn over them")
    parser.add_argument("--threads", type=int, default=0, help="of onnxruntime; default: all cores")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
