"""Sentences for the limits section of the model card: one for each limit that was measured."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.findings import Finding
from stages.core.plurals import list_names, quantity
from stages.reports.evaluation_report import FEW_GROUPS, Trend, objective_target
from stages.reports.finding_cards import badge_of
from stages.reports.html_page import figure, words

WIDE = 0.1
"""Width from which an interval is reported: absolute for scores in 0..1, relative to the score for others."""
FEW = 20
"""Images or objects of a class: with 20 and no error, the error rate may be 17 % (Clopper and Pearson 1934)."""
MISCALIBRATED = 0.05  # expected calibration error from which it is reported
WORTHWHILE = 0.02  # reduction of the error by twice the images, from which it is reported
MAX_LISTED = 8
PLURALS = {"class": "classes"}


def sealed_test_limits(
    opened: Sequence[dict[str, Any]], mine: Sequence[dict[str, Any]], scores: dict[str, Any], chosen: str
) -> list[str]:
    """Return limits that follow from the record of openings of the sealed test.

    Args:
        opened: openings of the sealed test of this data set, for any model.
        mine: openings for this model.
        scores: scores on validation data.
        chosen: what was selected on validation data; empty if nothing was.
    """
    optimistic = f"Validation data also selected {chosen}, so the validation score is optimistic"
    if not chosen and not mine:
        other = "was opened for other models of this data, but not for this one" if opened else "has never been opened"
        return [f"The sealed test {other}."]
    if not opened:
        return [f"{optimistic}. The sealed test, which could measure by how much, has never been opened."]
    if not mine:
        return [f"{optimistic}. The sealed test was opened for other models of this data, but not for this one."]
    limits = []
    if len(opened) > 1:
        limits.append(
            f"The sealed test has been opened {len(opened)} times, {len(opened) - len(mine)} of them for other models. "
            "Its score is no longer independent of the choices made."
        )
    goal = scores["objective"]
    for last in completed_openings(mine)[-1:]:
        relation, wanted = objective_target(goal)
        met = last["value"] >= wanted if relation == "at least" else last["value"] <= wanted
        if last["score"] == goal["score"] and not met:
            limits.append(
                f"On the sealed test, the objective ({relation} {wanted:g}) is missed: {figure(last['value'], 3)}."
            )
        held = scores["scores"].get(last["score"], {"low": None, "high": None})
        lower = scores["better"].get(last["score"]) == "lower"
        if held["low"] is not None and (last["value"] > held["high"] if lower else last["value"] < held["low"]):
            limits.append(
                f"On the sealed test, {words(last['score'])} is {figure(last['value'], 3)}, worse than the whole "
                f"validation interval, {figure(held['low'], 3)} to {figure(held['high'], 3)}: expect the test score."
            )
    return limits


def completed_openings(opened: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the openings that were not interrupted before their score was written."""
    return [opening for opening in opened if not math.isnan(opening["value"])]


def score_limits(scores: dict[str, Any], calibration_error: float | None, trends: Sequence[Trend]) -> list[str]:
    """Return limits about the intervals, a missed objective, small or weak classes, calibration and image properties.

    Args:
        scores: scores on validation data.
        calibration_error: expected calibration error; None if the task has none.
        trends: relations between the error and image properties.
    """
    goal, limits = scores["objective"], []
    held = scores["scores"].get(goal["score"], {"low": None, "high": None})
    counted = f"{quantity(scores['images'], 'validation image')} in {quantity(scores['groups'], 'group')}"
    if goal["value"] is None:
        limits.append(f"The score is undefined on {counted}, so the objective cannot be judged.")
    elif held["low"] is None or held["high"] is None:
        limits.append(f"The score has no confidence interval, because there are too few images: {counted}.")
    elif scores["groups"] < FEW_GROUPS:
        limits.append(f"The intervals are based on {counted}, which are too few for reliable intervals.")
    else:
        width = held["high"] - held["low"]
        if width >= WIDE * (1.0 if goal["score"] in scores["shares"] else abs(goal["value"])):
            limits.append(
                f"The score is uncertain, {figure(held['low'], 3)} to {figure(held['high'], 3)} "
                f"({100 * scores['confidence']:g}% interval): {counted} cannot narrow it further."
            )
    if goal["value"] is not None and not goal["met"]:
        limits.append("The objective is missed.")
    if goal["better_than_constant"] is False:
        limits.append("The model is not shown to be better than a constant prediction, which ignores the image.")
    limits += _part_limits(scores)
    if calibration_error is not None and calibration_error >= MISCALIBRATED:
        limits.append(
            f"The confidence is not a calibrated probability: the expected calibration error is "
            f"{figure(calibration_error, 3)}."
        )
    return limits + [trend.sentence for trend in trends if trend.notable]


