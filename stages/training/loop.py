"""The training loop: train a network for some epochs and keep the weights of the best one."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from stages.core.plurals import quantity
from stages.networks.weight_loading import Layer
from stages.training.batch_loader import Batch, step_seed
from stages.training.checkpoints import Checkpoints
from stages.training.devices import loss_scale
from stages.training.resume import FaultTolerance, NotFiniteError
from stages.training.schedules import lr_factor
from stages.training.trainer_state import TrainerState, build_state, launch
from stages.training.training_plan import TrainingPlan
from stages.training.training_progress import EpochMetrics, TrainingProgress
from stages.training.validation import validate

Report = Callable[[EpochMetrics], None]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training."""

    weights: dict[str, torch.Tensor]
    """Weights of the best epoch, on the CPU."""
    best: EpochMetrics
    """Epoch with the best `val_score`; among equals, or if all are undefined, the lowest `val_loss`."""
    epochs: list[EpochMetrics]
    device: str
    parameters: int
    """Number of weights of the network."""
    layers: list[Layer]
    """Outcome of loading each weight array; empty without pretrained weights."""
    stop_reason: str
    """Reason why the training ended before its last epoch; empty if it did not."""


def fit(plan: TrainingPlan, report: Report, checkpoints: Checkpoints | None = None) -> TrainingResult:
    """Train a network.

    The same plan, device and number of threads give the same weights, however often the training was killed and
    resumed. If the training ends with an error, the weights of the best epoch are kept next to the checkpoint.

    Args:
        plan: a plan without `auto`: see `auto_params.resolve_auto`.
        report: called after each epoch, and after resuming for each past epoch; it may raise an exception to end
            the training.
        checkpoints: where the state is saved; None: a killed training starts again.

    Raises:
        UserError: the device is not available, the network, the optimizer or the loss cannot be built (see
            `build_state`), the disk is full, or the loss is not finite.
    """
    assert not plan.unresolved(), f"resolve_auto replaces auto: {plan.unresolved()}"
    fabric = launch(plan)
    plan = replace(plan, train=fabric.broadcast(plan.train))  # measured values of `auto` differ between processes
    state = build_state(plan, fabric)
    guard = FaultTolerance(plan, state, checkpoints)
    progress = guard.start()
    for epoch in progress.epochs:
        report(epoch)
    while progress.epoch <= plan.train.epochs and not _stop_reason(plan, progress):
        try:
            _train_epoch(plan, state, progress, guard)
            _validate_epoch(plan, state, progress)
            report(progress.epochs[-1])
            guard.after_epoch(progress)
        except NotFiniteError as error:
            progress = guard.roll_back(progress, error.step)
        except Exception:
            guard.keep_best_weights(progress)
            raise
    guard.after_training(progress)
    return TrainingResult(
        weights=progress.best_weights,
        best=progress.best,
        epochs=progress.epochs,
        device=str(state.device),
        parameters=sum(weights.numel() for weights in state.network.parameters()),
        layers=state.layers,
        stop_reason=_stop_reason(plan, progress),
    )


def _train_epoch(plan: TrainingPlan, state: TrainerState, progress: TrainingProgress, guard: FaultTolerance) -> None:
    """Run the remaining steps of the current epoch."""
    loader, processes = state.loader, state.processes
    state.start_training(frozen=progress.epoch <= plan.network.frozen_epochs)
    selected = slice(processes.rank, None, processes.size)
    batches = loader.batches(progress.epoch, state.device, progress.step, selected)
    bar = tqdm(total=loader.steps, initial=progress.step, desc=f"epoch {progress.epoch}", leave=False, disable=None)
    loader.timer.start()
    for micro_batches in zip(*[batches] * plan.train.gradient_accumulation, strict=True):
        _set_learning_rate(plan, state, progress)
        _step(plan, state, progress, micro_batches)
        progress.step += 1
        bar.update()
        guard.after_step(progress)
    bar.close()


