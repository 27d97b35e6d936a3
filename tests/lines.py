"""Outputs of every stage for a small synthetic data set, to test reports and cards without running the pipeline."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from stages.core.findings import Finding, write_findings
from stages.dataset.annotations import Annotation
from stages.dataset.manifest import MANIFEST_COLUMNS, write_manifest
from stages.dataset.shards import shard_name, write_shard

HOSTILE = '<script>alert("x")</script>'
DEFAULTS = {"str": "", "int64": 1, "float64": 0.5, "bool": False, "object": bytes(192)}


def write(folder: Path, name: str, value: Any) -> None:
    """Write JSON into a folder, which is created if it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value))


def estimate(value: float | None) -> dict[str, float | None]:
    """Return a score with its interval."""
    return {"value": value, "low": value and value - 0.02, "high": value and min(1, value + 0.01)}


def png(shape: tuple[int, ...], seed: int = 0) -> bytes:
    """Return the bytes of a random image as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, shape, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def write_ingested(folder: Path, labels: list[str], per_class: int = 4) -> pd.DataFrame:
    """Write the outputs of ingest: small grey images, half of each class for training."""
    folder.mkdir(parents=True)
    rows = pd.DataFrame(
        [{n: DEFAULTS[kind] for n, kind in MANIFEST_COLUMNS.items()} for _ in range(len(labels) * per_class)]
    )
    rows["label"] = np.repeat(np.array(labels, object), per_class)
    rows["split"] = ["train", "val"] * (len(rows) // 2)
    rows["path"] = rows["group"] = [f"{label}/{i}.png" for i, label in enumerate(rows["label"])]
    rows["annotation"] = [Annotation(labels=(label,)).to_json() for label in rows["label"]]
    rows["things"] = "{}"
    rows["brightness"] = np.arange(len(rows), dtype=float)
    data = [png((8, 8), i) for i in range(len(rows))]
    offsets = write_shard(folder / shard_name(1), ((f"{i}.png", d) for i, d in enumerate(data)))
    rows = rows.assign(offset=offsets, bytes=[len(d) for d in data], width=8, height=8, format="PNG", mode="L")
    write_manifest(rows, folder)
    (folder / "rejected.csv").write_text(f'path,reason\nnotes.txt,"no image, {HOSTILE.replace(chr(34), chr(39))}"\n')
    counts = {"images": len(rows) + 9, "rejected": 1, "classes": len(labels), "groups": len(rows), "test": 9}
    write(folder, "metrics.json", counts | {"train": len(rows) // 2, "val": len(rows) // 2})
    return rows


PARAMS: dict[str, Any] = {
    "augment": {"preset": "auto"},
    "network": {"name": "resnet18", "encoder": "plain", "weights": "none", "dropout": 0.0, "stochastic_depth": 0.0},
    "train": {"epochs": 9, "weight_decay": 0.01, "ema_decay": 0.0, "learning_rate": 0.003, "l1": 0.0},
}


def write_data_stages(data: Path, paths: list[str]) -> None:
    """Write the outputs of validate, audit, gate and prepare."""
    for name in ("validate", "audit", "gate"):
        (data / name).mkdir(parents=True, exist_ok=True)
    passed = Finding("checks/not_empty", "passed", "there is at least one image")
    blocking = Finding("checks/min_side", "blocking", f"a class `{HOSTILE}` is small", {"p": 0.1}, paths[:3])
    write_findings([passed, blocking], data / "validate" / "findings.json")
    warning = Finding("confounder/statistics", "warning", "Statistics predict.", {"tells": [{"auc": 0.9}]}, ["gone"])
    unchecked = Finding("duplicates/not-checked", "info", "Sixty uniform images were not compared.")
    write_findings([warning, unchecked], data / "audit" / "findings.json")
    waived = [{"id": "checks/min_side", "reason": "checked by eye"}]
    gate = {"passed": 1, "warnings": ["confounder/statistics"], "waived": waived, "unused_waivers": ["checks/old"]}
    write(data / "gate", "gate.json", gate)
    write(data / "prepare", "metrics.json", {"size": 32, "channels": 1, "train": 8, "val": 8})


def write_training_stages(data: Path, trials: int = 3) -> None:
    """Write the outputs of augment, tune and train."""
    (data / "augment").mkdir(parents=True, exist_ok=True)
    for name in ("sheet", "variants"):
        (data / "augment" / f"{name}.png").write_bytes(png((40, 80, 3)))
    done = {"rotation": {"degrees": 10.0}, "elastic": {"amplitude": 0.48, "wavelength": 16.0, "chance": 1.0}}
    why = {"rotation": "in the preset auto", "elastic": "set in params.yaml", "hue": "the images have 1 channel, not 3"}
    write(data / "augment", "policy.json", {"outside": "border", "done": done, "why": why})
    write(data / "tune", "best.json", {"train.learning_rate": 0.003} if trials else {})
    rows = [f"{i},{0.9 + i / 100},1.5,3,complete,,{0.001 * 3**i},{['sgd', 'adam'][i % 2]}" for i in range(trials)]
    rows += [f"{trials},,1.5,1,stopped,behind <half>,0.5,sgd"] if trials else []
    head = "number,score,seconds,epochs,state,why,train.learning_rate,train.optimizer"
    (data / "tune" / "trials.csv").write_text("\n".join([head, *rows]) + "\n")
    finals = [f"{number},{seed},{0.9 + seed / 50}" for number in (0, 2) for seed in range(2)] if trials else []
    (data / "tune" / "finals.csv").write_text("\n".join(["number,seed,score", *finals]) + "\n")
    write(
        data / "tune",
        "metrics.json",
        {"trials": trials, "importance": {"train.learning_rate": 0.8, "train.optimizer": 0.2}},
    )
    columns = "epoch,train_loss,val_loss,train_score,val_score,learning_rate,seconds,loading_share,augmentation_share"
    curves = [
        f"{e},{2 / (e + 1)},{2.2 / (e + 1)},{1 - 0.5 / (e + 1)},{0.98 - 0.5 / (e + 1)},0.001,2.5,0.09,0.2"
        for e in range(9)
    ]
    write(data / "train", "params.json", PARAMS)
    resolved = {"key": "train.learning_rate", "value": 0.004, "why": "a fifth of the rate <of> the lowest loss"}
    write(data / "train", "resolved.json", [resolved])
    write(data / "train", "range_test.json", {"rates": [0.001, 0.01, 0.1], "losses": [2.0, 1.0, 3.0], "rate": 0.004})
    write(data / "train", "weights.json", [{"name": "conv1", "state": "loaded", "why": ""}])
    (data / "train" / "curves.csv").write_text("\n".join([columns, *curves]) + "\n")
    write(data / "train", "metrics.json", {"best_epoch": 8, "val_score": 0.92, "parameters": 11170000, "seconds": 60.2})
    environment = {"python": "3.11", "device": "cpu", "threads": 2, "commit": "abc", "cpu": "a CPU"}
    write(data / "train", "environment.json", environment | {"packages": {"torch": "2.13"}})


def write_model_stages(data: Path, labels: list[str], worst: list[dict[str, Any]], value: float | None = 0.971) -> None:
    """Write the outputs of evaluate, export and benchmark."""
    n = len(labels)
    confusion = np.eye(n, dtype=int) * 20 + np.eye(n, k=1, dtype=int)
    per_class = [
        {
            "label": label,
            "support": 20,
            "precision": estimate(0.9),
            "recall": estimate(0.5 + i / 2 / n),
            "f1": estimate(None),
        }
        for i, label in enumerate(labels)
    ]
    bins = [{"confidence": c, "accuracy": c**1.2, "count": int(100 * c)} for c in (0.35, 0.55, 0.75, 0.95)]
    bins.append({"confidence": None, "accuracy": None, "count": 0})
    met = value is not None and value >= 0.95
    names = ("balanced_accuracy", "accuracy", "auc")
    difference = {"value": 0.62, "low": 0.6, "high": 0.63}
    constant = {"prediction": "the class <a>", **estimate(0.333), "difference": difference, "better": True}
    write(data / "evaluate", "scores.json", {
        "objective": {"score": names[0], "at_least": 0.95, "at_most": None, "value": value, "met": met,
                      "reached": met, "better_than_constant": True},
        "constant": dict.fromkeys(names, constant),
        "baseline": {"available": True, "model": "ridge regression on features of <b>", "images": 60,
                     "scores": dict.fromkeys(names, estimate(0.8) | {"difference": difference, "better": True})},
        "scores": {"balanced_accuracy": estimate(value), "accuracy": estimate(0.96), "auc": estimate(None)},
        "better": dict.fromkeys(names, "higher"), "units": dict.fromkeys(names, ""), "shares": names,
        "parts": {"kind": "class", "share": True, "rows": per_class,
                  "better": dict.fromkeys(("recall", "precision", "f1"), "higher")},
        "details": {"confusion": confusion.tolist(),
                    "calibration": {"expected_calibration_error": 0.031, "bins": bins}},
        "confidence": 0.95, "task": "classification", "worst": worst,
        "images": int(confusion.sum()), "groups": int(confusion.sum()),
    })  # fmt: skip
    columns = ["path", "truth", "answer", "error", "wrong", "record"]
    pd.DataFrame([{**w, "wrong": True, "record": "{}"} for w in worst], columns=columns).to_parquet(
        data / "evaluate" / "predictions.parquet"
    )
    metadata = {"task": "classification", "name": "toys", "labels": labels, "size": 32, "channels": 1}
    metadata |= {"representation": "class", "fit": "stretch"}
    metadata |= {"target": "label", "points": [], "scalars": [], "units": {}, "depth": 8, "overlap": 0.25}
    metadata |= {"opset": 20, "licence": "", "parameters": 11_170_000, "weight_bytes": 44_600_000}
    quantiles = {"quantiles": [0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99], "width": [8] * 7, "white": [0.0] * 7}
    metadata |= {
        "input_quantiles": {"images": 8, **quantiles, "brightness": [31.0, 33.5, 36.0, 41.0, 57.0, 63.0, 66.0]}
    }
    metadata |= {"commit": "abc", "data_version": "d41d8cd9", "params_hash": "p", "scores": {}}
    write(data / "export", "metadata.json", metadata)
    write(data / "export", "metrics.json", {"bytes": 44_700_000})
    runs = {"engine": "onnxruntime"}
    exact = runs | {"name": "float32", "precision": "float32", "bytes": 44_700_000, "milliseconds": 1.9}
    exact |= {"drop": {"value": 0.0, "low": 0.0, "high": 0.0}, "verdict": "the evaluated model", "holds": True}
    unknown = runs | {"name": "int8", "precision": "int8", "bytes": 11_300_000, "milliseconds": None}
    unknown |= {"drop": None, "verdict": "its drop cannot be measured", "holds": False}
    selection = {"shipped": "float32", "max_drop": 0.02, "score": "balanced_accuracy", "images": 40}
    write(data / "export", "variants.json", selection | {"variants": [exact, unknown]})
    parity = {"images": 40, "largest_difference": 3e-7, "agreement": 1.0, "score_torch": 0.9, "score_onnx": 0.9}
    keys = ("runtime", "batch", "threads", "median_ms", "p95_ms", "images_per_second")
    timed = [("onnxruntime", 1, 1, 1.9, 2.1, 526), ("torch", 1, 1, 4.2, 4.9, 238), ("torch", 16, 1, 30, 33.0, 533)]
    latency = [dict(zip(keys, row, strict=True)) for row in timed]
    benchmark = {"parity": parity, "latency": latency, "single_prediction_ms": 1.93, "cpu": "a CPU"}
    write(data / "benchmark", "benchmark.json", benchmark)


def write_openings(file: Path, times: int = 0, model: str = "fedcba987654") -> None:
    """Write the record of openings of the sealed test split."""
    row = f"2026-11-23T18:00,0123456789abcdef,toys,0a1b2c3d4e5f,{model},9,balanced_accuracy,0.963,0.941,0.981\n"
    other = row.replace("0.963", "0.111").replace(",toys,", ",another,")  # another data set, which must not be reported
    file.write_text("opened_at,commit,data,version,model,images,score,value,low,high\n" + other + row * times)


def write_pipeline_outputs(
    data: Path, labels: list[str], opened: int = 0, trials: int = 3, value: float | None = 0.971
) -> None:
    """Write the outputs of all stages that report and model card read, for a small synthetic data set."""
    rows = write_ingested(data / "ingest", labels)
    paths = rows["path"].tolist()
    write_data_stages(data, paths)
    write_training_stages(data, trials)
    worst = [{"path": p, "truth": labels[0], "answer": labels[-1], "error": 0.99} for p in paths[:2]]
    write_model_stages(data, labels, worst, value)
    write_openings(data / "openings.csv", opened)
