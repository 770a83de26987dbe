"""Which worker takes many times as long for a mini-batch as the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace

from .running import GAP_S

SLOW = 5.0  # times the others' median
PATIENCE_S, COLD_PATIENCE_S = 2.0, 10.0  # beyond that, in one mini-batch; in the first ones of a process
LONG_S = 0.2  # a mini-batch that takes longer was not just interrupted by another process's turn
WINDOW_S = 1.0  # in which the turns that workers take on a shared CPU even out


@dataclass(frozen=True)
class Reading:
    """What a worker has done by now.

    Attributes
    ----------
    batches : int
        Mini-batches.
    work_s : float
        Seconds that they took, all together.
    last_s : float
        Seconds of the last one.
    running_s : float
        Seconds that the one at hand has been going on, those not counted in which nobody ran; 0 between two.
    warm : bool
        Whether the process is past its first mini-batches, which pay for the start of everything.
    """

    batches: int
    work_s: float
    last_s: float
    running_s: float
    warm: bool


def of_the_others(seconds: Mapping[int, float], index: int) -> float | None:
    """The median over all workers but `index`, of those that have done anything; None where none has."""
    others = [each for who, each in seconds.items() if who != index and each]
    return statistics.median(others) if others else None


class Paces:
    """Compares the workers, look after look.

    A worker is slow when two long mini-batches in turn, or its mean over a second of short ones, took more than
    :data:`SLOW` times what the others took. Short ones are not judged singly: a worker that shares its CPU waits
    through the others' turns now and then.
    """

    def __init__(self) -> None:
        self._since: tuple[float, dict[int, Reading]] | None = None
        self._looked: float | None = None
        self._quiet_until = 0.0  # while what was stopped with this process gets going again
        self._amid: dict[int, int] = {}  # last mini-batches that workers may have been at while nobody ran
        self._fair: dict[int, float] = {}  # seconds of the last mini-batch before and after those
        self._long: dict[int, tuple[int, int]] = {}  # long mini-batches in turn, and the number of the last

    def slow(self, now: float, readings: Mapping[int, Reading]) -> dict[int, tuple[float, float]]:
        """The workers that are slow: seconds of a mini-batch of theirs, and of one of the others'.

        Parameters
        ----------
        now : float
            Seconds on a clock that only goes forward.
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
        """The readings, with the last mini-batch before it in the place of one in which all may have been stopped.

        A worker's own clock counts that time; which of its mini-batches it was, follows from how many there were when
        this process ran again: the last one, or the one at hand.
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
        """How many mini-batches of the worker in turn, up to its last, took longer than `limit`."""
        count, seen = self._long.get(index, (0, -1))
        if reading.warm and reading.batches != seen:
            count = count + 1 if reading.last_s > limit else 0
            self._long[index] = count, reading.batches
        return count

    def _by_the_second(self, now: float, readings: Mapping[int, Reading]) -> dict[int, tuple[float, float]]:
        """Compare means since the last comparison, once it is a second ago and every worker has two mini-batches."""
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
