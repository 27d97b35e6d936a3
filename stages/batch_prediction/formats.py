"""Output formats of batch prediction: CSV, JSON lines, JSON and COCO."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from stages.tasks.segmentation import foreground
from stages.tasks.task_spec import TaskSpec

Row = dict[str, Any]
"""One prediction: `path`, `error`; without an error also `size` (height, width), `record` and, if requested, `file` and
`image_statistics`."""
OPTIONAL = ("file", "image_statistics")
"""Keys of a row that JSON contains if the row does."""


@dataclass(frozen=True)
class OutputFormat:
    """Functions and separators that turn rows into a file; all text is UTF-8."""

    row: Callable[[Row, TaskSpec], str]
    head: Callable[[TaskSpec], str] = lambda spec: ""
    between: str = ""
    tail: str = ""
    finish: Callable[[BinaryIO, TaskSpec, BinaryIO], None] | None = None
    """Called at the end with (rows as written, task specification, file), if the file requires all rows."""


def column_names(spec: TaskSpec) -> list[str]:
    """Return the names of the CSV columns between `path` and `error`."""
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
            return [f"{point}_{name}" for point in spec.points for name in ("x", "y", "confidence")]
        case "segmentation":
            return [*(f"share_{label}" for label in foreground(spec)), "file"]
        case "instances":
            return [*(f"count_{label}" for label in spec.labels), "file"]
        case _:
            return ["file"]


def _flatten(row: Row, spec: TaskSpec) -> dict[str, Any]:
    """Return the record of a prediction with one value per column."""
    record, cells = row["record"], {"file": row.get("file", "")}
    cells |= {f"p_{label}": value for label, value in record.get("probabilities", {}).items()}
    match spec.task:
        case "multilabel":
            cells["labels"] = "|".join(record["labels"])
        case "landmarks":
            cells |= {f"{point}_{name}": value for point, values in record.items() for name, value in values.items()}
        case "segmentation":
            cells |= {f"share_{label}": share for label, share in record.items()}
        case "instances":
            cells |= {f"count_{label}": count for label, count in record["counts"].items()}
        case _:
            cells |= {key: value for key, value in record.items() if key != "probabilities"}
    return cells


def _csv_line(values: list[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow(values)
    return buffer.getvalue()


def _csv_head(spec: TaskSpec) -> str:
    return _csv_line(["path", *column_names(spec), "error"])


def _csv_row(row: Row, spec: TaskSpec) -> str:
    cells = {} if row["error"] else _flatten(row, spec)
    values = (cells.get(column, "") for column in column_names(spec))
    return _csv_line([row["path"], *(f"{v:.6f}" if isinstance(v, float) else v for v in values), row["error"]])


def _json_object(row: Row, spec: TaskSpec) -> str:
    flat = {"path": row["path"], **row.get("record", {}), "error": row["error"]}
    return json.dumps(flat | {key: row[key] for key in OPTIONAL if key in row})


def _coco(rows: BinaryIO, spec: TaskSpec, file: BinaryIO) -> None:
    """Write a COCO file; images that could not be predicted are listed under `errors`."""
    numbers = {label: number + 1 for number, label in enumerate(spec.labels)}
    parts = {"images": _coco_images, "annotations": _coco_annotations, "errors": _coco_errors}
    for name, part in parts.items():
        rows.seek(0)
        between = f'{{"{name}": [\n' if name == "images" else f'],\n"{name}": [\n'
        for entry in part((json.loads(line) for line in rows), numbers):
            file.write(f"{between}{json.dumps(entry)}".encode())
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
        for instance in row["record"]["things"]:
            annotation += 1
            category = numbers[instance.pop("label")]
            annotated = {"id": annotation, "image_id": image, "category_id": category, **instance}
            yield annotated | {"area": _area(instance), "iscrowd": 0}


def _coco_errors(rows: Iterator[Row], numbers: dict[str, int]) -> Iterator[Row]:
    return ({"file_name": row["path"], "error": row["error"]} for row in rows if row["error"])


def _area(instance: dict[str, Any]) -> float:
    """Return the area in pixels of the mask, given as run lengths that begin with background, or of the box."""
    if "segmentation" in instance:
        return float(sum(instance["segmentation"]["counts"][1::2]))
    return float(instance["bbox"][2] * instance["bbox"][3])


FORMATS: dict[str, OutputFormat] = {
    "csv": OutputFormat(_csv_row, head=_csv_head),
    "jsonl": OutputFormat(lambda row, spec: _json_object(row, spec) + "\n"),
    "json": OutputFormat(_json_object, head=lambda spec: "[\n", between=",\n", tail="\n]\n"),
    "coco": OutputFormat(lambda row, spec: json.dumps(row) + "\n", finish=_coco),
}
