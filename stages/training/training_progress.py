"""Progress of a training: epoch and step counters, metrics of past epochs, and the best weights so far."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class EpochMetrics:
    """Losses, scores and times of one epoch."""

    epoch: int
    """Counted from 1."""
    train_loss: float
    """Mean over augmented images, with label smoothing."""
    val_loss: float
    train_score: float
    """Score of the unaugmented training images in `TrainingData.train_sample`."""
    val_score: float
    learning_rate: float
    """Learning rate of the last step, for layers that are not pretrained."""
    seconds: float
    """Duration of training and validation, seconds."""
    loading_share: float
    """Share of the training time spent on loading images and moving them to the device, 0..1."""
    augmentation_share: float
    """Share of the training time spent on augmentation, 0..1."""


@dataclass
class TrainingProgress:
    """State of a training apart from the network and the optimizer; a resumed training restores it."""

    higher_is_better: bool
    """True if a higher score is better."""
    early_epochs: int = 0
    """Epochs at the start that train on smaller images; they never count as epochs without improvement."""
    epoch: int = 1
    """Current epoch."""
    step: int = 0
    """Completed steps of the current epoch."""
    losses: list[torch.Tensor] = field(default_factory=list)
    """Sum of the loss over the images of this process, for each completed step of the current epoch."""
    seconds: float = 0.0
    """Time of the completed steps of the current epoch in seconds, including the two parts below."""
    loading_seconds: float = 0.0
    augmentation_seconds: float = 0.0
    lr_backoff: float = 1.0
    """Factor on the learning rate, halved whenever the loss is not finite."""
    epochs: list[EpochMetrics] = field(default_factory=list)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)
    """Weights of the best epoch, on the CPU."""

    @property
    def best(self) -> EpochMetrics:
        """Epoch with the best `val_score`; among equals, and where it is undefined everywhere, the lowest `val_loss`.

        An undefined value is the worst.
        """
        return max(self.epochs, key=lambda epoch: (self._score_order(epoch), _loss_order(epoch)))

    @property
    def without_improvement(self) -> list[bool]:
        """One flag per completed epoch, true if an earlier epoch had at least as good a validation score.

        Epochs with an undefined score are compared by their validation loss. The flag of an epoch with smaller images
        is false: it is validated at another size than it is trained at.
        """
        scores = [self._improvement_order(epoch) for epoch in self.epochs]
        first = max(1, self.early_epochs)
        return [i >= first and score <= max(scores[:i]) for i, score in enumerate(scores)]

    def epochs_since_best(self) -> int:
        """Return the number of epochs since the validation score last improved."""
        flags = reversed(self.without_improvement)
        return next((i for i, stalled in enumerate(flags) if not stalled), len(self.epochs))

    def add_time(self, seconds: float, loading: float, augmentation: float) -> None:
        """Add to the time of the completed steps of the current epoch.

        Args:
            seconds: total time, seconds.
            loading: part of it spent on loading images, seconds.
            augmentation: part of it spent on augmentation, seconds.
        """
        self.seconds += seconds
        self.loading_seconds += loading
        self.augmentation_seconds += augmentation

    def complete_epoch(self, metrics: EpochMetrics) -> None:
        """Append the metrics of the current epoch and advance to the next one."""
        self.epochs.append(metrics)
        self.epoch, self.step, self.losses = self.epoch + 1, 0, []
        self.seconds = self.loading_seconds = self.augmentation_seconds = 0.0

    def _improvement_order(self, epoch: EpochMetrics) -> tuple[float, float]:
        score = self._score_order(epoch)
        return score, _loss_order(epoch) if score == -math.inf else 0.0

    def _score_order(self, epoch: EpochMetrics) -> float:
        sign = 1 if self.higher_is_better else -1
        return sign * epoch.val_score if math.isfinite(epoch.val_score) else -math.inf

    def state_dict(self) -> dict[str, Any]:
        """Return the progress as plain values and tensors."""
        losses = torch.stack(self.losses).cpu() if self.losses else torch.zeros(0)
        return vars(self) | {"losses": losses, "epochs": [vars(epoch) for epoch in self.epochs]}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> "TrainingProgress":
        """Rebuild the progress from what `state_dict` returned."""
        losses = list(state["losses"].to(device))
        return cls(**{**state, "losses": losses, "epochs": [EpochMetrics(**epoch) for epoch in state["epochs"]]})


def _loss_order(epoch: EpochMetrics) -> float:
    return -epoch.val_loss if math.isfinite(epoch.val_loss) else -math.inf
