"""Simulate how often the score drop of a variant is covered by its interval, and how often a variant is accepted.

Run `python -m benchmarks.inference.variant_acceptance`. Each repetition draws 20 groups of 15 images, each group of one
class, and applies the criterion of `export` with and without magnified changes. The true drop is that of 4,000 groups.
The changes have two fixed sizes, and the size with which the true drop is 0.022, just above the limit of 0.02. The
results are written to docs/results/variant-acceptance.json and the table to docs/results/variant-acceptance.md.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.result_pages import add_run_arguments, output_folder, replace_block
from stages.quantization.score_drop import DropEvaluator
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]
SPEC = TaskSpec("ordinal", "class", "label", labels=("a", "b"))  # as classification, but without AUC, which is slow
GROUPS, IMAGES, POPULATION = 20, 15, 4000
LIMIT, HARMFUL, SIZES = 0.02, 0.022, (0.02, 0.1)
"""Largest accepted drop, true drop of harmful changes, and sizes of small changes in log-odds."""
PAGE = "variant-acceptance.md"
HEAD = ["changes", "size", "true drop", "covered by the interval", "accepted without magnification", "accepted"]


@dataclass(frozen=True)
class Case:
    """Distribution of the log-odds of float32 and of their changes in a variant."""

    name: str
    signal: float = 3.0
    """Mean log-odds of the true class."""
    between: float = 1.0
    """Standard deviation of the log-odds between groups; within groups it is 2."""
    change: Callable[[np.random.Generator, Array], Array] = lambda rng, z_GB: np.asarray(rng.normal(size=z_GB.shape))
    """Returns the change of the log-odds of the true class [groups, images], to be multiplied by its size."""


def _noisier_groups(rng: np.random.Generator, z_GB: Array) -> Array:
    return np.asarray(rng.lognormal(0, 1, (len(z_GB), 1)) * rng.normal(size=z_GB.shape))


def _shared_by_group(rng: np.random.Generator, z_GB: Array) -> Array:
    return np.asarray(rng.normal(size=(len(z_GB), 1)) + 0.3 * rng.normal(size=z_GB.shape))


def _heavy_tails(rng: np.random.Generator, z_GB: Array) -> Array:
    return np.asarray(rng.standard_t(3, size=z_GB.shape))


def _bias(rng: np.random.Generator, z_GB: Array) -> Array:
    return np.asarray(-1 + 0.3 * rng.normal(size=z_GB.shape))


def _broken_groups(rng: np.random.Generator, z_GB: Array) -> Array:
    """Return one uniform number per group; a group is wrong if it is below the size."""
    return rng.uniform(size=(len(z_GB), 1)) * np.ones_like(z_GB)


BROKEN = "few groups with all images wrong, others unchanged"
CASES = (
    Case("independent images", between=0.0),
    Case("groups of different difficulty"),
    Case("weak classifier", signal=1.0),
    Case("larger changes in some groups", change=_noisier_groups),
    Case("changes shared by the images of a group", change=_shared_by_group),
    Case("heavy tails", change=_heavy_tails),
    Case("bias against the true class", change=_bias),
    Case(BROKEN, change=_broken_groups),
)


def main(arguments: Sequence[str] | None = None) -> Path:
    """Simulate all cases, write the table and return the file with the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_run_arguments(parser)
    asked_for = parser.parse_args(arguments)
    folder = output_folder(asked_for.output, asked_for.tiny)
    repetitions, population = (4, 400) if asked_for.tiny else (200, POPULATION)
    rows = []
    for case in CASES:
        small = {} if case.name == BROKEN else dict.fromkeys(SIZES, repetitions // 4)
        for size, count in {**small, _harmful_size(case, population): repetitions}.items():
            rows.append(simulate(case, size, count, population))
            print(json.dumps(rows[-1]), flush=True)
    file = folder / "variant-acceptance.json"
    file.write_text(json.dumps(rows, indent=1) + "\n")
    page = folder / PAGE
    if page.exists():
        page.write_text(replace_block(page.read_text(), "variant acceptance", _table(rows)))
    return file


def simulate(case: Case, size: float, repetitions: int, population: int) -> dict[str, Any]:
    """Return how often the interval covers the true drop, and how often the variant is accepted.

    Args:
        case: distribution of log-odds and changes.
        size: factor of the changes.
        repetitions: number of simulated validation splits.
        population: number of groups from which the true drop is computed.
    """
    drop = _true_drop(case, size, population)
    covered, before, accepted = [], [], []
    for seed in range(repetitions):
        label_N, exact_N, other_N = _draw(case, size, GROUPS, np.random.default_rng(seed))
        judge = DropEvaluator(label_N.tolist(), np.arange(GROUPS).repeat(IMAGES), SPEC, "accuracy", 200, 0.95)
        exact, other = _probabilities(label_N, exact_N), _probabilities(label_N, other_N)
        found = judge.measure(exact, other, judge.choose_magnification(exact, LIMIT))
        covered.append(found.high is not None and found.high >= drop)
        before.append(judge.measure(exact, other).within(LIMIT))
        accepted.append(found.within(LIMIT))
    shares = {"covered": covered, "accepted_before": before, "accepted": accepted}
    found_shares = {name: float(np.mean(values)) for name, values in shares.items()}
    return {"case": case.name, "size": size, "repetitions": repetitions, "true_drop": drop, **found_shares}


def _draw(case: Case, size: float, groups: int, rng: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return labels, and the log-odds of the true class of float32 and of the variant; half of the groups per class."""
    z_GB = case.signal + case.between * rng.normal(size=(groups, 1)) + 2 * rng.normal(size=(groups, IMAGES))
    change_GB = case.change(rng, z_GB)
    other_GB = np.where(change_GB < size, -np.abs(z_GB), z_GB) if case.name == BROKEN else z_GB + size * change_GB
    return (np.arange(groups) % 2).repeat(IMAGES), z_GB.ravel(), other_GB.ravel()


def _true_drop(case: Case, size: float, groups: int) -> float:
    _, exact_N, other_N = _draw(case, size, groups, np.random.default_rng(10**6))
    return float((exact_N > 0).mean() - (other_N > 0).mean())


def _harmful_size(case: Case, population: int) -> float:
    """Return the size of the changes with which the true drop is `HARMFUL`, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _true_drop(case, middle, population) > HARMFUL else (middle, high)
    return high


def _probabilities(label_N: Array, log_odds_N: Array) -> list[Array]:
    true_N = 1 / (1 + np.exp(-log_odds_N))
    return list(np.where(np.arange(2) == label_N[:, None], true_N[:, None], 1 - true_N[:, None]))


def _table(rows: list[dict[str, Any]]) -> str:
    lines = [f"| {' | '.join(HEAD)} |", f"| --- |{' --: |' * (len(HEAD) - 1)}"]
    for row in rows:
        shares = " | ".join(f"{100 * row[key]:.1f} %" for key in ("covered", "accepted_before", "accepted"))
        lines.append(f"| {row['case']} | {row['size']:.2f} | {row['true_drop']:.4f} | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
