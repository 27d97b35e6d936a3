"""Load training batches whose order and augmentation are determined by the seed and the epoch."""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stages.augmentations import BatchRandom, Policy, Warp, transform_targets
from stages.core.shapes import Array, Float, Integer, Shaped
from stages.dataset.pixel_store import PixelStore, RaggedObjects
from stages.preprocessing.resize import max_value, scale
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

ALL_MICRO_BATCHES = slice(None)


@dataclass(frozen=True)
class Batch:
    """Working images and their targets, on the training device."""

    image_BCHW: Float[torch.Tensor, "B C H W"]
    """Values in 0..1."""
    target: Any
    """Format of `Representation.stores`: a tensor with the batch first and channels second, or a list with one dict per
    image (boxes). After mixing, class indices [B] are replaced by class proportions [B, K]."""
    index_B: Integer[Array, " B"]
    """Rows of the store."""


def step_seed(*parts: int) -> int:
    """Return a 63-bit seed derived from integers such as (seed, epoch, step), so that no generator state is stored."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def steps_per_epoch(images: int, batch_size: int, micro_batches: int = 1) -> int:
    """Return the number of steps in which every image occurs once and no batch contains a single image; at least 1.

    Args:
        images: number of images.
        batch_size: largest size of a micro-batch; exceeded by up to 2 to avoid one with a single image.
        micro_batches: micro-batches per step.

    >>> steps_per_epoch(10, 4), steps_per_epoch(10, 4, micro_batches=2), steps_per_epoch(9, 8)
    (3, 2, 2)
    """
    return max(1, min(math.ceil(images / (batch_size * micro_batches)), images // (2 * micro_batches)))


@dataclass
class LoadingTimer:
    """Stopwatch for the time that training spends on loading and augmenting images."""

    loading: float = 0.0
    """Seconds spent on reading images and moving them to the device."""
    augmentation: float = 0.0
    """Seconds spent on augmentation."""
    _started: float = 0.0

    def start(self) -> None:
        """Reset all counters and start."""
        self.loading, self.augmentation, self._started = 0.0, 0.0, time.perf_counter()

    def restart(self) -> tuple[float, float, float]:
        """Return the total, loading and augmentation time since the last start in seconds, and start again."""
        elapsed = time.perf_counter() - self._started, self.loading, self.augmentation
        self.start()
        return elapsed


@dataclass(frozen=True)
class BatchLoader:
    """Loader of augmented training batches."""

    store: PixelStore
    spec: TaskSpec
    policy: Policy
    batch_size: int
    seed: int
    probability_N: Float[Array, " N"] | None = None
    """Sampling probability of each image, summing to 1; None: every image once per epoch."""
    micro_batches: int = 1
    """Number of batches per optimizer step, in all processes together."""
    early_size: int = 0
    """Height and width of the images in the first `early_epochs`, pixels; targets are not changed."""
    early_epochs: int = 0
    timer: LoadingTimer = field(default_factory=LoadingTimer)

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return steps_per_epoch(len(self.store), self.batch_size, self.micro_batches)

    def batches(
        self, epoch: int, device: torch.device, first_step: int = 0, selected: slice = ALL_MICRO_BATCHES
    ) -> Iterator[Batch]:
        """Yield the augmented batches of an epoch, in an order that depends on the seed and the epoch.

        The augmentation of an image depends only on the seed, the epoch and the position of the image in that order. It
        does not depend on the batch size, on other images of the batch, or on earlier random numbers.

        Args:
            epoch: counted from 1.
            device: where the batches are placed.
            first_step: step to begin with, counted from 0.
            selected: micro-batches of each step that are yielded; each process selects its own.
        """
        rng = np.random.default_rng(step_seed(self.seed, epoch))
        count = len(self.store)
        order = rng.permutation(count) if self.probability_N is None else rng.choice(count, count, p=self.probability_N)
        for position_S in np.array_split(np.arange(count), self.steps)[first_step:]:
            for unsorted_B in np.array_split(position_S, self.micro_batches)[selected]:
                position_B = unsorted_B[np.argsort(order[unsorted_B], kind="stable")]  # files are read in order
                batch = self.augmented(order[position_B], BatchRandom(self.seed, epoch, position_B), device)
                batch = self._mixed(batch, order, epoch, position_B) if self.policy.mixes else batch
                yield reduced(batch, self.early_size) if self.early_size and epoch <= self.early_epochs else batch

    def at_full_size(self) -> "BatchLoader":
        """Return a loader whose images have the working size in all epochs."""
        return replace(self, early_size=0, early_epochs=0)

    def augmented(self, index_B: Integer[Array, " B"], draws: BatchRandom, device: torch.device) -> Batch:
        """Load images with their targets and augment them, without mixing images.

        Args:
            index_B: rows of the store.
            draws: random numbers of these images.
            device: where the batch is placed.
        """
        started = time.perf_counter()
        batch = load_batch(self.store, self.spec, index_B, device)
        loaded = time.perf_counter()
        bones = self.store.bones
        bone_BK7 = None if bones is None else torch.from_numpy(bones.padded(index_B)).to(device)
        image_BCHW, warp = self.policy(batch.image_BCHW, draws, bone_BK7)
        augmented = Batch(image_BCHW, batch.target if warp is None else self._warped(batch.target, warp), index_B)
        self.timer.loading += loaded - started
        self.timer.augmentation += time.perf_counter() - loaded
        return augmented

    def _warped(self, target: Any, warp: Warp) -> Any:
        return transform_targets(
            REPRESENTATIONS[self.spec.representation].stores, target, warp, flipped_points(self.spec)
        )

    def _mixed(self, batch: Batch, order: Integer[Array, " N"], epoch: int, position_B: Integer[Array, " B"]) -> Batch:
        """Mix some images of a batch, in place, with other images of the epoch, which are augmented independently."""
        draws, device = BatchRandom(self.seed, epoch, position_B), batch.image_BCHW.device
        kept_BSS = self.policy.kept(draws, device)
        target = self._mixable(batch.target)
        row_R = (kept_BSS.flatten(1).amin(dim=1) < 1).nonzero()[:, 0]
        if len(row_R):
            row = row_R.cpu().numpy()
            other_R = order[draws.stream("other", torch.device("cpu")).integers(len(order))[row]]
            other = self.augmented(other_R, BatchRandom(self.seed, epoch, position_B[row] + len(order)), device)
            kept_RSS = kept_BSS[row_R]
            batch.image_BCHW[row_R] = torch.lerp(other.image_BCHW, batch.image_BCHW[row_R], kept_RSS[:, None])
            target[row_R] = _mixed_target(target[row_R], self._mixable(other.target), kept_RSS)
        return Batch(batch.image_BCHW, target, batch.index_B)

    def _mixable(self, target: Shaped[torch.Tensor, "B ..."]) -> Shaped[torch.Tensor, "B _ ..."]:
        """Return a copy of the target, with class indices [B] as one-hot vectors [B, K]."""
        if REPRESENTATIONS[self.spec.representation].stores == "index":
            return functional.one_hot(target, len(self.spec.labels)).float()
        return target.clone()


def _mixed_target(
    own: Shaped[torch.Tensor, "R ..."], other: Shaped[torch.Tensor, "R ..."], kept_RSS: Float[torch.Tensor, "R S S"]
) -> Shaped[torch.Tensor, "R ..."]:
    """Return the class proportions by mean weight or, for label images, the label of the image with more weight."""
    if own.ndim == 2:
        return torch.lerp(other, own, kept_RSS.mean(dim=(1, 2))[:, None])
    return torch.where(kept_RSS > 0.5, own, other)


def reduced(batch: Batch, size: int) -> Batch:
    """Return a batch with smaller images, resized bilinearly with antialiasing; targets are not changed."""
    image_BCHW = functional.interpolate(
        batch.image_BCHW, size=(size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return replace(batch, image_BCHW=image_BCHW)


def flipped_points(spec: TaskSpec) -> list[int]:
    """Return for each point the index of the point that takes its name in a mirrored image; empty without pairs."""
    order = {name: i for i, name in enumerate(spec.points)}
    partner = dict(spec.flip_pairs) | {b: a for a, b in spec.flip_pairs}
    return [order[partner.get(name, name)] for name in spec.points] if partner else []


def unaugmented_batches(store: PixelStore, spec: TaskSpec, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """Yield all images in order, without augmentation.

    Args:
        store: images and targets.
        spec: the task.
        batch_size: largest size of a batch.
        device: where the batches are placed.
    """
    for index_B in np.array_split(np.arange(len(store)), steps_per_epoch(len(store), batch_size)):
        yield load_batch(store, spec, index_B, device)


def load_batch(store: PixelStore, spec: TaskSpec, index_B: Integer[Array, " B"], device: torch.device) -> Batch:
    """Load images and targets in their stored types and convert them on the device, which transfers fewer bytes.

    Args:
        store: images and targets.
        spec: the task.
        index_B: rows of the store.
        device: where the batch is placed.
    """
    image_BHWC = _rows_of(store.image_NHWC, index_B, device)
    return Batch(scale(image_BHWC, spec.white_level), _target(store, spec, index_B, device), index_B)


def _target(store: PixelStore, spec: TaskSpec, index_B: Integer[Array, " B"], device: torch.device) -> Any:
    if isinstance(store.target, RaggedObjects):
        return [_objects(store.target, int(index), spec.size, device) for index in index_B]
    values = _rows_of(store.target, index_B, device)
    match REPRESENTATIONS[spec.representation].stores:
        case "index" | "labels" | "ids":
            return values.long()
        case "image":
            return scale(values, int(max_value(values)))
        case "density":
            return values.permute(0, 3, 1, 2)
        case _:
            return values.float()


def _rows_of(values: Any, index_B: Integer[Array, " B"], device: torch.device) -> Shaped[torch.Tensor, "B ..."]:
    """Return rows of an array that is mapped from disk, or of a tensor that is on the device already."""
    if isinstance(values, torch.Tensor):
        return values[torch.from_numpy(index_B).to(values.device)]
    return torch.from_numpy(values[index_B]).to(device)


def resident_on(store: PixelStore, device: torch.device) -> PixelStore:
    """Return a copy of the store whose images are in the device's memory, and also its targets if they are an array."""
    target: Any = store.target
    if not isinstance(target, RaggedObjects):
        target = torch.from_numpy(np.array(target)).to(device)
    image_NHWC: Any = torch.from_numpy(np.array(store.image_NHWC)).to(device)
    return replace(store, image_NHWC=image_NHWC, target=target)


def _objects(ragged: RaggedObjects, index: int, size: int, device: torch.device) -> dict[str, torch.Tensor]:
    """Return boxes [M, 4], labels [M] and, where known, masks [M, S, S] of the objects of one image."""
    rows = slice(int(ragged.first[index]), int(ragged.first[index + 1]))
    objects = {
        "boxes": torch.from_numpy(ragged.box_T4[rows]).to(device),
        "labels": torch.from_numpy(ragged.label_T[rows]).to(device),
    }
    if ragged.mask_TX is not None:
        bits = np.unpackbits(ragged.mask_TX[rows], axis=1, count=size * size)
        objects["masks"] = torch.from_numpy(bits.reshape(-1, size, size)).to(device)
    return objects
