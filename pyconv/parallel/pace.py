"""Finds the workers that take many times as long for a mini-batch as the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .running import GAP_S

SLOW = 5.0  # a worker is slow if it takes so many times the others' median,
PATIENCE_S, COLD_PATIENCE_S = 2.0, 10.0  # and this many seconds more for one mini-batch (COLD: a process's first ones)
LONG_S = 0.2  # if a mini-batch takes longer, the turn of another process on the CPU is no explanation
WINDOW_S = 1.0  # over this time the turns of workers that share a CPU even out


@dataclass(frozen=True)
class Reading:
    """What a worker has done so far.

    Attributes
    ----------
    batches : int
        Mini-batches done.
    work_s : float
        Seconds that they took in all.
    last_s : float
        Seconds of the last mini-batch.
    running_s : float
        Seconds since the current mini-batch began, without time in which nobody ran; 0 between two mini-batches.
    warm : bool
        Whether the process has done its first mini-batches, which are slow.
    """

    batches: int
    work_s: float
    last_s: float
    running_s: float
    warm: bool


def of_the_others(seconds: Mapping[int, float], index: int) -> float | None:
    """The median over all workers but `index` that have done something; None if none has."""
    others = [each for who, each in seconds.items() if who != index and each]
    return statistics.median(others) if others else None


class Paces:
    """Compares the workers' speeds from one look to the next.

    A worker is slow if two long mini-batches in a row, or its mean over a second of short ones, took more than
    :data:`SLOW` times what the others took. A single short one is not judged, because a worker that shares its CPU
    sometimes waits through the others' turns.
    """

    def __init__(self) -> None:
        self._since: tuple[float, dict[int, Reading]] | None = None
        self._looked: float | None = None
        self._quiet_until = 0.0  # until then, what was stopped together with this process is getting going again
        self._amid: dict[int, int] = {}  # by worker, the last mini-batch that it may have been at while nobody ran
        self._fair: dict[int, float] = {}  # by worker, seconds of the last mini-batch that is no such one
        self._long: dict[int, tuple[int, int]] = {}  # by worker, long mini-batches in a row, and the number of the last

    def slow(self, now: float, readings: Mapping[int, Reading]) -> dict[int, tuple[float, float]]:
        """The slow workers, with the seconds of one of their mini-batches and of one of the others'.

        Parameters
        ----------
        now : float
            Seconds on a monotonic clock.
        readings : mapping of int to Reading
            By worker.
        """
        readings = self.fair(now, readings)
        if now < self._quiet_until:
            self._since = None
            self._long.clear()
            return {}
        found = self._by_the_second(now, readings)
        for index, reading in readings.items():
            median = of_the_others({who: each.last_s for who, each in readings.items()}, index)
            if median is None:
                continue
            limit = SLOW * median
            running = reading.running_s > limit + (PATIENCE_S if reading.warm else COLD_PATIENCE_S)
            if running or self._in_turn(index, reading, max(limit, LONG_S)) >= 2:
                found[index] = max(reading.last_s, reading.running_s), median
        return found

    def fair(self, now: float, readings: Mapping[int, Reading]) -> dict[int, Reading]:
        """The readings, in which a mini-batch during which all may have been stopped is replaced by the last one
        before.

        A worker's own clock counts the time of the stop. Which mini-batch contains it follows from the worker's number
        of mini-batches when this process ran again: it is the last one, or the current one.
        """
        if self._looked is not None and now - self._looked > GAP_S:
            self._quiet_until = now + WINDOW_S / 2
            self._amid = {index: reading.batches + 1 for index, reading in readings.items()}
        self._looked = now
        self._amid = {i: last for i, last in self._amid.items() if i in readings and readings[i].batches <= last}
        for index, reading in readings.items():
            if index not in self._amid:
                self._fair[index] = reading.last_s
        return {index: replace(reading, last_s=self._fair.get(index, 0.0)) for index, reading in readings.items()}

    def _in_turn(self, index: int, reading: Reading, limit: float) -> int:
        """How many mini-batches in a row took longer than `limit`, ending with the worker's last one."""
        count, seen = self._long.get(index, (0, -1))
        if reading.warm and reading.batches != seen:
            count = count + 1 if reading.last_s > limit else 0
            self._long[index] = count, reading.batches
        return count

    def _by_the_second(self, now: float, readings: Mapping[int, Reading]) -> dict[int, tuple[float, float]]:
        """Compare means since the last comparison, if it was a second ago and every worker did two mini-batches."""
        began, before = self._since or (now, {})
        comparable = before.keys() == readings.keys() and all(reading.warm for reading in readings.values())
        if self._amid or not comparable:
            self._since = now, dict(readings)
            return {}
        done = {index: reading.batches - before[index].batches for index, reading in readings.items()}
        if now - began < WINDOW_S or min(done.values()) < 2:
            return {}
        self._since = now, dict(readings)
        means = {i: (reading.work_s - before[i].work_s) / done[i] for i, reading in readings.items()}
        found = {}
        for index, mean in means.items():
            median = of_the_others(means, index)
            if median is not None and mean > SLOW * median:
                found[index] = mean, median
        return found
