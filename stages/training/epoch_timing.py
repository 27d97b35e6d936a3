"""Estimate the duration of an epoch on this machine by training on a few images."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from stages.config.schema import Params
from stages.core.plurals import quantity
from stages.dataset.annotations import Annotation
from stages.tasks.build_spec import build_task_spec
from stages.tasks.ground_truth import truth_of
from stages.tasks.task_spec import TaskSpec
from stages.training.auto_params import resolve_auto
from stages.training.dry_run_data import LabelledImage, write_dry_run_data
from stages.training.loop import fit
from stages.training.training_plan import build_plan
from stages.training.training_progress import EpochMetrics

MIN_SECONDS = 4.0  # duration of a first epoch that is long enough for an estimate
MAX_BATCHES = 16
MAX_PIXELS = 2**17  # working pixels of a timed batch, of at least two images
MAX_SIDE = 256  # working pixels: side of the images of a timed batch


@dataclass(frozen=True)
class EpochEstimate:
    """Estimated duration of an epoch."""

    seconds: float
    """Duration of training and validation with all images."""
    measurement: str
    """Description of the measurement, for messages."""


@dataclass(frozen=True)
class _Run:
    """Size of a timed run."""

    images: int
    batch_size: int
    epochs: int
    validation_share: float
    """Validation images as a share of training images."""
    planned_steps: int
    """Number of steps of the planned training, which decides whether `auto` values are measured."""


@dataclass(frozen=True)
class _MeasuredEpoch:
    """Last epoch of a timed run."""

    seconds: float
    cpu_seconds: float
    """CPU time of all threads together."""
    images: int
    val_images: int
    device: str


def estimate_epoch(
    samples: Sequence[LabelledImage],
    annotations: list[Annotation],
    params: Params,
    training: float,
    validation: float,
) -> EpochEstimate:
    """Time an epoch on a few images and extrapolate to all.

    The batches have at most `MAX_PIXELS`, and their images at most `MAX_SIDE`, so that the memory depends neither on
    the proposed batch size nor on the working size. The duration is in proportion to the number of pixels.

    Args:
        samples: images, which are repeated where more are needed.
        annotations: annotations of all known images.
        params: proposed params.
        training: number of working images in the training split.
        validation: number of working images in the validation split.

    Raises:
        UserError: the params do not suit the images, the device is not available, no learning rate lowers the loss, or
            the loss is not finite.
        ValueError: see `write_dry_run_data`.
    """
    spec = _spec(samples, annotations, params)
    scale = max(1.0, spec.size / MAX_SIDE) ** 2
    if scale > 1:
        spec = replace(spec, size=MAX_SIDE)
    batch_size = min(params.train.batch_size, max(2, MAX_PIXELS // spec.size**2))
    planned_steps = math.ceil(training / params.train.batch_size) * params.train.epochs
    run = _Run(batch_size, batch_size, 1, validation / training, planned_steps)
    epoch = _measure(samples, spec, params, run)
    if epoch.seconds < MIN_SECONDS:  # too short, and dominated by initialization
        batches = min(MAX_BATCHES, math.ceil(MIN_SECONDS / epoch.seconds), math.ceil(training / batch_size))
        epoch = _measure(samples, spec, params, replace(run, images=batches * batch_size, epochs=2))
    seconds, conditions = _corrected_for_load(epoch)
    measurement = (
        f"{quantity(epoch.images, 'working image')} in batches of {batch_size}, with "
        f"{quantity(epoch.val_images, 'validation image')}, took "
        f"{epoch.seconds:.2g} s on {conditions}"
    ) + (f"; at size {MAX_SIDE}, with 1/{scale:.3g} of the pixels" if scale > 1 else "")
    return EpochEstimate(scale * seconds * training / epoch.images, measurement)


def _corrected_for_load(epoch: _MeasuredEpoch) -> tuple[float, str]:
    """Return the duration of an epoch in seconds, and the conditions as text.

    If the CPU is overloaded, the duration excludes the time of other processes.
    """
    if epoch.device != "cpu":
        return epoch.seconds, epoch.device
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    conditions = f"the CPU ({quantity(threads, 'thread')} on {quantity(cores, 'core')})"
    if not hasattr(os, "getloadavg") or os.getloadavg()[0] <= cores + 1:
        return epoch.seconds, conditions
    seconds = min(epoch.seconds, epoch.cpu_seconds / threads)
    return seconds, f"{conditions}, which other processes also used; {seconds:.2g} s without them"


def _spec(samples: Sequence[LabelledImage], annotations: list[Annotation], params: Params) -> TaskSpec:
    sections = params.model_dump()
    facts = {"annotations": annotations, "depth": 8 * samples[0][1].dtype.itemsize}
    spec = build_task_spec(sections["task"], sections["representation"], sections["prepare"], facts)
    if spec.task != "regression":
        return spec
    value_NS = np.stack([truth_of(labelled, spec) for labelled, _ in samples])
    deviation_S = np.where(value_NS.std(axis=0) > 0, value_NS.std(axis=0), 1.0)
    return replace(spec, mean=tuple(value_NS.mean(axis=0).tolist()), deviation=tuple(deviation_S.tolist()))


def _measure(samples: Sequence[LabelledImage], spec: TaskSpec, params: Params, run: _Run) -> _MeasuredEpoch:
    """Train on a temporary data set and return the last epoch of the training."""
    with TemporaryDirectory() as folder:
        validation = max(1, round(run.images * run.validation_share))
        data = write_dry_run_data(Path(folder), samples, spec, run.images, validation)
        sections = {
            "task": params.task,
            "augment": params.augment,
            "network": params.network.model_copy(update={"weights": "none"}),
            "train": params.train.model_copy(
                update={
                    "epochs": run.epochs,
                    "batch_size": run.batch_size,
                    "early_size": 0,
                    "early_epochs": 0,
                    "foreground_share": 0.0,
                }
            ),
        }
        cpu_clock, seconds = [time.process_time()], []

        def report(epoch: EpochMetrics) -> None:
            cpu_clock.append(time.process_time())
            seconds.append(epoch.seconds)

        plan = resolve_auto(build_plan(data, sections, Path(folder)), run.planned_steps).plan
        result = fit(plan, report)
    cpu_seconds = cpu_clock[-1] - cpu_clock[-2]
    return _MeasuredEpoch(seconds[-1], cpu_seconds, len(data.train_set), len(data.val_set), result.device)
