"""Open the sealed test, only at the very end: `python -m stages.unseal EXPORTED SEALED OPENINGS OUTPUT`."""

import csv
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from stages.frame import In, Out, UserError, run
from stages.frame.provenance import commit
from stages.frame.sections import Evaluate, Task
from stages.images.manifest import read_manifest
from stages.images.shards import SHARD, read_member
from stages.runtime import Model
from stages.tasks.summary import summarize

DELIBERATE = "MACULA_UNSEAL"


def main(exported: In, sealed: In, openings: In, output: Out, *, task: Task, evaluate: Evaluate) -> dict[str, Any]:
    """Score the exported model on the test images, from file bytes, and add the opening to the record `openings`.

    Raises:
        UserError: not called through `make unseal`, so that no broad `dvc repro` opens the seal in passing.
    """
    if os.environ.get(DELIBERATE) != "yes":
        raise UserError(
            "the test is sealed; opening it is recorded and makes it worth less: `make unseal` if you mean it"
        )
    file = exported / "model.onnx"
    model = Model(file)
    rows = read_manifest(sealed)
    located = list(zip(rows["offset"], rows["bytes"], strict=True))
    images = (model.decode_file(read_member(sealed / SHARD, *where)) for where in tqdm(located, "test", disable=None))
    probability_NK = np.concatenate([model.probabilities([image]) for image in images])
    label_N = _indices(rows["label"].tolist(), model.labels)
    summary = summarize(
        task.name,
        label_N,
        probability_NK,
        rows["group"].to_numpy(),
        model.labels,
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
        bins=evaluate.calibration_bins,
    )
    (output / "scores.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    score = summary["scores"][task.score]
    entry = [
        datetime.now(UTC).isoformat(timespec="seconds"),
        commit(),
        _digest(file),
        len(rows),
        task.score,
        *score.values(),
    ]
    count = _record(openings, entry)
    for name, figures in summary["scores"].items():
        print(f"test {name}: {figures['value']:.4f} [{figures['low']:.4f}, {figures['high']:.4f}]")
    times = "1 time" if count == 1 else f"{count} times"
    print(f"the sealed test has been opened {times} so far; recorded in {openings}: commit it")
    return {name: figures["value"] for name, figures in summary["scores"].items() if figures["value"] is not None}


def _indices(labels: list[str], known: list[str]) -> np.ndarray:
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise UserError(
            f"the test holds classes that the model does not know: {', '.join(unknown[:10])}; ingest and train anew"
        )
    return np.array([known.index(label) for label in labels])


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


def _record(openings: Path, entry: list[Any]) -> int:
    """Append the opening; returns how many there are now."""
    with openings.open("a", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerow(entry)
    return len(openings.read_text().splitlines()) - 1


if __name__ == "__main__":
    run(main)
