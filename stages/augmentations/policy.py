"""The chain of random changes that a training batch goes through."""

import kornia.augmentation as K
import torch
from torch import nn


class Policy:
    """Random similarity, flips, brightness, contrast and noise, reproducible from a seed.

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
        changes: list[nn.Module] = []
        if rotation or translation or scale:
            changes.append(
                K.RandomAffine(
                    degrees=rotation,
                    translate=(translation, translation),
                    scale=(1 - scale, 1 + scale),
                    padding_mode=outside,
                    p=1.0,
                )
            )
        if flip_horizontal:
            changes.append(K.RandomHorizontalFlip(p=0.5))
        if flip_vertical:
            changes.append(K.RandomVerticalFlip(p=0.5))
        if brightness:
            changes.append(K.RandomBrightness((1 - brightness, 1 + brightness), p=1.0))
        if contrast:
            changes.append(K.RandomContrast((1 - contrast, 1 + contrast), p=1.0))
        if noise:
            changes.append(K.RandomGaussianNoise(std=noise, p=1.0))
        self.chain = nn.Sequential(*changes)

    def __call__(self, image_BCHW: torch.Tensor, seed: int) -> torch.Tensor:
        """Float [B, C, H, W] in 0..1 to the same, changed; the same seed changes it in the same way.

        Kornia draws from torch's global generators, which are put back as they were.
        """
        with torch.random.fork_rng(devices=[image_BCHW.device] if image_BCHW.is_cuda else []):
            torch.manual_seed(seed)
            return self.chain(image_BCHW).clamp(0, 1)
