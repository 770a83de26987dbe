"""Chunk: a part of the parameters that a rule's kernel changes at a time, with what the kernel may do to it."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

import numpy as np

from ..arithmetic import total
from ..optim.clipping import factor, sum_of_squares
from . import communicator
from .communicator import STEP, Communicator
from .sums import in_order

if TYPE_CHECKING:
    from ..optim import Optimizer

_kept = threading.local()


class Chunk:
    """A part of the parameters, for a kernel: every array is a view of ``[start:stop]``.

    Attributes
    ----------
    centre : (m,) ndarray
        The shared parameters.
    state : dict of str to (m,) ndarray
        The optimizer's state for them.
    gradient : (m,) ndarray
        This lane's gradient.
    gradients : (W, m) ndarray
        Every lane's gradient.
    weights : (W,) float64 ndarray
        Each lane's share of the images in this step; if it is 0, the lane had no images, and its gradient is ignored.
    replica, replica_state
        This lane's own parameters and optimizer state.
    replicas : (W, m) ndarray
        Every lane's own parameters.
    workers : int
        W, how many lanes there are.
    lr : float
        Learning rate, after the schedule.
    step : int
        The optimizer's step number, from 1 on.
    """

    def __init__(self, shared: Communicator, lane: int, optimizer: Optimizer, weights: np.ndarray | None) -> None:
        # A sweep has many chunks, so what the chunks have in common is looked up once.
        self._shared, self._optimizer = shared, optimizer
        self.weights = np.ones(shared.lanes) / shared.lanes if weights is None else weights
        self.workers = shared.lanes
        self.lr = shared.rate(lane)
        self.step = shared.get(lane, STEP)
        self._lane = lane
        self._gradient, self._replica_state = shared.gradient(lane), shared.own_state(lane)
        self._scratch: dict[int, np.ndarray] = {}
        self._shrink: float | None = None  # the factor by which clipping shortens the mean, once it is known
        self.move(0, 0)

    def move(self, start: int, stop: int) -> None:
        """Become the chunk from `start` to `stop`."""
        self._part = slice(start, stop)

    @property
    def centre(self) -> np.ndarray:
        return self._shared.centre[self._part]

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {name: vector[self._part] for name, vector in self._shared.state.items()}

    @property
    def gradient(self) -> np.ndarray:
        return self._gradient[self._part]

    @property
    def gradients(self) -> np.ndarray:
        return self._shared.everyones("gradients", self._part)

    @property
    def replica(self) -> np.ndarray:
        return self._shared.replica(self._lane)[self._part]

    @property
    def replicas(self) -> np.ndarray:
        return self._shared.everyones("replicas", self._part)

    @property
    def replica_state(self) -> dict[str, np.ndarray]:
        return {name: vector[self._part] for name, vector in self._replica_state.items()}

    def scratch(self, number: int) -> np.ndarray:
        """An array of the chunk's length that holds garbage; each `number` names an array of its own."""
        if number not in self._scratch:
            self._scratch[number] = _scratch_array(number).view(self._shared.centre.dtype)
        return self._scratch[number][: self._part.stop - self._part.start]

    def mean(self, vectors: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """``Σ_w weights[w] vectors[w]``, added in the order of the lanes, so that every run gives the same bits."""
        out = self.scratch(0)
        share = np.full(len(vectors), 1 / len(vectors)) if weights is None else weights
        in_order(vectors, share, out)
        return out

    def clipped(self, mean: np.ndarray) -> np.ndarray:
        """The mean of all lanes' gradients, shortened in place if its norm over all parameters is too large.

        Every lane computes the same factor from all slots by itself: nobody changes a slot while they are averaged.
        """
        shared = self._shared
        if not shared.clip:
            return mean
        if self._shrink is None:
            squares = []
            for start in range(0, shared.parameters, communicator.CHUNK):
                part = slice(start, min(start + communicator.CHUNK, shared.parameters))
                whole = _scratch_array(1).view(mean.dtype)[: part.stop - start]
                in_order(shared.everyones("gradients", part), self.weights, whole)
                squares.append(sum_of_squares(whole))
            self._shrink = factor(math.sqrt(total(squares)), shared.clip)
        if self._shrink != 1.0:
            mean *= mean.dtype.type(self._shrink)
        return mean

    def optimise(self, parameters: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray]) -> None:
        """Let the optimizer do its step, in place, on the chunk."""
        self._optimizer.update(parameters, gradient, state, self.step, lr=self.lr)


def _scratch_array(number: int) -> np.ndarray:
    """This thread's memory for a scratch array; it is kept from sweep to sweep."""
    arrays = _kept.__dict__.setdefault("arrays", [])
    while len(arrays) <= number:
        arrays.append(np.empty(communicator.CHUNK))
    array: np.ndarray = arrays[number]
    return array
