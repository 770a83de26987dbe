"""Run: the state of a pass that every step reads; Workspace: memory for arrays that no plan foresees."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyconv.backends import Backend

#: A step's position, and the name of one of its arrays.
Key = tuple[int | str, str]


class Workspace:
    """Named work arrays that are not in the plan; they are kept from pass to pass.

    New memory costs a page fault for every 4 KB, as much time as a ReLU. Here memory is allocated once for each name,
    and again only if a larger batch comes.
    """

    def __init__(self, ops: Backend) -> None:
        self._ops = ops
        self._memory: dict[Any, Any] = {}
        self._arrays: dict[Any, Any] = {}

    def array(self, key: Any, shape: tuple[int, ...], dtype: np.dtype) -> Any:
        """A C-contiguous array with the name `key`; it holds garbage, or what it held before."""
        array = self._arrays.get(key)
        if array is not None and array.shape == shape and array.dtype == dtype:
            return array
        size = math.prod(shape) * dtype.itemsize
        memory = self._memory.get(key)
        if memory is None or memory.nbytes < size:
            self._arrays.pop(key, None)
            self._memory.pop(key, None)
            self._memory[key] = memory = self._ops.allocate(size)
        array = self._arrays[key] = memory[:size].view(dtype).reshape(shape)
        return array

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(memory.nbytes for memory in self._memory.values())


@dataclass(slots=True)
class Run:
    """The state of one pass: how operations run, the random numbers, and the memory for results.

    Attributes
    ----------
    ops : Backend
        Computes every operation.
    threads : int
        Of every operation.
    algorithm : str
        Of every convolution.
    dtype : dtype
        Of the model.
    workspace : Workspace
        Memory for arrays that are not in the plan.
    planned : mapping of (index, name) to array
        The arrays that are in the plan.
    training : bool
        Whether dropout drops, BatchNorm uses the batch's statistics, and steps keep what the backward pass needs.
    seed, step, first : int
        What dropout's masks depend on, besides the layer: the model's seed, the number of the training step, and the
        position of the batch's first example in the global batch.
    owned : bool
        Whether the step may overwrite its input; True only for steps with ``over``.
    gradients : mapping of str to array
        Views into the flat gradient, by parameter.
    """

    ops: Backend
    threads: int
    algorithm: str
    dtype: np.dtype
    workspace: Workspace
    planned: Mapping[Key, Any] = field(default_factory=dict)
    training: bool = False
    seed: int = 0
    step: int = 0
    first: int = 0
    gradients: Mapping[str, Any] = field(default_factory=dict)
    owned: bool = False
    _turn: bool = False

    def kept(self, key: Key, shape: tuple[int, ...], dtype: np.dtype | None = None) -> Any:
        """The array called `key`, for a value that lasts until the step's backward pass."""
        array = self.planned.get(key)
        if array is not None and array.shape == shape:
            return array
        return self.workspace.array(key, shape, self.dtype if dtype is None else dtype)

    def result(self, index: int | str, shape: tuple[int, ...]) -> Any:
        """The array for the result of the step at `index`."""
        return self.kept((index, "y"), shape)

    def gradient(self, index: int | str, shape: tuple[int, ...]) -> Any:
        """The array for the gradient of the input of the step at `index`."""
        return self.kept((index, "dx"), shape)

    def passing(self, shape: tuple[int, ...]) -> Any:
        """One of two arrays in turn, for a value that is not needed after the step returns."""
        self._turn = not self._turn
        return self.workspace.array(self._turn, shape, self.dtype)
