"""Read the rows of `macula predict --statistics --format jsonl`."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.drift.prediction_summary import Value, summarize_prediction
from stages.images.image_statistics import MONITORED
from stages.tasks.task_spec import TaskSpec


@dataclass
class ScoredImages:
    """Paths, statistics and summaries of predictions of images."""

    paths: list[str] = field(default_factory=list)
    inputs: dict[str, list[Value | None]] = field(default_factory=lambda: {name: [] for name in MONITORED})
    predictions: dict[str, list[Value | None]] = field(default_factory=dict)
    """Values of each statistic, one per image; None if unknown."""
    failed: int = 0
    """Number of images that could not be predicted."""


def read_scored_images(files: Sequence[Path], spec: TaskSpec) -> ScoredImages:
    """Return the predicted images of JSON lines files.

    Raises:
        UserError: a file cannot be read, or does not contain rows of this model with statistics.
    """
    found = ScoredImages()
    for file in files:
        try:
            with file.open(encoding="utf-8") as lines:
                _add_rows(found, lines, spec, file)
        except OSError as error:
            raise UserError(f"{file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise UserError(f"{file} is not UTF-8 text; name the output of `macula predict --format jsonl`") from error
    return found


def _add_rows(found: ScoredImages, lines: Iterable[str], spec: TaskSpec, file: Path) -> None:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
            if row["error"]:
                found.failed += 1
                continue
            inputs = {name: _finite(row["image_statistics"].get(name)) for name in MONITORED}
            summary = summarize_prediction(row, spec)
            path = str(row["path"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{file}, line {number} is not a row of this model with statistics ({type(error).__name__}: {error}); "
                "write it with `macula predict MODEL IMAGES --statistics --format jsonl`"
            ) from error
        _append(found.inputs, inputs, len(found.paths))
        _append(found.predictions, {name: _finite(value) for name, value in summary.items()}, len(found.paths))
        found.paths.append(path)


def _append(columns: dict[str, list[Value | None]], row: Mapping[str, Value | None], before: int) -> None:
    """Append a row to columns of `before` values; a value that a row lacks is None."""
    for name in row:
        columns.setdefault(name, [None] * before)
    for name, column in columns.items():
        column.append(row.get(name))


def _finite(value: Any) -> Value | None:
    """Return a number or the name of a class; None if it is missing or not finite."""
    if value is None or isinstance(value, str):
        return value
    return float(value) if math.isfinite(value) else None


def describe_failed(images: ScoredImages) -> str:
    """Return how many images could not be predicted; empty if there are none."""
    if not images.failed:
        return ""
    return f"{images.failed} of {quantity(images.failed + len(images.paths), 'image')} could not be predicted"
