"""Tape: what one rank notes of what it does, until rank 0 has it."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

from ...parallel.recorder import KINDS

MOST = 1 << 15  # events that wait for rank 0; the oldest are dropped beyond
WORDS = 8  # of an event: row, kind, began, ended (ns), and four numbers that depend on the kind

#: Rows of a rank that are no lanes; ALL is each of its lanes.
ALL, MESSAGES, DESK, SENDS, RECEIVES, COUNTER = -1, -2, -3, -4, -5, -6
_THREADS = {"messages": MESSAGES, "desk": DESK}  # rows of threads, by their names

#: What an event may be called: what lanes do; a look without waiting; what the desk answers; and, by the tag of a
#: message, what it brings.
NAMES = (*KINDS, "look", "answer", "array", "gradient", "parameters", "halo", "request", "CPU of messages, %")
NUMBER = {name: number for number, name in enumerate(NAMES)}
TAGS = ("array", "gradient", "parameters", "halo")

#: What a wait is for, by its first number.
WAITS = ("a round", "messages", "pieces on their way")
ROUND, SWAP, PIECES = range(3)


class Tape:
    """A rank's events. Several threads may add to it.

    Attributes
    ----------
    lane : int or None
        The lane whose turn it is; what is noted without a lane is about all of the rank's lanes while this is None.
    on : bool
        Whether it takes events.
    lost : int
        Events that were dropped since the last :meth:`take`.
    """

    def __init__(self) -> None:
        self._events: deque[tuple[int, ...]] = deque(maxlen=MOST)
        self.lane: int | None = None
        self.on = True
        self.lost = 0
        self._counted, self._counted_at = 0, time.monotonic_ns()

    def __len__(self) -> int:
        return len(self._events)

    def row(self) -> int:
        """The row of the calling thread."""
        row = _THREADS.get(threading.current_thread().name)
        if row is None:
            row = ALL if self.lane is None else self.lane
        return row

    def add(self, row: int, what: int, began: int, ended: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0) -> None:
        """Note an event; `what` is its number in :data:`NAMES`, and the times are monotonic ns."""
        if not self.on:
            return
        if len(self._events) == MOST:
            self.lost += 1
        self._events.append((row, what, began, ended, a, b, c, d))

    def count_cpu(self, used: int) -> None:
        """Note how much CPU time the thread that looks after messages has used so far, ns."""
        now = time.monotonic_ns()
        if now - self._counted_at >= 5_000_000:
            share = 10_000 * (used - self._counted) // (now - self._counted_at)  # in hundredths of a percent
            self.add(COUNTER, NUMBER["CPU of messages, %"], now, now, share)
            self._counted, self._counted_at = used, now

    def take(self) -> np.ndarray:
        """The events, ``(n, 8)`` int64, which are not kept."""
        count = len(self._events)
        found = [self._events.popleft() for _ in range(count)]
        return np.array(found, np.int64).reshape(count, WORDS)

    def take_lost(self) -> int:
        """How many events were dropped since the last call."""
        lost, self.lost = self.lost, 0
        return lost
