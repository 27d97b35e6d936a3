"""All that defines a training: `tune` makes one per trial, `train` the final one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stages.augmentations import Chosen, Data, Policy, beyond_the_edge, choose
from stages.core.errors import UserError
from stages.dataset.pixel_store import Store, open_split
from stages.frame.sections import Augment, Network, Train
from stages.networks import NetworkConfig, architecture
from stages.networks.pretrained import located
from stages.tasks.build_spec import score_of
from stages.tasks.ground_truth import truths_of
from stages.tasks.representations import REPRESENTATIONS, loss_of
from stages.tasks.task_spec import TaskSpec, task_spec_of
from stages.training.batch_loader import Feed

Array = np.ndarray[Any, Any]
MOST_SAMPLED = 1000  # training images that are judged: enough for a gap of some percent


@dataclass(frozen=True)
class Material:
    """The prepared images and their truths; the same for every trial."""

    spec: TaskSpec
    train_set: Store
    val_set: Store
    val_truths: list[Any]
    train_sample: Store
    """As many training images as there are validation images, at most 1,000, unchanged: overfitting is measured on
    them."""
    train_truths: list[Any]


@dataclass(frozen=True)
class Plan:
    """The material, the network, the augmentation, the optimization and the score by which an epoch is judged."""

    material: Material
    network_config: NetworkConfig
    feed: Feed
    train: Train
    network: Network
    weights: str
    """Where training begins: none, default, an address or a path."""
    score: str
    loss: str


def material(ingested: Path, prepared: Path) -> Material:
    """Open what `prepare` wrote, and the truths that its images are held against."""
    train_set, val_set = open_split(prepared, "train"), open_split(prepared, "val")
    spec = task_spec_of(train_set.about)
    sample = _sample(train_set, min(MOST_SAMPLED, len(list(val_set.originals()))))
    truths = [truths_of(ingested, [path for path, _ in store.originals()], spec) for store in (val_set, sample)]
    return Material(spec, train_set, val_set, truths[0], sample, truths[1])


def _sample(store: Store, count: int) -> Store:
    """Some of a store's original images, evenly spread."""
    originals = list(store.originals())
    chosen = np.unique(np.linspace(0, len(originals) - 1, min(count, len(originals))).round().astype(int))
    index_B = np.concatenate([np.arange(len(store))[originals[i][1]] for i in chosen])
    return store.some(index_B)


def plan(given: Material, sections: dict[str, Any], weights: Path) -> Plan:
    """A plan out of the sections `task`, `augment`, `network` and `train`, and the folder of pretrained weights.

    Raises:
        UserError: they do not go together.
    """
    augment: Augment = sections["augment"]
    network: Network = sections["network"]
    train: Train = sections["train"]
    spec = given.spec
    kind = REPRESENTATIONS[spec.representation]
    gives = architecture(network.name).gives
    if gives != kind.gives:
        needed = {"vector": "resnet18, vgg16, googlenet, timm/NAME ...", "map": "unet", "boxes": "mask_rcnn"}
        raise UserError(
            f"network.name: {network.name} gives {_gives(gives)}; representation {spec.representation} of task "
            f"{spec.task} needs {_gives(kind.gives)}: {needed[kind.gives]}"
        )
    network_config = NetworkConfig(
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
    share_N = _shares(given.train_set, spec) if train.class_weights == "sampled" else None
    policy = policy_of(augment, given.train_set)[0]
    feed = Feed(given.train_set, spec, policy, train.batch_size, train.seed, share_N)
    score = score_of(spec.task, sections["task"].score)
    return Plan(
        given,
        network_config,
        feed,
        train,
        network,
        located(network.weights, weights),
        score,
        loss_of(spec.representation, train.loss),
    )


def policy_of(augment: Augment, train_set: Store) -> tuple[Policy, list[Chosen]]:
    """What is done to the training images, and why.

    Raises:
        UserError: params ask for what there is not, or what cannot be done to these images.
    """
    spec = task_spec_of(train_set.about)
    bones = train_set.bones is not None and len(train_set.bones.bone_T7) > 0
    looks = {name: train_set.about[name] for name in ("told_apart", "answers_lost", "black_rim")}
    data = Data(spec, bones=bones, **looks)
    chosen = choose(augment, data)
    amounts = {one.name: one.amounts for one in chosen if one.amounts is not None}
    outside = beyond_the_edge(augment.outside, data)
    return Policy(amounts, size=spec.size, channels=spec.channels, outside=outside), chosen


def _gives(gives: str) -> str:
    return {"vector": "one answer an image", "map": "an answer a pixel", "boxes": "boxes"}[gives]


def _shares(store: Store, spec: TaskSpec) -> Array:
    """Each class drawn as often as any other."""
    if REPRESENTATIONS[spec.representation].stores != "index":
        raise UserError(
            f"train.class_weights: sampled needs one class an image, which task {spec.task} has not; use none"
        )
    assert isinstance(store.target, np.ndarray)
    index_N = np.asarray(store.target)
    share_N = 1 / np.bincount(index_N)[index_N]
    return share_N / share_N.sum()
