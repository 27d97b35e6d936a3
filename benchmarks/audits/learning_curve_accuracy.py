"""Half of the data foretell the error on all, or do they: `python -m benchmarks.audits.learning_curve_accuracy NAME=SOURCE...`.

NAME is cifar10 (its archive, train/CLASS and test/CLASS) or one of docs/examples. Every trial sets test groups aside
(CIFAR-10: its own 10,000 test images), draws five eighths of the others, and lets the audit measure its curve on them,
out of fold: trained on 10 to 50 % of what there is. What its two laws foretell for 100 % is held against the error of
the probe trained on all. With `--sample 5000` the curve is that of so many images, as the audit takes it of a large
set. Into docs/results/learning_curve.json, and the table into docs/results/learning_curve.md; without arguments the
table is made anew.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.pipeline.example_scores import between
from flows.worktrees import example, params_with
from stages import ingest
from stages.config import load as reading
from stages.dataset.manifest import read_manifest
from stages.probes.cross_validation import folds
from stages.probes.image_features import bank, features
from stages.probes.learning_curve_fit import SHARES as AUDITED
from stages.probes.learning_curve_fit import axes, fitted, measured, weights, wrong
from stages.probes.power_law import outlook
from stages.probes.regression_targets import Asked, asked
from stages.runner.stage import call

Array = np.ndarray[Any, Any]
RECORD, PAGE = Path("docs/results/learning_curve.json"), Path("docs/results/learning_curve.md")
KNOWN = 5 / 8  # of the images: four of five folds of them are a half
SHARES = np.geomspace(0.2, 1, 6)  # of that half: 10 to 50 %
HEAD = ["data set", "trained on all", "trials", "error at the largest size", "on all", "foretold", "off by",
        "off if nothing changed", "width of interval", "inside", "inside, with the test's own error"]  # fmt: skip


def main() -> None:
    """Run the trials of the data sets that are named, and print the table."""
    arguments = _arguments()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for text in arguments.data:
        name, _, source = text.partition("=")
        started = time.perf_counter()
        x_NF, question, group_N, test = _cifar(Path(source)) if name == "cifar10" else _ingested(name, Path(source))
        print(f"{name}: features {x_NF.shape} in {time.perf_counter() - started:.0f} s", flush=True)
        trials: list[dict[str, float]] = []
        for seed in range(arguments.trials):
            trials.append(_trial(x_NF, question, group_N, test, seed, arguments.sample))
            print(name, seed, {key: round(value, 4) for key, value in trials[-1].items()}, flush=True)
        record[f"{name}, {arguments.sample:,} of them" if arguments.sample else name] = {
            "asked": question.what,
            "trials": trials,
        }
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    found = _table(record)
    if PAGE.exists():
        PAGE.write_text(between(PAGE.read_text(), "table", found))
    print(found)


def _trial(
    x_NF: Array, question: Asked, group_N: Array, test: Array | None, seed: int, sample: int
) -> dict[str, float]:
    """One draw: what is foretold, and what then comes."""
    code_N = question.target_ND.argmax(axis=1) if question.classes else None
    if test is None:
        test = folds(group_N, code_N, count=4, seed=1000 + seed)[0][1]
    rest = np.setdiff1d(np.arange(len(x_NF)), test)
    names = np.unique(group_N[rest])
    some = np.random.default_rng(seed).choice(names, sample or round(KNOWN * len(names)), replace=False)
    known = rest[np.isin(group_N[rest], some)]
    half = Asked(question.what, question.target_ND[known], question.classes)
    curve = measured(x_NF[known], half, group_N[known], seed=seed, shares=AUDITED if sample else SHARES, noise=())
    ahead = outlook(curve.images_J, curve.error_J, curve.resampled_BJ)
    middle, low, high = (float(value[0]) for value in ahead.error(len(rest)))
    with_floor, without = (float(law(len(rest))[0, 0]) for law in ahead.laws)
    p_NF = axes(x_NF)
    error_M = wrong(fitted(p_NF[rest], question, question.target_ND[rest])(p_NF[test]), question, test)
    w_M = weights(question)[test]
    error = float((w_M * error_M).sum() / w_M.sum())
    blur = 1.96 * float(np.sqrt((w_M**2 * (error_M - error) ** 2).sum()) / w_M.sum())
    return {"images": len(rest), "largest": float(curve.error_J[-1]), "measured": error, "foretold": middle,
            "low": low, "high": high, "with_floor": with_floor, "without_floor": without, "blur": blur}  # fmt: skip


def _cifar(source: Path) -> tuple[Array, Asked, Array, Array]:
    images, labels, is_test = [], [], []
    with tarfile.open(source) as tar:
        for member in tar:
            if member.name.endswith(".jpg"):
                split, label = member.name.split("/")[1:3]
                stream = tar.extractfile(member)
                assert stream is not None
                images.append(np.asarray(Image.open(io.BytesIO(stream.read())).convert("RGB")))
                labels.append(label)
                is_test.append(split == "test")
    code = np.unique(labels, return_inverse=True)[1]
    x_NF = bank(np.stack(images))
    return x_NF, Asked("the class", np.eye(10)[code], True), np.arange(len(x_NF)), np.flatnonzero(is_test)


def _ingested(name: str, source: Path) -> tuple[Array, Asked, Array, None]:
    changes = [example(name)] if (Path("docs/examples") / f"{name}.yaml").exists() else []
    params = reading.check(YAML(typ="safe", pure=True).load(params_with(changes, name)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "splits").mkdir()
        sections = {"ingest": params.ingest, "split": params.split}
        call(ingest.main, [source, *(folder / part for part in ("splits", "sealed", "ingested"))], sections)
        rows = read_manifest(folder / "ingested")
        question = asked(rows, folder / "ingested")
        assert isinstance(question, Asked), question
        return features(rows, folder / "ingested"), question, pd.factorize(rows["group"])[0], None


def _table(record: dict[str, Any]) -> str:
    rows = []
    for name, kept in record.items():
        t = pd.DataFrame(kept["trials"])
        off, still = (t["foretold"] - t["measured"]).abs(), (t["largest"] - t["measured"]).abs()
        inside = (t["low"] <= t["measured"]) & (t["measured"] <= t["high"])
        # Two independent uncertainties of one difference add as squares.
        down = np.hypot(t["foretold"] - t["low"], t["blur"])
        up = np.hypot(t["high"] - t["foretold"], t["blur"])
        wide = (t["foretold"] - down <= t["measured"]) & (t["measured"] <= t["foretold"] + up)
        figures = [t["largest"], t["measured"], t["foretold"], off, still, t["high"] - t["low"]]
        cells = [f"{100 * value.mean():.1f}" for value in figures]
        shares = [f"{int(hit.sum())} of {len(t)}" for hit in (inside, wide)]
        rows.append([f"`{name}`", f"{t['images'].mean():,.0f}", str(len(t)), *cells, *shares])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEAD, ["---"] * len(HEAD), *rows])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits.learning_curve_accuracy", description=__doc__)
    parser.add_argument("data", nargs="*", help="NAME=SOURCE")
    parser.add_argument("--sample", type=int, default=0, help="groups of which the curve is; else five eighths of all")
    parser.add_argument("--trials", type=int, default=20)
    return parser.parse_args()


if __name__ == "__main__":
    main()
