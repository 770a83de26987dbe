"""Augmentation: the base class of augmentations, and the random numbers that they draw for each example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

Draws = Callable[[int], np.ndarray]
"""``draws(k)``: the k-th random number from 0 to 1 of each example, ``(N,)`` float64."""

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Augmentation:
    """A random change of images, drawn for each example separately."""

    name: ClassVar[str]
    neutral: ClassVar[float]
    """The setting that changes nothing."""
    help: ClassVar[str]
    metavar: ClassVar[str]
    moves: ClassVar[bool] = False
    """Whether it moves pixels: such augmentations come before flips and shifts, the others after them."""

    def check(self, value: Any) -> float:
        """`value` as a setting, or an `InputError` that names it."""
        raise TypeError(f"{type(self).__name__} says nothing of its setting")

    def check_size(self, value: float, height: int, width: int) -> None:
        """Raise an `InputError` if a setting makes no sense for images of this size."""

    def apply(self, batch: np.ndarray, value: float, draws: Draws) -> np.ndarray:
        """Change the ``(N, H, W, C)`` images of `batch`; returns a new array."""
        raise TypeError(f"{type(self).__name__} changes nothing")


def mix(z: np.ndarray) -> np.ndarray:
    """Scramble uint64 words: the output function of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def words(seed: int, epoch: int, indices: np.ndarray) -> np.ndarray:
    """One random uint64 for each example."""
    made = np.zeros(len(indices), np.uint64)
    for part in (seed, epoch, indices):
        part = np.asarray(part).astype(np.int64).view(np.uint64)
        made = mix((made ^ part) + _GOLDEN)  # arrays of uint64 wrap around, as they should here
    return made


def draws(of_examples: np.ndarray, name: str) -> Draws:
    """The random numbers of an augmentation, from the examples' words; each augmentation's name gives others."""
    salt = np.frombuffer(name.encode()[:8].ljust(8), np.uint64)

    def draw(number: int) -> np.ndarray:
        word = mix(mix((of_examples ^ salt) + _GOLDEN) + np.array([number + 1], np.uint64) * _GOLDEN)
        return (word >> np.uint64(11)).astype(np.float64) * 2.0**-53

    return draw


def like(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Floating-point pixels in the images' dtype: bytes are rounded and limited to 0 to 255."""
    if dtype.kind == "f":
        return values.astype(dtype, copy=False)
    limits = np.iinfo(dtype)
    return np.clip(np.floor(values + 0.5), limits.min, limits.max).astype(dtype)
