"""Augmentation: what may change in an image without changing its label, done with Kornia on the training device."""

from stages.augmentations.draws import Draws
from stages.augmentations.labels import move
from stages.augmentations.policy import Chosen, Policy, beyond_the_edge, choose
from stages.augmentations.protocol import Data
from stages.augmentations.registry import AUGMENTATIONS
from stages.augmentations.warp import Warp

__all__ = ["AUGMENTATIONS", "Chosen", "Data", "Draws", "Policy", "Warp", "beyond_the_edge", "choose", "move"]
