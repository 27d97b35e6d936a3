"""How long an epoch takes on this machine: some steps of the training that params ask for, on images as they are."""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from stages.dataset.annotations import Annotation
from stages.frame.sections import Params
from stages.tasks.build_spec import task_spec_of_data
from stages.tasks.ground_truth import truth_of
from stages.tasks.task_spec import TaskSpec
from stages.training.auto_params import resolve
from stages.training.dry_run_data import Sample, rehearsal
from stages.training.loop import fit
from stages.training.training_plan import plan
from stages.training.training_progress import Epoch

LONG_ENOUGH = 4.0  # seconds of an epoch that say something, be it the first one
MOST_BATCHES = 16


@dataclass(frozen=True)
class Timed:
    """What was measured."""

    seconds: float
    """Of an epoch over all images, validation included."""
    said: str
    """What was measured, in words."""


@dataclass(frozen=True)
class _Epoch:
    """One over a few images."""

    seconds: float
    processor: float
    """Seconds of the processor, of all threads together."""
    images: int
    judged: int
    device: str


def timed(
    samples: Sequence[Sample], annotations: list[Annotation], params: Params, training: float, validation: float
) -> Timed:
    """Time an epoch on a few images, and extend it to all.

    Args:
        samples: images, which are repeated where more are needed.
        annotations: of all images, or of those that are known.
        params: as proposed.
        training: working images of an epoch.
        validation: working images by which it is judged.

    Raises:
        UserError: such a training cannot be.
    """
    spec = _outline(samples, annotations, params)
    share, steps = validation / training, math.ceil(training / params.train.batch_size) * params.train.epochs
    one = _measured(samples, spec, params, params.train.batch_size, share, 1, steps)
    if one.seconds < LONG_ENOUGH:  # too short to say much, and the first one, in which all is set up
        batches = min(MOST_BATCHES, math.ceil(LONG_ENOUGH / one.seconds), math.ceil(training / params.train.batch_size))
        one = _measured(samples, spec, params, batches * params.train.batch_size, share, 2, steps)
    said = (
        f"{one.images} working images at batches of {params.train.batch_size}, judged by {one.judged}, "
        f"took {one.seconds:.2g} s on "
    )
    if one.device != "cpu":
        return Timed(one.seconds * training / one.images, said + one.device)
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    said += f"the CPU, {threads} threads of {cores} cores"
    seconds = one.seconds
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > cores + 1:
        seconds = min(seconds, one.processor / threads)
        said += f", which others used meanwhile: {seconds:.2g} s of its own"
    return Timed(seconds * training / one.images, said)


def _outline(samples: Sequence[Sample], annotations: list[Annotation], params: Params) -> TaskSpec:
    sections = params.model_dump()
    facts = {"annotations": annotations, "depth": 8 * samples[0][1].dtype.itemsize}
    spec = task_spec_of_data(sections["task"], sections["representation"], sections["prepare"], facts)
    if spec.task != "regression":
        return spec
    value_NS = np.stack([truth_of(labelled, spec) for labelled, _ in samples])
    deviation_S = np.where(value_NS.std(axis=0) > 0, value_NS.std(axis=0), 1.0)
    return replace(spec, mean=tuple(value_NS.mean(axis=0).tolist()), deviation=tuple(deviation_S.tolist()))


def _measured(
    samples: Sequence[Sample], spec: TaskSpec, params: Params, images: int, share: float, epochs: int, steps: int
) -> _Epoch:
    """The last of some epochs over so many images, judged by a share of them, as in a training of so many steps."""
    with TemporaryDirectory() as folder:
        given = rehearsal(Path(folder), samples, spec, images, max(1, round(images * share)))
        sections = {
            "task": params.task,
            "augment": params.augment,
            "network": params.network.model_copy(update={"weights": "none"}),
            "train": params.train.model_copy(update={"epochs": epochs}),
        }
        clock, found = [time.process_time()], []

        def report(epoch: Epoch) -> None:
            clock.append(time.process_time())
            found.append(epoch.seconds)

        planned, _, _ = resolve(plan(given, sections, Path(folder)), steps)
        fitted_ = fit(planned, report)
    return _Epoch(found[-1], clock[-1] - clock[-2], len(given.train_set), len(given.val_set), fitted_.device)
