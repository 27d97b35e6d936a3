"""Random numbers that belong to an image: the same whatever else is in the batch, and wherever the batch is made."""

import hashlib
import math
from typing import Any

import numpy as np
import torch

Array = np.ndarray[Any, Any]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: Array) -> Array:
    """64 bits to 64 bits: the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):  # whole numbers modulo 2^64 are meant
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _hashed(*parts: Any) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big"))


class Draws:
    """The source of all that is random about a batch: a key for each image, and a stream for each augmentation.

    An augmentation draws from the stream of its own name, so that switching another one on changes nothing for it.
    """

    def __init__(self, seed: int, epoch: int, position_B: Array) -> None:
        """`position_B` [B]: the place of each image in the order of its epoch."""
        with np.errstate(over="ignore"):
            place_B = np.asarray(position_B).astype(np.uint64) * _GOLDEN
        self.key_B = _mixed(place_B ^ _hashed(seed, epoch))

    def __len__(self) -> int:
        return len(self.key_B)

    def stream(self, name: str, device: torch.device) -> "Stream":
        """Random numbers for one augmentation, on the device where they are used."""
        return Stream(_mixed(self.key_B ^ _hashed(name)), device)


class Stream:
    """Random numbers for each image of a batch, one after the other."""

    def __init__(self, key_B: Array, device: torch.device) -> None:
        self.key_B, self.device, self.drawn = key_B, device, 0

    def __len__(self) -> int:
        return len(self.key_B)

    def _uniform(self, shape: tuple[int, ...]) -> Array:
        """[B, *shape] in 0..1, exclusive of 1."""
        count = math.prod(shape)
        counter = np.arange(self.drawn + 1, self.drawn + count + 1, dtype=np.uint64)
        self.drawn += count
        with np.errstate(over="ignore"):
            bits = _mixed(self.key_B[:, None] + counter * _GOLDEN)
        return ((bits >> np.uint64(11)) * 2.0**-53).reshape(len(self), *shape)

    def _tensor(self, values: Array) -> torch.Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)

    def between(self, low: float, high: float, *shape: int) -> torch.Tensor:
        """Float [B, *shape], evenly spread over low..high."""
        return self._tensor(low + (high - low) * self._uniform(shape))

    def either_way(self, most: float, *shape: int) -> torch.Tensor:
        """Float [B, *shape], evenly spread over -most..most."""
        return self.between(-most, most, *shape)

    def normal(self, *shape: int) -> torch.Tensor:
        """Float [B, *shape] of mean 0 and deviation 1 (Box and Muller 1958)."""
        first, second = 1 - self._uniform(shape), self._uniform(shape)
        return self._tensor(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))

    def beta(self, both: float) -> torch.Tensor:
        """Float [B] of the symmetric beta distribution."""
        return self._tensor(np.array([np.random.default_rng(key).beta(both, both) for key in self._keys()]))

    def happens(self, chance: float) -> torch.Tensor:
        """Boolean [B]."""
        return torch.from_numpy(self._uniform(()) < chance).to(self.device)

    def whole(self, below: int) -> Array:
        """Whole numbers [B] in 0..below, exclusive, on the CPU."""
        return (self._uniform(()) * below).astype(np.int64)

    def _keys(self) -> list[int]:
        return [int(value * 2**53) for value in self._uniform(())]

    def generators(self) -> list[torch.Generator]:
        """One of torch's generators for each image, where a draw depends on the pixels."""
        return [torch.Generator(self.device).manual_seed(key) for key in self._keys()]
