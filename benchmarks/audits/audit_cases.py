"""Cases of `compare_audits`, one function each.

A case injects faults of one kind, or none, into the base data sets, and counts what Macula's audits and other libraries
find.
"""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.audits import fault_transforms, injected_faults
from benchmarks.audits.audit_competitors import (
    LibraryProcess,
    Result,
    arrival_order,
    audit_input,
    default_params,
    ingest_samples,
    out_of_fold,
    run_audits,
    write_case,
)
from benchmarks.audits.base_datasets import BASE_DATASETS, available, load_images
from benchmarks.audits.fault_sample import Transform
from benchmarks.audits.fault_scores import (
    Counts,
    Score,
    alarms,
    duplicate_pairs,
    finding_ids,
    label_errors,
    outliers,
)
from benchmarks.audits.fault_transforms import CONFOUNDERS, DRIFTS
from benchmarks.audits.injected_faults import FaultyDataset
from stages.audits import AUDITS
from stages.config.schema import Params

Cell = dict[str, Any]
"""Facts of a case, and the counts of each library."""
Fault = tuple[str, Transform, float]
"""Name, transform and strength."""
NO_FAULT = "none"
AUDITED = {
    "confounders": ("confounder",),
    "duplicates": ("duplicates", "leakage"),
    "labels": ("label_errors",),
    "drift": ("representativeness", "domain_gap"),
    "outliers": ("checks", "dynamic_range", "outliers"),
}
"""Macula's audits by part; `checks` are the rules of the validate stage."""
SOME_CONFOUNDERS = (
    "brightness, levels",
    "stamp, share of images",
    "JPEG quality, below 95",
    "file size, bytes",
    "camera, share of images",
)
GREY_CONFOUNDERS = ("border, levels", "stamp, share of images")
"""Confounders for grey images on a black background that are not JPEGs."""


@dataclass(frozen=True)
class AuditSizes:
    """Number and size of the data sets."""

    seeds: int = 50
    library_seeds: int = 5
    """Seeds for the other libraries, which are slow."""
    few: int = 10
    """Seeds for data sets without copies, for outliers and for label errors in CIFAR-10."""
    very_few: int = 5
    """Seeds for unmodified images."""
    classes: int = 4
    per_class: int = 75
    substitute: bool = False
    """Tiny run: draw fewer images, measure fewer faults, and use the digits if no requested data set is available."""


TINY = AuditSizes(seeds=1, library_seeds=1, few=1, very_few=1, per_class=12, substitute=True)


