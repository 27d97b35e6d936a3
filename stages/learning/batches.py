"""What training sees, batch by batch, as a function of the seed alone."""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from stages.augmentations import Policy, move
from stages.images.store import Ragged, Store
from stages.networks.preprocessing import scale
from stages.tasks.outline import Outline
from stages.tasks.representations import REPRESENTATIONS

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Batch:
    """Some images and what is learned from them, on the training device."""

    image_BCHW: torch.Tensor
    """Float in 0..1."""
    target: Any
    """As `Representation.stores` has it: a tensor with the batch first, channels second; of things a list."""
    index_B: Array
    """Rows of the store."""


def step_seed(*parts: int) -> int:
    """One 63-bit seed out of (seed, epoch, step): a run can be taken up anywhere without stored generator states."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Batches of nearly equal size, at most `batch_size`: every image once, and no batch of one image at the end."""
    return max(1, min(math.ceil(images / batch_size), images // 2))


@dataclass(frozen=True)
class Feed:
    """Where training batches come from."""

    store: Store
    outline: Outline
    policy: Policy
    batch_size: int
    seed: int
    share_N: Array | None = None
    """How often each image is drawn, summing to 1; None: every image once an epoch."""

    def batches(self, epoch: int, device: torch.device) -> Iterator[Batch]:
        """The augmented batches of one epoch, in an order of its own."""
        rng = np.random.default_rng(step_seed(self.seed, epoch))
        count = len(self.store)
        order = rng.permutation(count) if self.share_N is None else rng.choice(count, count, p=self.share_N)
        for step, index_B in enumerate(np.array_split(order, steps_per_epoch(count, self.batch_size))):
            batch = load(self.store, self.outline, np.sort(index_B), device)
            yield self._changed(batch, step_seed(self.seed, epoch, step))

    def _changed(self, batch: Batch, seed: int) -> Batch:
        image_BCHW, matrix_B33 = self.policy(batch.image_BCHW, seed)
        if matrix_B33 is None:
            return Batch(image_BCHW, batch.target, batch.index_B)
        kind, swap = REPRESENTATIONS[self.outline.representation].stores, swaps(self.outline)
        target = move(kind, batch.target, matrix_B33, self.outline.size, self.policy.outside, swap)
        return Batch(image_BCHW, target, batch.index_B)


def swaps(outline: Outline) -> list[int]:
    """For each point the one that takes its name in a mirrored image; empty where none changes."""
    order = {name: i for i, name in enumerate(outline.points)}
    partner = dict(outline.flip_pairs) | {b: a for a, b in outline.flip_pairs}
    return [order[partner.get(name, name)] for name in outline.points] if partner else []


def plain_batches(store: Store, outline: Outline, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """All images in order, unchanged."""
    for index_B in np.array_split(np.arange(len(store)), steps_per_epoch(len(store), batch_size)):
        yield load(store, outline, index_B, device)


def load(store: Store, outline: Outline, index_B: Array, device: torch.device) -> Batch:
    """Bytes travel to the device, and become floats there: a quarter of the traffic."""
    image_BHWC = torch.from_numpy(store.image_NHWC[index_B]).to(device)
    return Batch(scale(image_BHWC), _target(store, outline, index_B, device), index_B)


def _target(store: Store, outline: Outline, index_B: Array, device: torch.device) -> Any:
    if isinstance(store.target, Ragged):
        return [_things(store.target, int(index), outline.size, device) for index in index_B]
    values = torch.from_numpy(store.target[index_B]).to(device)
    match REPRESENTATIONS[outline.representation].stores:
        case "index" | "labels" | "ids":
            return values.long()
        case "image":
            return scale(values)
        case "density":
            return values.permute(0, 3, 1, 2)
        case _:
            return values.float()


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
