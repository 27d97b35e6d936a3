"""Compare the learning curve's prediction from half of the data with the error of a probe trained on all data.

Run `python -m benchmarks.audits.learning_curve_accuracy NAME=SOURCE...`. NAME is cifar10 (its archive, with train/CLASS
and test/CLASS) or a file of docs/examples. Each trial sets test groups aside (for CIFAR-10 its own 10,000 test images),
draws five eighths of the other groups, and lets the audit measure its curve on them out of fold, that is, trained on 10
to 50 % of the images. The prediction for 100 %, by the law with a floor, is compared with the error of the probe that
is trained on all images; the trials also contain the prediction of the law without a floor. With `--sample 5000` the
curve uses 5,000 groups, as the audit does for a large data set. The trials are written to
docs/results/learning_curve.json and the table to docs/results/learning_curve.md; without arguments only the table is
written.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from ruamel.yaml import YAML

from benchmarks.audits.base_datasets import load_images
from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from flows.worktrees import change_params, example
from stages import ingest
from stages.config import load as reading
from stages.dataset.manifest import read_manifest
from stages.probes.cross_validation import folds
from stages.probes.image_features import image_features, thumbnail_features
from stages.probes.learning_curve_fit import SHARES as AUDITED
from stages.probes.learning_curve_fit import errors, fit_probe, measure_curve, principal_features, weights
from stages.probes.power_law import extrapolate
from stages.probes.regression_targets import RegressionTargets, regression_targets
from stages.runner.stage import call

Array = np.ndarray[Any, Any]
PAGE = Path("learning_curve.md")
KNOWN = 5 / 8  # share of the groups for the curve, so that four of its five folds are half of all groups
SHARES = np.geomspace(0.2, 1, 6)  # shares of that half: 10 to 50 % of all
HEAD = ["data set", "training images", "trials", "error at the largest size", "error on all", "predicted",
        "absolute error", "absolute error of no change", "width of the interval", "inside",
        "inside, with the test's own error"]  # fmt: skip
Question = tuple[Array, RegressionTargets, Array, Array | None]
"""Features [N, F], targets, groups [N], and the positions of the test images if these are fixed."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Run the trials of the data sets, print the table and write it to an existing page; return the file of trials."""
    asked_for = _parse(arguments)
    folder = output_folder(asked_for.output, asked_for.tiny)
    file, trials = folder / "learning_curve.json", 1 if asked_for.tiny else asked_for.trials
    record = json.loads(file.read_text()) if file.exists() else {}
    for text in asked_for.data or (["digits="] if asked_for.tiny else []):
        name, _, source = text.partition("=")
        started = time.perf_counter()
        x_NF, question, group_N, test = _read(name, source, asked_for.tiny)
        print(f"{name}: features {x_NF.shape} in {time.perf_counter() - started:.0f} s", flush=True)
        found: list[dict[str, float]] = []
        key = f"{name}, sample of {asked_for.sample:,}" if asked_for.sample else name
        for seed in range(trials):
            found.append(_trial(x_NF, question, group_N, test, seed, asked_for.sample))
            print(name, seed, {figure: round(value, 4) for figure, value in found[-1].items()}, flush=True)
        record[key] = {"target": question.name, "trials": found}
        file.write_text(json.dumps(record, indent=1) + "\n")
    result = table(record)
    if (folder / PAGE).exists():
        (folder / PAGE).write_text(replace_block((folder / PAGE).read_text(), "table", result))
    print(result)
    return file


def _read(name: str, source: str, tiny: bool) -> Question:
    """Read a data set.

    Args:
        name: cifar10, or a file of docs/examples.
        source: archive or folder of the data set.
        tiny: use a few of scikit-learn's digits instead.
    """
    if tiny:
        return _read_digits()
    return _read_cifar(Path(source)) if name == "cifar10" else _ingest(name, Path(source))


def _read_digits(per_class: int = 20) -> Question:
    images = load_images("digits", Path())
    labels = np.array([label for _, label in images])
    chosen = np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in np.unique(labels)])
    code = np.unique(labels[chosen], return_inverse=True)[1]
    pixels = np.stack([images[i][0] for i in chosen])
    x_NF = thumbnail_features(np.repeat(np.kron(pixels, np.ones((1, 4, 4), np.uint8))[..., None], 3, axis=3))
    return x_NF, RegressionTargets("the class", np.eye(10)[code], True), np.arange(len(x_NF)), None


