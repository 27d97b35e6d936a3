"""A trained network with test-time augmentation, temperature and thresholds, as one module.

Axes: B images, C channels, K outputs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

Change = Callable[[torch.Tensor], torch.Tensor]
VIEWS: dict[str, tuple[Change, Change]] = {
    "mirror": (lambda image_BCHW: image_BCHW.flip(3), lambda map_BKHW: map_BKHW.flip(3)),
    "upside_down": (lambda image_BCHW: image_BCHW.flip(2), lambda map_BKHW: map_BKHW.flip(2)),
    "turn": (
        lambda image_BCHW: image_BCHW.transpose(2, 3).flip(2),
        lambda map_BKHW: map_BKHW.flip(2).transpose(2, 3),
    ),
}
"""Changes of the image, as in `stages.articulation.symmetry`, each with its inverse."""


@dataclass(frozen=True)
class Adjustment:
    """Views, temperature and thresholds that are added to a trained network."""

    views: tuple[str, ...] = ()
    """Keys of `VIEWS`: the raw outputs are averaged over the image and these changes of it."""
    temperature: float = 1.0
    """The raw outputs are divided by it."""
    thresholds: tuple[float, ...] = ()
    """Probability of each class from which it is predicted; empty: 0.5. The raw outputs are shifted so that this
    probability becomes 0.5."""


class AdjustedNetwork(nn.Module):
    """Network whose raw outputs are adjusted."""

    shift_K: torch.Tensor

    def __init__(self, network: nn.Module, adjustment: Adjustment) -> None:
        super().__init__()
        self.network, self.adjustment = network, adjustment
        self.register_buffer("shift_K", torch.tensor(adjustment.thresholds).logit())

    def forward(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the adjusted raw outputs for images [B, C, H, W] in 0..1; maps are changed back before averaging."""
        return adjust(self._mean_over_views(image_BCHW), self.adjustment, self.shift_K)

    def _mean_over_views(self, image_BCHW: torch.Tensor) -> torch.Tensor:
        """Return the mean of the raw outputs; all views are one batch, so that the graph has the weights only once."""
        views = [VIEWS[name] for name in self.adjustment.views]
        if not views:
            return self.network(image_BCHW)
        batch = torch.cat([image_BCHW, *(change(image_BCHW) for change, _ in views)])
        raw, *changed = self.network(batch).unflatten(0, (1 + len(views), -1)).unbind(0)
        for (_, back), values in zip(views, changed, strict=True):
            raw = raw + (back(values) if values.ndim == 4 else values)
        return raw / (1 + len(views))


def adjust(raw: torch.Tensor, adjustment: Adjustment, shift_K: torch.Tensor) -> torch.Tensor:
    """Return raw outputs divided by the temperature and shifted by the thresholds.

    Args:
        raw: raw outputs, averaged over the views.
        adjustment: temperature and thresholds.
        shift_K: logits of the thresholds.
    """
    if adjustment.temperature != 1:
        raw = raw / adjustment.temperature
    return raw - shift_K if adjustment.thresholds else raw


def with_adjustment(network: nn.Module, adjustment: Adjustment) -> nn.Module:
    """Return the adjusted network in evaluation mode; the network itself if it is not adjusted."""
    return network if adjustment == Adjustment() else AdjustedNetwork(network, adjustment).eval()
