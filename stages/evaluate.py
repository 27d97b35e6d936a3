"""How good is the model on validation data: `python -m stages.evaluate PREPARED TRAINED OUTPUT`."""

import json
from typing import Any

import numpy as np
import pandas as pd

from stages.frame import In, Out, run
from stages.frame.sections import Evaluate, Objective, Task, Train
from stages.images.store import open_split
from stages.learning.checkpoints import load
from stages.learning.devices import device_of
from stages.learning.loop import predict
from stages.tasks.summary import summarize


def main(
    prepared: In, trained: In, output: Out, *, task: Task, objective: Objective, train: Train, evaluate: Evaluate
) -> dict[str, Any]:
    """Write `scores.json` with bootstrap intervals over groups, and `predictions.parquet`; the test stays sealed."""
    store = open_split(prepared, "val")
    network, _ = load(trained / "model.pt")
    device = device_of(train.device)
    probability_NK = predict(network.to(device), store, train.batch_size, device)
    summary = summarize(
        task.name,
        store.label_N,
        probability_NK,
        store.rows["group"].to_numpy(),
        store.labels,
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
        bins=evaluate.calibration_bins,
    )
    value = summary["scores"][task.score]["value"]
    summary["objective"] = {
        "score": task.score,
        "at_least": objective.at_least,
        "value": value,
        "met": value is not None and value >= objective.at_least,
    }
    predictions = _predictions(store.rows, store.labels, store.label_N, probability_NK)
    predictions.to_parquet(output / "predictions.parquet", index=False)
    wrong = predictions[predictions["label"] != predictions["predicted"]].sort_values("confidence", ascending=False)
    summary["worst"] = wrong.head(evaluate.worst)[["path", "label", "predicted", "confidence"]].to_dict("records")
    (output / "scores.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    flat = {name: s["value"] for name, s in summary["scores"].items() if s["value"] is not None}
    return {**flat, "objective_met": summary["objective"]["met"], "images": len(store), "errors": len(wrong)}


def _predictions(
    rows: pd.DataFrame, labels: list[str], label_N: np.ndarray, probability_NK: np.ndarray
) -> pd.DataFrame:
    named = np.array(labels)
    table = rows[["path"]].assign(
        label=named[label_N], predicted=named[probability_NK.argmax(axis=1)], confidence=probability_NK.max(axis=1)
    )
    probabilities = pd.DataFrame(probability_NK, columns=[f"p_{label}" for label in labels], index=table.index)
    return pd.concat([table, probabilities], axis=1)


if __name__ == "__main__":
    run(main)
