"""What training sees, batch by batch, as a function of the seed alone."""

import hashlib
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from stages.augmentations import Draws, Policy, Warp, move
from stages.dataset.pixel_store import Ragged, Store
from stages.preprocessing.resize import scale
from stages.tasks.representations import REPRESENTATIONS
from stages.tasks.task_spec import TaskSpec

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Some images and what is learned from them, on the training device."""

    image_BCHW: torch.Tensor
    """Float in 0..1."""
    target: Any
    """As `Representation.stores` has it: a tensor with the batch first, channels second; of things a list. Where images
    were mixed, shares of the classes [B, K] in place of an index [B]."""
    index_B: Array
    """Rows of the store."""


def step_seed(*parts: int) -> int:
    """One 63-bit seed out of (seed, epoch, step): a run can be taken up anywhere without stored generator states."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def steps_per_epoch(images: int, batch_size: int, pieces: int = 1) -> int:
    """Steps of nearly equal size, at most `pieces` batches of `batch_size`: every image once, no batch of one image."""
    return max(1, min(math.ceil(images / (batch_size * pieces)), images // (2 * pieces)))


@dataclass
class Clock:
    """Seconds of a training since it was started or read."""

    reading: float = 0.0
    """From the store to the device."""
    changing: float = 0.0
    """By augmentation."""
    _started: float = 0.0

    def start(self) -> None:
        """From here on."""
        self.reading, self.changing, self._started = 0.0, 0.0, time.perf_counter()

    def read(self) -> tuple[float, float, float]:
        """Seconds in all, of reading, and of augmenting, and start anew."""
        found = time.perf_counter() - self._started, self.reading, self.changing
        self.start()
        return found


@dataclass(frozen=True)
class Feed:
    """Where training batches come from."""

    store: Store
    spec: TaskSpec
    policy: Policy
    batch_size: int
    seed: int
    share_N: Array | None = None
    """How often each image is drawn, summing to 1; None: every image once an epoch."""
    pieces: int = 1
    """Batches a step."""
    clock: Clock = field(default_factory=Clock)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return steps_per_epoch(len(self.store), self.batch_size, self.pieces)

    def batches(self, epoch: int, device: torch.device, first: int = 0, mine: slice = slice(None)) -> Iterator[Batch]:
        """The augmented batches of one epoch, in an order of its own, from the step `first` on.

        What becomes of an image hangs on its place in that order alone: not on the size of batches, on the other images
        of its batch, or on what was drawn before. Of the `pieces` of every step those in `mine` are given.
        """
        rng = np.random.default_rng(step_seed(self.seed, epoch))
        count = len(self.store)
        order = rng.permutation(count) if self.share_N is None else rng.choice(count, count, p=self.share_N)
        for step_S in np.array_split(np.arange(count), self.steps)[first:]:
            for place_B in np.array_split(step_S, self.pieces)[mine]:
                place_B = place_B[np.argsort(order[place_B], kind="stable")]  # files are read forwards
                batch = self.changed(order[place_B], Draws(self.seed, epoch, place_B), device)
                yield self._mixed(batch, order, epoch, place_B) if self.policy.mixes else batch

    def changed(self, index_B: Array, draws: Draws, device: torch.device) -> Batch:
        """Some images with their labels, changed but not mixed."""
        started = time.perf_counter()
        batch = load(self.store, self.spec, index_B, device)
        read = time.perf_counter()
        bones = self.store.bones
        bone_BK7 = None if bones is None else torch.from_numpy(bones.of(index_B)).to(device)
        image_BCHW, warp = self.policy(batch.image_BCHW, draws, bone_BK7)
        changed = Batch(image_BCHW, batch.target if warp is None else self._moved(batch.target, warp), index_B)
        self.clock.reading += read - started
        self.clock.changing += time.perf_counter() - read
        return changed

    def _moved(self, target: Any, warp: Warp) -> Any:
        return move(REPRESENTATIONS[self.spec.representation].stores, target, warp, swaps(self.spec))

    def _mixed(self, batch: Batch, order: Array, epoch: int, place_B: Array) -> Batch:
        """With a part of other images of the epoch in some, which change by draws of their own."""
        draws, device = Draws(self.seed, epoch, place_B), batch.image_BCHW.device
        kept_BSS = self.policy.kept(draws, device)
        target = self._mixable(batch.target)
        row_R = (kept_BSS.flatten(1).amin(dim=1) < 1).nonzero()[:, 0]
        if len(row_R):
            row = row_R.cpu().numpy()
            other_R = order[draws.stream("other", torch.device("cpu")).whole(len(order))[row]]
            other = self.changed(other_R, Draws(self.seed, epoch, place_B[row] + len(order)), device)
            kept_RSS = kept_BSS[row_R]
            batch.image_BCHW[row_R] = torch.lerp(other.image_BCHW, batch.image_BCHW[row_R], kept_RSS[:, None])
            target[row_R] = _between(target[row_R], self._mixable(other.target), kept_RSS)
        return Batch(batch.image_BCHW, target, batch.index_B)

    def _mixable(self, target: torch.Tensor) -> torch.Tensor:
        """A copy; of an index its share of the classes, 1."""
        if REPRESENTATIONS[self.spec.representation].stores == "index":
            return functional.one_hot(target, len(self.spec.labels)).float()
        return target.clone()


def _between(mine: torch.Tensor, other: torch.Tensor, kept_RSS: torch.Tensor) -> torch.Tensor:
    """Of classes the share that each has of the image; of labels a pixel the one that is seen."""
    if mine.ndim == 2:
        return torch.lerp(other, mine, kept_RSS.mean(dim=(1, 2))[:, None])
    return torch.where(kept_RSS > 0.5, mine, other)


def swaps(spec: TaskSpec) -> list[int]:
    """For each point the one that takes its name in a mirrored image; empty where none changes."""
    order = {name: i for i, name in enumerate(spec.points)}
    partner = dict(spec.flip_pairs) | {b: a for a, b in spec.flip_pairs}
    return [order[partner.get(name, name)] for name in spec.points] if partner else []


def plain_batches(store: Store, spec: TaskSpec, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """All images in order, unchanged."""
    for index_B in np.array_split(np.arange(len(store)), steps_per_epoch(len(store), batch_size)):
        yield load(store, spec, index_B, device)


def load(store: Store, spec: TaskSpec, index_B: Array, device: torch.device) -> Batch:
    """Bytes travel to the device, and become floats there: a quarter of the traffic."""
    image_BHWC = _taken(store.image_NHWC, index_B, device)
    return Batch(scale(image_BHWC), _target(store, spec, index_B, device), index_B)


def _target(store: Store, spec: TaskSpec, index_B: Array, device: torch.device) -> Any:
    if isinstance(store.target, Ragged):
        return [_things(store.target, int(index), spec.size, device) for index in index_B]
    values = _taken(store.target, index_B, device)
    match REPRESENTATIONS[spec.representation].stores:
        case "index" | "labels" | "ids":
            return values.long()
        case "image":
            return scale(values)
        case "density":
            return values.permute(0, 3, 1, 2)
        case _:
            return values.float()


def _taken(values: Any, index_B: Array, device: torch.device) -> torch.Tensor:
    """Some of an array that is mapped from disk, or of a tensor that lies on the device already."""
    if isinstance(values, torch.Tensor):
        return values[torch.from_numpy(index_B).to(values.device)]
    return torch.from_numpy(values[index_B]).to(device)


def resident(store: Store, device: torch.device) -> Store:
    """The store with its images, and labels that are arrays, in the device's memory."""
    target: Any = store.target
    if not isinstance(target, Ragged):
        target = torch.from_numpy(np.array(target)).to(device)
    image_NHWC: Any = torch.from_numpy(np.array(store.image_NHWC)).to(device)
    return replace(store, image_NHWC=image_NHWC, target=target)


def _things(ragged: Ragged, index: int, size: int, device: torch.device) -> dict[str, torch.Tensor]:
    mine = slice(int(ragged.first[index]), int(ragged.first[index + 1]))
    things = {
        "boxes": torch.from_numpy(ragged.box_T4[mine]).to(device),
        "labels": torch.from_numpy(ragged.label_T[mine]).to(device),
    }
    if ragged.mask_TX is not None:
        bits = np.unpackbits(ragged.mask_TX[mine], axis=1, count=size * size)
        things["masks"] = torch.from_numpy(bits.reshape(-1, size, size)).to(device)
    return things
