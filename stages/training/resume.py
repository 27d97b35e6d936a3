"""Resume a killed training from its checkpoint, and roll an epoch back when the loss is not finite."""

import copy
import math
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import UserError
from stages.core.plurals import quantity
from stages.images.contact_sheet import contact_sheet
from stages.tasks import TASKS
from stages.training.batch_preview import draw_example, drawn_levels
from stages.training.checkpoints import Checkpoints
from stages.training.model_file import save_model
from stages.training.trainer_state import TrainerState
from stages.training.training_plan import TrainingPlan
from stages.training.training_progress import TrainingProgress

STEPS_PER_CHECK = {"cpu": 1}  # steps after which the losses are checked, by device type
STEPS_PER_CHECK_ELSEWHERE = 50  # reading a loss waits for the device
MIN_LR_BACKOFF = 2.0**-5


class NotFiniteError(Exception):
    """The loss of a step, or a weight after the last step of an epoch, is not finite."""

    def __init__(self, step: int) -> None:
        """Store the step, counted from 0 in its epoch."""
        super().__init__(step)
        self.step = step


class FaultTolerance:
    """Checks losses, writes checkpoints and restores the state of a training."""

    def __init__(self, plan: TrainingPlan, state: TrainerState, checkpoints: Checkpoints | None) -> None:
        """Initialize for a training; without `checkpoints`, no checkpoints are written."""
        self.plan, self.state, self.checkpoints = plan, state, checkpoints
        self.steps_per_check = STEPS_PER_CHECK.get(state.device.type, STEPS_PER_CHECK_ELSEWHERE)
        self.epoch_start: dict[str, Any] = {}

    def start(self) -> TrainingProgress:
        """Restore the last checkpoint and return its progress, or the progress of a new training."""
        saved = self.checkpoints.load() if self.checkpoints is not None else None
        if saved is None:
            scores = TASKS[self.plan.data.spec.task].SCORES
            higher_is_better = scores[self.plan.score].better == "higher"
            progress = TrainingProgress(higher_is_better, early_epochs=self.plan.train.early_epochs)
            self._remember_epoch_start(progress)
            return progress
        self.state.load_state_dict(saved["state"])
        progress = TrainingProgress.from_state_dict(saved["progress"], self.state.device)
        self.epoch_start = saved["epoch_start"]
        position = f"epoch {progress.epoch}, step {progress.step + 1} of {self.state.loader.steps}"
        print(f"train: resumed from a checkpoint at {position}", flush=True)
        return progress

    def after_step(self, progress: TrainingProgress) -> None:
        """Check the losses at intervals, and write a checkpoint when one is due.

        Raises:
            NotFiniteError: a loss since the last check, or a weight at the end of the epoch, is not finite.
            UserError: the disk is full.
        """
        last = progress.step == self.state.loader.steps
        due = not last and self._checkpoint_is_due()
        if due or last or progress.step % self.steps_per_check == 0:
            self._check_losses(progress)
        if last:
            self._check_weights(progress)
        if due or last:
            progress.add_time(*self.state.loader.timer.restart())
        if due:
            self._save(progress)

    def after_epoch(self, progress: TrainingProgress) -> None:
        """Write a checkpoint when one is due.

        Raises:
            UserError: the disk is full.
        """
        self._remember_epoch_start(progress)
        if self._checkpoint_is_due():
            self._save(progress)

    def after_training(self, progress: TrainingProgress) -> None:
        """Write the last checkpoint, so that a failure while results are written does not repeat the training.

        Raises:
            UserError: the disk is full.
        """
        if self.checkpoints is not None:
            self._save(progress)

    def keep_best_weights(self, progress: TrainingProgress) -> None:
        """Write the weights of the best epoch, if one is complete, to a file next to the checkpoint, and name it."""
        if self.checkpoints is None or self.state.processes.rank or not progress.epochs:
            return
        best = progress.best.epoch
        file = self.checkpoints.folder / f"best-epoch-{best}.pt"
        try:
            save_model(file, self.plan.network_config, progress.best_weights, self.plan.data.train_set.about)
        except OSError as error:  # the error that ended the training must be reported, too
            print(f"train: the weights of epoch {best} could not be written to {file}: {error}", flush=True)
            return
        print(
            f"train: the weights of epoch {best}, the best of {quantity(len(progress.epochs), 'completed epoch')}, are "
            f"in {file}; to start from them, copy the file to data/weights and set network.weights to {file.name}",
            flush=True,
        )

    def roll_back(self, progress: TrainingProgress, step: int) -> TrainingProgress:
        """Return to the start of the epoch with half the learning rate, and return the progress at that point.

        The images of the step are saved beside the checkpoints, if there are any.

        Args:
            progress: progress of the epoch in which a loss or a weight is not finite.
            step: step of that loss, or after which the weight is not finite, counted from 0.

        Raises:
            UserError: `train.nonfinite_loss` is stop, or the rate was halved five times before.
        """
        train, saved_images = self.plan.train, self._save_images(progress.epoch, step)
        loss = float(progress.losses[step])
        found = "weights are not finite after the update" if math.isfinite(loss) else f"the training loss is {loss}"
        problem = f"epoch {progress.epoch}, step {step + 1}: {found}{saved_images}"
        if train.nonfinite_loss == "stop" or progress.lr_backoff <= MIN_LR_BACKOFF:
            self.keep_best_weights(progress)
            reduced = f", reduced to {progress.lr_backoff:g} of it" if progress.lr_backoff < 1 else ""
            change, now = ("lower", f" ({train.gradient_clip:g})") if train.gradient_clip else ("set", "")
            precise = "" if train.precision == "32-true" else ", or set train.precision to 32-true"
            raise UserError(
                f"{problem}; lower train.learning_rate ({train.learning_rate:g}{reduced}), or {change} "
                f"train.gradient_clip{now}{precise}"
            )
        self.state.load_state_dict(self.epoch_start["state"])
        self.epoch_start["progress"]["lr_backoff"] = progress.lr_backoff / 2
        print(
            f"train: {problem}; rolled back to the start of the epoch, with the learning rate reduced to "
            f"{progress.lr_backoff / 2:g} of train.learning_rate",
            flush=True,
        )
        return TrainingProgress.from_state_dict(copy.deepcopy(self.epoch_start["progress"]), self.state.device)

    def _remember_epoch_start(self, progress: TrainingProgress) -> None:
        if self.plan.train.nonfinite_loss == "roll_back":
            self.epoch_start = copy.deepcopy({"state": self.state.state_dict(), "progress": progress.state_dict()})

    def _checkpoint_is_due(self) -> bool:
        """Return whether a checkpoint is due; the first process decides for all."""
        due = self.checkpoints is not None and self.checkpoints.is_due()
        return bool(self.state.fabric.broadcast(due)) if self.state.processes.size > 1 else due

    def _save(self, progress: TrainingProgress) -> None:
        assert self.checkpoints is not None
        self.checkpoints.save(
            {"state": self.state.state_dict(), "progress": progress.state_dict(), "epoch_start": self.epoch_start}
        )

    def _check_losses(self, progress: TrainingProgress) -> None:
        """Raise NotFiniteError if a loss since the last check is not finite in any process."""
        losses = torch.stack(progress.losses[-self.steps_per_check :])
        if self.state.processes.size > 1:
            losses = self.state.fabric.all_reduce(losses, reduce_op="sum")  # type: ignore[assignment]
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise NotFiniteError(len(progress.losses) - len(losses) + int(bad[0]))

    def _check_weights(self, progress: TrainingProgress) -> None:
        """Raise NotFiniteError if a weight is not finite; a gradient can be infinite where the loss is not."""
        weights = [values.detach() for values in self.state.network.parameters()]
        if not torch.stack([values.isfinite().all() for values in weights]).all():
            raise NotFiniteError(progress.step - 1)

    def _save_images(self, epoch: int, step: int) -> str:
        """Write the images of a step to a file; return the part of a message that names it, empty without a file."""
        if self.checkpoints is None or self.state.processes.rank:
            return ""
        loader, spec = self.state.loader, self.plan.data.spec
        batches = loader.batches(epoch, self.state.device, step)
        parts = [next(batches) for _ in range(loader.micro_batches)]
        levels = drawn_levels(loader.store, spec)
        pictures = [draw_example(batch, i, spec, levels) for batch in parts for i in range(len(batch.index_B))]
        paths = [str(loader.store.rows["path"].iloc[index]) for batch in parts for index in batch.index_B]
        file: Path = self.checkpoints.folder / f"not-finite-epoch-{epoch}-step-{step + 1}.png"
        contact_sheet(pictures, [path.rpartition("/")[2] for path in paths]).save(file)
        file.with_suffix(".txt").write_text("\n".join(paths) + "\n")
        return f"; the images of the step are in {file}, and their paths in {file.with_suffix('.txt').name}"
