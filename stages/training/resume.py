"""What a training does about kills, a full disk, and a loss that is no number."""

import copy
from pathlib import Path
from typing import Any

import torch

from stages.core.errors import UserError
from stages.images.contact_sheet import contact_sheet
from stages.tasks import TASKS
from stages.training.batch_preview import drawn
from stages.training.checkpoints import Restarts
from stages.training.trainer_state import Training
from stages.training.training_plan import Plan
from stages.training.training_progress import Progress

LOOKED = {"cpu": 1}  # steps between two looks at the losses
SELDOM = 50  # elsewhere: a look waits for the device
LEAST_BRAKE = 2.0**-5  # share of the learning rate


class NotFinite(Exception):
    """The loss of a step is no number."""

    def __init__(self, step: int) -> None:
        """Counted from 0."""
        self.step = step


class Recovery:
    """Looks at losses, writes checkpoints, and takes a training up where it stood."""

    def __init__(self, plan: Plan, training: Training, restarts: Restarts | None) -> None:
        self.plan, self.training, self.restarts = plan, training, restarts
        self.looked = LOOKED.get(training.device.type, SELDOM)
        self.beginning: dict[str, Any] = {}

    def taken_up(self) -> Progress:
        """Where a killed training stood, or the beginning."""
        saved = self.restarts.load() if self.restarts is not None else None
        if saved is None:
            scores = TASKS[self.plan.material.spec.task].SCORES
            progress = Progress(higher=scores[self.plan.score].better == "higher")
            self._begin(progress)
            return progress
        self.training.restore(saved["training"])
        progress = Progress.of(saved["progress"], self.training.device)
        self.beginning = saved["beginning"]
        place = f"epoch {progress.epoch}, step {progress.step + 1} of {self.training.feed.steps}"
        print(f"train: goes on where it was ended, at {place}", flush=True)
        return progress

    def step_over(self, progress: Progress) -> None:
        """Look at the losses now and then, and write a checkpoint where one is due.

        Raises:
            NotFinite: a loss since the last look is none.
            UserError: the disk is full.
        """
        last = progress.step == self.training.feed.steps
        due = not last and self._due()
        if due or last or progress.step % self.looked == 0:
            self._look(progress)
        if due or last:
            progress.spent(*self.training.feed.clock.read())
        if due:
            self._save(progress)

    def epoch_over(self, progress: Progress) -> None:
        """Write a checkpoint where one is due."""
        self._begin(progress)
        if self._due():
            self._save(progress)

    def rolled_back(self, progress: Progress, step: int) -> Progress:
        """Where the epoch began, with half the learning rate.

        Raises:
            UserError: params say to stop, or the rate was halved often enough.
        """
        train, kept = self.plan.train, self._kept(progress.epoch, step)
        loss = float(progress.losses[step])
        found = f"epoch {progress.epoch}, step {step + 1}: the training loss is {loss}{kept}"
        if train.not_finite == "stop" or progress.brake <= LEAST_BRAKE:
            raise UserError(
                f"{found}; lower train.learning_rate ({train.learning_rate:g}, {progress.brake:g} of it left), "
                f"set train.clip ({train.clip:g}), or use train.precision 32-true (now {train.precision})"
            )
        self.training.restore(self.beginning["training"])
        self.beginning["progress"]["brake"] = progress.brake / 2
        print(f"train: {found}; back to the beginning of the epoch with {progress.brake / 2:g} of the learning rate",
              flush=True)  # fmt: skip
        return Progress.of(copy.deepcopy(self.beginning["progress"]), self.training.device)

    def _begin(self, progress: Progress) -> None:
        if self.plan.train.not_finite == "roll_back":
            self.beginning = copy.deepcopy({"training": self.training.state(), "progress": progress.state()})

    def _due(self) -> bool:
        """The first process decides for all."""
        due = self.restarts is not None and self.restarts.due()
        return bool(self.training.fabric.broadcast(due)) if self.training.crew.size > 1 else due

    def _save(self, progress: Progress) -> None:
        assert self.restarts is not None
        state = {"training": self.training.state(), "progress": progress.state(), "beginning": self.beginning}
        self.restarts.save(state)

    def _look(self, progress: Progress) -> None:
        """Whether the last losses are numbers, in all processes."""
        losses = torch.stack(progress.losses[-self.looked :])
        if self.training.crew.size > 1:
            losses = self.training.fabric.all_reduce(losses, reduce_op="sum")  # type: ignore[assignment]
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            raise NotFinite(len(progress.losses) - len(losses) + int(bad[0]))

    def _kept(self, epoch: int, step: int) -> str:
        """Draw the images of a step into a file, and say where; they are made again, as they were."""
        if self.restarts is None or self.training.crew.rank:
            return ""
        feed, spec = self.training.feed, self.plan.material.spec
        batches = feed.batches(epoch, self.training.device, step)
        parts = [next(batches) for _ in range(feed.pieces)]
        pictures = [drawn(batch, i, spec) for batch in parts for i in range(len(batch.index_B))]
        paths = [str(feed.store.rows["path"].iloc[index]) for batch in parts for index in batch.index_B]
        file: Path = self.restarts.folder / f"not-finite-epoch-{epoch}-step-{step + 1}.png"
        contact_sheet(pictures, [path.rpartition("/")[2] for path in paths]).save(file)
        file.with_suffix(".txt").write_text("\n".join(paths) + "\n")
        return f"; its images are kept in {file}, their paths beside it"
