"""The training loop: one network, one seed, the best epoch kept."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from stages.networks.weight_loading import Layer
from stages.training.auto_params import Resolved, resolve
from stages.training.batch_loader import Batch, step_seed
from stages.training.checkpoints import Restarts
from stages.training.lr_finder import RangeTest
from stages.training.resume import NotFinite, Recovery
from stages.training.schedules import rate_share
from stages.training.trainer_state import Training, launched, set_up
from stages.training.training_plan import Plan
from stages.training.training_progress import Epoch, Progress
from stages.training.validation import judge

Report = Callable[[Epoch], None]


@dataclass(frozen=True)
class Fit:
    """The outcome of a training."""

    weights: dict[str, torch.Tensor]
    """Of the best epoch, on the CPU."""
    best: Epoch
    """Best val_score; among equals, lowest val_loss."""
    epochs: list[Epoch]
    device: str
    parameters: int
    pretrained: list[Layer]
    """What became of each layer where training began from given weights."""
    stopped: str
    """Why before the last epoch; empty where it went to its end."""
    resolved: list[Resolved]
    """What `auto` came to."""
    tested: RangeTest | None
    """Where the learning rate was one of them."""


def fit(plan: Plan, report: Report, restarts: Restarts | None = None) -> Fit:
    """Train a network; `report` hears of every epoch, of those before a restart as well.

    Same plan, same device, same number of threads: same weights, wherever `restarts` had to take it up again.

    Args:
        plan: what is trained; what is left to `auto` in it is resolved first.
        report: is called after each epoch, and may raise to end the training.
        restarts: where checkpoints are; None: a killed training is lost.

    Raises:
        UserError: the device is not there, given weights do not fit, the disk is full, or the loss is no longer a
            number.
    """
    plan, resolved, tested = resolve(plan)
    fabric = launched(plan)
    plan = replace(plan, train=fabric.broadcast(plan.train))  # what was measured differs between processes
    training = set_up(plan, fabric)
    recovery = Recovery(plan, training, restarts)
    progress = recovery.taken_up()
    for epoch in progress.epochs:
        report(epoch)
    while progress.epoch <= plan.train.epochs and not _stopped(plan, progress):
        try:
            _train_epoch(plan, training, progress, recovery)
        except NotFinite as found:
            progress = recovery.rolled_back(progress, found.step)
            continue
        _judge(plan, training, progress)
        report(progress.epochs[-1])
        recovery.epoch_over(progress)
    parameters = sum(tensor.numel() for tensor in training.network.parameters())
    return Fit(
        progress.best_weights,
        progress.best,
        progress.epochs,
        str(training.device),
        parameters,
        training.layers,
        _stopped(plan, progress),
        resolved,
        tested,
    )


def _train_epoch(plan: Plan, training: Training, progress: Progress, recovery: Recovery) -> None:
    """The steps of the epoch that are not done yet."""
    feed, crew = training.feed, training.crew
    training.rates.freeze(progress.epoch <= plan.network.frozen_epochs)
    training.model.train()
    batches = feed.batches(progress.epoch, training.device, progress.step, slice(crew.rank, None, crew.size))
    bar = tqdm(total=feed.steps, initial=progress.step, desc=f"epoch {progress.epoch}", leave=False, disable=None)
    feed.clock.start()
    for parts in zip(*[batches] * plan.train.accumulate, strict=True):
        _step(plan, training, progress, parts)
        progress.step += 1
        bar.update()
        recovery.step_over(progress)
    bar.close()


def _step(plan: Plan, training: Training, progress: Progress, parts: tuple[Batch, ...]) -> None:
    """Move the weights once, by the mean over all images of some batches, here and in other processes."""
    train, optimizer, crew = plan.train, training.optimizer, training.crew
    steps = training.feed.steps
    share = rate_share(train.schedule, train.warmup, (progress.epoch - 1) * steps + progress.step,
                       train.epochs * steps, progress.worse)  # fmt: skip
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * share * progress.brake
    images = _images_of_step(training, progress.step)
    total = torch.zeros((), device=training.device)
    optimizer.zero_grad(set_to_none=True)
    for part, batch in enumerate(parts):
        place = part * crew.size + crew.rank
        torch.manual_seed(step_seed(train.seed, progress.epoch, progress.step, 1, *([place] if place else [])))
        with training.fabric.no_backward_sync(training.model, enabled=part < len(parts) - 1):
            loss = training.loss_of(training.model, batch)
            weighed = loss * (len(batch.index_B) * crew.size / images)  # processes are averaged
            training.fabric.backward(weighed if len(parts) * crew.size > 1 else loss)
        total = total + loss.detach() * len(batch.index_B)
    if train.l1:
        for weight in training.network.parameters():
            if weight.grad is not None:
                weight.grad.add_(weight.detach().sign(), alpha=train.l1)
    if train.clip:
        training.fabric.clip_gradients(training.model, optimizer, max_norm=train.clip, error_if_nonfinite=False)
    optimizer.step()
    training.average.update(training.network)
    progress.losses.append(total)


def _images_of_step(training: Training, step: int) -> int:
    count, steps = len(training.feed.store), training.feed.steps
    return count // steps + (step < count % steps)


def _judge(plan: Plan, training: Training, progress: Progress) -> None:
    """End an epoch: losses and scores, and the weights kept where they are the best."""
    given, started = plan.material, time.perf_counter()
    losses = torch.stack(progress.losses).sum()
    if training.crew.size > 1:
        losses = training.fabric.all_reduce(losses, reduce_op="sum")  # type: ignore[assignment]
    rate, trained = training.optimizer.param_groups[-1]["lr"], max(progress.seconds, 1e-9)
    with training.judged() as network:
        train_score, _ = judge(plan, training, network, given.train_sample, given.train_truths)
        val_score, val_loss = judge(plan, training, network, given.val_set, given.val_truths)
        epoch = Epoch(
            epoch=progress.epoch,
            train_loss=float(losses / len(given.train_set)),
            val_loss=val_loss,
            train_score=train_score,
            val_score=val_score,
            learning_rate=rate,
            seconds=progress.seconds + time.perf_counter() - started,
            reading=progress.reading / trained,
            changing=progress.changing / trained,
        )
        progress.done(epoch)
        if progress.best is epoch:
            progress.best_weights = {n: one.detach().cpu().clone() for n, one in network.state_dict().items()}


def _stopped(plan: Plan, progress: Progress) -> str:
    """Why a training ends before its last epoch."""
    patience = plan.train.patience
    if not patience or progress.idle() < patience or progress.epoch > plan.train.epochs:
        return ""
    return f"{patience} epochs brought no better {plan.score} than epoch {progress.best.epoch} (train.patience)"
