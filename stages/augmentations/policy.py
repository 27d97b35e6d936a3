"""The chain of random changes that a training batch goes through."""

from typing import Any

import kornia.augmentation as K
import torch
from torch import nn


class Policy:
    """Random similarity, flips, brightness, contrast and noise, reproducible from a seed.

    What moves the pixels comes first and gives a matrix, by which labels follow (`stages.augmentations.labels`).

    Amounts are as in the section `augment` of params.yaml; what is zero is left out of the chain.
    """

    def __init__(
        self,
        *,
        rotation: float,
        translation: float,
        scale: float,
        outside: str,
        flip_horizontal: bool,
        flip_vertical: bool,
        brightness: float,
        contrast: float,
        noise: float,
    ) -> None:
        self.outside = outside
        moves: list[Any] = []
        changes: list[nn.Module] = []
        if rotation or translation or scale:
            moves.append(
                K.RandomAffine(
                    degrees=rotation,
                    translate=(translation, translation),
                    scale=(1 - scale, 1 + scale),
                    padding_mode=outside,
                    p=1.0,
                )
            )
        if flip_horizontal:
            moves.append(K.RandomHorizontalFlip(p=0.5))
        if flip_vertical:
            moves.append(K.RandomVerticalFlip(p=0.5))
        if brightness:
            changes.append(K.RandomBrightness((1 - brightness, 1 + brightness), p=1.0))
        if contrast:
            changes.append(K.RandomContrast((1 - contrast, 1 + contrast), p=1.0))
        if noise:
            changes.append(K.RandomGaussianNoise(std=noise, p=1.0))
        self.moves, self.changes = moves, changes

    def __call__(self, image_BCHW: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Float [B, C, H, W] in 0..1 to the same, changed, and how its pixels moved; the same seed gives the same.

        The matrix [B, 3, 3] is Kornia's; None where nothing moves. Kornia draws from torch's global generators, which
        are put back as they were.
        """
        matrix_B33: torch.Tensor | None = None
        with torch.random.fork_rng(devices=[image_BCHW.device] if image_BCHW.is_cuda else []):
            torch.manual_seed(seed)
            for move in self.moves:
                image_BCHW = move(image_BCHW)
                matrix_B33 = move.transform_matrix if matrix_B33 is None else move.transform_matrix @ matrix_B33
            for change in self.changes:
                image_BCHW = change(image_BCHW)
        return image_BCHW.clamp(0, 1), matrix_B33
