"""What one pass through a network carries from step to step, and the memory that steps share and use again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyconv.backends import Backend


class Workspace:
    """Work arrays by name, kept from pass to pass.

    Fresh memory costs a page fault for every 4 KB touched, as much time as a ReLU; here a name's memory is allocated
    once and grows only when a larger batch comes.
    """

    def __init__(self) -> None:
        self._memory: dict[Any, np.ndarray] = {}
        self._arrays: dict[Any, np.ndarray] = {}

    def array(self, key: Any, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A C-contiguous array called `key`, holding garbage or what it held before."""
        array = self._arrays.get(key)
        if array is not None and array.shape == shape and array.dtype == dtype:
            return array
        size = math.prod(shape) * dtype.itemsize
        memory = self._memory.get(key)
        if memory is None or memory.nbytes < size:
            self._arrays.pop(key, None)
            self._memory[key] = memory = np.empty(size, np.uint8)
        array = memory[:size].view(dtype).reshape(shape)
        self._arrays[key] = array
        return array

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(memory.nbytes for memory in self._memory.values())


@dataclass(slots=True)
class Run:
    """One pass: where and how operations run, what is random in it, and where results go.

    Attributes
    ----------
    ops : Backend
        Computes every operation.
    threads : int
        For every operation.
    algorithm : str
        For every convolution.
    dtype : dtype
        Of the model.
    workspace : Workspace
    training : bool
        Whether dropout drops, BatchNorm uses the batch's statistics, and steps keep what the backward pass needs.
    seed, step, first : int
        What dropout's masks depend on, beside the layer: the model's seed, the number of the training step, and the
        position of the batch's first example in the global batch.
    owned : bool
        Whether the array that comes into a step is the network's, so that the step may write over it.
    gradients : mapping of str to ndarray
        Views into the flat gradient, by parameter.
    """

    ops: Backend
    threads: int
    algorithm: str
    dtype: np.dtype
    workspace: Workspace
    training: bool = False
    seed: int = 0
    step: int = 0
    first: int = 0
    gradients: Mapping[str, np.ndarray] = field(default_factory=dict)
    owned: bool = False
    _turn: bool = False

    def passing(self, shape: tuple[int, ...]) -> np.ndarray:
        """One of two arrays in turn, for a value that the very next operation consumes."""
        self._turn = not self._turn
        return self.workspace.array(self._turn, shape, self.dtype)

    def kept(self, key: tuple[int, str], shape: tuple[int, ...], dtype: np.dtype | None = None) -> np.ndarray:
        """The array called `key`, for a value that lasts until the end of the pass."""
        return self.workspace.array(key, shape, self.dtype if dtype is None else dtype)

    def result(self, index: int, shape: tuple[int, ...]) -> np.ndarray:
        """An array for the result of the step at `index`: kept in training, where the backward pass reads it."""
        return self.kept((index, "y"), shape) if self.training else self.passing(shape)
