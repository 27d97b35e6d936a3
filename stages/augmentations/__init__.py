"""Augmentation: what may change in an image without changing its label, done with Kornia on the training device."""

from stages.augmentations.labels import move
from stages.augmentations.policy import Policy

__all__ = ["Policy", "move"]
