"""What the course of a training says, in words and charts."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.reports import charts
from stages.reports import evaluation_report as evaluation
from stages.reports.html_page import figure

CLEAR_GAP, SLIGHT_GAP = 0.10, 0.03  # of a score, between training and validation; of others, shares of the score
STALL = 0.05  # share of the steps' time


def gap(curves: pd.DataFrame, best: int, goal: dict[str, Any], share: bool, params: dict[str, Any]) -> list[str]:
    """What the distance between training and validation means, and which params to turn.

    Args:
        curves: a row an epoch.
        best: the epoch whose weights were kept.
        goal: the objective.
        share: whether the score lies in 0..1.
        params: the sections that training took.
    """
    at = (
        curves[curves["epoch"] == best].iloc[0]
        if (curves["epoch"] == best).any()
        else curves.loc[curves["val_score"].idxmax()]
    )
    words, wanted = evaluation.target(goal)
    sign = 1 if words == "at least" else -1
    apart = sign * (at["train_score"] - at["val_score"])
    relative = apart if share else apart / max(abs(at["train_score"]), abs(at["val_score"]), 1e-9)
    in_both = f"{figure(at['train_score'], 3)} on training images and {figure(at['val_score'], 3)} in validation"
    figures = f"At the best epoch, {best}, the score is {in_both}"
    if relative > CLEAR_GAP:
        known = "The network overfits: it knows its training images better than their kind"
        said = [f"{figures}: a gap of {figure(apart, 3)}. {known}.", _against_overfitting(params)]
    elif relative > SLIGHT_GAP:
        said = [f"{figures}: a gap of {figure(apart, 3)}, some overfitting.", _against_overfitting(params)]
    elif relative < -SLIGHT_GAP:
        said = [f"{figures}. Validation is ahead: its images are easier, or too few to tell."]
    else:
        said = [f"{figures}: hardly any gap, so no sign of overfitting."]
    if max(sign * at["train_score"], sign * at["val_score"]) < sign * wanted:
        said.append(
            f"Training itself misses the objective of {words} {wanted:g}: underfitting, or labels that disagree. "
            + _against_underfitting(params)
        )
    lowest = curves.loc[curves["val_loss"].idxmin()]
    rise = curves["val_loss"].iloc[-1] / lowest["val_loss"] - 1
    if rise > 0.1:
        said.append(
            f"The validation loss was lowest at epoch {lowest['epoch']:.0f} and rose by {rise:.0%} until the end."
        )
    elif best == curves["epoch"].iloc[-1] and not goal["met"]:
        said.append("The best epoch is the last one: training longer may still help.")
    return said


def _against_overfitting(params: dict[str, Any]) -> str:
    """What is not turned yet, the mildest first."""
    augment, network, train = params["augment"], params["network"], params["train"]
    knobs = []
    if augment["preset"] != "strong":
        knobs.append(f"`augment.preset: strong` (now {augment['preset']})")
    if network["weights"] == "none":
        knobs.append("`network.weights: default` (now none)")
    knobs.append(
        f"`train.weight_decay: {min(1.0, max(0.01, 3 * train['weight_decay'])):.2g}` (now {train['weight_decay']:g})"
    )
    if network["dropout"] < 0.3:
        knobs.append(f"`network.dropout: 0.3` (now {network['dropout']:g})")
    if not network["stochastic_depth"] and network["name"].startswith("resnet"):
        knobs.append("`network.stochastic_depth: 0.1` (now 0)")
    if not train["ema_decay"]:
        knobs.append("`train.ema_decay: 0.99` (now 0)")
    return f"Against it, beside more images, one at a time: {', '.join(knobs)}; or a smaller network."


def _against_underfitting(params: dict[str, Any]) -> str:
    augment, network, train = params["augment"], params["network"], params["train"]
    knobs = [f"`train.epochs: {2 * train['epochs']}` (now {train['epochs']})"]
    if train["learning_rate"] != "auto":
        knobs.append(f"`train.learning_rate: auto` (now {train['learning_rate']:g})")
    if augment["preset"] not in ("none", "light"):
        knobs.append(f"`augment.preset: light` (now {augment['preset']})")
    if network["dropout"] or train["weight_decay"] > 0.1 or train["l1"]:
        knobs.append("less dropout, weight decay and L1")
    return f"Against underfitting, one at a time: {', '.join(knobs)}; or a larger network."


def course(curves: pd.DataFrame, best: int, score: str) -> list[Markup]:
    """Losses and scores by epoch, and how far training is ahead."""
    epochs = curves["epoch"].tolist()
    return [
        charts.curves(
            {"training": curves[f"train_{kind}"].tolist(), "validation": curves[f"val_{kind}"].tolist()},
            epochs, "epoch", ylabel, best,
        )
        for kind, ylabel in (("loss", "loss"), ("score", score.replace("_", " ")))
    ]  # fmt: skip


def pace(curves: pd.DataFrame) -> str:
    """What part of the steps was spent on images, in words; a stall is named."""
    weight = curves["seconds"] / curves["seconds"].sum()
    reading, changing = ((curves[name] * weight).sum() for name in ("loading_share", "augmentation_share"))
    said = f"Of the time of its steps, {reading:.1%} went into reading images and {changing:.1%} into augmentation."
    if reading > STALL:
        said += f" More than {STALL:.0%} for reading is a stall: use `train.cache_on_device: yes`, or a faster disk."
    return said


def range_test(tested: dict[str, Any] | None) -> Markup | None:
    """Loss by learning rate, where the rate was looked for."""
    if tested is None:
        return None
    return charts.against_rate(tested["rates"], tested["losses"], tested["rate"])
