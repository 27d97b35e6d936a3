"""Counter-based random numbers per image, independent of the batch composition and of the device.

Only numbers from the torch generators of `RandomStream.generators` depend on the type of the device.
"""

import hashlib
import math
from typing import Any

import numpy as np
import torch

from stages.core.shapes import Array, Bool, Float, Integer

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mixed(state: Integer[Array, "*B"]) -> Integer[Array, "*B"]:
    """Return 64-bit states mixed by the output function of SplitMix64 (Steele, Lea and Flood 2014)."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 is intended
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _hashed(*parts: Any) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big"))


class BatchRandom:
    """Random numbers of a batch: a key per image and a stream per augmentation.

    Each augmentation uses the stream of its own name, so that enabling another one does not change its numbers.
    """

    def __init__(self, seed: int, epoch: int, position_B: Integer[Array, " B"]) -> None:
        """Create the keys of a batch.

        Args:
            seed: training seed.
            epoch: number of the epoch.
            position_B: number that identifies each image in the epoch, such as its position in the order.
        """
        with np.errstate(over="ignore"):
            place_B = np.asarray(position_B).astype(np.uint64) * _GOLDEN
        self.key_B = _mixed(place_B ^ _hashed(seed, epoch))

    def __len__(self) -> int:
        return len(self.key_B)

    def stream(self, name: str, device: torch.device) -> "RandomStream":
        """Return the random numbers of one augmentation, for tensors on `device`."""
        return RandomStream(_mixed(self.key_B ^ _hashed(name)), device)


class RandomStream:
    """Sequence of random numbers for each image of a batch."""

    def __init__(self, key_B: Integer[Array, " B"], device: torch.device) -> None:
        self.key_B, self.device, self.drawn = key_B, device, 0

    def __len__(self) -> int:
        return len(self.key_B)

    def _uniform(self, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
        """Return uniform numbers in [0, 1), shape [B, *shape]."""
        count = math.prod(shape)
        counter = np.arange(self.drawn + 1, self.drawn + count + 1, dtype=np.uint64)
        self.drawn += count
        with np.errstate(over="ignore"):
            bits = _mixed(self.key_B[:, None] + counter * _GOLDEN)
        return ((bits >> np.uint64(11)) * 2.0**-53).reshape(len(self), *shape)

    def _tensor(self, values: Float[Array, "*B"]) -> Float[torch.Tensor, "*B"]:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)

    def uniform(self, low: float, high: float, *shape: int) -> Float[torch.Tensor, "B ..."]:
        """Return floats from the uniform distribution over low..high, shape [B, *shape]."""
        return self._tensor(low + (high - low) * self._uniform(shape))

    def symmetric(self, most: float, *shape: int) -> Float[torch.Tensor, "B ..."]:
        """Return floats from the uniform distribution over -most..most, shape [B, *shape]."""
        return self.uniform(-most, most, *shape)

    def normal(self, *shape: int) -> Float[torch.Tensor, "B ..."]:
        """Return standard normal floats, shape [B, *shape] (Box and Muller 1958)."""
        first, second = 1 - self._uniform(shape), self._uniform(shape)
        return self._tensor(np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second))

    def beta(self, both: float) -> Float[torch.Tensor, " B"]:
        """Return floats from the distribution Beta(both, both)."""
        return self._tensor(np.array([np.random.default_rng(key).beta(both, both) for key in self._keys()]))

    def bernoulli(self, chance: float) -> Bool[torch.Tensor, " B"]:
        """Return booleans that are true with the given probability."""
        return torch.from_numpy(self._uniform(()) < chance).to(self.device)

    def integers(self, below: int) -> Integer[Array, " B"]:
        """Return uniform integers in 0..below - 1, on the CPU."""
        return (self._uniform(()) * below).astype(np.int64)

    def _keys(self) -> list[int]:
        return [int(value * 2**53) for value in self._uniform(())]

    def generators(self) -> list[torch.Generator]:
        """Return one torch generator per image, for distributions that depend on the pixels."""
        return [torch.Generator(self.device).manual_seed(key) for key in self._keys()]