def _part_limits(scores: dict[str, Any]) -> list[str]:
    held = scores["parts"]
    names = PLURALS.get(held["kind"], f"{held['kind']}s")
    limits = []
    few = sorted((row for row in held["rows"] if row["support"] < FEW), key=lambda row: row["support"])
    if few:
        listed = list_names((f"`{row['label']}` ({row['support']})" for row in few), MAX_LISTED)
        support = "objects in the validation images" if scores.get("task") == "instances" else "validation images"
        limits.append(f"{names.capitalize()} with fewer than {FEW} {support} have uncertain scores: {listed}.")
    if not held["better"] or len(held["rows"]) < 3 or scores["groups"] < FEW_GROUPS:
        return limits
    first = next(iter(held["better"]))
    sign, best_end = (1, "high") if held["better"][first] == "higher" else (-1, "low")
    known = [row for row in held["rows"] if row[first]["value"] is not None and row["support"] >= FEW_GROUPS]
    median = float(np.median([row[first]["value"] for row in known])) if known else math.nan
    worse = [row for row in known if row[first][best_end] is not None and sign * row[first][best_end] < sign * median]
    if worse:
        worse.sort(key=lambda row: sign * row[first]["value"])
        listed = list_names((f"`{row['label']}` {_between(row[first])}" for row in worse), MAX_LISTED)
        limits.append(
            f"{quantity(len(worse), held['kind'] + ' is', names + ' are')} clearly worse than the median "
            f"{held['kind']}, whose {words(first)} is {figure(median, 3)}: {listed}."
        )
    return limits


def data_limits(findings: Sequence[Finding], waived: dict[str, str]) -> list[str]:
    """Return limits about remaining findings and about the number of images."""
    limits = []
    left = [f.id for f in findings if badge_of(f, waived.get(f.id, "")) in ("warning", "waived", "blocking")]
    if left:
        count = quantity(len(left), "finding about the data remains", "findings about the data remain")
        listed = list_names((f"`{name}`" for name in left), MAX_LISTED)
        limits.append(f"{count}, listed above: {listed}. The scores hold only for images with the same faults.")
    curve = next((f for f in findings if f.id == "learning_curve/images"), None)
    twice = curve.evidence.get("twice") if curve else None
    if twice and twice["low"] > 0 and twice["gain"] >= WORTHWHILE:
        gain, low, high = (f"{100 * twice[key]:.1f}" for key in ("gain", "low", "high"))
        limits.append(
            f"More images would help: twice as many reduce a simple model's error by {gain} points ({low} to {high})."
        )
    return limits


def file_limits(exported: dict[str, Any], metadata: dict[str, Any], shares: Sequence[str]) -> list[str]:
    """Return limits about the shipped variant, reproducibility and the licence.

    Args:
        exported: content of `variants.json`.
        metadata: metadata of the model file.
        shares: names of the scores in 0..1.
    """
    limits = []
    by_name = {variant["name"]: variant for variant in exported["variants"]}
    shipped = by_name[exported["shipped"]]
    drop = shipped["drop"]
    if shipped["precision"] != "float32" and drop and drop["high"]:
        unit = "points" if exported["score"] in shares else "%"
        limits.append(
            f"The scores were computed in float32. The shipped variant, {shipped['precision']}, may lose up to "
            f"{100 * drop['high']:.1f} {unit} of {words(exported['score'])}."
        )
    int8 = by_name.get("int8")
    if int8 and not int8["holds"]:
        limits.append(f"The smaller int8 variant is not shipped: {int8['verdict']}.")
    if metadata["commit"] == "unknown":
        limits.append("Not reproducible: the commit of the code is unknown.")
    if metadata["commit"].endswith("-dirty"):
        limits.append(f"Not reproducible: built from uncommitted changes ({metadata['commit']}).")
    if not metadata["licence"]:
        limits.append("No licence is set (`export.licence`): the permitted use of the model is undefined.")
    return limits


def _between(estimate: dict[str, Any]) -> str:
    return f"{figure(estimate['value'], 3)} [{figure(estimate['low'], 3)}, {figure(estimate['high'], 3)}]"
