"""Measures messages between two processes for the cost model: a signal through a pipe, and bytes in shared memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import numpy as np

from .. import nn, optim
from ..backends import backends
from ..descriptors import open_standard
from ..errors import InputError, WorkerError
from ..threads import usable_cpus
from . import guard
from .memory import Segment
from .room import why_not_started

SIZES = (0, 1 << 12, 1 << 15, 1 << 18, 1 << 20, 1 << 22, 1 << 24)
TURNS = 15
ROUNDS, COMPANY_S = 5, 0.15
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Messages:
    """Timed messages between two processes of this machine.

    Attributes
    ----------
    bytes : sequence of int
        Size of each message.
    seconds : sequence of float
        Time from the sender's start until the receiver has the bytes.
    slowdown : float
        Time of a training step while the other process trains too, divided by its time while the other waits; at least
        1.
    """

    bytes: Sequence[int]
    seconds: Sequence[float]
    slowdown: float = 1.0


def time_messages() -> Messages:
    """Exchange messages of several sizes with a process of our own, and measure how long they take.

    Returns
    -------
    Messages
        For each size, half of the shortest round trip. The receiver copies the bytes out of shared memory, as a worker
        does when it pulls parameters. The shortest round trip counts, because other work of the machine only adds to
        it. `slowdown` tells how much slower a training step is beside another one.

    Raises
    ------
    InputError
        If the script that calls this has no main guard: the other process imports the script, and would call it too.
    WorkerError
        If the other process dies or does not answer.
    """
    guard.check_main_guard()
    context = multiprocessing.get_context("spawn")
    memory = Segment(max(SIZES), "timing messages between processes")
    here, there = context.Pipe()
    other = context.Process(target=_echo, args=(memory, there), daemon=True)
    own = memory.array((max(SIZES),), np.uint8).copy()  # touches its pages, so that none is new during the timing
    try:
        try:
            other.start()
        except (OSError, RuntimeError) as error:
            raise InputError(f"the process to time messages with cannot be started: {why_not_started(error)}") from None
        there.close()
        seconds = [_round_trip(here, memory, own, size) / 2 for size in SIZES]
        slowdown = _slowdown(here)
        here.send_bytes(b"end")
        other.join(PATIENCE_S)
    except (EOFError, ConnectionError, TimeoutError):
        other.join(1.0)  # its pipe closes a moment before it has ended
        if other.exitcode == guard.EXIT_UNGUARDED:
            raise InputError(guard.MESSAGE) from None
        raise WorkerError("the process that messages are timed with died or did not answer") from None
    finally:
        if other.pid is not None and other.is_alive():
            other.kill()
            other.join()
        here.close()
    return Messages(SIZES, seconds, slowdown)


def _round_trip(pipe: Connection, memory: Segment, own: np.ndarray, size: int) -> float:
    """Seconds of the shortest round trip of `size` bytes."""
    shared = memory.array((size,), np.uint8)
    best = np.inf
    for _ in range(TURNS):
        start = time.perf_counter()
        shared[...] = own[:size]
        pipe.send_bytes(size.to_bytes(8, "little"))
        if not pipe.poll(PATIENCE_S):
            raise TimeoutError
        pipe.recv_bytes()
        own[:size] = shared
        best = min(best, time.perf_counter() - start)
    return float(best)


def _slowdown(pipe: Connection) -> float:
    """How much slower a training step is while the other process trains too, since they share caches and memory."""
    if usable_cpus() < 2 or backends()["serial"] is not None:
        return 1.0  # on one CPU the processes take turns, which the cost model counts separately
    step = _step()
    alone, together = [], []
    with _pinned(0):
        for _ in range(ROUNDS):
            alone.append(np.median(_timed(step, COMPANY_S)))
            pipe.send_bytes(b"work")
            pipe.recv_bytes()
            together.append(np.median(_timed(step, COMPANY_S)))
            if not pipe.poll(PATIENCE_S):
                raise TimeoutError
            pipe.recv_bytes()
    # The best round of each: a third program may take one of the CPUs for a while and slow some rounds down.
    return float(np.clip(min(together) / min(alone), 1.0, 2.0))


@contextlib.contextmanager
def _pinned(which: int) -> Iterator[None]:
    """Within it this process stays on one CPU: two processes that exchanged messages may share one for a second."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {sorted(before)[which]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _step() -> Callable[[], object]:
    """A short training step on one thread. Its network, like those that are trained, is too large for a core's own
    caches."""
    model, rng = nn.build("5-50-100-10"), np.random.default_rng()
    model.backend = "serial"
    x = rng.integers(0, 256, (64, *model.input_shape)).astype(np.uint8)
    model.normalization = nn.Normalization([float(x.mean())], [float(x.std())])
    labels = rng.integers(0, 10, len(x))
    gradient, optimizer = np.empty_like(model.flat), optim.SGD(lr=1e-6, momentum=0.9)
    state = optimizer.init(model.flat.size, model.flat.dtype)

    def step() -> None:
        model.loss_and_gradient(x, labels, out=gradient)
        optimizer.update(model.flat, gradient, state, 1)

    step()
    return step


def _timed(work: Callable[[], object], seconds: float) -> list[float]:
    """Call `work` for so many seconds; returns the seconds of each call."""
    samples = []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        work()
        samples.append(time.perf_counter() - start)
    return samples


def _echo(memory: Segment, pipe: Connection) -> None:
    """The other process: copies each message out of shared memory and back; trains for a while when it is told to."""
    open_standard()
    own = np.empty(max(SIZES), np.uint8)
    own[...] = 0
    while (message := pipe.recv_bytes()) != b"end":
        if message == b"work":
            step = _step()
            with _pinned(-1):
                pipe.send_bytes(b"working")
                _timed(step, 1.5 * COMPANY_S)
            pipe.send_bytes(b"done")
            continue
        size = int.from_bytes(message, "little")
        shared = memory.array((size,), np.uint8)
        own[:size] = shared
        shared[...] = own[:size]
        pipe.send_bytes(message)
