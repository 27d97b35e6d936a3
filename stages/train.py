"""Train the network: `python -m stages.train INGESTED PREPARED TUNED WEIGHTS OUTPUT`."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from dvclive.live import Live

from stages.core.provenance import commit, digest, environment
from stages.dataset.manifest import MANIFEST
from stages.frame.params import overlay
from stages.frame.sections import Augment, Network, Task, Tracking, Train
from stages.runner.stage import In, Out, rank, run
from stages.training.checkpoints import restarts
from stages.training.loop import fit
from stages.training.model_file import save
from stages.training.tracking import Tracker
from stages.training.training_plan import material, plan
from stages.training.training_progress import Epoch


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
    """Write `model.pt` of the best epoch, `curves.csv`, DVCLive's plots, and what it took: params, weights, machine.

    Killed and started again, it goes on from its last checkpoint, to the same weights.
    """
    given = material(ingested, prepared)
    best = json.loads((tuned / "best.json").read_text())
    sections = overlay({"task": task, "augment": augment, "network": network, "train": train}, best)
    planned = plan(given, sections, weights)
    begun_from = [file for file in [Path(planned.weights)] if file.is_file()]
    read = [prepared, ingested / MANIFEST, *begun_from]
    taken_up = restarts(sections, read, planned.train.checkpoint, writes=rank() == 0)
    told = {f"{name}.{key}": value for name, section in sections.items() for key, value in section.model_dump().items()}
    tags = {"data": str(given.train_set.about["version"]), "commit": commit()}
    tracker = Tracker(tracking.mlflow if rank() == 0 else "", str(given.train_set.about["name"]), told, tags)
    with Live(str(output / "live"), save_dvc_exp=False, report=None, dvcyaml=None) as live:

        def report(epoch: Epoch) -> None:
            for name, value in vars(epoch).items():
                live.log_metric(name, value)
            live.next_step()
            tracker.log(vars(epoch), epoch.epoch)
            print(
                f"epoch {epoch.epoch}/{planned.train.epochs}  "
                f"loss {epoch.train_loss:.4f} train, {epoch.val_loss:.4f} val  "
                f"{task.score} {epoch.train_score:.4f} train, {epoch.val_score:.4f} val  {epoch.seconds:.1f} s",
                flush=True,
            )

        fitted = fit(planned, report, taken_up)
    about = {**given.train_set.about, "params_hash": digest(sections), "best_epoch": fitted.best.epoch}
    save(output / "model.pt", planned.network_config, fitted.weights, about)
    pd.DataFrame([vars(epoch) for epoch in fitted.epochs]).to_csv(output / "curves.csv", index=False)
    _write_json(output / "params.json", {name: section.model_dump(mode="json") for name, section in sections.items()})
    _write_json(output / "weights.json", [vars(layer) for layer in fitted.pretrained])
    _write_json(
        output / "environment.json", environment() | {"device": fitted.device, "threads": torch.get_num_threads()}
    )
    _write_json(output / "resolved.json", [vars(one) for one in fitted.resolved])
    if fitted.tested is not None:
        _write_json(output / "range_test.json", vars(fitted.tested))
    if fitted.stopped:
        print(f"stopped early: {fitted.stopped}", flush=True)
    tracker.end({one.key: one.value for one in fitted.resolved})
    taken_up.finish()
    return {
        "best_epoch": fitted.best.epoch,
        "val_score": fitted.best.val_score,
        "val_loss": fitted.best.val_loss,
        "train_score": fitted.best.train_score,
        "train_loss": fitted.best.train_loss,
        "parameters": fitted.parameters,
        "seconds": sum(epoch.seconds for epoch in fitted.epochs),
        "images_per_second": len(given.train_set) * len(fitted.epochs) / sum(epoch.seconds for epoch in fitted.epochs),
        **({"stopped": fitted.stopped} if fitted.stopped else {}),
    }


def _write_json(file: Path, values: Any) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
