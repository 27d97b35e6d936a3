"""Everything that defines a training, as one immutable value: `tune` builds a plan per trial, `train` the final one."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from stages.augmentations import AugmentationChoice, AugmentationData, Policy, choose_augmentations, resolve_padding
from stages.config.combinations import (
    class_weights_problem,
    early_size_problem,
    foreground_problem,
    members_problem,
    output_problem,
)
from stages.config.schema_training import Augment, Network, Train
from stages.core.errors import UserError
from stages.dataset.channel_statistics import channel_statistics
from stages.dataset.pixel_store import PixelStore, open_split
from stages.networks import NetworkConfig, architecture
from stages.networks.pretrained import locate_weights
from stages.tasks.build_spec import score_of
from stages.tasks.ground_truth import truths_of
from stages.tasks.representations import REPRESENTATIONS, loss_of
from stages.tasks.task_spec import TaskSpec, task_spec_of
from stages.training.batch_loader import BatchLoader
from stages.training.foreground_sampling import foreground_probabilities

Array = np.ndarray[Any, Any]
MAX_TRAIN_SAMPLE = 1000  # training images that are scored: enough to measure a gap of a few percent


@dataclass(frozen=True)
class TrainingData:
    """Prepared images and their ground truth, shared by all trials of a search."""

    spec: TaskSpec
    train_set: PixelStore
    val_set: PixelStore
    val_truths: list[Any]
    """Ground truth of each original image of `val_set`."""
    train_sample: PixelStore
    """Training images without augmentation, from as many originals as there are for validation and at most 1,000. Their
    score shows overfitting."""
    train_truths: list[Any]
    """Ground truth of each original image of `train_sample`."""

    @cached_property
    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of the training images per channel, 0..1; see `channel_statistics`."""
        return channel_statistics(self.train_set, self.spec.white_level)


@dataclass(frozen=True)
class ResolvedParam:
    """Value that replaces the one in the params: chosen for `auto`, or because the setting has no effect."""

    key: str
    value: Any
    why: str


@dataclass(frozen=True)
class TrainingPlan:
    """Data, network, augmentation, optimization, and the score that selects the best epoch."""

    data: TrainingData
    network_config: NetworkConfig
    loader: BatchLoader
    train: Train
    """Section `train`; `auto_params.resolve_auto` replaces its `auto` values."""
    network: Network
    """Section `network`; `auto_params.resolve_auto` replaces its `auto` values. `network_config` is made from it."""
    weights: str
    """Initial weights: none, default, an address or a path."""
    score: str
    loss: str

    def unresolved(self) -> list[str]:
        """Return the keys of `train` and `network` that are still `auto`.

        `train.members` is decided after the training.
        """
        sections = {"train": self.train, "network": self.network}
        keys = [f"{s}.{key}" for s, values in sections.items() for key, value in values if value == "auto"]
        return [key for key in keys if key != "train.members"]


def load_training_data(ingested: Path, prepared: Path) -> TrainingData:
    """Open the splits that `prepare` wrote and read the ground truth of the images that are scored.

    Raises:
        UserError: the manifest was written by another version, or the labels do not contain the ground truth.
    """
    return training_data(ingested, open_split(prepared, "train"), open_split(prepared, "val"))


def training_data(ingested: Path, train_set: PixelStore, val_set: PixelStore) -> TrainingData:
    """Return training and validation images with the ground truth of those that are scored.

    Args:
        ingested: output folder of ingest.
        train_set: images to train on.
        val_set: images whose score selects the best epoch.

    Raises:
        UserError: the manifest was written by another version, or the labels do not contain the ground truth.
    """
    spec = task_spec_of(train_set.about)
    sample = _evenly_spaced(train_set, min(MAX_TRAIN_SAMPLE, len(list(val_set.rows_by_original()))))
    truths = [truths_of(ingested, [path for path, _ in store.rows_by_original()], spec) for store in (val_set, sample)]
    return TrainingData(spec, train_set, val_set, truths[0], sample, truths[1])


def _evenly_spaced(store: PixelStore, count: int) -> PixelStore:
    """Return at most `count` original images, evenly spaced in the order of the store, with all their tiles."""
    originals = list(store.rows_by_original())
    chosen = np.unique(np.linspace(0, len(originals) - 1, min(count, len(originals))).round().astype(int))
    index_B = np.concatenate([np.arange(len(store))[originals[i][1]] for i in chosen])
    return store.select(index_B)


