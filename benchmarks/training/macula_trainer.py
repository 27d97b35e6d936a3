"""Prepare and train with Macula's own stages: `python -m benchmarks.training.macula_trainer NAME RECIPE EVENTS`.

The interface is that of `benchmarks.training.library_trainers`. RECIPE names a folder with the output of `ingest`.
`train.precision`, `train.memory_format` and `train.compile` are `auto` unless the recipe gives the number of bits.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from flows.worktrees import change_params
from stages import prepare, train
from stages.config import load as reading
from stages.runner.stage import call
from stages.training.batch_loader import Batch, BatchLoader
from stages.training.checkpoints import Checkpoints
from stages.training.loop import Report, TrainingResult, fit
from stages.training.training_plan import TrainingPlan
from stages.training.training_progress import EpochMetrics

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Prepare the data, train, and write events to the file descriptor EVENTS as lines of JSON."""
    recipe, events = json.loads(sys.argv[2]), int(sys.argv[3])

    def send(event: str, **more: Any) -> None:
        os.write(events, (json.dumps({"event": event, **more}) + "\n").encode())

    class ReportingLoader(BatchLoader):
        def batches(self, *given: Any, **more: Any) -> Iterator[Batch]:
            send("training")
            yield from super().batches(*given, **more)
            send("trained")

    def reporting_fit(plan: TrainingPlan, report: Report, checkpoints: Checkpoints | None) -> TrainingResult:
        def report_and_send(epoch: EpochMetrics) -> None:
            report(epoch)
            send("validated", score=epoch.val_score)

        return fit(replace(plan, loader=ReportingLoader(**vars(plan.loader))), report_and_send, checkpoints)

    assert hasattr(train, "fit"), "stages.train has no fit"
    setattr(train, "fit", reporting_fit)  # noqa: B010
    sections, work = params_sections(recipe), Path.cwd()
    given = {name: sections[name] for name in ("task", "representation", "prepare")}
    ingested = Path(recipe["ingested"])
    call(prepare.main, [ingested, ingested, work / "prepared"], given)
    send("prepared")
    (work / "tuned").mkdir()
    (work / "tuned" / "best.json").write_text("{}")
    given = {name: sections[name] for name in ("task", "augment", "network", "train", "tracking")}
    paths = [ingested, work / "prepared", work / "tuned", work, work / "trained"]
    call(train.main, paths, given)
    send("resolved", resolved=json.loads((work / "trained" / "resolved.json").read_text()))


def params_sections(recipe: dict[str, Any]) -> dict[str, Any]:
    """Return all sections of params for a recipe."""
    arithmetic = {"precision": "auto", "memory_format": "auto", "compile": "auto"}
    if "bits" in recipe:
        arithmetic = {
            32: {"precision": "32-true", "memory_format": "channels_first", "compile": "no"},
            16: {"precision": "bf16-mixed", "memory_format": "channels_last", "compile": "no"},
        }[recipe["bits"]]
    changes: dict[str, Any] = {
        "task": {"score": recipe["score"]},
        "prepare": {"size": recipe["size"], "channels": 3},
        "augment": {
            "preset": "none",
            "padding": "border",
            "amounts": {"flip_horizontal": True, "scale": 0.2, "stretch": 0.2, "translation": 0.1},
        },
        "network": {"name": "resnet18", "dropout": 0.0},
        "train": {
            "epochs": recipe["epochs"],
            "batch_size": recipe["batch"],
            "optimizer": "adamw",
            "learning_rate": recipe["rate"],
            "schedule": "one_cycle",
            "warmup": recipe["warmup"],
            "weight_decay": recipe["decay"],
            "label_smoothing": 0.0,
            "seed": recipe["seed"],
            "device": "cpu",
            **arithmetic,
        },
    }
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        text = change_params([changes], "benchmarks.training.compare_training")
    finally:
        os.chdir(before)
    params = reading.check(YAML(typ="safe", pure=True).load(text))
    return {name: getattr(params, name) for name in type(params).model_fields}


if __name__ == "__main__":
    main()
