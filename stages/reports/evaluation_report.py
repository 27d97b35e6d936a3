"""Sentences, tables and charts about the scores and errors of every task."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from stages.core.plurals import list_names, quantity
from stages.reports import charts
from stages.reports.html_page import figure, words

MAX_CONFUSION_TABLE = 20  # classes up to which the confusion matrix is a table with numbers
NOTABLE = 0.3  # absolute rank correlation of the error with a property of images
FEW_GROUPS = 5  # groups; a bootstrap of fewer has too few distinct resamples
MAX_LISTED = 8  # classes with their thresholds
MIN_IMAGES = 10  # for a rank correlation
PROPERTIES = {"size": "larger", "brightness": "brighter"}


def objective_target(goal: dict[str, Any]) -> tuple[str, float]:
    """Return `at least` or `at most`, and the value of the objective."""
    if goal["at_least"] is not None:
        return "at least", goal["at_least"]
    return "at most", goal["at_most"]


def objective_outcome(goal: dict[str, Any]) -> str:
    """Return `met`, `missed`, or `not judged` if the score is undefined."""
    return "not judged" if goal["value"] is None else "met" if goal["met"] else "missed"


def constant_sentence(scores: dict[str, Any], name: str) -> str:
    """Return sentences that compare a score of the model with that of the best constant prediction.

    Args:
        scores: summary of an evaluation, with the comparison `constant`.
        name: a score.
    """
    constant, unit = scores["constant"][name], f" {scores['units'][name]}".rstrip()
    if constant["value"] is None:
        return f"The {words(name)} of the best constant prediction, {constant['prediction']}, is undefined."
    before = f"The best constant prediction, {constant['prediction']}, has the {words(name)} {_three(constant)}{unit}."
    return _with_difference(before, "model", constant, unit)


def baseline_sentence(scores: dict[str, Any], name: str) -> str:
    """Return sentences that compare a score of the model with that of the baseline, or say why there is none.

    Args:
        scores: summary of an evaluation, with the comparison `baseline`.
        name: a score.
    """
    baseline, unit = scores["baseline"], f" {scores['units'][name]}".rstrip()
    if not baseline["available"]:
        return f"There is no baseline: {baseline['reason']}."
    figures = baseline["scores"][name]
    if figures["value"] is None:
        return f"The {words(name)} of the baseline, {baseline['model']}, is undefined."
    before = f"The baseline, {baseline['model']}, has the {words(name)} {_three(figures)}{unit}."
    return _with_difference(before, "network", figures, unit)


def output_sentences(scores: dict[str, Any]) -> list[str]:
    """Return sentences about test-time augmentation, temperature and thresholds; empty if none was considered.

    Args:
        scores: summary of an evaluation; those of earlier versions have no `outputs`.
    """
    outputs = scores.get("outputs", {})
    sentences = []
    if outputs.get("views"):
        name = outputs["score"]
        value, without = (figure(one, 3) for one in (scores["scores"][name]["value"], outputs["without_views"]))
        views = ", ".join(VIEWS[view] for view in outputs["views"])
        sentences.append(
            f"The outputs are averaged over the image and its changes ({views}): the {words(name)} is {value}, and "
            f"{without} without them."
        )
    if outputs.get("other_views") and not outputs.get("views"):
        reasons = "; ".join(dict.fromkeys(outputs["other_views"].values()))
        sentences.append(f"Outputs are not averaged over changed images (`evaluate.test_time: auto`): {reasons}.")
    return sentences + ([_fit_sentence(outputs, scores)] if "before" in outputs else [])


VIEWS = {"mirror": "mirrored", "upside_down": "upside down", "turn": "turned by 90 degrees"}


def _fit_sentence(outputs: dict[str, Any], scores: dict[str, Any]) -> str:
    """Return a sentence about the fitted temperature or thresholds, with figures before and after."""
    is_temperature = "log_loss" in outputs["before"]
    what = "A temperature" if is_temperature else "A threshold per class"
    if "after" not in outputs:
        return f"{what} was {outputs['why']}."
    figures = ", ".join(
        f"{words(name)} {figure(outputs['before'][name], 3)} before, {figure(outputs['after'][name], 3)} after"
        for name in outputs["before"]
    )
    fair = "on validation images of other groups than those that fitted it"
    if not outputs["applied"]:
        return f"{what} was {outputs['why']} ({figures})."
    if is_temperature:
        return (
            f"The raw outputs are divided by a temperature of {figure(outputs['temperature'], 3)} ({figures}, {fair})."
        )
    pairs = zip((row["label"] for row in scores["parts"]["rows"]), outputs["thresholds"], strict=True)
    listed = list_names((f"{label} {figure(value, 3)}" for label, value in pairs), MAX_LISTED)
    return f"The probabilities are shifted so that 0.5 is the best threshold; it was at {listed} ({figures}, {fair})."


def _with_difference(before: str, what: str, figures: dict[str, Any], unit: str) -> str:
    """Return a sentence, followed by one that says whether the model is better, if the difference is defined."""
    if figures["difference"]["value"] is None:
        return before
    if figures["difference"]["low"] is None:
        return f"{before} Images of a single group cannot show that the {what} is better."
    verdict = "is better" if figures["better"] else "is not shown to be better"
    return f"{before} The {what} {verdict}: the difference is {_three(figures['difference'], '+')}{unit}."


def _three(figures: dict[str, Any], sign: str = "") -> str:
    """Return a value and its interval with three decimals."""
    value, low, high = (
        None if figures[key] is None else f"{figures[key]:{sign}.3f}" for key in ("value", "low", "high")
    )
    return f"{value}" if low is None else f"{value} [{low}, {high}]"


def objective_verdict(scores: dict[str, Any]) -> str:
    """Return a sentence that compares the confidence interval with the objective, or says why this is impossible."""
    goal = scores["objective"]
    interval = scores["scores"].get(goal["score"], {"low": None, "high": None})
    low, high, images = interval["low"], interval["high"], scores["images"]
    relation, wanted = objective_target(goal)
    if goal["value"] is None:
        return "The score is undefined on these validation images, so the objective cannot be judged."
    if goal["reached"] and not goal["met"]:
        return (
            "The score reaches the objective, but the model is not shown to be better than a constant prediction, so "
            "the objective counts as missed."
        )
    if low is None or high is None:
        return "No confidence interval could be computed, so the score is uncertain."
    if scores["groups"] < FEW_GROUPS:
        return (
            f"The interval is based on only {quantity(scores['groups'], 'group')} of images and is not reliable: "
            "other groups may give a different score."
        )
    worse, better = (low, high) if relation == "at least" else (-high, -low)
    mark = wanted if relation == "at least" else -wanted
    ends = ("lower", "upper") if relation == "at least" else ("upper", "lower")
    if goal["met"] and worse >= mark:
        return f"The {ends[0]} end of the interval also meets the objective."
    if goal["met"]:
        reaches = "below" if relation == "at least" else "above"
        return (
            f"However, the interval extends {reaches} the objective: with {quantity(images, 'image')}, the result may "
            "be due to chance."
        )
    if better >= mark:
        return f"However, the objective lies within the interval: {images:,} images are too few to rule it out."
    stays = "below" if relation == "at least" else "above"
    return f"The {ends[1]} end of the interval is also {stays} the objective: add images, and look at the errors."


def parts_table(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the table of classes, points or scalars, worst first."""
    table = scores["parts"]
    names = list(table["better"])
    if not names:
        return {"part_kind": table["kind"], "part_scores": [], "part_rows": [], "part_share": True}
    first, sign = names[0], 1 if table["better"][names[0]] == "higher" else -1

    def order(row: dict[str, Any]) -> tuple[bool, float]:
        value = row[first]["value"]
        return (value is None, 0.0 if value is None else sign * value)

    rows = sorted(table["rows"], key=order)
    return {"part_kind": table["kind"], "part_scores": names, "part_rows": rows, "part_share": table["share"]}