@dataclass
class AuditRun:
    """Settings of a run, and the cells that an earlier run has measured already."""

    sizes: AuditSizes
    folder: Path | None
    """Folder of the reference data."""
    libraries: LibraryProcess | None
    """Process that runs the other libraries; None to run only Macula."""
    done: list[Cell] = field(default_factory=list)
    given: Params = field(default_factory=default_params)

    def cell(
        self,
        facts: Cell,
        make: Callable[[np.random.Generator], FaultyDataset],
        audits: Iterable[str],
        libraries: Iterable[str],
        score: Score,
        seeds: int = 0,
    ) -> Cell:
        """Audit one data set per seed and sum the counts, or return the cell if it is measured with as many already.

        Args:
            facts: description of the case, which identifies it among the cells that are measured already.
            make: function that makes the data set of a seed.
            audits: names of Macula's audits.
            libraries: names of the other libraries, which run for the first seeds only.
            score: function that counts what a result reports.
            seeds: number of seeds; 0 for that of `sizes`.

        Returns:
            The facts, and the counts of each library.
        """
        seeds = seeds or self.sizes.seeds
        for cell in self.done:
            if facts.items() <= cell.items() and cell["macula"]["seeds"] == seeds:
                return cell
        counts: dict[str, Counts] = defaultdict(Counter)
        for seed in range(seeds):
            data = make(np.random.default_rng(seed))
            with tempfile.TemporaryDirectory() as name:
                used = libraries if seed < self.sizes.library_seeds else ()
                results = self._results(data, Path(name), audits, used)
            for who, result in results.items():
                if "error" in result:
                    counts[who].update({f"error: {result['error']}": 1, "seeds": 1})
                else:
                    counts[who].update(score(data, result) + Counter(seeds=1, seconds=result["seconds"]))
        print(facts, {who: {k: round(v, 2) for k, v in found.items()} for who, found in counts.items()}, flush=True)
        return facts | {who: dict(found) for who, found in counts.items()}

    def _results(
        self, data: FaultyDataset, folder: Path, audits: Iterable[str], libraries: Iterable[str]
    ) -> dict[str, Result]:
        rows, files = ingest_samples(data, folder)
        audited = audit_input(rows, folder)
        results = {"macula": run_audits(audited, audits, self.given)}
        if libraries and self.libraries:
            order = arrival_order(rows)
            arrays = out_of_fold(audited) if "datalab" in libraries else ()
            write_case(rows.iloc[order], files, folder, *(array[order] for array in arrays))
            results |= self.libraries.run(libraries, folder)
        return results

    def clean(
        self, name: str, rng: np.random.Generator, classes: int, per_class: int, informative: bool = True
    ) -> FaultyDataset:
        """Return images of a base data set without a fault.

        Args:
            name: name of the base data set.
            rng: random generator.
            classes: number of classes.
            per_class: number of images per class.
            informative: keep the labels; if false, they are permuted.
        """
        images = load_images(name, self.folder or Path())
        quality = BASE_DATASETS[name].quality
        return injected_faults.clean(images, quality, rng, *self.shape(classes, per_class), informative)

    def shape(self, classes: int, per_class: int) -> tuple[int, int]:
        """Return the numbers of classes and of images per class to draw; a tiny run draws fewer."""
        if self.sizes.substitute:
            return min(classes, 10), min(per_class, self.sizes.per_class)
        return classes, per_class

    def count(self, classes: int, per_class: int) -> int:
        """Return the number of images of a data set; there are fewer if a class has too few."""
        classes, per_class = self.shape(classes, per_class)
        return classes * per_class

    def selection(self, cells: list[Fault]) -> list[Fault]:
        """Return the faults to measure: all, or only the first and the last one in a tiny run."""
        return [cells[0], cells[-1]] if self.sizes.substitute else cells

    def datasets(self, *names: str) -> list[str]:
        """Return the named base data sets whose files are available; a tiny run uses the digits if there are none."""
        found = [name for name in available(self.folder) if name in names]
        return found or (["digits"] if self.sizes.substitute else [])


def confounders(run: AuditRun) -> Iterator[Cell]:
    """Measure confounders: permute all labels and change the images of one class, so that only the fault predicts them.

    Four classes of colour images are tested with all faults and strengths, and ten classes with some of the faults at
    the highest strength. Digits are tested with the faults that are possible on a black background.
    """
    sizes = (run.sizes.classes, run.sizes.per_class)
    regimes = {("cifar10", 10, 30): SOME_CONFOUNDERS, ("digits", *sizes): GREY_CONFOUNDERS}
    for (name, classes, per_class), faults in (regimes | {("cifar10", *sizes): tuple(CONFOUNDERS)}).items():
        if name not in run.datasets(name):
            continue
        cells: list[Fault] = [(NO_FAULT, fault_transforms.brightness, 0.0)]
        for fault in faults:
            transform, strengths = CONFOUNDERS[fault]
            cells += [(fault, transform, s) for s in (strengths if faults == tuple(CONFOUNDERS) else strengths[-1:])]
        for fault, transform, strength in run.selection(cells):
            facts = {"base_dataset": name, "classes": classes, "images": run.count(classes, per_class)}
            make = partial(_with_confounder, run, name, (classes, per_class), transform, strength)
            libraries = ("datalab", "deepchecks") if name != "digits" else ()
            described = facts | {"fault": fault, "strength": strength}
            yield run.cell(described, make, AUDITED["confounders"], libraries, alarms("confounders"))


def _with_confounder(
    run: AuditRun, name: str, shape: tuple[int, int], transform: Transform, strength: float, rng: np.random.Generator
) -> FaultyDataset:
    data = run.clean(name, rng, *shape, informative=False)
    return injected_faults.with_confounder(data, transform, strength, rng)


