"""Train the network: `python -m stages.train INGESTED PREPARED TUNED WEIGHTS OUTPUT`."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from dvclive.live import Live

from stages.config.overlay import overlay
from stages.config.schema_base import Section
from stages.config.schema_task import Task
from stages.config.schema_training import Augment, Network, Tracking, Train
from stages.core.provenance import commit, digest, environment
from stages.dataset.manifest import MANIFEST_FILE
from stages.runner.stage import In, Out, rank, run, when_complete
from stages.training.auto_params import Resolution, resolve_auto
from stages.training.checkpoints import open_checkpoints
from stages.training.loop import Report, TrainingResult, fit
from stages.training.model_file import save_model
from stages.training.tracking import Tracker
from stages.training.training_plan import TrainingPlan, build_plan, load_training_data
from stages.training.training_progress import EpochMetrics


def main(
    ingested: In,
    prepared: In,
    tuned: In,
    weights: In,
    output: Out,
    *,
    task: Task,
    augment: Augment,
    network: Network,
    train: Train,
    tracking: Tracking,
) -> dict[str, Any]:
    """Train the network and write the best weights (`model.pt`), `curves.csv`, plots and records of the run.

    The plots are those of DVCLive. The records are the params, the initialization of each layer, the machine, the
    values of params that were `auto`, and the learning-rate range test if there was one. If the process is killed, the
    next run resumes from the last checkpoint and ends with the same weights. The checkpoint is deleted once the outputs
    are complete. If `task.score` is undefined in every epoch, the lowest validation loss selects the epoch.

    Raises:
        UserError: the params contradict each other or do not suit the data, the device is not available, another
            process runs the same training, mlflow is required but not installed, or the training failed.
    """
    best = json.loads((tuned / "best.json").read_text())
    sections = overlay({"task": task, "augment": augment, "network": network, "train": train}, best)
    plan = build_plan(load_training_data(ingested, prepared), sections, weights)
    pretrained = [file for file in [Path(plan.weights)] if file.is_file()]
    inputs = [prepared, ingested / MANIFEST_FILE, *pretrained]
    checkpoints = open_checkpoints("train", sections, inputs, plan.train.checkpoint_seconds, is_writer=rank() == 0)
    resolution = resolve_auto(plan)
    tracker = _tracker(tracking, sections, plan.data.train_set.about)
    with Live(str(output / "live"), save_dvc_exp=False, report=None, dvcyaml=None) as live:
        result = fit(resolution.plan, _reporter(live, tracker, plan), checkpoints)
    about = {**plan.data.train_set.about, "params_hash": digest(sections), "best_epoch": result.best.epoch}
    save_model(output / "model.pt", plan.network_config, result.weights, about)
    _write_records(output, sections, resolution, result)
    if result.stop_reason:
        print(f"stopped early: {result.stop_reason}", flush=True)
    if not math.isfinite(result.best.val_score):
        print(
            f"train: {plan.score} is undefined on the validation images in every epoch; epoch {result.best.epoch} was "
            "selected, which has the lowest validation loss; choose another task.score to select by a score",
            flush=True,
        )
    tracker.finish({param.key: param.value for param in resolution.params})
    when_complete(checkpoints.delete)
    return _metrics(plan, result)


def _tracker(tracking: Tracking, sections: Mapping[str, Section], about: Mapping[str, Any]) -> Tracker:
    params = {
        f"{name}.{key}": value for name, section in sections.items() for key, value in section.model_dump().items()
    }
    tags = {"data": str(about["version"]), "commit": commit()}
    return Tracker(tracking.mlflow if rank() == 0 else "", str(about["name"]), params, tags)


def _reporter(live: Any, tracker: Tracker, plan: TrainingPlan) -> Report:
    """Return a function that logs and prints the metrics of an epoch."""

    def report(epoch: EpochMetrics) -> None:
        for name, value in vars(epoch).items():
            live.log_metric(name, value)
        live.next_step()
        tracker.log(vars(epoch), epoch.epoch)
        print(
            f"epoch {epoch.epoch}/{plan.train.epochs}  "
            f"loss {epoch.train_loss:.4f} train, {epoch.val_loss:.4f} val  "
            f"{plan.score} {epoch.train_score:.4f} train, {epoch.val_score:.4f} val  {epoch.seconds:.1f} s",
            flush=True,
        )

    return report


def _write_records(
    output: Path, sections: Mapping[str, Section], resolution: Resolution, result: TrainingResult
) -> None:
    pd.DataFrame([vars(epoch) for epoch in result.epochs]).to_csv(output / "curves.csv", index=False)
    _write_json(output / "params.json", {name: section.model_dump(mode="json") for name, section in sections.items()})
    _write_json(output / "weights.json", [vars(layer) for layer in result.layers])
    machine = environment() | {"device": result.device, "threads": torch.get_num_threads()}
    _write_json(output / "environment.json", machine)
    _write_json(output / "resolved.json", [vars(param) for param in resolution.params])
    if resolution.range_test is not None:
        _write_json(output / "range_test.json", vars(resolution.range_test))


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n")


def _metrics(plan: TrainingPlan, result: TrainingResult) -> dict[str, Any]:
    seconds = sum(epoch.seconds for epoch in result.epochs)
    return {
        "best_epoch": result.best.epoch,
        "val_score": result.best.val_score,
        "val_loss": result.best.val_loss,
        "train_score": result.best.train_score,
        "train_loss": result.best.train_loss,
        "parameters": result.parameters,
        "seconds": seconds,
        "images_per_second": len(plan.data.train_set) * len(result.epochs) / seconds,
        **({"stopped": result.stop_reason} if result.stop_reason else {}),
    }


if __name__ == "__main__":
    run(main)
