"""What a model's card warns of: one sentence for each limit that was measured, and none that was not."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stages.core.findings import Finding
from stages.reports.evaluation_report import FEW_GROUPS, Trend, target
from stages.reports.finding_cards import badge_of
from stages.reports.html_page import figure, words

WIDE = 0.1
"""Width from which an interval is worth a word: of a share in points, of other scores as a share of the score."""
FEW = 20
"""Images or things of a class, point or number: of 20 without an error 17 % may be wrong (Clopper and Pearson 1934)."""
UNSURE = 0.05  # expected calibration error from which confidence is no probability
WORTH = 0.02  # of a simple probe's error, which twice the images would take off
MOST_NAMED = 8
PLURALS = {"class": "classes"}


def of_the_test(
    opened: Sequence[dict[str, Any]], mine: Sequence[dict[str, Any]], scores: dict[str, Any], chosen: str
) -> list[str]:
    """What the record of openings leaves open.

    Args:
        opened: openings of this data set's sealed test, for any model.
        mine: those of them that were for this one.
        scores: of validation.
        chosen: what the validation images chose, in words.
    """
    flattering = f"The validation images also chose {chosen}, so their score is rather too high than too low"
    if not opened:
        return [f"{flattering}. The sealed test alone could tell, and it has never been opened."]
    if not mine:
        return [f"{flattering}. The sealed test was opened for other models of this data, never for this one."]
    said = []
    if len(opened) > 1:
        said.append(
            f"The sealed test has been looked at {len(opened)} times, {len(opened) - len(mine)} of them for other "
            "models: what a look teaches may go into the next model, so each one makes the test worth less."
        )
    goal = scores["objective"]
    for last in told_by(mine)[-1:]:
        word, wanted = target(goal)
        met = last["value"] >= wanted if word == "at least" else last["value"] <= wanted
        if last["score"] == goal["score"] and not met:
            said.append(f"On the sealed test the objective, {word} {wanted:g}, is missed: {figure(last['value'], 3)}.")
        held = scores["scores"].get(last["score"], {"low": None, "high": None})
        lower = scores["better"].get(last["score"]) == "lower"
        if held["low"] is not None and (last["value"] > held["high"] if lower else last["value"] < held["low"]):
            said.append(
                f"On the sealed test {words(last['score'])} is {figure(last['value'], 3)}, worse than the whole "
                f"interval of validation, {figure(held['low'], 3)} to {figure(held['high'], 3)}: expect the former."
            )
    return said


def told_by(opened: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The openings that were not broken off before a figure was written."""
    return [opening for opening in opened if not math.isnan(opening["value"])]


def of_the_scores(scores: dict[str, Any], calibration_error: float | None, trends: Sequence[Trend]) -> list[str]:
    """Intervals that say little, parts that are clearly worse, images that are."""
    goal, said = scores["objective"], []
    held = scores["scores"].get(goal["score"], {"low": None, "high": None})
    counted = f"{scores['images']} validation images in {scores['groups']} groups"
    if held["low"] is None or held["high"] is None:
        said.append(f"The score has no interval: {counted} do not give one.")
    elif scores["groups"] < FEW_GROUPS:
        said.append(f"The intervals rest on {counted}: too few to be believed.")
    else:
        width = held["high"] - held["low"]
        if width >= WIDE * (1.0 if goal["score"] in scores["shares"] else abs(goal["value"])):
            said.append(
                f"The score may lie anywhere from {figure(held['low'], 3)} to {figure(held['high'], 3)} "
                f"({100 * scores['confidence']:g} % interval): {counted} tell no more."
            )
    if not goal["met"]:
        said.append("The objective is missed.")
    said += _of_the_parts(scores)
    if calibration_error is not None and calibration_error >= UNSURE:
        said.append(
            f"Its confidence is no probability: on average it is {figure(calibration_error, 3)} away from the share "
            "that is right (expected calibration error)."
        )
    return said + [trend.says for trend in trends if trend.notable]


def _of_the_parts(scores: dict[str, Any]) -> list[str]:
    held = scores["parts"]
    names = PLURALS.get(held["kind"], f"{held['kind']}s")
    said = []
    few = sorted((row for row in held["rows"] if row["support"] < FEW), key=lambda row: row["support"])
    if few:
        listed = _listed([f"`{row['label']}` ({row['support']})" for row in few])
        said.append(
            f"Of these {names} validation holds fewer than {FEW}, so that their own scores say little: {listed}."
        )
    if not held["better"] or len(held["rows"]) < 3 or scores["groups"] < FEW_GROUPS:
        return said
    first = next(iter(held["better"]))
    sign, far = (1, "high") if held["better"][first] == "higher" else (-1, "low")
    known = [row for row in held["rows"] if row[first]["value"] is not None and row["support"] >= FEW_GROUPS]
    middle = float(np.median([row[first]["value"] for row in known])) if known else math.nan
    worse = [row for row in known if row[first][far] is not None and sign * row[first][far] < sign * middle]
    if worse:
        worse.sort(key=lambda row: sign * row[first]["value"])
        listed = _listed([f"`{row['label']}` {_between(row[first])}" for row in worse])
        said.append(
            f"Clearly worse than the median {held['kind']}, whose {words(first)} is {figure(middle, 3)}: {listed}."
        )
    return said


def of_the_data(findings: Sequence[Finding], waived: dict[str, str]) -> list[str]:
    """What checks and audits left, and whether more images would help."""
    said = []
    left = [f.id for f in findings if badge_of(f, waived.get(f.id, "")) in ("warning", "waived", "blocking")]
    if left:
        count = "1 finding about the data remains" if len(left) == 1 else f"{len(left)} findings about the data remain"
        listed = _listed([f"`{name}`" for name in left])
        said.append(f"{count}, told above: {listed}. The scores hold for images with the same faults.")
    curve = next((f for f in findings if f.id == "learning_curve/images"), None)
    twice = curve.evidence.get("twice") if curve else None
    if twice and twice["low"] > 0 and twice["gain"] >= WORTH:
        gain, low, high = (f"{100 * twice[key]:.1f}" for key in ("gain", "low", "high"))
        said.append(
            f"More images would help: twice as many take {gain} points ({low} to {high}) off a simple probe's error."
        )
    return said


def of_the_file(exported: dict[str, Any], metadata: dict[str, Any], shares: Sequence[str]) -> list[str]:
    """What is shipped may differ from what was evaluated; what nobody said; what cannot be made again."""
    said = []
    by_name = {variant["name"]: variant for variant in exported["variants"]}
    shipped = by_name[exported["shipped"]]
    drop = shipped["drop"]
    if shipped["precision"] != "float32" and drop and drop["high"]:
        unit = "points" if exported["score"] in shares else "%"
        said.append(
            f"The scores are of the network in float32. What is shipped, {shipped['precision']}, may cost up to "
            f"{100 * drop['high']:.1f} {unit} of {words(exported['score'])}."
        )
    int8 = by_name.get("int8")
    if int8 and not int8["holds"]:
        said.append(f"int8, which is smaller, is not shipped: {int8['verdict']}.")
    if metadata["commit"].endswith("-dirty") or metadata["commit"] == "unknown":
        said.append(f"It cannot be made again for certain: its code is that of no commit ({metadata['commit']}).")
    if not metadata["licence"]:
        said.append("No licence is set (`export.licence`): nobody has said who may use the model, and for what.")
    return said


def _between(estimate: dict[str, Any]) -> str:
    return f"{figure(estimate['value'], 3)} [{figure(estimate['low'], 3)}, {figure(estimate['high'], 3)}]"


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