def duplicates(run: AuditRun) -> Iterator[Cell]:
    """Measure duplicates: add changed copies of 36 of 400 images, 24 of them in the other split, or no copies."""
    libraries = ("cleanvision", "datalab", "imagededup")
    for name in run.datasets("cifar10", "plankton121", "clothing10"):
        classes = 20 if name == "plankton121" else 10
        for per_kind, fault in ((0, NO_FAULT), (3, "copies")):
            facts = {"base_dataset": name, "fault": fault, "images": run.count(classes, 400 // classes)}

            def make(
                rng: np.random.Generator, name: str = name, classes: int = classes, per_kind: int = per_kind
            ) -> FaultyDataset:
                return injected_faults.with_copies(run.clean(name, rng, classes, 400 // classes), per_kind, rng)

            seeds = 0 if per_kind else run.sizes.few
            yield run.cell(facts, make, AUDITED["duplicates"], libraries, duplicate_pairs, seeds)


def labels(run: AuditRun) -> Iterator[Cell]:
    """Measure label errors: replace a share of the labels with other labels."""
    for name in run.datasets("digits", "usps", "cifar10"):
        for share in (0, 0.02, 0.05, 0.1, 0.2) if name == "digits" and not run.sizes.substitute else (0, 0.1):
            facts: Cell = {"base_dataset": name, "classes": 10, "images": run.count(10, 60)}
            facts |= {"fault": "label errors", "strength": share}

            def make(rng: np.random.Generator, name: str = name, share: float = share) -> FaultyDataset:
                return injected_faults.with_label_errors(run.clean(name, rng, 10, 60), share, rng)

            seeds = run.sizes.few if name == "cifar10" else 0
            yield run.cell(facts, make, AUDITED["labels"], ("datalab",), label_errors, seeds)


def drift(run: AuditRun) -> Iterator[Cell]:
    """Measure drift: change the images of the validation split, of a later arrival or of another origin."""
    classes, per_class = run.sizes.classes, run.sizes.per_class
    for name in run.datasets("cifar10") or run.datasets("digits"):
        for subset in ("validation", "arrival", "origin"):
            cells: list[Fault] = [(NO_FAULT, fault_transforms.brightness, 0.0)]
            for fault, (transform, strengths) in DRIFTS.items():
                if subset == "validation":
                    cells += [(fault, transform, strength) for strength in strengths]
                elif fault in ("brightness, levels", "blur, share of side"):
                    cells += [(fault, transform, strength) for strength in strengths[1:2]]
            for fault, transform, strength in run.selection(cells):

                def make(
                    rng: np.random.Generator,
                    name: str = name,
                    subset: str = subset,
                    change: tuple[Transform, float] = (transform, strength),
                ) -> FaultyDataset:
                    return injected_faults.with_drift(run.clean(name, rng, classes, per_class), subset, *change, rng)

                facts: Cell = {"base_dataset": name, "subset": subset, "images": run.count(classes, per_class)}
                facts |= {"fault": fault, "strength": strength}
                libraries = ("datalab", "deepchecks") if subset == "validation" else ()
                seeds = 0 if libraries else min(20, run.sizes.seeds)
                yield run.cell(facts, make, AUDITED["drift"], libraries, alarms("drift"), seeds)


def outlier_images(run: AuditRun) -> Iterator[Cell]:
    """Measure outliers: make single images dark, washed out, blurred, blank, much too large or much too long."""
    classes, per_class = run.sizes.classes, run.sizes.per_class
    for name in run.datasets("cifar10", "clothing10"):
        for per_kind, fault in ((0, NO_FAULT), (3, "outliers")):

            def make(rng: np.random.Generator, name: str = name, per_kind: int = per_kind) -> FaultyDataset:
                return injected_faults.with_outliers(run.clean(name, rng, classes, per_class), per_kind, rng)

            facts = {"base_dataset": name, "fault": fault, "images": run.count(classes, per_class)}
            yield run.cell(facts, make, AUDITED["outliers"], ("cleanvision", "deepchecks"), outliers, run.sizes.few)


def unmodified(run: AuditRun) -> Iterator[Cell]:
    """Measure all findings of all audits and libraries on real images with their own labels and without a fault."""
    for name in run.datasets(*BASE_DATASETS):
        classes, per_class = (20, 30) if name == "plankton121" else (10, 60)

        def make(
            rng: np.random.Generator, name: str = name, classes: int = classes, per_class: int = per_class
        ) -> FaultyDataset:
            return run.clean(name, rng, classes, per_class)

        facts = {"base_dataset": name, "fault": NO_FAULT, "images": run.count(classes, per_class)}
        libraries = ("cleanvision", "datalab", "deepchecks", "imagededup")
        seeds = min(run.sizes.very_few, run.sizes.seeds)
        yield run.cell(facts, make, list(AUDITS), libraries, finding_ids, seeds)


PARTS: dict[str, Callable[[AuditRun], Iterator[Cell]]] = {
    "confounders": confounders,
    "duplicates": duplicates,
    "labels": labels,
    "drift": drift,
    "outliers": outlier_images,
    "unmodified": unmodified,
}
