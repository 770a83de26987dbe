"""Transactions: a change to many numbers that a process may die in the middle of.

A sweep runs a rule's *kernel* over a range of the parameters, chunk by chunk. Before a chunk is changed, the
old values of everything that the kernel writes are saved, and the lane notes so; after it, the lane notes how
far it has come. Whoever goes on after a death puts the saved values back and repeats the chunk: each chunk is
changed exactly once, to the same bits. The saved values are a chunk's, not the model's, so they stay in cache.

A sweep is a generator that pauses between any two of its stores, so that the model test can let a worker die there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arithmetic import own
from . import _atomics as atomics
from . import store as s
from .kernels import kernels

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .rules import Rule

Micro = Iterator[None]


_kept = threading.local()


class Chunk:
    """A stretch of the parameters, as a kernel sees it: every array is a view of ``[start:stop]``.

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
        Each lane's share of the images in this step; 0 where a lane had none, and its gradient is then to be ignored.
    replica, replica_state
        This lane's own parameters and optimizer state.
    replicas : (W, m) ndarray
        Every lane's own parameters.
    lr : float
        Learning rate, after the schedule.
    step : int
        The optimizer's step number, from 1 on.
    """

    def __init__(self, store: s.Store, lane: int, optimizer: Optimizer, weights: np.ndarray | None) -> None:
        # A sweep has many chunks, so what they share is looked up once.
        self._store, self._optimizer = store, optimizer
        self.weights = np.ones(store.plan.lanes) / store.plan.lanes if weights is None else weights
        self.lr = float(store.rates[lane, 0])
        self.step = store.get(lane, s.STEP)
        self._gradient = store.gradients[lane]
        self._replica = None if store.replicas is None else store.replicas[lane]
        self._replica_state = {name: vectors[lane] for name, vectors in store.replica_state.items()}
        self._scratch: dict[int, np.ndarray] = {}
        self.move(0, 0)

    def move(self, start: int, stop: int) -> None:
        """Be the stretch from `start` to `stop` from now on."""
        self._part = slice(start, stop)

    @property
    def centre(self) -> np.ndarray:
        return self._store.centre[self._part]

    @property
    def state(self) -> dict[str, np.ndarray]:
        return {name: vector[self._part] for name, vector in self._store.state.items()}

    @property
    def gradient(self) -> np.ndarray:
        return self._gradient[self._part]

    @property
    def gradients(self) -> np.ndarray:
        return self._store.gradients[:, self._part]

    @property
    def replica(self) -> np.ndarray:
        assert self._replica is not None, "the rule does not say that it uses replicas"
        return self._replica[self._part]

    @property
    def replicas(self) -> np.ndarray:
        assert self._store.replicas is not None, "the rule does not say that it uses replicas"
        return self._store.replicas[:, self._part]

    @property
    def replica_state(self) -> dict[str, np.ndarray]:
        return {name: vector[self._part] for name, vector in self._replica_state.items()}

    def scratch(self, number: int) -> np.ndarray:
        """An array of the chunk's length that holds garbage; another one for every `number`."""
        if number not in self._scratch:
            self._scratch[number] = _scratch_array(number).view(self._store.centre.dtype)
        return self._scratch[number][: self._part.stop - self._part.start]

    def mean(self, vectors: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """``Σ_w weights[w] vectors[w]``, added in the order of the lanes: the same bits in every run."""
        out = self.scratch(0)
        share = np.full(len(vectors), 1 / len(vectors)) if weights is None else weights
        atomics.reduce_slots(vectors, np.ascontiguousarray(share, np.float64), out)
        return out

    def optimise(self, parameters: np.ndarray, gradient: np.ndarray, state: dict[str, np.ndarray]) -> None:
        """Let the optimizer do its step, in place."""
        self._optimizer.update(parameters, gradient, state, self.step, lr=self.lr)


def _scratch_array(number: int) -> np.ndarray:
    """This thread's memory for that scratch array, kept from sweep to sweep."""
    arrays = _kept.__dict__.setdefault("arrays", [])
    while len(arrays) <= number:
        arrays.append(np.empty(s.CHUNK))
    array: np.ndarray = arrays[number]
    return array


def _written(store: s.Store, lane: int, writes: tuple[str, ...]) -> list[np.ndarray]:
    """The whole vectors that a kernel changes."""
    vectors: list[np.ndarray] = []
    for name in writes:
        if name == "centre":
            vectors.append(store.centre)
        elif name == "state":
            vectors.extend(store.state.values())
        elif name == "replica":
            assert store.replicas is not None
            vectors.append(store.replicas[lane])
        else:
            vectors.extend(each[lane] for each in store.replica_state.values())
    return vectors


def begin(
    store: s.Store, rule: Rule, lane: int, method: Any, part: tuple[int, int], lr: float, step: int, after: int
) -> Micro:
    """Note down what is going to be done, all of it before the note that it is going to be done.

    `after` is what the lane's CLOCK, in lockstep, or else its TURN will be when it is done.
    """
    what = method.kernel
    store.set(lane, s.UNDO, -1)
    store.set(lane, s.POSITION, part[0])
    store.set(lane, s.END, part[1])
    store.set(lane, s.PUSH, 0)
    store.set(lane, s.NEXT, after)
    yield
    if what.push:
        # With the lock held nobody else counts; the count itself is raised when the push is complete. Without it,
        # counting is one atomic addition, and a death right after leaves a number that no push has.
        push = 1 + (atomics.add(store.words, s.SEQUENCE, 1) if what.racy else store.head(s.SEQUENCE))
        store.set(lane, s.PUSH, push)
        step = step if rule.replica_state else push
        lr = rule.learning_rate(lr, push - 1 - store.get(lane, s.PULLED))
    store.rates[lane, 0] = lr
    store.set(lane, s.STEP, step)
    yield
    number = [each.__name__ for each in kernels(rule)].index(method.__name__)
    store.set(lane, s.SWEEP, number + 1)
    yield


def proceed(store: s.Store, rule: Rule, lane: int, optimizer: Optimizer, weights: np.ndarray | None = None) -> Micro:
    """Do what is noted down, from where it is; the lane's owner does this, or the parent for a dead one."""
    method = kernels(rule)[store.get(lane, s.SWEEP) - 1]
    what = method.kernel
    saves = [] if what.racy else list(zip(store.undo[lane], _written(store, lane, what.writes), strict=False))
    chunk = Chunk(store, lane, optimizer, weights)
    end = store.get(lane, s.END)
    while (start := store.get(lane, s.POSITION)) < end:
        stop = min(start + s.CHUNK, end)
        for saved, vector in saves:
            saved[: stop - start] = vector[start:stop]
        yield
        store.set(lane, s.UNDO, start)
        yield
        chunk.move(start, stop)
        own(method)(chunk)
        yield
        store.set(lane, s.POSITION, stop)
        yield


def roll_back(store: s.Store, rule: Rule, lane: int) -> int:
    """Put back the chunk that a dead owner was changing; gives the elements of which that could not be done.

    That is for racy kernels only: others may have changed the chunk since, so it is left as it is, and not repeated.
    """
    start = store.get(lane, s.POSITION)
    if not store.get(lane, s.SWEEP) or store.get(lane, s.UNDO) != start:
        return 0
    method = kernels(rule)[store.get(lane, s.SWEEP) - 1]
    stop = min(start + s.CHUNK, store.get(lane, s.END))
    if method.kernel.racy:
        store.set(lane, s.POSITION, stop)
        return stop - start
    for saved, vector in zip(store.undo[lane], _written(store, lane, method.kernel.writes), strict=False):
        vector[start:stop] = saved[: stop - start]
    store.set(lane, s.UNDO, -1)
    return 0


def finish(store: s.Store, rule: Rule, lane: int, now: int) -> Micro:
    """Note down that it is done. Each of these can be repeated, up to the last."""
    what = kernels(rule)[store.get(lane, s.SWEEP) - 1].kernel
    push = store.get(lane, s.PUSH)
    if what.push and not what.racy:
        store.set_head(s.SEQUENCE, push)
        yield
    unit = store.get(lane, s.UNIT)
    if what.gradient and unit >= 0 and not rule.lockstep:
        store.unit_push[unit] = push
        store.unit_pulled[unit] = store.get(lane, s.PULLED)
        store.unit_lane[unit] = lane
        store.unit_time[unit] = now
        yield
        if store.unit_states[unit] == lane + 1:
            store.set(lane, s.TURN, store.get(lane, s.NEXT))
            yield
            store.use(unit)
            yield
        store.set(lane, s.UNIT, -1)
        yield
    if rule.lockstep:
        # The transaction counts as an action done before it is forgotten, or a death in between would repeat it.
        store.set(lane, s.CLOCK, store.get(lane, s.NEXT))
        yield
    if what.pull:
        store.set(lane, s.PULLED, store.head(s.SEQUENCE))
        yield
    store.set(lane, s.SWEEP, 0)
    yield
