"""What scores and errors say, in words and figures, for every task."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from stages.reports import charts

MOST_CONFUSED = 20  # classes up to which the confusions are a table with numbers
NOTABLE = 0.3  # rank correlation of error and a property of images
FEW_GROUPS = 5  # of a bootstrap: fewer have too few resamples that differ
FEWEST = 10  # images for a rank correlation
PROPERTIES = {"size": "larger", "brightness": "brighter"}


def target(goal: dict[str, Any]) -> tuple[str, float]:
    """`at least` or `at most`, and the value."""
    if goal["at_least"] is not None:
        return "at least", goal["at_least"]
    return "at most", goal["at_most"]


def verdict(scores: dict[str, Any]) -> str:
    """What the objective and the interval together allow to say."""
    goal = scores["objective"]
    interval = scores["scores"].get(goal["score"], {"low": None, "high": None})
    low, high, images = interval["low"], interval["high"], scores["images"]
    words, wanted = target(goal)
    if goal["value"] is None:
        return "The score is undefined on these validation images, so the objective cannot be judged."
    if low is None or high is None:
        return "No interval could be computed, so take the figure with care."
    if scores["groups"] < FEW_GROUPS:
        return (
            f"The interval rests on {scores['groups']} groups of images that belong together, too few to be believed: "
            "another group may well give another score."
        )
    worse, better = (low, high) if words == "at least" else (-high, -low)
    mark = wanted if words == "at least" else -wanted
    ends = ("lower", "upper") if words == "at least" else ("upper", "lower")
    if goal["met"] and worse >= mark:
        return f"Even the {ends[0]} end of the interval reaches the objective."
    if goal["met"]:
        reaches = "below" if words == "at least" else "above"
        return f"The interval reaches {reaches} the objective, though: with {images} images, luck cannot be ruled out."
    if better >= mark:
        return f"The objective lies within the interval, though: {images} images are too few to rule it out."
    stays = "below" if words == "at least" else "above"
    return (
        f"Even the {ends[1]} end of the interval stays {stays} it: more images, a closer look at the errors, or both."
    )


def parts(scores: dict[str, Any]) -> dict[str, Any]:
    """The table of classes, points or scalars, the worst first."""
    held = scores["parts"]
    names = list(held["better"])
    if not names:
        return {"part_kind": held["kind"], "part_scores": [], "part_rows": [], "part_share": True}
    first, sign = names[0], 1 if held["better"][names[0]] == "higher" else -1

    def order(row: dict[str, Any]) -> tuple[bool, float]:
        value = row[first]["value"]
        return (value is None, 0.0 if value is None else sign * value)

    rows = sorted(held["rows"], key=order)
    return {"part_kind": held["kind"], "part_scores": names, "part_rows": rows, "part_share": held["share"]}


def figures(scores: dict[str, Any]) -> dict[str, Any]:
    """What only some tasks have, in figures and words; None or empty where this one has not."""
    held = scores["details"]
    labels = [row["label"] for row in scores["parts"]["rows"]]
    confusion = held.get("confusion")
    wrong = [(i, j) for i, row in enumerate(confusion or []) for j, n in enumerate(row) if i != j and n]
    pairs = [(confusion[i][j], confusion[i][j] / sum(confusion[i]), labels[i], labels[j]) for i, j in wrong]
    return {
        "confused": sorted(pairs, reverse=True)[:15],
        "calibration_error": held.get("calibration", {}).get("expected_calibration_error"),
        "agreement": [_agreement(name, found) for name, found in held.get("agreement", {}).items()],
        "others": _others(held),
    }


def details(scores: dict[str, Any]) -> dict[str, Any]:
    """The same with charts."""
    held, told = scores["details"], figures(scores)
    labels = [row["label"] for row in scores["parts"]["rows"]]
    confusion = held.get("confusion")
    bins = [b for b in held.get("calibration", {"bins": []})["bins"] if b["count"] and b["accuracy"] is not None]
    curve = held.get("pck_curve") or []
    compared = zip(told["agreement"], held.get("agreement", {}).items(), strict=True)
    return told | {
        "labels": labels,
        "confusion": confusion,
        "heat_map": charts.heat_map(confusion, labels) if confusion and len(labels) > MOST_CONFUSED else None,
        "reliability": charts.reliability(*([b[k] for b in bins] for k in ("confidence", "accuracy", "count")))
        if bins
        else None,
        "agreement": [(name, said, _against(name, found)) for said, (name, found) in compared],
        "pck_curve": charts.curves(
            {"points": [share for _, share in curve]}, [t for t, _ in curve], "tolerance, share of the diagonal",
            "share of points", None,
        )
        if curve
        else None,
    }  # fmt: skip


def _agreement(name: str, found: dict[str, Any]) -> str:
    """The limits of agreement in words."""
    unit = f" {found['unit']}".rstrip()
    off = f"{abs(found['bias']):.3g}{unit} too {'high' if found['bias'] > 0 else 'low'}" if found["bias"] else "rightly"
    return (
        f"On average {name} is answered {off}; "
        f"95 % of the differences lie between {found['low']:.3g} and {found['high']:.3g}{unit} (Bland and Altman 1986)."
    )


def _against(name: str, found: dict[str, Any]) -> Markup:
    """Truth against answer."""
    truth, answer = zip(*found["pairs"], strict=True)
    unit = f" {found['unit']}".rstrip()
    return charts.against(truth, answer, f"{name}, truth{unit}", f"{name}, answer{unit}")


DRAWN = ("confusion", "calibration", "agreement", "pck_curve")


def _others(held: dict[str, Any]) -> list[tuple[str, str]]:
    """Details without a chart of their own."""
    from stages.reports.finding_cards import flat

    return list(flat({key: value for key, value in held.items() if key not in DRAWN and value not in (None, {})}))


@dataclass(frozen=True)
class Trend:
    """How the error of images goes with one of their properties."""

    column: str
    rank: float
    """Rank correlation (Spearman) of the error and the property, -1 to 1."""
    says: str
    rows: pd.DataFrame
    """An image a row, with `error` and the property."""

    @property
    def notable(self) -> bool:
        """Strong enough to be worth a word of its own."""
        return abs(self.rank) >= NOTABLE


def related(predictions: pd.DataFrame, manifest: pd.DataFrame) -> list[Trend]:
    """Error against the size and the brightness of images, where these vary."""
    rows = predictions.merge(manifest[["path", "width", "height", "brightness"]], on="path")
    rows = rows.assign(size=np.sqrt(rows["width"] * rows["height"]))
    found = []
    for column, words in PROPERTIES.items():
        if len(rows) < FEWEST or rows[column].nunique() < 3 or rows["error"].nunique() < 3:
            continue
        rank = float(rows[[column, "error"]].corr("spearman").iloc[0, 1])
        how = "neither better nor worse" if abs(rank) < NOTABLE else "worse" if rank > 0 else "better"
        found.append(Trend(column, rank, f"Images that are {words} are {how} (rank correlation {rank:+.2f}).", rows))
    return found


def trends(predictions: pd.DataFrame, manifest: pd.DataFrame) -> list[tuple[str, Markup]]:
    """A sentence and a chart for each of `related`."""
    units = {"size": "size, pixels (root of the area)", "brightness": "brightness, grey level"}
    return [
        (
            one.says,
            charts.trend(one.rows[one.column].tolist(), one.rows["error"].tolist(), units[one.column], "error"),
        )
        for one in related(predictions, manifest)
    ]
