"""Score a linear model before any training: `python -m stages.baseline INGESTED PREPARED FEATURES OUTPUT`."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_task import Evaluate, Task
from stages.core.plurals import quantity
from stages.core.shapes import Array, Float, Shaped
from stages.dataset.manifest import read_manifest
from stages.dataset.pixel_store import open_split
from stages.networks.feature_cache import features_of_rows
from stages.networks.feature_record import describe_features, uses_pretrained
from stages.probes.feature_blocks import combine_features
from stages.probes.image_features import image_features
from stages.probes.linear_baseline import predict_classes, predict_numbers
from stages.runner.stage import In, Out, run
from stages.tasks.evaluation import summarize
from stages.tasks.ground_truth import truths_of
from stages.tasks.task_spec import TaskSpec, task_spec_of

TASKS_WITH_BASELINE = ("classification", "multilabel", "ordinal", "regression")
"""Tasks that predict one vector per image."""
MAX_TRAINING_IMAGES = 5000
"""Number of training images of which the linear model is fitted; of more, a random sample is used."""


def main(ingested: In, prepared: In, features: In, output: Out, *, task: Task, evaluate: Evaluate) -> dict[str, Any]:
    """Write scores of ridge regression with bootstrap intervals over groups (`scores.json`, `replicates.parquet`).

    The features are those of random patches of the images, and of a network with ImageNet weights if the file
    `features` names them. The weight of each kind is chosen on the training images. `evaluate` compares the trained
    network with the same resamples. For tasks without one prediction per image, `scores.json` says that there is no
    baseline.

    Raises:
        UserError: the manifest was written by another version, the labels do not contain the ground truth, or the
            package with the weights is missing or damaged.
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
    both, train_truths = pd.concat([train, val]), truths_of(ingested, list(train["path"]), spec)
    features_NF, name = image_features(both, ingested), "features of random patches"
    is_combined = uses_pretrained(features)
    if is_combined:
        of_train = np.arange(len(both)) < len(train)
        pretrained_NF = features_of_rows(both, ingested)
        combined = combine_features(features_NF, pretrained_NF, of_train, _targets(spec, train_truths))
        features_NF, name = combined.features_MF, f"features of {describe_features(combined.share)}"
    truths = truths_of(ingested, paths, spec)
    predicted = _predict(
        spec,
        features_NF[: len(train)],
        train_truths,
        train["group"].to_numpy(),
        features_NF[len(train) :],
        standardized=not is_combined,
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


def _targets(spec: TaskSpec, truths: list[Any]) -> Float[Array, "N K"]:
    """Return targets of ridge regression in a common unit: 0 or 1 for each class, or standardized numbers."""
    if spec.task in ("classification", "ordinal"):
        return np.eye(len(spec.labels))[np.array(truths)]
    target_ND = np.stack(truths).astype(np.float64)
    return target_ND / np.maximum(target_ND.std(axis=0), 1e-12)


def _predict(
    spec: TaskSpec,
    train_NF: Float[Array, "N F"],
    truths: list[Any],
    groups_N: Shaped[Array, " N"],
    val_MF: Float[Array, "M F"],
    standardized: bool,
) -> list[Any]:
    """Return predictions of the validation images in the format of the task."""
    if spec.task in ("classification", "ordinal"):
        codes_N, classes = np.array(truths), len(spec.labels)
        return list(predict_classes(train_NF, codes_N, groups_N, val_MF, classes, standardized))
    return list(predict_numbers(train_NF, np.stack(truths).astype(np.float64), val_MF, standardized))


if __name__ == "__main__":
    run(main)
