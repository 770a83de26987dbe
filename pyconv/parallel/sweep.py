"""Sweeps: a sweep changes many numbers as a transaction, so that a process may die in the middle of it.

A sweep runs a rule's *kernel* over a range of the parameters, chunk by chunk. Before a chunk is changed, the old values
of everything that the kernel writes are saved, and the lane notes that they are. After the chunk, the lane notes how
far it has come. The process that goes on after a death puts the saved values back and repeats the chunk: so each chunk
is changed exactly once, to the same bits. Only one chunk's values are saved, not the model's, so they stay in the
cache.

A sweep is a generator that pauses between any two of its stores, so that the model test can let a worker die there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..arithmetic import own
from . import communicator
from .chunk import Chunk
from .communicator import CLOCK, END, NEXT, POSITION, PULLED, PUSH, STEP, SWEEP, TURN, UNDO, UNIT, Communicator
from .kernels import kernels

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .rules import Rule

Micro = Iterator[None]


def _written(shared: Communicator, lane: int, writes: tuple[str, ...]) -> list[np.ndarray]:
    """The whole vectors that a kernel changes."""
    vectors: list[np.ndarray] = []
    for name in writes:
        if name == "centre":
            vectors.append(shared.centre)
        elif name == "state":
            vectors.extend(shared.state.values())
        elif name == "replica":
            vectors.append(shared.replica(lane))
        else:
            vectors.extend(shared.own_state(lane).values())
    return vectors


def begin(
    shared: Communicator, rule: Rule, lane: int, method: Any, part: tuple[int, int], lr: float, step: int, after: int
) -> Micro:
    """Write down the transaction: first its details, and last the word that says that there is one.

    `after` is the value of the lane's CLOCK (lockstep rules) or TURN (other rules) after the transaction.
    """
    what = method.kernel
    shared.set(lane, UNDO, -1)
    shared.set(lane, POSITION, part[0])
    shared.set(lane, END, part[1])
    shared.set(lane, PUSH, 0)
    shared.set(lane, NEXT, after)
    yield
    if what.push:
        # While a lane holds the lock, nobody else counts; the count is raised when the push is complete.
        push = shared.count_push() if what.racy else shared.pushes + 1
        shared.set(lane, PUSH, push)
        step = step if rule.replica_state else push
        lr = rule.learning_rate(lr, push - 1 - shared.get(lane, PULLED))
    shared.set_rate(lane, lr)
    shared.set(lane, STEP, step)
    yield
    number = [each.__name__ for each in kernels(rule)].index(method.__name__)
    shared.set(lane, SWEEP, number + 1)
    yield


def proceed(
    shared: Communicator, rule: Rule, lane: int, optimizer: Optimizer, weights: np.ndarray | None = None
) -> Micro:
    """Finish the transaction that is written down. The lane's owner calls this, or the parent for a dead lane."""
    method = kernels(rule)[shared.get(lane, SWEEP) - 1]
    what = method.kernel
    saves = [] if what.racy else list(zip(shared.saved(lane), _written(shared, lane, what.writes), strict=False))
    chunk = Chunk(shared, lane, optimizer, weights)
    end = shared.get(lane, END)
    while (start := shared.get(lane, POSITION)) < end:
        stop = min(start + communicator.CHUNK, end)
        for saved, vector in saves:
            saved[: stop - start] = vector[start:stop]
        yield
        shared.set(lane, UNDO, start)
        yield
        chunk.move(start, stop)
        own(method)(chunk)
        yield
        shared.set(lane, POSITION, stop)
        yield


def roll_back(shared: Communicator, rule: Rule, lane: int) -> int:
    """Put back the chunk that a dead owner was changing; returns the number of elements that could not be put back.

    Only a racy kernel's cannot: others may have changed the chunk since, so it is left as it is, and not repeated.
    """
    start = shared.get(lane, POSITION)
    if not shared.get(lane, SWEEP) or shared.get(lane, UNDO) != start:
        return 0
    method = kernels(rule)[shared.get(lane, SWEEP) - 1]
    stop = min(start + communicator.CHUNK, shared.get(lane, END))
    if method.kernel.racy:
        shared.set(lane, POSITION, stop)
        return stop - start
    for saved, vector in zip(shared.saved(lane), _written(shared, lane, method.kernel.writes), strict=False):
        vector[start:stop] = saved[: stop - start]
    shared.set(lane, UNDO, -1)
    return 0


def finish(shared: Communicator, rule: Rule, lane: int, now: int) -> Micro:
    """Write down that the transaction is done; after a death the steps can be repeated, up to the last one."""
    what = kernels(rule)[shared.get(lane, SWEEP) - 1].kernel
    push = shared.get(lane, PUSH)
    if what.push and not what.racy:
        shared.pushed(push)
        yield
    unit = shared.get(lane, UNIT)
    if what.gradient and unit >= 0 and not rule.lockstep:
        shared.note_unit(unit, lane, now, push, shared.get(lane, PULLED))
        yield
        if shared.claimed(unit, lane):
            shared.set(lane, TURN, shared.get(lane, NEXT))
            yield
            shared.use(unit)
            yield
        shared.set(lane, UNIT, -1)
        yield
    if rule.lockstep:
        # The action is counted before the transaction is forgotten; else a death in between would repeat it.
        shared.set(lane, CLOCK, shared.get(lane, NEXT))
        yield
    if what.pull:
        shared.set(lane, PULLED, shared.pushes)
        yield
    shared.set(lane, SWEEP, 0)
    yield
