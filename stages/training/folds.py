"""Cross-validation inside the training images (`train.folds`): plans of the members, and what is exported of them."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from stages.config.schema_task import Evaluate
from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.core.shapes import Array, Integer, Shaped
from stages.dataset.pixel_store import PixelStore
from stages.networks.ensemble import State, average_weights
from stages.probes.cross_validation import folds
from stages.tasks import TASKS
from stages.tasks.evaluation import summarize
from stages.tasks.representations import REPRESENTATIONS
from stages.training.model_file import build_members
from stages.training.network_inference import predict_store
from stages.training.training_plan import TrainingPlan, sampling_probabilities, training_data
from stages.training.training_progress import EpochMetrics, TrainingProgress

MAX_LISTED = 8  # missing classes that are printed
Parts = list[tuple[Integer[Array, " _"], Integer[Array, " _"]]]
"""Rows of the training images of each member, and rows of its fold."""


def member_plans(plan: TrainingPlan, ingested: Path) -> Iterator[TrainingPlan]:
    """Yield the plan of each member: trained on all folds but one, validated on this fold.

    Each member has its own order of images and augmentation. Random initial weights also differ; with pretrained
    weights all layers start equal, so that the mean of the weights may be a good network.

    Args:
        plan: plan with all training images, without `auto`.
        ingested: output folder of ingest.

    Raises:
        UserError: there are fewer groups than folds, or the labels do not contain the ground truth.
    """
    for number, (train_N, fold_N) in enumerate(fold_rows(plan.data.train_set, plan.train.folds, plan.train.seed)):
        data = training_data(ingested, plan.data.train_set.subset(train_N), plan.data.train_set.subset(fold_N))
        seed = plan.train.seed + number
        loader = replace(
            plan.loader,
            store=data.train_set,
            seed=seed,
            probability_N=sampling_probabilities(data.train_set, plan.train),
        )
        train = plan.train.model_copy(update={"seed": seed if plan.weights == "none" else plan.train.seed})
        yield replace(plan, data=data, loader=loader, train=train)


def fold_rows(store: PixelStore, count: int, seed: int) -> Parts:
    """Return the rows of the training images of each member, and the rows of its fold, in ascending order.

    Folds keep groups together. They are stratified by class, or by the set of classes of an image, if the task has
    classes of images.

    Args:
        store: all training images.
        count: number of folds.
        seed: seed of the random division.

    Raises:
        UserError: there are fewer groups than folds.
    """
    group_N = store.rows["group"].to_numpy()
    groups = len(np.unique(group_N))
    if groups < count:
        raise UserError(
            f"train.folds: {count}, but the training images are in {quantity(groups, 'group')}, and a group is never "
            f"divided; {f'lower train.folds to at most {groups}' if groups > 1 else 'set train.folds to 0'}"
        )
    parts = folds(group_N, _strata(store), count, seed)
    if any(not len(fold_N) for _, fold_N in parts):  # large groups can leave a stratified fold empty
        parts = folds(group_N, None, count, seed)
    return parts


def _strata(store: PixelStore) -> Integer[Array, " N"] | None:
    """Return the class of each image, or a number for its set of classes; None if the task has no classes per image."""
    representation = store.about["representation"]
    if REPRESENTATIONS[representation].stores == "index":
        return np.asarray(store.target).astype(np.int64)
    if representation == "classes":
        return np.unique(np.asarray(store.target), axis=0, return_inverse=True)[1].reshape(-1)
    return None


def missing_classes(plan: TrainingPlan) -> list[str]:
    """Return the classes of which the training images of a member contain no image."""
    if REPRESENTATIONS[plan.data.spec.representation].stores != "index":
        return []
    labels = plan.data.spec.labels
    count_K = np.bincount(np.asarray(plan.data.train_set.target), minlength=len(labels))
    return [label for label, count in zip(labels, count_K, strict=True) if not count]


@dataclass(frozen=True)
class FoldPredictions:
    """Predictions of a member for the images of its fold, which it was not trained on."""

    truths: list[Any]
    predictions: list[Any]
    group_N: Shaped[Array, " N"]
    """Group of each image."""


def predict_fold(plan: TrainingPlan, weights: State, device: torch.device) -> FoldPredictions:
    """Predict the fold of a member.

    Args:
        plan: plan of the member.
        weights: weights of its best epoch.
        device: where the network computes.
    """
    store = plan.data.val_set
    network = build_members(plan.network_config, [weights]).to(device)
    predictions = predict_store(network, store, plan.data.spec, plan.train.batch_size, device)
    groups = store.rows["group"].to_numpy()
    group_N = groups[[rows.start for _, rows in store.rows_by_original()]]
    return FoldPredictions(plan.data.val_truths, predictions, group_N)


@dataclass(frozen=True)
class MemberChoice:
    """Weights that are exported, and the scores of the alternatives."""

    selected: str
    """ensemble or average."""
    scores: dict[str, float]
    """Validation score of `ensemble` and `average`; NaN if undefined. Boxes have `average` only."""
    weights: list[State]
    """Weights of each member, or the mean of the weights of all."""


def choose_members(plan: TrainingPlan, members: Sequence[State], device: torch.device) -> MemberChoice:
    """Score the ensemble and the mean of the weights on validation data, and select one by `train.members`.

    `auto` selects the mean of the weights if it scores at least as well, because its predictions are faster.

    Args:
        plan: plan with the validation images.
        members: weights of each member.
        device: where the networks compute.
    """
    kind, spec, truths = TASKS[plan.data.spec.task], plan.data.spec, plan.data.val_truths
    candidates = {"ensemble": list(members), "average": [average_weights(members)]}
    if REPRESENTATIONS[spec.representation].gives == "boxes":
        del candidates["ensemble"]
    scores = {}
    for name, weights in candidates.items():
        network = build_members(plan.network_config, weights).to(device)
        predictions = predict_store(network, plan.data.val_set, spec, plan.train.batch_size, device)
        scores[name] = float(kind.scores(truths, predictions, np.ones((1, len(truths))), spec)[plan.score][0])
    selected = plan.train.members
    if selected == "auto":
        sign = 1 if kind.SCORES[plan.score].better == "higher" else -1
        better = "ensemble" not in scores or sign * scores["average"] >= sign * scores["ensemble"]
        selected = "average" if better else "ensemble"
    return MemberChoice(selected, scores, candidates[selected])


def summarize_folds(
    plan: TrainingPlan, predicted: Sequence[FoldPredictions], choice: MemberChoice, best: Sequence[EpochMetrics]
) -> dict[str, Any]:
    """Return the out-of-fold scores with bootstrap intervals over groups, and how the members compare; JSON-ready.

    The intervals have the default settings of the section `evaluate`, so that a change of that section does not repeat
    the training.

    Args:
        plan: plan with all training images.
        predicted: predictions of each member for its fold.
        choice: what is exported.
        best: best epoch of each member, selected on its fold.
    """
    settings = Evaluate()
    summary, _ = summarize(
        plan.data.spec,
        [truth for fold in predicted for truth in fold.truths],
        [prediction for fold in predicted for prediction in fold.predictions],
        np.concatenate([fold.group_N for fold in predicted]),
        resamples=settings.resamples,
        confidence=settings.confidence,
        bins=settings.calibration_bins,
    )
    members = [
        {"images": len(fold.truths), "best_epoch": one.epoch, "score": _defined(one.val_score)}
        for fold, one in zip(predicted, best, strict=True)
    ]
    return summary | {
        "folds": len(predicted),
        "score": plan.score,
        "members": members,
        "requested": plan.train.members,
        "selected": choice.selected,
        "validation": {name: _defined(score) for name, score in choice.scores.items()},
    }


def mean_curves(plan: TrainingPlan, by_member: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the mean of the curves of all members that reached an epoch, and the epoch that is best in this mean.

    Args:
        plan: plan, which names the score.
        by_member: metrics of each epoch of each member, with the column `member`.
    """
    curves = by_member.drop(columns="member").groupby("epoch", as_index=False).mean()
    higher = TASKS[plan.data.spec.task].SCORES[plan.score].better == "higher"
    epochs = [EpochMetrics(**row) for row in curves.to_dict("records")]
    return curves, int(TrainingProgress(higher, epochs=epochs).best.epoch)


def _defined(value: float) -> float | None:
    return value if math.isfinite(value) else None
