"""Augmentation of images with matching changes of their targets, computed with Kornia on the training device."""

from stages.augmentations.augmentation_interface import AugmentationData
from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.augmentations.policy import AugmentationChoice, Policy, choose_augmentations, resolve_padding
from stages.augmentations.rng import BatchRandom
from stages.augmentations.target_transforms import transform_targets
from stages.augmentations.warp import Warp

__all__ = [
    "AUGMENTATIONS",
    "AugmentationChoice",
    "AugmentationData",
    "BatchRandom",
    "Policy",
    "Warp",
    "choose_augmentations",
    "resolve_padding",
    "transform_targets",
]
