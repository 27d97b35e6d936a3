"""All that defines a training: `tune` makes one per trial, `train` the final one."""

from dataclasses import dataclass
from typing import Any

from stages.augmentations import Policy
from stages.frame.sections import Augment, Network, Task, Train
from stages.images.store import Store
from stages.learning.checkpoints import Recipe


@dataclass(frozen=True)
class Plan:
    """The data, the network, the augmentation, the optimization and the score by which an epoch is judged."""

    train_set: Store
    val_set: Store
    recipe: Recipe
    policy: Policy
    train: Train
    task: Task


def plan(train_set: Store, val_set: Store, sections: dict[str, Any]) -> Plan:
    """A plan out of the sections `task`, `augment`, `network` and `train`."""
    task: Task = sections["task"]
    augment: Augment = sections["augment"]
    network: Network = sections["network"]
    recipe = Recipe(network.name, train_set.about["channels"], len(train_set.labels), network.dropout)
    return Plan(train_set, val_set, recipe, Policy(**augment.model_dump()), sections["train"], task)