def _trial(
    x_NF: Array, question: RegressionTargets, group_N: Array, test: Array | None, seed: int, sample: int
) -> dict[str, float]:
    """Return the prediction from a random part of the data, and the error measured with all of the data.

    Args:
        x_NF: features [N, F].
        question: the targets.
        group_N: group of each image [N].
        test: positions of the test images; None draws a quarter of the groups.
        seed: seed of the draw.
        sample: number of groups for the curve; 0 for five eighths of the groups.
    """
    code_N = question.target_ND.argmax(axis=1) if question.classes else None
    if test is None:
        test = folds(group_N, code_N, count=4, seed=1000 + seed)[0][1]
    rest = np.setdiff1d(np.arange(len(x_NF)), test)
    names = np.unique(group_N[rest])
    some = np.random.default_rng(seed).choice(names, sample or round(KNOWN * len(names)), replace=False)
    known = rest[np.isin(group_N[rest], some)]
    half = RegressionTargets(question.name, question.target_ND[known], question.classes)
    curve = measure_curve(x_NF[known], half, group_N[known], seed=seed, shares=AUDITED if sample else SHARES, noise=())
    ahead = extrapolate(curve.images_J, curve.error_J, curve.resampled_BJ)
    middle, low, high = (float(value[0]) for value in ahead.error(len(rest)))
    with_floor, without = (float(law(len(rest))[0, 0]) for law in ahead.laws)
    p_NF = principal_features(x_NF)
    error_M = errors(fit_probe(p_NF[rest], question, question.target_ND[rest])(p_NF[test]), question, test)
    w_M = weights(question)[test]
    error = float((w_M * error_M).sum() / w_M.sum())
    margin = 1.96 * float(np.sqrt((w_M**2 * (error_M - error) ** 2).sum()) / w_M.sum())
    return {"images": len(rest), "largest": float(curve.error_J[-1]), "measured": error, "predicted": middle,
            "low": low, "high": high, "with_floor": with_floor, "without_floor": without, "margin": margin}  # fmt: skip


def _read_cifar(source: Path) -> Question:
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
    x_NF = thumbnail_features(np.stack(images))
    return x_NF, RegressionTargets("the class", np.eye(10)[code], True), np.arange(len(x_NF)), np.flatnonzero(is_test)


def _ingest(name: str, source: Path) -> Question:
    changes = [example(name)] if (Path("docs/examples") / f"{name}.yaml").exists() else []
    params = reading.check(YAML(typ="safe", pure=True).load(change_params(changes, name)))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "splits").mkdir()
        sections = {"ingest": params.ingest, "split": params.split}
        call(ingest.main, [source, *(folder / part for part in ("splits", "sealed", "ingested"))], sections)
        rows = read_manifest(folder / "ingested")
        question = regression_targets(rows, folder / "ingested")
        assert isinstance(question, RegressionTargets), question
        return image_features(rows, folder / "ingested"), question, pd.factorize(rows["group"])[0], None


def table(record: dict[str, Any]) -> str:
    """Return a Markdown table of the mean figures of each data set, errors in percent."""
    rows = []
    for name, kept in record.items():
        t = pd.DataFrame(kept["trials"])
        error, unchanged = (t["predicted"] - t["measured"]).abs(), (t["largest"] - t["measured"]).abs()
        inside = (t["low"] <= t["measured"]) & (t["measured"] <= t["high"])
        # The variances of two independent errors add.
        down = np.hypot(t["predicted"] - t["low"], t["margin"])
        up = np.hypot(t["high"] - t["predicted"], t["margin"])
        wide = (t["predicted"] - down <= t["measured"]) & (t["measured"] <= t["predicted"] + up)
        figures = [t["largest"], t["measured"], t["predicted"], error, unchanged, t["high"] - t["low"]]
        cells = [f"{100 * value.mean():.1f}" for value in figures]
        shares = [f"{int(hit.sum())} of {len(t)}" for hit in (inside, wide)]
        rows.append([f"`{name}`", f"{t['images'].mean():,.0f}", str(len(t)), *cells, *shares])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [HEAD, ["---"] * len(HEAD), *rows])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits.learning_curve_accuracy", description=__doc__)
    parser.add_argument("data", nargs="*", metavar="NAME=SOURCE", help="data sets and their archives or folders")
    parser.add_argument(
        "--sample", type=int, default=0, help="groups for the curve; default: five eighths of all groups"
    )
    parser.add_argument("--trials", type=int, default=20, help="random draws per data set")
    add_run_arguments(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
