"""How far a rank's clock is from rank 0's, measured by ping-pong.

A message goes from rank 0 to another rank, which answers with its clock. That was read between the sending and the
answer's arrival, so the offset is known to half of the round trip's time; the shortest of several round trips counts
(Cristian, "Probabilistic clock synchronization", 1989). Clocks drift apart: the offset is measured again and again
while the run goes on, and is taken on the straight line between two measurements.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..world import World

DRIFT = 1e-4  # no clock of a computer gains or loses more than that


@dataclass(frozen=True)
class Sample:
    """An offset, as it was measured.

    Attributes
    ----------
    at : int
        The rank's clock, ns.
    offset : float
        What is to be added to the rank's clock for rank 0's, ns.
    uncertainty : float
        The true offset is at most so far from that, ns.
    """

    at: int
    offset: float
    uncertainty: float

    @classmethod
    def of(cls, sent: int, theirs: int, came: int) -> Sample:
        """From a round trip of rank 0's: its clock before and after it, and the other rank's in between."""
        return cls(theirs, (sent + came) / 2 - theirs, (came - sent) / 2)

    def words(self) -> np.ndarray:
        """For a message, ``(3,)`` int64."""
        return np.array([self.at, round(self.offset), np.ceil(self.uncertainty)], np.int64)

    @classmethod
    def read(cls, words: np.ndarray) -> Sample:
        """What :meth:`words` gave."""
        return cls(int(words[0]), float(words[1]), float(words[2]))


def ping(world: World, other: int, count: int, clock: Callable[[], int] = time.monotonic_ns) -> Sample | None:
    """Measure the offset of another rank's clock; rank 0 and the other both call it.

    Parameters
    ----------
    world : World
    other : int
        Not 0.
    count : int
        Round trips.
    clock : callable
        This rank's, ns.

    Returns
    -------
    Sample or None
        At rank 0, of the shortest round trip.
    """
    mark, found = np.zeros(1, np.int64), []
    for _ in range(count):
        if world.rank:
            world.swap([], [(0, mark)])
            mark[0] = clock()
            world.swap([(0, mark)], [])
        else:
            sent = clock()
            world.swap([(other, mark)], [])
            world.swap([], [(other, mark)])
            found.append(Sample.of(sent, int(mark[0]), clock()))
    return min(found, key=lambda sample: sample.uncertainty) if found else None


class Clock:
    """A rank's clock, as rank 0 knows it.

    Attributes
    ----------
    last : Sample or None
        What is known of the offset since the last measurement.
    """

    def __init__(self) -> None:
        self.last: Sample | None = None
        self._before: Sample | None = None

    def take(self, new: Sample) -> None:
        """Take a measurement into account: the offset lies within what it says and what was known before."""
        old = self.last
        if old is not None:
            known = old.uncertainty + DRIFT * abs(new.at - old.at)
            low = max(new.offset - new.uncertainty, old.offset - known)
            high = min(new.offset + new.uncertainty, old.offset + known)
            if low <= high:
                new = Sample(new.at, (low + high) / 2, (high - low) / 2)
        self._before, self.last = old or new, new

    @property
    def uncertainty(self) -> float:
        """Of the times between the last two measurements, ns."""
        assert self.last is not None and self._before is not None
        return max(self._before.uncertainty, self.last.uncertainty)

    def on_rank_0(self, times: np.ndarray) -> np.ndarray:
        """Times of the rank's clock by rank 0's, ``(n,)`` float64 ns."""
        assert self.last is not None and self._before is not None
        one, two = self._before, self.last
        offsets = np.interp(times - one.at, [0, max(two.at - one.at, 1)], [one.offset, two.offset])
        found: np.ndarray = times + offsets
        return found
