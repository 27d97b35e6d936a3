"""Augmentation: what may change in an image without changing its label, done with Kornia on the training device."""

from stages.augmentations.augmentation_interface import Data
from stages.augmentations.augmentation_registry import AUGMENTATIONS
from stages.augmentations.policy import Chosen, Policy, beyond_the_edge, choose
from stages.augmentations.rng import Draws
from stages.augmentations.target_transforms import move
from stages.augmentations.warp import Warp

__all__ = ["AUGMENTATIONS", "Chosen", "Data", "Draws", "Policy", "Warp", "beyond_the_edge", "choose", "move"]
