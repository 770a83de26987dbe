"""Measures the time in which the parent ran: time in which nobody ran is not counted against any worker."""

from __future__ import annotations

from collections import deque

GAP_S = 2.0  # a longer time between two looks: this process was stopped, and perhaps the workers too


class RunningTime:
    """Counts the seconds between the looks of a thread that looks several times a second.

    If it did not look for more than :data:`GAP_S`, the whole group was stopped (SIGSTOP, a laptop's lid, a paused
    container), or this process alone was stopped or got no CPU. Then a worker's silence says nothing about the worker.
    """

    def __init__(self, now: float) -> None:
        self._looked = now
        self._gaps: deque[tuple[float, float]] = deque(maxlen=100)

    def look(self, now: float) -> None:
        """Note that this process runs at `now`, in seconds on a monotonic clock."""
        if now - self._looked > GAP_S:
            self._gaps.append((self._looked, now))
        self._looked = now

    def since(self, moment: float) -> float:
        """Seconds from `moment` to the last look, without the gaps."""
        stopped = sum(max(0.0, end - max(start, moment)) for start, end in self._gaps)
        return max(0.0, self._looked - moment - stopped)
