"""Trace: a rank's part in the timeline of a run. Rank 0 takes the tapes over while the run goes on.

It does so in rounds, after its word, when all ranks are there anyway: once a second, or when its own tape is half full.
Under rules that wait for nobody there are no rounds within an epoch; there ranks bring their tapes to the desk.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

import numpy as np

from ...parallel import Job
from ..desk import Desk
from ..line import Line
from ..world import World
from .clocks import Sample, ping
from .rows import rows_of
from .tape import MOST, WORDS, Tape
from .timeline import Timeline
from .world import TracedWorld

EVERY_S = 1.0  # between two times that rank 0 takes the tapes over
SHARE = 0.01  # of the time that this may take
PINGS, FIRST_PINGS = 5, 30  # round trips for a measurement, and for the first one


class Trace:
    """What a run with a timeline has on each rank.

    Parameters
    ----------
    world : World
    job : Job
        Its `trace` is the file; only rank 0 opens it.
    names : sequence of str
        Of the ranks.

    Raises
    ------
    InputError
        At rank 0, if the file cannot be made, or is no timeline of pyconv's.

    Attributes
    ----------
    tape : Tape
        This rank's.
    world : TracedWorld
        The world that notes its calls there.
    """

    def __init__(self, world: World, job: Job, names: Sequence[str]) -> None:
        assert job.trace is not None
        self._inner = world
        self._timeline = None if world.rank else Timeline(job.trace, rows_of(job, names))
        self.tape = Tape()
        self.world = TracedWorld(world, self.tape)
        self.world.aborting = self.close
        self._measured = False  # the clocks, once
        self._due = 0.0

    def due(self, last: bool = False) -> bool:
        """Whether it is time for rank 0 to take this rank's tape over; it is if it is for the last time."""
        return last or len(self.tape) > MOST // 2 or time.monotonic() >= self._due

    def _done(self, began: float) -> None:
        now = time.monotonic()
        self._due = now + max(EVERY_S, (now - began) / SHARE)

    # ---- in a round -------------------------------------------------------------------------------

    def bring(self, last: bool) -> None:
        """Measure the clocks, and bring all tapes to rank 0; all call it. After the `last` time nothing is noted."""
        self.tape.on = not last
        began, world = time.monotonic(), self._inner
        pings, self._measured = PINGS if self._measured else FIRST_PINGS, True
        if self._timeline is None:
            ping(world, 0, pings)
            events = self.tape.take()
            world.swap([(0, np.array([len(events), self.tape.take_lost()], np.int64)), (0, events)], [])
            return
        for rank in range(1, world.size):
            sample, counts = ping(world, rank, pings), np.zeros(2, np.int64)
            world.swap([], [(rank, counts)])
            events = np.empty((int(counts[0]), WORDS), np.int64)
            world.swap([], [(rank, events)])
            self._timeline.take(rank, sample, events, int(counts[1]))
        self.take_own()
        self._done(began)

    def take_own(self) -> None:
        """At rank 0: write its own events."""
        if self._timeline is not None:
            self._timeline.take(0, None, self.tape.take(), self.tape.take_lost())
            self._due = time.monotonic() + EVERY_S

    def between(self, desk: Desk | Line) -> None:
        """Between two mini-batches of rules that wait for nobody: bring this rank's tape to rank 0, if it is time."""
        if not self.due():
            return
        if isinstance(desk, Line):
            self._tell(desk)
        else:
            self.take_own()

    # ---- by the desk ------------------------------------------------------------------------------

    def _tell(self, line: Line) -> None:
        """At another rank, within an epoch without rounds: bring the tape to the desk."""
        found = []
        for _ in range(PINGS):
            sent = time.monotonic_ns()
            theirs = line.clock()
            found.append(Sample.of(sent, theirs, time.monotonic_ns()))
        best = min(found, key=lambda sample: sample.uncertainty)
        # It was rank 0's clock that was asked for, so the offset is the other way round.
        sample = Sample(round(best.at + best.offset), -best.offset, best.uncertainty)
        line.events(sample.words(), self.tape.take(), self.tape.take_lost())
        self._due = time.monotonic() + EVERY_S

    def hear(self, rank: int, words: np.ndarray, events: np.ndarray, lost: int) -> None:
        """At rank 0: write what a rank has brought to the desk."""
        if self._timeline is not None:
            self._timeline.take(rank, Sample.read(words), events, lost)

    # ---- the end ----------------------------------------------------------------------------------

    def close(self) -> None:
        """At rank 0: write what there is, and close the file."""
        if self._timeline is not None:
            with contextlib.suppress(Exception):  # the run's own end matters more
                self.take_own()
            self._timeline.close()
