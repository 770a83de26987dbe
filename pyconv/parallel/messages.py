"""Times messages between two processes for the cost model: a signal through a pipe, bytes through shared memory."""

from __future__ import annotations

import multiprocessing
import sys
import time
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Any

import numpy as np

from ..costmodel.link import Messages, provide
from ..errors import WorkerError

SIZES = (0, 1 << 12, 1 << 15, 1 << 18, 1 << 20, 1 << 22, 1 << 24)
TURNS = 15
PATIENCE_S = 30.0
# Attaching is not owning. Before Python 3.13 there is no flag, and a spawned child shares its parent's tracker.
_UNTRACKED: dict[str, Any] = {"track": False} if sys.version_info >= (3, 13) else {}


def time_messages() -> Messages:
    """Play ping-pong with a process of our own over messages of several sizes.

    Returns
    -------
    Messages
        For each size, half of the shortest round trip's seconds: the receiver copies the bytes out of shared memory,
        as a worker pulls parameters. The shortest counts, since the machine's other work only ever adds to it.

    Raises
    ------
    WorkerError
        If the other process dies or does not answer.
    """
    context = multiprocessing.get_context("spawn")
    memory = SharedMemory(create=True, size=max(SIZES))
    here, there = context.Pipe()
    other = context.Process(target=_echo, args=(memory.name, there), daemon=True)
    own = _bytes_of(memory, max(SIZES)).copy()  # touched, so that no page of it is new when it is timed
    try:
        other.start()
        there.close()
        seconds = [_round_trip(here, memory, own, size) / 2 for size in SIZES]
        here.send_bytes(b"end")
        other.join(PATIENCE_S)
    except (EOFError, BrokenPipeError, TimeoutError):
        raise WorkerError(
            "the process that messages are timed with died or did not answer; a script that calls calibrate() "
            "must do so under: if __name__ == '__main__'"
        ) from None
    finally:
        if other.is_alive():
            other.kill()
            other.join()
        here.close()
        memory.close()
        memory.unlink()
    return Messages(SIZES, seconds)


def _round_trip(pipe: Connection, memory: SharedMemory, own: np.ndarray, size: int) -> float:
    """Seconds of the shortest round trip of `size` bytes."""
    shared = _bytes_of(memory, size)
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
    del shared
    return float(best)


def _echo(name: str, pipe: Connection) -> None:
    """The other process: copies each message out of shared memory and back into it."""
    memory = SharedMemory(name, **_UNTRACKED)
    own = np.empty(max(SIZES), np.uint8)
    own[...] = 0
    while (message := pipe.recv_bytes()) != b"end":
        size = int.from_bytes(message, "little")
        shared = _bytes_of(memory, size)
        own[:size] = shared
        shared[...] = own[:size]
        del shared
        pipe.send_bytes(message)
    memory.close()


def _bytes_of(memory: SharedMemory, size: int) -> np.ndarray:
    return np.ndarray((size,), np.uint8, memory.buf)


provide(time_messages)
