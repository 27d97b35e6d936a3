"""Measure false alarms and power of drift detection: `python -m benchmarks.drift.measure_drift`, or `make bench-drift`.

A reference is built from a random half of the images of a data set. A batch is drawn from the other half, unchanged for
false alarms, and with a change for power. Real data sets are those of `MACULA_REFERENCE_DATA`; without them only
simulated statistics are measured.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from benchmarks.audits.base_datasets import available
from benchmarks.drift.drift_images import CHANGES, Statistics, describe, predicted, read, simulated
from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from stages.drift import DriftReport, build_reference, compare_with_reference

SIZES = (30, 100, 1000)
DATASETS = {"clothing10": 741, "cifar10": 3000, "plankton121": 5705}
"""Real data sets and the number of images of each that are used."""
REFERENCE_IMAGES = 1000
"""Number of simulated reference images, and largest number of real ones."""
PAGE = Path("docs/results/drift.md")
Draw = Callable[[np.random.Generator], tuple[Statistics, Statistics]]
"""Function that returns the reference images and the images from which a batch is drawn."""


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure all cases; write `drift.json` and update the tables of the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drift.measure_drift", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=500, help="batches for each rate of false alarms")
    add_run_arguments(parser)
    options = parser.parse_args(arguments)
    data = Path(os.environ.get("MACULA_REFERENCE_DATA", "../shared/data"))
    names = [] if options.tiny else [name for name in DATASETS if name in available(data)]
    repetitions, sizes = (3, (30,)) if options.tiny else (options.repetitions, SIZES)
    cases: list[dict[str, Any]] = []

    def add(kind: str, source: str, change: str, draw: Draw, repeated: int, copies: int = 1) -> None:
        for size in sizes:
            case = measure(draw, size, repeated, copies)
            if case is not None:
                cases.append({"kind": kind, "data": source, "change": change, "size": size, **case})
                print(f"{source}, {change}, {size}: {case['alarms']} of {repeated} {case['statistics']}", flush=True)

    def add_simulated(rng: np.random.Generator) -> tuple[Statistics, Statistics]:
        return simulated(REFERENCE_IMAGES, rng), simulated(max(sizes), rng)

    add("false alarms", "simulated", "none", add_simulated, repetitions)
    for name in names:
        images = read(name, data, DATASETS[name])
        plain = describe(images)
        add("false alarms", name, "none", halves(plain, plain), repetitions)
        add("dependent images", name, "each image three times", halves(plain, plain), repetitions // 5, copies=3)
        for change, function in CHANGES.items():
            add("power", name, change, halves(plain, describe(images, function)), repetitions // 5)
        if len(np.unique(plain.classes)) <= 20:
            add("power", name, "one class missing", halves(plain, plain, missing=True), repetitions // 5)
    if names and "usps" in available(data):
        usps, mnist = describe(read("usps", data, 3000)), describe(read("mnist", data, 3000))
        add("power", "usps", "MNIST instead", lambda _: (usps, mnist), repetitions // 5)
    file = output_folder(options.output, options.tiny) / "drift.json"
    file.write_text(json.dumps({"repetitions": repetitions, "cases": cases}, indent=1) + "\n")
    print(table(cases))
    if not options.tiny and options.output is None and PAGE.exists():
        PAGE.write_text(replace_block(PAGE.read_text(), "drift", table(cases)))
    return file


def halves(plain: Statistics, changed: Statistics, missing: bool = False) -> Draw:
    """Return a function that divides images at random into a reference and changed images for batches.

    Args:
        plain: statistics of the images.
        changed: statistics of the same images after a change.
        missing: leave out one random class from the batches.
    """

    def draw(rng: np.random.Generator) -> tuple[Statistics, Statistics]:
        order = rng.permutation(len(plain.classes))
        half = len(order) // 2
        rest = order[half:]
        if missing:
            rest = rest[plain.classes[rest] != rng.choice(np.unique(plain.classes))]
        return plain.some(order[: min(half, REFERENCE_IMAGES)]), changed.some(rest)

    return draw


def measure(draw: Draw, size: int, repetitions: int, copies: int) -> dict[str, Any] | None:
    """Return how many batches are reported, and which statistics; None if there are too few images.

    Args:
        draw: returns reference images and images for batches.
        size: number of images of a batch.
        repetitions: number of batches.
        copies: number of times that each image occurs in a batch.
    """
    alarms, blamed, began = 0, Counter[str](), time.process_time()
    for seed in range(repetitions):
        rng = np.random.default_rng(seed)
        known, new = draw(rng)
        if len(new.classes) < size:
            return None
        batch = new.some(np.repeat(rng.choice(len(new.classes), -(-size // copies), replace=False), copies)[:size])
        report = compare(known, batch, rng)
        alarms += report.verdict == "drift"
        blamed.update(one.name for one in report.comparisons if one.drifted)
    low, high = binomtest(alarms, repetitions).proportion_ci(0.95)
    seconds = (time.process_time() - began) / repetitions
    found = {"alarms": alarms, "of": repetitions, "low": low, "high": high, "cpu_seconds": round(seconds, 3)}
    return {**found, "statistics": dict(blamed.most_common(3))}


def compare(known: Statistics, batch: Statistics, rng: np.random.Generator) -> DriftReport:
    """Return the report on a batch, whose predictions are simulated.

    Args:
        known: reference images.
        batch: new images.
        rng: random number generator.
    """
    count, names = len(known.classes), np.unique(np.concatenate([known.classes, batch.classes]))
    reference = {
        "inputs": build_reference({k: v.tolist() for k, v in known.inputs.items()}, np.arange(count)),
        "predictions": build_reference(predicted(known.classes, names, rng), np.arange(count)),
    }
    values = {
        "inputs": {k: v.tolist() for k, v in batch.inputs.items()},
        "predictions": predicted(batch.classes, names, rng),
    }
    return compare_with_reference(reference, [str(i) for i in range(len(batch.classes))], values)


def table(cases: Sequence[dict[str, Any]]) -> str:
    """Return a table with one row per data set and change, and the share of reported batches by size."""
    rows: dict[tuple[str, str, str], dict[int, str]] = {}
    for case in cases:
        shares = (case["alarms"] / case["of"], case["low"], case["high"])
        cell = "{} % [{} %, {} %]".format(*(f"{100 * share:.1f}" for share in shares))
        rows.setdefault((case["kind"], case["data"], case["change"]), {})[case["size"]] = cell
    sizes = sorted({case["size"] for case in cases})
    head = f"| | data | change | {' | '.join(f'{size} images' for size in sizes)} |"
    lines = [
        f"| {' | '.join(key)} | {' | '.join(cells.get(size, '') for size in sizes)} |" for key, cells in rows.items()
    ]
    return "\n".join([head, "| --- " * (3 + len(sizes)) + "|", *lines])


if __name__ == "__main__":
    main()
