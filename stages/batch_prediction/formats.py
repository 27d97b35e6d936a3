"""The forms in which answers are written: what stands before, between and behind the rows, and a row itself."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from stages.tasks.task_spec import TaskSpec

Row = dict[str, Any]
"""`path`, `error`; where that is empty `size` (height, width), the task's `record`, `file` where one was written."""


@dataclass(frozen=True)
class Form:
    """How rows become a file. Everything is text in UTF-8."""

    row: Callable[[Row, TaskSpec], str]
    head: Callable[[TaskSpec], str] = lambda spec: ""
    between: str = ""
    tail: str = ""
    finish: Callable[[BinaryIO, TaskSpec, BinaryIO], None] | None = None
    """(rows as they were written, outline, file): where the file is made of all rows, when all are there."""


def columns_of(spec: TaskSpec) -> list[str]:
    """Columns between `path` and `error`."""
    match spec.task:
        case "classification":
            return ["label", "confidence", *(f"p_{label}" for label in spec.labels)]
        case "ordinal":
            return ["label", *(f"p_{label}" for label in spec.labels)]
        case "multilabel":
            return ["labels", *(f"p_{label}" for label in spec.labels)]
        case "regression":
            return list(spec.scalars)
        case "landmarks":
            return [f"{point}_{what}" for point in spec.points for what in ("x", "y", "confidence")]
        case "segmentation":
            shown = [label for label in spec.labels if label != "background"]
            return [*(f"share_{label}" for label in shown), "file"]
        case "instances":
            return [*(f"count_{label}" for label in spec.labels), "file"]
        case _:
            return ["file"]


def _cells(row: Row, spec: TaskSpec) -> dict[str, Any]:
    """The record of an answer, flat."""
    record, cells = row["record"], {"file": row.get("file", "")}
    cells |= {f"p_{label}": value for label, value in record.get("probabilities", {}).items()}
    match spec.task:
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


def _line(values: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(values)
    return buffer.getvalue()


def _csv_head(spec: TaskSpec) -> str:
    return _line(["path", *columns_of(spec), "error"])


def _csv_row(row: Row, spec: TaskSpec) -> str:
    cells = {} if row["error"] else _cells(row, spec)
    values = (cells.get(column, "") for column in columns_of(spec))
    return _line([row["path"], *(f"{v:.6f}" if isinstance(v, float) else v for v in values), row["error"]])


def _object(row: Row, spec: TaskSpec) -> str:
    flat = {"path": row["path"], **row.get("record", {}), "error": row["error"]}
    return json.dumps(flat | ({"file": row["file"]} if "file" in row else {}))


def _coco(rows: BinaryIO, spec: TaskSpec, file: BinaryIO) -> None:
    """Images, annotations, errors and categories; images that could not be read stand under `errors`."""
    numbers = {label: number + 1 for number, label in enumerate(spec.labels)}
    parts = {"images": _coco_images, "annotations": _coco_annotations, "errors": _coco_errors}
    for name, part in parts.items():
        rows.seek(0)
        between = f'{{"{name}": [\n' if name == "images" else f'],\n"{name}": [\n'
        for thing in part((json.loads(line) for line in rows), numbers):
            file.write(f"{between}{json.dumps(thing)}".encode())
            between = ",\n"
        file.write(b"\n" if between == ",\n" else between.encode())
    categories = [{"id": number, "name": label} for label, number in numbers.items()]
    file.write(f'],\n"categories": {json.dumps(categories)}}}\n'.encode())


def _coco_images(rows: Iterator[Row], numbers: dict[str, int]) -> Iterator[Row]:
    for number, row in enumerate((row for row in rows if not row["error"]), 1):
        yield {"id": number, "file_name": row["path"], "height": row["size"][0], "width": row["size"][1]}


def _coco_annotations(rows: Iterator[Row], numbers: dict[str, int]) -> Iterator[Row]:
    annotation = 0
    for image, row in enumerate((row for row in rows if not row["error"]), 1):
        for thing in row["record"]["things"]:
            annotation += 1
            category = numbers[thing.pop("label")]
            known = {"id": annotation, "image_id": image, "category_id": category, **thing}
            yield known | {"area": _area(thing), "iscrowd": 0}


def _coco_errors(rows: Iterator[Row], numbers: dict[str, int]) -> Iterator[Row]:
    return ({"file_name": row["path"], "error": row["error"]} for row in rows if row["error"])


def _area(thing: dict[str, Any]) -> float:
    """Pixels of the mask, whose runs count background and thing in turn; else of the box."""
    if "segmentation" in thing:
        return float(sum(thing["segmentation"]["counts"][1::2]))
    return float(thing["bbox"][2] * thing["bbox"][3])


FORMS: dict[str, Form] = {
    "csv": Form(_csv_row, head=_csv_head),
    "jsonl": Form(lambda row, spec: _object(row, spec) + "\n"),
    "json": Form(_object, head=lambda spec: "[\n", between=",\n", tail="\n]\n"),
    "coco": Form(lambda row, spec: json.dumps(row) + "\n", finish=_coco),
}
