"""Sentences and charts about the course of a training."""

from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.core.plurals import quantity
from stages.reports import charts
from stages.reports import evaluation_report as evaluation
from stages.reports.html_page import figure, words

CLEAR_GAP, SLIGHT_GAP = 0.10, 0.03  # training score minus validation score; relative for scores outside 0..1
STALL = 0.05  # share of the training time spent on loading images


def overfitting_sentences(
    curves: pd.DataFrame, best: int, goal: dict[str, Any], share: bool, params: dict[str, Any]
) -> list[str]:
    """Return sentences about overfitting or underfitting, and the params to change.

    Args:
        curves: one row per epoch.
        best: epoch whose weights were saved.
        goal: the objective.
        share: True if the score lies in 0..1.
        params: sections of the params that training used.
    """
    if not curves["val_score"].notna().any():
        return [
            f"The score is undefined on the validation images in every epoch. Epoch {best} was selected, which has the "
            "lowest validation loss."
        ]
    folds = params["train"].get("folds", 0)  # params of earlier versions have none
    val_images = f"the folds of {folds} members (means)" if folds else "validation images"
    relation, wanted = evaluation.objective_target(goal)
    sign = 1 if relation == "at least" else -1
    if not (curves["epoch"] == best).any():
        best = int(curves.loc[(sign * curves["val_score"]).idxmax(), "epoch"])
    at = curves[curves["epoch"] == best].iloc[0]
    gap = sign * (at["train_score"] - at["val_score"])
    relative = gap if share else gap / max(abs(at["train_score"]), abs(at["val_score"]), 1e-9)
    in_both = f"{figure(at['train_score'], 3)} on training images and {figure(at['val_score'], 3)} on {val_images}"
    figures = f"At the best epoch ({best}), the score is {in_both}"
    if relative > CLEAR_GAP:
        sentences = [f"{figures}: a gap of {figure(gap, 3)}. The network overfits.", _against_overfitting(params)]
    elif relative > SLIGHT_GAP:
        slight = f"{figures}: a gap of {figure(gap, 3)}. The network overfits slightly."
        sentences = [slight, _against_overfitting(params)]
    elif relative < -SLIGHT_GAP:
        sentences = [f"{figures}. The validation score is better: the validation images are easier, or too few."]
    else:
        sentences = [f"{figures}: there is almost no gap, so no sign of overfitting."]
    if max(sign * at["train_score"], sign * at["val_score"]) < sign * wanted:
        sentences.append(
            f"The training score also misses the objective ({relation} {wanted:g}), which indicates underfitting or "
            "wrong labels. " + _against_underfitting(params)
        )
    lowest = curves.loc[curves["val_loss"].idxmin()] if curves["val_loss"].notna().any() else None
    rise = curves["val_loss"].iloc[-1] / lowest["val_loss"] - 1 if lowest is not None else 0.0
    if lowest is not None and rise > 0.1:
        sentences.append(
            f"The validation loss was lowest at epoch {lowest['epoch']:.0f} and rose by {rise:.0%} until the last "
            "epoch."
        )
    elif best == curves["epoch"].iloc[-1] and not goal["met"]:
        sentences.append("The best epoch is the last one: more epochs may help.")
    return sentences


def out_of_fold_sentence(summary: dict[str, Any]) -> str:
    """Return a sentence with the score of the training images, each predicted by the member whose fold contains it.

    Args:
        summary: content of `out_of_fold.json`.
    """
    name = summary["score"]
    images = f"{quantity(summary['images'], 'training image')} in {quantity(summary['groups'], 'group')}"
    value, low, high = (summary["scores"][name][key] for key in ("value", "low", "high"))
    between = "" if low is None else f" [{figure(low, 3)}, {figure(high, 3)}]"
    unit = f" {summary['units'][name]}".rstrip()
    each = ", ".join(figure(one["score"], 3) for one in summary["members"])
    return (
        f"Out of fold, the {words(name)} is {figure(value, 3)}{between}{unit} on {images}, each predicted by the one "
        f"of {summary['folds']} members whose fold contains it; by fold {each}"
    )


