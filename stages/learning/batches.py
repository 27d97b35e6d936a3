"""What training sees, batch by batch, as a function of the seed alone."""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch

from stages.augmentations import Policy
from stages.images.store import Store
from stages.networks.preprocessing import scale

Batch = tuple[torch.Tensor, torch.Tensor]
"""image_BCHW float in 0..1, label_B int64; on the training device."""


def step_seed(*parts: int) -> int:
    """One 63-bit seed out of (seed, epoch, step): a run can be taken up anywhere without stored generator states."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Batches of nearly equal size, at most `batch_size`: every image once, and no batch of one image at the end."""
    return max(1, min(math.ceil(images / batch_size), images // 2))


def training_batches(
    store: Store, batch_size: int, policy: Policy, seed: int, epoch: int, device: torch.device
) -> Iterator[Batch]:
    """The augmented batches of one epoch, in an order of its own."""
    order = np.random.default_rng(step_seed(seed, epoch)).permutation(len(store))
    for step, index_B in enumerate(np.array_split(order, steps_per_epoch(len(store), batch_size))):
        image_BCHW, label_B = _load(store, np.sort(index_B), device)
        yield policy(image_BCHW, step_seed(seed, epoch, step)), label_B


def validation_batches(store: Store, batch_size: int, device: torch.device) -> Iterator[Batch]:
    """All images in order, unchanged."""
    for index_B in np.array_split(np.arange(len(store)), steps_per_epoch(len(store), batch_size)):
        yield _load(store, index_B, device)


def _load(store: Store, index_B: np.ndarray, device: torch.device) -> Batch:
    """Bytes travel to the device, and become floats there: a quarter of the traffic."""
    image_BHWC = torch.from_numpy(store.image_NHWC[index_B]).to(device)
    return scale(image_BHWC), torch.from_numpy(store.label_N[index_B]).to(device)
