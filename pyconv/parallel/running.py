"""Time in which the parent ran. Time in which nobody did is held against no worker."""

from __future__ import annotations

from collections import deque

GAP_S = 2.0  # between two looks: this process was stopped, and so may the workers have been


class RunningTime:
    """Measures time by the looks of a thread that looks several times a second.

    Where it did not look for more than :data:`GAP_S` the whole group was stopped (SIGSTOP, a laptop's lid, a paused
    container), or this process alone was, or was starved: what a worker did not do meanwhile says nothing about it.
    """

    def __init__(self, now: float) -> None:
        self._looked = now
        self._gaps: deque[tuple[float, float]] = deque(maxlen=100)

    def look(self, now: float) -> None:
        """Note that this process runs, at `now`, in seconds on a clock that only goes forward."""
        if now - self._looked > GAP_S:
            self._gaps.append((self._looked, now))
        self._looked = now

    def since(self, moment: float) -> float:
        """Seconds from `moment` to the last look, without the gaps."""
        stopped = sum(max(0.0, end - max(start, moment)) for start, end in self._gaps)
        return max(0.0, self._looked - moment - stopped)