def build_plan(data: TrainingData, sections: Mapping[str, Any], weights: Path) -> TrainingPlan:
    """Build a plan from params.

    Args:
        data: images and ground truth.
        sections: the params sections `task`, `augment`, `network` and `train`.
        weights: folder of pretrained weights.

    Raises:
        UserError: the sections contradict each other or do not suit the data, a name is unknown, or the file of
            pretrained weights does not exist.
    """
    network: Network = sections["network"]
    train: Train = sections["train"]
    spec = data.spec
    config = _network_config(network, spec)
    if problem := early_size_problem(train, spec.representation, spec.size):
        raise UserError(problem)
    if problem := members_problem(spec.representation, train.folds, train.members):
        raise UserError(problem)
    probability_N = sampling_probabilities(data.train_set, train)
    policy, _ = build_policy(sections["augment"], data.train_set)
    return TrainingPlan(
        data=data,
        network_config=config,
        loader=BatchLoader(
            data.train_set,
            spec,
            policy,
            train.batch_size,
            train.seed,
            probability_N,
            early_size=train.early_size,
            early_epochs=train.early_epochs,
        ),
        train=train,
        network=network,
        score=score_of(spec.task, sections["task"].score),
        weights=locate_weights(network.weights, weights),
        loss=loss_of(spec.representation, train.loss),
    )


def _network_config(network: Network, spec: TaskSpec) -> NetworkConfig:
    kind = REPRESENTATIONS[spec.representation]
    architecture(network.name)  # raises if it is unknown
    if problem := output_problem(network.name, spec.task, spec.representation):
        raise UserError(problem)
    return NetworkConfig(
        name=network.name,
        encoder=network.encoder,
        channels=spec.channels,
        outputs=kind.outputs(spec),
        norm=network.norm,
        dropout=network.dropout,
        feature_noise=network.feature_noise,
        stochastic_depth=network.stochastic_depth,
        size=spec.size,
        masks=spec.masks,
    )


def build_policy(augment: Augment, train_set: PixelStore) -> tuple[Policy, list[AugmentationChoice]]:
    """Return the augmentation policy for the training images, and the decision on every augmentation with its reason.

    Raises:
        UserError: an augmentation is unknown, has invalid parameters, or cannot be applied to these images.
    """
    spec = task_spec_of(train_set.about)
    data = augmentation_data(train_set)
    chosen = choose_augmentations(augment, data)
    amounts = {one.name: one.amounts for one in chosen if one.amounts is not None}
    outside = resolve_padding(augment.padding, data)
    return Policy(amounts, size=spec.size, channels=spec.channels, outside=outside), chosen


def augmentation_data(train_set: PixelStore) -> AugmentationData:
    """Return the properties of the training images that determine which augmentations apply."""
    bones = train_set.bones is not None and len(train_set.bones.bone_T7) > 0
    statistics = {name: train_set.about[name] for name in ("symmetry_auc", "symmetry_score_drop", "black_border_share")}
    return AugmentationData(task_spec_of(train_set.about), bones=bones, **statistics)


def sampling_probabilities(train_set: PixelStore, train: Train) -> Array | None:
    """Return the sampling probabilities of the training images [N]; None if every image occurs once per epoch.

    Raises:
        UserError: the targets have no classes by which the images could be sampled, or no tile has foreground.
    """
    spec = task_spec_of(train_set.about)
    if train.class_weights == "sampled":
        return _balanced_probabilities(train_set, spec)
    if not train.foreground_share:
        return None
    if problem := foreground_problem(spec.task, spec.representation, train.foreground_share):
        raise UserError(problem)
    return foreground_probabilities(train_set.target, len(spec.labels), train.foreground_share)


def _balanced_probabilities(store: PixelStore, spec: TaskSpec) -> Array:
    """Return sampling probabilities [N] under which all classes are drawn equally often."""
    if problem := class_weights_problem(spec.task, spec.representation, "sampled"):
        raise UserError(problem)
    assert isinstance(store.target, np.ndarray)
    index_N = np.asarray(store.target)
    share_N = 1 / np.bincount(index_N)[index_N]
    return share_N / share_N.sum()