def choice_sentence(summary: dict[str, Any]) -> str:
    """Return a sentence about the validation scores of the ensemble and of the mean of the weights, and the choice.

    Args:
        summary: content of `out_of_fold.json`.
    """
    scores, count = summary["validation"], summary["folds"]
    average = f"{figure(scores['average'], 3)} with the mean of their weights"
    exported = {"ensemble": f"all {count} members are", "average": "one network with the mean of their weights is"}
    both = f"{figure(scores['ensemble'], 3)} by the mean of the outputs of {count} members, and {average}"
    return (
        f"On validation images, the {words(summary['score'])} is {both if 'ensemble' in scores else average}; "
        f"{exported[summary['selected']]} exported (`train.members: {summary['requested']}`)"
    )


def fold_sentences(summary: dict[str, Any]) -> list[str]:
    """Return sentences about the members, for the report and the model card.

    Args:
        summary: content of `out_of_fold.json`.
    """
    return [
        f"{out_of_fold_sentence(summary)}. Each member selected its best epoch on its own fold, which makes this score "
        "slightly optimistic, and was trained on fewer images, which makes it slightly pessimistic. No member was "
        "trained on validation images, or selected an epoch by them.",
        f"{choice_sentence(summary)}.",
    ]


def _against_overfitting(params: dict[str, Any]) -> str:
    """Return a sentence that lists params against overfitting that are not used yet, mildest first."""
    augment, network, train = params["augment"], params["network"], params["train"]
    knobs = []
    if augment["preset"] != "strong":
        knobs.append(f"`augment.preset: strong` (now {augment['preset']})")
    if network["weights"] == "none" and not (network["name"] == "unet" and network["encoder"] == "plain"):
        knobs.append("`network.weights: default` (now none)")
    if train["weight_decay"] < 1:
        more = min(1.0, max(0.01, 3 * train["weight_decay"]))
        knobs.append(f"`train.weight_decay: {more:.2g}` (now {train['weight_decay']:g})")
    if network["dropout"] < 0.3 and network["name"] != "mask_rcnn":  # which has no dropout
        knobs.append(f"`network.dropout: 0.3` (now {network['dropout']:g})")
    if not network["stochastic_depth"] and network["name"].startswith("resnet"):
        knobs.append("`network.stochastic_depth: 0.1` (now 0)")
    if not train["ema_decay"]:
        knobs.append("`train.ema_decay: 0.99` (now 0)")
    return f"To reduce overfitting, add images, or try one at a time: {', '.join(knobs)}; or a smaller network."


def _against_underfitting(params: dict[str, Any]) -> str:
    augment, network, train = params["augment"], params["network"], params["train"]
    knobs = [f"`train.epochs: {2 * train['epochs']}` (now {train['epochs']})"]
    if train["learning_rate"] != "auto":
        knobs.append(f"`train.learning_rate: auto` (now {train['learning_rate']:g})")
    if augment["preset"] not in ("none", "light"):
        knobs.append(f"`augment.preset: light` (now {augment['preset']})")
    if network["dropout"] or train["weight_decay"] > 0.1 or train["l1"]:
        knobs.append("less dropout, weight decay and L1")
    return f"To reduce underfitting, try one at a time: {', '.join(knobs)}; or a larger network."


def curve_charts(curves: pd.DataFrame, best: int, score: str) -> list[Markup]:
    """Return charts of the losses and of the scores by epoch.

    Args:
        curves: losses and scores, one row per epoch.
        best: epoch whose weights were saved.
        score: name of the score.
    """
    epochs = curves["epoch"].tolist()
    return [
        charts.curves(
            {"training": curves[f"train_{kind}"].tolist(), "validation": curves[f"val_{kind}"].tolist()},
            epochs, "epoch", ylabel, best,
        )
        for kind, ylabel in (("loss", "loss"), ("score", score.replace("_", " ")))
    ]  # fmt: skip


def time_shares(curves: pd.DataFrame) -> str:
    """Return text about the shares of time spent on loading and augmenting images, with advice if loading is slow."""
    weight = curves["seconds"] / curves["seconds"].sum()
    loading, augmenting = ((curves[name] * weight).sum() for name in ("loading_share", "augmentation_share"))
    sentence = f"Loading images took {loading:.1%} of the training time, augmentation {augmenting:.1%}."
    if loading > STALL:
        sentence += " Loading is a bottleneck: `train.cache_on_device: yes` or a faster disk may help."
    return sentence


def range_test_chart(test: dict[str, Any] | None) -> Markup | None:
    """Return a chart of the learning-rate range test; None if there was none."""
    if test is None:
        return None
    return charts.loss_by_rate(test["rates"], test["losses"], test["rate"])