def _set_learning_rate(plan: TrainingPlan, state: TrainerState, progress: TrainingProgress) -> None:
    train, steps = plan.train, state.loader.steps
    step = (progress.epoch - 1) * steps + progress.step
    factor = lr_factor(train.schedule, train.warmup, step, train.epochs * steps, progress.without_improvement)
    for group in state.optimizer.param_groups:
        group["lr"] = group["peak"] * factor * progress.lr_backoff


def _step(
    plan: TrainingPlan, state: TrainerState, progress: TrainingProgress, micro_batches: tuple[Batch, ...]
) -> None:
    """Update the weights once, by the mean gradient over all images of the micro-batches of all processes."""
    train, optimizer, processes = plan.train, state.optimizer, state.processes
    images = _images_in_step(state, progress.step)
    total = torch.zeros((), device=state.device)
    optimizer.zero_grad(set_to_none=True)
    for number, batch in enumerate(micro_batches):
        position = number * processes.size + processes.rank
        torch.manual_seed(step_seed(train.seed, progress.epoch, progress.step, 1, *([position] if position else [])))
        with state.fabric.no_backward_sync(state.model, enabled=number < len(micro_batches) - 1):
            loss = state.batch_loss(state.model, batch)
            weighted = loss * (len(batch.index_B) * processes.size / images)  # DDP averages over processes
            state.fabric.backward(weighted if len(micro_batches) * processes.size > 1 else loss)
        total = total + loss.detach() * len(batch.index_B)
    if train.l1:
        for weights in state.network.parameters():
            if weights.grad is not None:
                weights.grad.add_(weights.detach().sign(), alpha=train.l1 * loss_scale(state.fabric))
    if train.gradient_clip:
        state.fabric.clip_gradients(state.model, optimizer, max_norm=train.gradient_clip, error_if_nonfinite=False)
    optimizer.step()
    state.average.update(state.network)
    progress.losses.append(total)


def _images_in_step(state: TrainerState, step: int) -> int:
    count, steps = len(state.loader.store), state.loader.steps
    return count // steps + (step < count % steps)


def _validate_epoch(plan: TrainingPlan, state: TrainerState, progress: TrainingProgress) -> None:
    """Compute the losses and scores of the current epoch, complete it, and keep its weights if it is the best."""
    data, started = plan.data, time.perf_counter()
    losses = torch.stack(progress.losses).sum()
    if state.processes.size > 1:
        losses = state.fabric.all_reduce(losses, reduce_op="sum")  # type: ignore[assignment]
    training_seconds = max(progress.seconds, 1e-9)
    with state.validation_network() as network:
        train_score, _ = validate(plan, state, network, data.train_sample, data.train_truths)
        val_score, val_loss = validate(plan, state, network, data.val_set, data.val_truths)
        metrics = EpochMetrics(
            epoch=progress.epoch,
            train_loss=float(losses / len(data.train_set)),
            val_loss=val_loss,
            train_score=train_score,
            val_score=val_score,
            learning_rate=state.optimizer.param_groups[-1]["lr"],
            seconds=progress.seconds + time.perf_counter() - started,
            loading_share=progress.loading_seconds / training_seconds,
            augmentation_share=progress.augmentation_seconds / training_seconds,
        )
        progress.complete_epoch(metrics)
        if progress.best is metrics:
            progress.best_weights = {
                name: values.detach().cpu().clone() for name, values in network.state_dict().items()
            }


def _stop_reason(plan: TrainingPlan, progress: TrainingProgress) -> str:
    """Return why the training ends before its last epoch; empty if it does not."""
    patience = plan.train.patience
    if not patience or progress.epochs_since_best() < patience or progress.epoch > plan.train.epochs:
        return ""
    epochs = quantity(patience, "epoch")
    return f"no better {plan.score} for {epochs} since epoch {progress.best.epoch} (train.patience)"
