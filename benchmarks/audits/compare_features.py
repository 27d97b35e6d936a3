"""Compare the label audit with and without pretrained features: `python -m benchmarks.audits.compare_features`.

A share of the labels is replaced, and the audit reads the same files twice: with features of random patches, and with
these combined with features of `efficientnet_lite0` (`make weights`). The counts are written to
docs/results/audit-features.json and the table to docs/results/audits.md. An interrupted run resumes.
"""

import argparse
import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audits import injected_faults
from benchmarks.audits.audit_cases import AUDITED
from benchmarks.audits.audit_competitors import audit_input, default_params, ingest_samples, run_audits
from benchmarks.audits.audit_tables import PAGE, rate, table
from benchmarks.audits.base_datasets import BASE_DATASETS, available, load_images
from benchmarks.audits.fault_scores import Counts, label_errors
from benchmarks.result_pages import add_run_arguments, output_folder
from stages.dataset.annotations import Annotation

Cell = dict[str, Any]
FILE = "audit-features.json"
DATASETS = {"digits": (10, 60), "clothing10": (10, 60), "cifar10": (10, 60), "plankton121": (20, 30)}
"""Number of classes, and of images per class, by base data set."""
SHARES = (0, 0.02, 0.05, 0.1)
VARIANTS = {"patches": False, "combined": True}
"""Whether pretrained features are used, by variant."""


@dataclass(frozen=True)
class FeatureSizes:
    """Number and size of the data sets."""

    seeds: int
    shares: tuple[float, ...] = SHARES
    per_class: int = 60


TINY = FeatureSizes(seeds=1, shares=SHARES[-1:], per_class=12)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Measure the missing data sets, write them and the table; return the file with the results."""
    asked = _parse(arguments)
    file = output_folder(asked.output, asked.tiny) / FILE
    cells: list[Cell] = json.loads(file.read_text()) if file.exists() else []
    names = [name for name in DATASETS if name in available(asked.data) and name in (asked.names or DATASETS)]
    for name in names[:1] if asked.tiny else names:
        sizes = TINY if asked.tiny else FeatureSizes(asked.seeds)
        for found in _measure(name, sizes, asked.data or Path(), [c for c in cells if c["base_dataset"] == name]):
            cells = [cell for cell in cells if cell["base_dataset"] != name] + found
            file.write_text(json.dumps(cells, indent=1) + "\n")
    if not asked.tiny and PAGE.parent == file.parent:
        before, marker, rest = PAGE.read_text().partition("<!-- features -->\n")
        PAGE.write_text(f"{before}{marker}\n{features_table(cells)}\n\n<!-- end -->{rest.partition('<!-- end -->')[2]}")
    return file


def _measure(name: str, sizes: FeatureSizes, folder: Path, known: list[Cell]) -> Iterator[list[Cell]]:
    """Yield, after each data set, a cell for each share of replaced labels, with the sums of the counts so far.

    The images and their features do not depend on the labels, and are computed once for all shares.

    Args:
        name: base data set.
        sizes: number and size of the data sets.
        folder: folder of the reference data.
        known: cells of an earlier run, to which data sets are added.
    """
    images, quality, given = load_images(name, folder), BASE_DATASETS[name].quality, default_params()
    classes, per_class = DATASETS[name]
    shape = classes, min(per_class, sizes.per_class)
    counts: dict[tuple[float, str], Counts] = defaultdict(Counter)
    counts |= {(cell["strength"], variant): Counter(cell[variant]) for cell in known for variant in VARIANTS}
    for seed in range(counts[sizes.shares[0], "patches"]["seeds"], sizes.seeds):
        with tempfile.TemporaryDirectory() as temporary:
            drawn = injected_faults.clean(images, quality, np.random.default_rng(seed), *shape)
            rows, _ = ingest_samples(drawn, Path(temporary))
            clean = replace(audit_input(rows, Path(temporary)), uses_pretrained=True)
            features = {"features": clean.features, "pretrained": clean.pretrained}
        for share in sizes.shares:
            data = injected_faults.with_label_errors(drawn, share, np.random.default_rng(1000 + seed))
            label_of = {sample.path: sample.label for sample in data.samples}
            given_N = [label_of[path] for path in rows["path"]]
            texts = [Annotation(labels=(label,)).to_json() for label in given_N]
            for variant, uses_pretrained in VARIANTS.items():
                relabelled = rows.assign(label=given_N, annotation=texts)
                audited = replace(clean, rows=relabelled, uses_pretrained=uses_pretrained)
                vars(audited).update(features if uses_pretrained else {"features": features["features"]})
                found = run_audits(audited, AUDITED["labels"], given)
                counts[share, variant].update(label_errors(data, found) + Counter(seeds=1))
        cells = [
            {"base_dataset": name, "strength": s} | {v: dict(counts[s, v]) for v in VARIANTS} for s in sizes.shares
        ]
        print(f"{name}, data set {seed}\n{features_table(cells)}", flush=True)
        yield cells


def features_table(cells: list[Cell]) -> str:
    """Return the table of the label audit with both kinds of features, in Markdown."""
    rows = []
    for cell in cells:
        for variant in VARIANTS:
            rates = [rate(cell, variant, name) for name in ("evaluated", "alarm")]
            rates += [
                rate(cell, variant, "flagged correctly", "flagged"),
                rate(cell, variant, "flagged correctly", "injected"),
            ]
            seeds = str(cell[variant]["seeds"])
            rows.append([cell["base_dataset"], f"{cell['strength']:.0%}", seeds, variant, *rates])
    head = ["images", "label errors", "data sets", "features", "evaluated", "alarm", "precision", "recall"]
    return table(head, rows)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audits.compare_features", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"base data sets: {', '.join(DATASETS)}; default: all")
    parser.add_argument("--data", type=Path, help="folder of the reference data; without it, only the digits are used")
    parser.add_argument("--seeds", type=int, default=20, help="number of data sets per case")
    add_run_arguments(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
