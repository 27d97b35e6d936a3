"""Score a linear model on image features, before any training: `python -m stages.baseline INGESTED PREPARED OUTPUT`."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_task import Evaluate, Task
from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Shaped
from stages.dataset.manifest import decode_images, read_manifest
from stages.dataset.pixel_store import open_split
from stages.networks import packaged_weights, pretrained_features
from stages.probes.image_features import image_features, to_square
from stages.probes.linear_baseline import predict_classes, predict_numbers
from stages.runner.stage import In, Out, run
from stages.tasks.evaluation import summarize
from stages.tasks.ground_truth import truths_of
from stages.tasks.task_spec import TaskSpec, task_spec_of

TASKS_WITH_BASELINE = ("classification", "multilabel", "ordinal", "regression")
"""Tasks that predict one vector per image."""
MAX_TRAINING_IMAGES = 5000
"""Number of training images of which the linear model is fitted; of more, a random sample is used."""


def main(ingested: In, prepared: In, output: Out, *, task: Task, evaluate: Evaluate) -> dict[str, Any]:
    """Write scores of ridge regression with bootstrap intervals over groups (`scores.json`, `replicates.parquet`).

    The features are those of a network with ImageNet weights if `make weights` has installed them, otherwise those of
    random patches of the images. `evaluate` compares the trained network with the same resamples. For tasks without
    one prediction per image, `scores.json` says that there is no baseline.

    Raises:
        UserError: the manifest was written by another version, the labels do not contain the ground truth, or the
            package with the weights is damaged.
    """
    began = time.perf_counter()
    store = open_split(prepared, "val")
    spec = task_spec_of(store.about)
    if spec.task not in TASKS_WITH_BASELINE:
        reason = f"task {spec.task} does not predict one vector per image"
        print(f"baseline: none, because {reason}", flush=True)
        _write(output, {"available": False, "reason": reason})
        return {}
    rows = read_manifest(ingested)
    train = rows[rows["split"] == "train"]
    train = train.sample(min(MAX_TRAINING_IMAGES, len(train)), random_state=0).sort_index()
    # The order of the validation images is that of `evaluate`, whose resamples are the same.
    paths = [path for path, _ in store.rows_by_original()]
    val = rows.set_index("path", drop=False).loc[paths]
    features_NF, name = _features(pd.concat([train, val]), ingested)
    truths = truths_of(ingested, paths, spec)
    predicted = _predict(
        spec,
        features_NF[: len(train)],
        truths_of(ingested, list(train["path"]), spec),
        train["group"].to_numpy(),
        features_NF[len(train) :],
    )
    summary, replicates = summarize(
        spec,
        truths,
        predicted,
        val["group"].to_numpy(),
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
        bins=evaluate.calibration_bins,
    )
    pd.DataFrame(replicates).to_parquet(output / "replicates.parquet", index=False)
    scores = summary["scores"]
    _write(
        output,
        {"available": True, "model": f"ridge regression on {name}", "images": len(train), "scores": scores},
    )
    value, low, high = ("undefined" if v is None else f"{v:.3f}" for v in scores[task.score].values())
    print(
        f"baseline: {task.score} {value} [{low}, {high}] on {quantity(len(val), 'validation image')} by ridge "
        f"regression on {name} of {quantity(len(train), 'training image')}, {time.perf_counter() - began:.0f} s",
        flush=True,
    )
    return {name: score["value"] for name, score in scores.items() if score["value"] is not None}


def _write(output: Path, content: dict[str, Any]) -> None:
    (output / "scores.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")


def _features(rows: pd.DataFrame, ingested: Path) -> tuple[Float[Array, "N F"], str]:
    """Return the features of images and their name."""
    if packaged_weights.weights_file(pretrained_features.NETWORK) is None:
        return image_features(rows, ingested), "features of random patches"
    name = f"features of {pretrained_features.NETWORK} at {pretrained_features.SIDE} pixels"
    squares = (to_square(one.image, pretrained_features.SIDE, 3) for one in decode_images(rows, ingested))
    return pretrained_features.pretrained_features(squares), name


def _predict(
    spec: TaskSpec,
    train_NF: Float[Array, "N F"],
    truths: list[Any],
    groups_N: Shaped[Array, " N"],
    val_MF: Float[Array, "M F"],
) -> list[Any]:
    """Return predictions of the validation images in the format of the task."""
    if spec.task in ("classification", "ordinal"):
        return list(predict_classes(train_NF, np.array(truths), groups_N, val_MF, len(spec.labels)))
    return list(predict_numbers(train_NF, np.stack(truths).astype(np.float64), val_MF))


if __name__ == "__main__":
    run(main)
