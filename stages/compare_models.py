"""Compare two exported models on the same validation images.

`python -m stages.compare_models INGESTED CHALLENGER CHAMPION OUTPUT`; the result decides in `flows.retrain` whether a
new model replaces the current one.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.config.schema_export import Benchmark
from stages.config.schema_task import Evaluate, Task
from stages.core.errors import UserError
from stages.core.progress import track
from stages.core.shapes import Array, Bool
from stages.dataset.manifest import decode_images, read_image_files, read_manifest
from stages.images.contact_sheet import contact_sheet
from stages.runner.stage import In, Out, run
from stages.runtime import Model, open_shipped_model
from stages.tasks import TASKS
from stages.tasks.ground_truth import truths_of
from stages.tasks.paired_test import compare_predictions
from stages.tasks.task_spec import TaskSpec

FIELDS = ("task", "target", "labels", "points", "scalars", "masks", "channels", "depth")
"""Fields of the task specification that must be equal for two models to be compared."""
MAX_SHOWN, TIMED_IMAGES = 24, 32


def main(
    ingested: In, challenger: In, champion: In, output: Out, *, task: Task, evaluate: Evaluate, benchmark: Benchmark
) -> dict[str, Any]:
    """Write `comparison.json`: scores, their paired difference, and latencies of two models on validation images.

    Both models predict from file bytes on the same machine, one call each in turn. `differences.png` shows images for
    which one model is right and the other is wrong.

    Args:
        ingested: output folder of ingest, whose validation split is used. It must not contain images on which the
            champion was trained.
        challenger: output folder of export of the new model.
        champion: output folder of export of the current model.
        output: folder to write to.
        task: params of the task, whose score is compared.
        evaluate: params of evaluate.
        benchmark: params of benchmark.

    Returns:
        Difference in score and ratio of latencies.

    Raises:
        UserError: a model cannot be opened, or the models have different tasks, labels or inputs.
    """
    models = [open_shipped_model(folder, benchmark.threads) for folder in (champion, challenger)]
    spec = models[1].spec
    _check_comparable(models[0].spec, spec)
    rows = read_manifest(ingested)
    rows = rows[rows["split"] == "val"]
    files = list(read_image_files(rows, ingested))
    truths = truths_of(ingested, rows["path"].tolist(), spec)
    before, after = (
        [model.predict_file(data) for data in track(files, f"compare_models: {name}", len(files))]
        for name, model in zip(("champion", "challenger"), models, strict=True)
    )
    found = compare_predictions(
        spec,
        task.score,
        truths,
        before,
        after,
        rows["group"].to_numpy(),
        resamples=evaluate.resamples,
        confidence=evaluate.confidence,
    )
    kind = TASKS[spec.task]
    wrong_2N = np.array(
        [[kind.wrong(*pair, spec) for pair in zip(truths, one, strict=True)] for one in (before, after)]
    )
    summary: dict[str, Any] = {
        "score": task.score,
        "better": found.better,
        "champion": found.first,
        "challenger": found.other,
        "difference": found.difference,
        "p": found.p,
        "confidence": evaluate.confidence,
        "verdict": found.verdict(evaluate.confidence),
        "images": len(rows),
        "groups": found.groups,
        "only_champion_wrong": int((wrong_2N[0] & ~wrong_2N[1]).sum()),
        "only_challenger_wrong": int((~wrong_2N[0] & wrong_2N[1]).sum()),
        "latency": compare_latency(models, files[:TIMED_IMAGES], benchmark.seconds),
    }
    (output / "comparison.json").write_text(json.dumps(summary, indent=1, allow_nan=False) + "\n")
    _draw_differences(rows, wrong_2N, [kind.describe(truth, spec) for truth in truths], ingested, output)
    print(f"compare_models: {describe(summary)}")
    return {"difference": found.difference["value"], "p": found.p, "latency_ratio": summary["latency"]["ratio"]}


def _draw_differences(
    rows: pd.DataFrame, wrong_2N: Bool[Array, "2 N"], truths: list[str], ingested: Path, output: Path
) -> None:
    """Draw images for which one model is right and the other is wrong, with the ground truth."""
    shown = np.flatnonzero(wrong_2N[0] != wrong_2N[1])[:MAX_SHOWN]
    if len(shown):
        captions = [f"{'corrected' if wrong_2N[0, i] else 'new error'}: {truths[i]}" for i in shown]
        pictures = [picture.image for picture in decode_images(rows.iloc[shown], ingested)]
        contact_sheet(pictures, captions).save(output / "differences.png")


def describe(summary: dict[str, Any]) -> str:
    """Return one sentence with the scores, the difference and the latencies of `comparison.json`."""
    score = summary["score"].replace("_", " ")
    if summary["difference"]["value"] is None:
        return f"{score} is undefined on these images"
    low, high = summary["difference"]["low"], summary["difference"]["high"]
    interval = "" if low is None else f" [{low:+.4f}, {high:+.4f}]"
    latency = summary["latency"]
    return (
        f"{score} {summary['challenger']:.4f}, champion {summary['champion']:.4f}, difference "
        f"{summary['difference']['value']:+.4f}{interval}, p = {summary['p']:.3g}: {summary['verdict']}; "
        f"{latency['challenger_ms']:.2f} ms per image, champion {latency['champion_ms']:.2f} ms"
    )


def compare_latency(models: Sequence[Model], files: Sequence[bytes], seconds: float) -> dict[str, float]:
    """Return the median duration of one prediction of two models, in milliseconds, and the ratio second / first.

    The models predict each image in turn, so that other load on the machine affects both alike.

    Args:
        models: champion and challenger.
        files: image files, each predicted at least once.
        seconds: duration of the measurement per model.
    """
    for model in models:
        model.predict_file(files[0])
    spent: tuple[list[float], list[float]] = ([], [])
    until = time.perf_counter() + 2 * seconds
    while time.perf_counter() < until or not spent[1]:
        for data in files:
            for own, model in zip(spent, models, strict=True):
                began = time.perf_counter()
                model.predict_file(data)
                own.append((time.perf_counter() - began) * 1e3)
    first, other = np.array(spent[0]), np.array(spent[1])
    return {
        "champion_ms": float(np.median(first)),
        "challenger_ms": float(np.median(other)),
        "ratio": float(np.median(other / first)),
    }


def _check_comparable(champion: TaskSpec, challenger: TaskSpec) -> None:
    differing = [
        f"{name} {getattr(champion, name)!r} and {getattr(challenger, name)!r}"
        for name in FIELDS
        if getattr(champion, name) != getattr(challenger, name)
    ]
    if differing:
        raise UserError(
            f"the champion and the challenger cannot be compared: they differ in {'; '.join(differing)}. If this is "
            "intended, review the challenger and make it the champion with `gto assign`"
        )


if __name__ == "__main__":
    run(main)
