"""How far a training has come: all that is known of it beside the weights that move."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training images came to."""

    epoch: int
    train_loss: float
    """On augmented images, label smoothing included."""
    val_loss: float
    train_score: float
    """Of as many training images as there are validation images, unchanged."""
    val_score: float
    learning_rate: float
    """Of the last step."""
    seconds: float
    reading: float
    """Share of the seconds of its steps in which images were read and brought to the device, 0..1."""
    changing: float
    """The same, in which they were augmented."""


@dataclass
class Progress:
    """Where a training stands. A restart takes it up here."""

    higher: bool
    """Whether a higher score is better."""
    epoch: int = 1
    """That is under way."""
    step: int = 0
    """How many of its steps are done."""
    losses: list[torch.Tensor] = field(default_factory=list)
    """Of the images of these steps, summed over each step's."""
    seconds: float = 0.0
    """That these steps took, and below the parts of it."""
    reading: float = 0.0
    changing: float = 0.0
    brake: float = 1.0
    """Share of the learning rate that is left after a loss that was no number."""
    epochs: list[Epoch] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Of the best epoch, on the CPU."""

    @property
    def best(self) -> Epoch:
        """Best val_score; among equals, lowest val_loss; an undefined score is worse than any."""
        return max(self.epochs, key=self._order)

    @property
    def worse(self) -> list[bool]:
        """Of each epoch that is done, whether it brought no better validation score than all before."""
        scores = [self._order(epoch)[0] for epoch in self.epochs]
        return [i > 0 and score <= max(scores[:i]) for i, score in enumerate(scores)]

    def idle(self) -> int:
        """Epochs since the score last was better."""
        return next((i for i, worse in enumerate(reversed(self.worse)) if not worse), len(self.epochs))

    def spent(self, seconds: float, reading: float, changing: float) -> None:
        """So much longer the steps took."""
        self.seconds, self.reading, self.changing = (
            self.seconds + seconds,
            self.reading + reading,
            self.changing + changing,
        )

    def done(self, epoch: Epoch) -> None:
        """The epoch under way is over."""
        self.epochs.append(epoch)
        self.epoch, self.step, self.losses = self.epoch + 1, 0, []
        self.seconds = self.reading = self.changing = 0.0

    def _order(self, epoch: Epoch) -> tuple[float, float]:
        sign = 1 if self.higher else -1
        return (sign * epoch.val_score if math.isfinite(epoch.val_score) else -math.inf, -epoch.val_loss)

    def state(self) -> dict[str, Any]:
        """As plain values and tensors."""
        losses = torch.stack(self.losses).cpu() if self.losses else torch.zeros(0)
        return vars(self) | {"losses": losses, "epochs": [vars(epoch) for epoch in self.epochs]}

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> "Progress":
        """What `state` gave."""
        losses = list(state["losses"].to(device))
        return cls(**{**state, "losses": losses, "epochs": [Epoch(**epoch) for epoch in state["epochs"]]})
