"""Train the network: `python -m stages.train INGESTED PREPARED TUNED WEIGHTS OUTPUT`."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from dvclive.live import Live

from stages.config.overlay import overlay
from stages.config.schema_base import Section
from stages.config.schema_task import Task
from stages.config.schema_training import Augment, Network, Tracking, Train
from stages.core.plurals import list_names, quantity
from stages.core.provenance import commit, digest, environment
from stages.dataset.manifest import MANIFEST_FILE
from stages.networks.ensemble import State
from stages.reports.training_report import choice_sentence, out_of_fold_sentence
from stages.runner.stage import In, Out, rank, run, when_complete
from stages.training.auto_params import resolve_auto
from stages.training.checkpoints import Checkpoints, open_checkpoints
from stages.training.folds import (
    MAX_LISTED,
    choose_members,
    mean_curves,
    member_plans,
    missing_classes,
    predict_fold,
    summarize_folds,
)
from stages.training.loop import Report, TrainingResult, fit
from stages.training.model_file import save_members
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

    With `train.folds`, one network is trained per fold; `curves.csv` has their means, and `curves_by_member.csv` the
    curves of each. `out_of_fold.json` has the scores of every training image, predicted by the network whose fold
    contains it, with bootstrap intervals over groups, and the validation scores that decided what is exported.

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
    job = _Job(resolution.plan, output, tracker, checkpoints, digest(sections))
    metrics = _train_members(job, ingested) if plan.train.folds else _train_one(job)
    _write_json(output / "params.json", {name: section.model_dump(mode="json") for name, section in sections.items()})
    _write_json(output / "resolved.json", [vars(param) for param in resolution.params])
    if resolution.range_test is not None:
        _write_json(output / "range_test.json", vars(resolution.range_test))
    tracker.finish({param.key: param.value for param in resolution.params})
    when_complete(checkpoints.delete)
    return metrics


@dataclass(frozen=True)
class _Job:
    """Plan without `auto`, and where the results are written and logged."""

    plan: TrainingPlan
    output: Path
    tracker: Tracker
    checkpoints: Checkpoints
    params_hash: str

    def save(self, weights: Sequence[State], /, **about: Any) -> None:
        """Write `model.pt` with one network, or with several as an ensemble."""
        about = {**self.plan.data.train_set.about, "params_hash": self.params_hash, **about}
        save_members(self.output / "model.pt", self.plan.network_config, weights, about)


def _train_one(job: _Job) -> dict[str, Any]:
    """Train one network on all training images, write it with its records, and return its metrics."""
    result = _fit(job, job.plan, job.checkpoints)
    job.save([result.weights], best_epoch=result.best.epoch)
    pd.DataFrame([vars(epoch) for epoch in result.epochs]).to_csv(job.output / "curves.csv", index=False)
    _write_records(job.output, result)
    return _metrics(job.plan, [result], result.best.epoch)


def _train_members(job: _Job, ingested: Path) -> dict[str, Any]:
    """Train one network per fold, write what is exported of them with its records, and return the mean metrics."""
    plan, results, predicted = job.plan, [], []
    for number, member in enumerate(member_plans(plan, ingested), 1):
        images = f"{quantity(len(member.data.train_set), 'image')}, its fold has {len(member.data.val_set):,}"
        print(f"train: member {number} of {plan.train.folds} is trained on {images}", flush=True)
        if absent := missing_classes(member):
            print(f"train: no training image of member {number} shows {list_names(absent, MAX_LISTED)}", flush=True)
        results.append(_fit(job, member, job.checkpoints.of_member(number), f"member_{number}"))
        predicted.append(predict_fold(member, results[-1].weights, torch.device(results[-1].device)))
    choice = choose_members(plan, [result.weights for result in results], torch.device(results[0].device))
    summary = summarize_folds(plan, predicted, choice, [result.best for result in results])
    print(f"train: {out_of_fold_sentence(summary)}", flush=True)
    print(f"train: {choice_sentence(summary)}", flush=True)
    by_member = pd.DataFrame(
        [{"member": number} | vars(one) for number, result in enumerate(results, 1) for one in result.epochs]
    )
    curves, best_epoch = mean_curves(plan, by_member)
    job.save(choice.weights, best_epoch=best_epoch, folds=plan.train.folds, members=len(choice.weights))
    _write_json(job.output / "out_of_fold.json", summary)
    by_member.to_csv(job.output / "curves_by_member.csv", index=False)
    curves.to_csv(job.output / "curves.csv", index=False)
    _write_records(job.output, results[0])
    return _metrics(plan, results, best_epoch) | {
        "parameters": results[0].parameters * len(choice.weights),
        "members": choice.selected,
        "out_of_fold_score": summary["scores"][plan.score]["value"],
    }


def _fit(job: _Job, plan: TrainingPlan, checkpoints: Checkpoints, member: str = "") -> TrainingResult:
    """Train one network, log and print the metrics of each epoch, and print what is unusual about the end."""
    with Live(str(job.output / "live" / member), save_dvc_exp=False, report=None, dvcyaml=None) as live:
        result = fit(plan, _reporter(live, job.tracker, plan, member), checkpoints)
    if result.stop_reason:
        print(f"stopped early: {result.stop_reason}", flush=True)
    if not math.isfinite(result.best.val_score):
        print(
            f"train: {plan.score} is undefined on the validation images in every epoch; epoch {result.best.epoch} was "
            "selected, which has the lowest validation loss; choose another task.score to select by a score",
            flush=True,
        )
    return result


def _tracker(tracking: Tracking, sections: Mapping[str, Section], about: Mapping[str, Any]) -> Tracker:
    params = {
        f"{name}.{key}": value for name, section in sections.items() for key, value in section.model_dump().items()
    }
    tags = {"data": str(about["version"]), "commit": commit()}
    return Tracker(tracking.mlflow if rank() == 0 else "", str(about["name"]), params, tags)


def _reporter(live: Any, tracker: Tracker, plan: TrainingPlan, member: str) -> Report:
    """Return a function that logs and prints the metrics of an epoch."""
    prefix = f"{member}_" if member else ""

    def report(epoch: EpochMetrics) -> None:
        for name, value in vars(epoch).items():
            live.log_metric(name, value)
        live.next_step()
        tracker.log({f"{prefix}{name}": value for name, value in vars(epoch).items()}, epoch.epoch)
        print(
            f"epoch {epoch.epoch}/{plan.train.epochs}  "
            f"loss {epoch.train_loss:.4f} train, {epoch.val_loss:.4f} val  "
            f"{plan.score} {epoch.train_score:.4f} train, {epoch.val_score:.4f} val  {epoch.seconds:.1f} s",
            flush=True,
        )

    return report


def _write_records(output: Path, result: TrainingResult) -> None:
    _write_json(output / "weights.json", [vars(layer) for layer in result.layers])
    machine = environment() | {"device": result.device, "threads": torch.get_num_threads()}
    _write_json(output / "environment.json", machine)


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n")


def _metrics(plan: TrainingPlan, results: Sequence[TrainingResult], best_epoch: int) -> dict[str, Any]:
    """Return the metrics of a training; of several, the means of those of the best epochs, and sums of times."""
    epochs = [epoch for result in results for epoch in result.epochs]
    seconds = sum(epoch.seconds for epoch in epochs)
    images = sum((1 if len(results) == 1 else 1 - 1 / len(results)) * len(plan.data.train_set) for _ in epochs)
    reasons = [result.stop_reason for result in results if result.stop_reason]
    keys = ("val_score", "val_loss", "train_score", "train_loss")
    means = {key: float(np.mean([getattr(result.best, key) for result in results])) for key in keys}
    return {
        "best_epoch": best_epoch,
        **means,
        "parameters": results[0].parameters,
        "seconds": seconds,
        "images_per_second": images / seconds,
        **({"stopped": "; ".join(dict.fromkeys(reasons))} if reasons else {}),
    }


if __name__ == "__main__":
    run(main)