def task_figures(scores: dict[str, Any]) -> dict[str, Any]:
    """Return the figures and sentences that only some tasks have; None or empty if this task does not have them."""
    details = scores["details"]
    labels = [row["label"] for row in scores["parts"]["rows"]]
    confusion = details.get("confusion")
    wrong = [(i, j) for i, row in enumerate(confusion or []) for j, n in enumerate(row) if i != j and n]
    pairs = [(confusion[i][j], confusion[i][j] / sum(confusion[i]), labels[i], labels[j]) for i, j in wrong]
    return {
        "confused": sorted(pairs, reverse=True)[:15],
        "calibration_error": details.get("calibration", {}).get("expected_calibration_error"),
        "agreement": [_agreement(name, limits) for name, limits in details.get("agreement", {}).items()],
        "others": _others(details),
    }


def task_charts(scores: dict[str, Any]) -> dict[str, Any]:
    """Return `task_figures` together with charts, the class labels and the confusion matrix."""
    details, figures = scores["details"], task_figures(scores)
    labels = [row["label"] for row in scores["parts"]["rows"]]
    confusion = details.get("confusion")
    bins = [b for b in details.get("calibration", {"bins": []})["bins"] if b["count"] and b["accuracy"] is not None]
    curve = details.get("pck_curve") or []
    compared = zip(figures["agreement"], details.get("agreement", {}).items(), strict=True)
    return figures | {
        "labels": labels,
        "confusion": confusion,
        "heat_map": charts.heat_map(confusion, labels) if confusion and len(labels) > MAX_CONFUSION_TABLE else None,
        "reliability": charts.reliability(*([b[k] for b in bins] for k in ("confidence", "accuracy", "count")))
        if bins
        else None,
        "agreement": [(name, sentence, _scatter(name, limits)) for sentence, (name, limits) in compared],
        "pck_curve": charts.curves(
            {"points": [share for _, share in curve]}, [t for t, _ in curve], "tolerance, share of the diagonal",
            "share of points", None,
        )
        if curve
        else None,
    }  # fmt: skip


