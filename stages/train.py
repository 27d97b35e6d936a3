"""Train the network: `python -m stages.train PREPARED TUNED OUTPUT`."""

import json
from typing import Any

import pandas as pd
import torch
from dvclive import Live

from stages.augmentations import Policy
from stages.frame import In, Out, run
from stages.frame.params import overlay
from stages.frame.provenance import digest, environment
from stages.frame.sections import Augment, Network, Task, Train
from stages.images.store import open_split
from stages.learning.checkpoints import Recipe, save
from stages.learning.loop import Epoch, Goal, fit


def main(
    prepared: In, tuned: In, output: Out, *, task: Task, augment: Augment, network: Network, train: Train
) -> dict[str, Any]:
    """Write `model.pt` of the best epoch, `curves.csv`, DVCLive's plots, and what it took: params and environment."""
    train_set, val_set = open_split(prepared, "train"), open_split(prepared, "val")
    best = json.loads((tuned / "best.json").read_text())
    sections: dict[str, Any] = overlay({"augment": augment, "network": network, "train": train}, best)
    network, train = sections["network"], sections["train"]
    recipe = Recipe(network.name, train_set.about["channels"], len(train_set.labels), network.dropout)
    with Live(str(output / "live"), save_dvc_exp=False, report=None, dvcyaml=None) as live:

        def report(epoch: Epoch) -> None:
            for name, value in vars(epoch).items():
                live.log_metric(name, value)
            live.next_step()
            print(
                f"epoch {epoch.epoch}/{train.epochs}  loss {epoch.train_loss:.4f} train, {epoch.val_loss:.4f} val  "
                f"{task.score} {epoch.train_score:.4f} train, {epoch.val_score:.4f} val  {epoch.seconds:.1f} s",
                flush=True,
            )

        policy = Policy(**sections["augment"].model_dump())
        fitted = fit(recipe, train_set, val_set, policy, train, Goal(task.name, task.score), report)
    params = {"task": task, **sections}
    about = {**train_set.about, "task": task.name, "params_hash": digest(params), "best_epoch": fitted.best.epoch}
    save(output / "model.pt", recipe, fitted.weights, about)
    pd.DataFrame([vars(epoch) for epoch in fitted.epochs]).to_csv(output / "curves.csv", index=False)
    _write_json(output / "params.json", {name: section.model_dump(mode="json") for name, section in params.items()})
    _write_json(output / "environment.json", environment() | {"device": fitted.device, "threads": torch.get_num_threads()})
    return {
        "best_epoch": fitted.best.epoch,
        "val_score": fitted.best.val_score,
        "val_loss": fitted.best.val_loss,
        "train_score": fitted.best.train_score,
        "train_loss": fitted.best.train_loss,
        "parameters": sum(tensor.numel() for tensor in recipe.build().parameters()),
        "seconds": sum(epoch.seconds for epoch in fitted.epochs),
        "images_per_second": len(train_set) * len(fitted.epochs) / sum(epoch.seconds for epoch in fitted.epochs),
    }


def _write_json(file: Any, values: dict[str, Any]) -> None:
    file.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    run(main)
