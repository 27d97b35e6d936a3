"""Functions that count the correct and wrong reports of one result; `audit_cases` sums the counts over seeds."""

from collections import Counter
from collections.abc import Callable
from itertools import combinations

from benchmarks.audits.audit_competitors import ALARMING, LABEL_ERRORS, Result
from benchmarks.audits.injected_faults import FaultyDataset

Counts = Counter[str]
Score = Callable[[FaultyDataset, Result], Counts]
ALARMS = {"confounders": ("confounder/",), "drift": ("representativeness/", "domain_gap/")}
"""Prefixes of the ids of Macula's findings that report a fault, by fault."""
LIBRARY_ALARMS = {
    "confounders": ("property_label_correlation", "spurious_correlations"),
    "drift": ("property_drift", "non_iid"),
}


def alarms(part: str) -> Score:
    """Return a function that counts whether the right kind of alarm was raised, whether it blocks, and its ids."""

    def score(data: FaultyDataset, result: Result) -> Counts:
        prefixes = (*ALARMS[part], *LIBRARY_ALARMS[part])
        relevant = [(name, severity) for name, severity in result["alarms"] if name.startswith(prefixes)]
        raised = [name for name, severity in relevant if severity in ALARMING]
        return Counter(
            {
                "alarm": int(bool(raised)),
                "blocking": int(any(severity == "blocking" for _, severity in relevant)),
                **{f"id: {name}": 1 for name in set(raised)},
            }
        )

    return score


def duplicate_pairs(data: FaultyDataset, result: Result) -> Counts:
    """Count the injected copies that were found, by kind, and the other pairs that were reported."""
    reported = {pair for sets in result["sets"].values() for one in sets for pair in combinations(sorted(set(one)), 2)}
    injected = {kind: [tuple(sorted(pair)) for pair in pairs] for kind, pairs in data.pairs.items()}
    counts = Counter({f"found: {kind}": sum(p in reported for p in pairs) for kind, pairs in injected.items()})
    counts.update({f"injected: {kind}": len(pairs) for kind, pairs in injected.items()})
    counts["extra"] = len(reported - {pair for pairs in injected.values() for pair in pairs})
    return counts


def label_errors(data: FaultyDataset, result: Result) -> Counts:
    """Count the images that are reported as mislabelled, and those of them that are mislabelled.

    `share` is the share of wrong labels that the audit estimates, or else the share of images that are reported.
    `evaluated` is 0 if Macula did not check the labels.
    """
    name = "label" if "label" in result["images"] else LABEL_ERRORS
    flagged, wrong = result["images"].get(name, []), set(data.mislabelled)
    figures = result["figures"].get(LABEL_ERRORS, {})
    alarm = any(one == name and severity in ALARMING for one, severity in result["alarms"])
    evaluated = name == "label" or bool(figures)
    return Counter(
        {
            "alarm": int(alarm),
            "evaluated": int(evaluated),
            "injected": len(wrong),
            "injected where evaluated": len(wrong) * evaluated,
            "flagged": len(flagged),
            "flagged correctly": len(wrong & set(flagged)),
            "share": figures.get("share", len(flagged) / len(data.samples)),
            "share at least": figures.get("at_least", 0.0),
        }
    )


def outliers(data: FaultyDataset, result: Result) -> Counts:
    """Count the injected outliers that are reported, by kind, and the other images that are reported."""
    groups = [images for name, images in result["images"].items() if not name.endswith("duplicates")]
    flagged = {path for images in groups for path in images}
    counts = Counter({f"found: {kind}": len(flagged & set(paths)) for kind, paths in data.outliers.items()})
    counts.update({f"injected: {kind}": len(paths) for kind, paths in data.outliers.items()})
    counts["extra"] = len(flagged - {path for paths in data.outliers.values() for path in paths})
    counts["images"] = len(data.samples)
    return counts


def finding_ids(data: FaultyDataset, result: Result) -> Counts:
    """Count each finding with its severity."""
    return Counter({f"{severity}: {name}": 1 for name, severity in {tuple(alarm) for alarm in result["alarms"]}})