def _agreement(name: str, limits: dict[str, Any]) -> str:
    """Return a sentence about the limits of agreement (Bland and Altman 1986)."""
    unit = f" {limits['unit']}".rstrip()
    bias = limits["bias"]
    mean = f"{abs(bias):.3g}{unit} too {'high' if bias > 0 else 'low'}" if bias else "unbiased"
    return (
        f"On average, predictions of {name} are {mean}. The limits of agreement are {limits['low']:.3g} to "
        f"{limits['high']:.3g}{unit} (mean difference \N{PLUS-MINUS SIGN} 1.96 standard deviations, Bland and Altman "
        "1986)."
    )


def _scatter(name: str, limits: dict[str, Any]) -> Markup:
    """Return a chart of predictions against truths."""
    truth, prediction = zip(*limits["pairs"], strict=True)
    unit = f" {limits['unit']}".rstrip()
    return charts.prediction_scatter(truth, prediction, f"{name}, truth{unit}", f"{name}, prediction{unit}")


DRAWN = ("confusion", "calibration", "agreement", "pck_curve")


def _others(details: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the details that have no chart."""
    from stages.reports.finding_cards import flatten_evidence

    return list(
        flatten_evidence({key: value for key, value in details.items() if key not in DRAWN and value not in (None, {})})
    )


@dataclass(frozen=True)
class Trend:
    """Relation between the error of images and one of their properties."""

    column: str
    rank: float
    """Spearman rank correlation of the error with the property, -1 to 1."""
    sentence: str
    rows: pd.DataFrame
    """One row per image, with the columns `error` and the property."""

    @property
    def notable(self) -> bool:
        """True if the correlation is strong enough to be reported as a limit."""
        return abs(self.rank) >= NOTABLE


def error_trends(predictions: pd.DataFrame, manifest: pd.DataFrame) -> list[Trend]:
    """Return how the error depends on the size and the brightness of images, where these vary.

    A property is omitted if it or the error has fewer than three values; all are omitted for fewer than `MIN_IMAGES`.
    """
    rows = predictions.merge(manifest[["path", "width", "height", "brightness"]], on="path")
    rows = rows.assign(size=np.sqrt(rows["width"] * rows["height"]))
    trends = []
    for column, adjective in PROPERTIES.items():
        if len(rows) < MIN_IMAGES or rows[column].nunique() < 3 or rows["error"].nunique() < 3:
            continue
        rank = float(rows[[column, "error"]].corr("spearman").iloc[0, 1])
        effect = "neither better nor worse" if abs(rank) < NOTABLE else "worse" if rank > 0 else "better"
        sentence = f"Predictions are {effect} for {adjective} images (rank correlation with the error {rank:+.2f})."
        trends.append(Trend(column, rank, sentence, rows))
    return trends


def trend_charts(predictions: pd.DataFrame, manifest: pd.DataFrame) -> list[tuple[str, Markup]]:
    """Return a sentence and a chart for each trend of `error_trends`."""
    units = {"size": "size, pixels (root of the area)", "brightness": "brightness, grey level"}
    return [
        (
            trend.sentence,
            charts.trend(trend.rows[trend.column].tolist(), trend.rows["error"].tolist(), units[trend.column], "error"),
        )
        for trend in error_trends(predictions, manifest)
    ]
