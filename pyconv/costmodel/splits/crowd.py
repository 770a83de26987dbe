"""A crowd: things that happen one after the other, and work of many who share some CPUs."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import numpy as np


class Crowd:
    """What happens one after the other, and those who compute, who share some CPUs evenly.

    Parameters
    ----------
    cpus : int or None
        None: everybody has one.

    Notes
    -----
    With equal shares, work that begins at a given moment is over when a common amount of work has been done for each
    (virtual time), so that who is next is known without looking at all.
    """

    def __init__(self, cpus: int | None) -> None:
        self._cpus = cpus
        self.now = self._virtual = 0.0
        self._count = 0
        self._events: list[tuple[float, int, Callable[[], None]]] = []  # a moment, and what happens then
        self._working: list[tuple[float, int, Callable[[], None]]] = []  # a virtual moment, and what follows

    def at(self, moment: float, then: Callable[[], None]) -> None:
        """Call ``then()`` at a moment."""
        self._count += 1
        heapq.heappush(self._events, (moment, self._count, then))

    def work(self, seconds: float, then: Callable[[], None]) -> None:
        """Compute for so many seconds of a CPU, from now on, and then call ``then()``."""
        self._count += 1
        if self._cpus is None:
            heapq.heappush(self._events, (self.now + seconds, self._count, then))
        else:
            heapq.heappush(self._working, (self._virtual + seconds, self._count, then))

    def run(self) -> None:
        """To the end of all."""
        while self._events or self._working:
            rate = min(1.0, self._cpus / len(self._working)) if self._cpus and self._working else 1.0
            done = self.now + (self._working[0][0] - self._virtual) / rate if self._working else np.inf
            if self._events and self._events[0][0] <= done:
                moment, _, then = heapq.heappop(self._events)
                self._virtual += (moment - self.now) * rate
            else:
                self._virtual, _, then = heapq.heappop(self._working)
                moment = done
            self.now = moment
            then()
