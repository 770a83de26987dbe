"""Interleaved timing: the candidates take turns in one run, so that a disturbance hits all of them.

A *turn* is one warm-up call and then as many timed calls as fill a few milliseconds; its result is the mean time of
a call. A *contest* gives every candidate a turn, round after round, and reports medians and quartiles over rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

Candidate = Callable[[], object]


@dataclass(frozen=True)
class Times:
    """Seconds per call over the rounds of a contest."""

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.samples))

    @property
    def quartiles(self) -> tuple[float, float]:
        """First and third quartile in seconds."""
        low, high = np.percentile(self.samples, [25, 75])
        return float(low), float(high)

    def as_record(self) -> dict[str, float | int]:
        """The fields of a record: seconds."""
        low, high = self.quartiles
        return {"median_s": self.median, "q1_s": low, "q3_s": high, "rounds": len(self.samples)}


class TurnClock:
    """A clock that a turn moves forward by its mean time per call.

    pytest-benchmark reads it as its timer: its own table then shows seconds per call, however many calls a turn has.
    """

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


CLOCK = TurnClock()


@dataclass(frozen=True)
class Pace:
    """How long to measure.

    Attributes
    ----------
    turn_s : float
        Seconds of timed calls in a turn, at least one call.
    rounds : (int, int)
        Fewest and most rounds; between them as many as `contest_s` has room for.
    contest_s : float
        Seconds of a contest to aim at.
    """

    turn_s: float
    rounds: tuple[int, int]
    contest_s: float


FULL = Pace(turn_s=0.02, rounds=(5, 15), contest_s=0.8)
QUICK = Pace(turn_s=0.003, rounds=(3, 5), contest_s=0.1)


def mean_seconds(call: Candidate, calls: int) -> float:
    """Mean seconds of a call, by the candidate's own clock (such as a GPU's events) if it has one."""
    own = getattr(call, "seconds", None)
    if own is not None:
        return own(calls)
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


@dataclass
class Turns:
    """One candidate's turns: the number of calls that fill one, and their times."""

    call: Candidate
    pace: Pace
    warm_up: bool = True
    samples: list[float] = field(default_factory=list)
    calls: int = 1

    def calibrate(self) -> float:
        """Find the number of calls that fill a turn; returns the seconds of one turn."""
        start = time.perf_counter()
        self.call()
        cold = time.perf_counter() - start
        if cold > 1:  # so long a call needs no warm-up, and no second call to measure it
            self.warm_up = False
            return cold
        once = max(mean_seconds(self.call, 1), 1e-7)
        most = getattr(self.call, "most_calls", 1 << 30)
        self.calls = max(1, min(most, round(self.pace.turn_s / once)))
        return once * (self.calls + 1)

    def take(self) -> float:
        """Take a turn; returns and keeps the mean seconds of a call."""
        if self.warm_up:
            self.call()
        mean = mean_seconds(self.call, self.calls)
        self.samples.append(mean)
        return mean


class Contest:
    """Candidates by name, ready to take turns.

    Parameters
    ----------
    candidates : mapping of str to callable
        Each does the whole work once when called without arguments.
    pace : Pace
        How long to measure.
    """

    def __init__(self, candidates: Mapping[str, Candidate], pace: Pace) -> None:
        self.turns = {name: Turns(call, pace) for name, call in candidates.items()}
        round_s = sum(turns.calibrate() for turns in self.turns.values())
        fewest, most = pace.rounds
        if round_s > pace.contest_s:  # seconds a round: three say enough
            fewest = min(fewest, 3)
        self.rounds = int(np.clip(pace.contest_s / round_s, fewest, most))

    def play(self) -> dict[str, Times]:
        """Run all rounds; returns the times by candidate."""
        for _ in range(self.rounds):
            for turns in self.turns.values():
                turns.take()
        return self.times()

    def times(self) -> dict[str, Times]:
        """The times so far, by candidate."""
        return {name: Times(tuple(turns.samples)) for name, turns in self.turns.items()}


def play_under(benchmark, candidates: Mapping[str, Candidate], pace: Pace) -> dict[str, Times]:
    """Run a contest under pytest-benchmark, whose own table shows the first candidate.

    The test needs the marker ``benchmark(timer=CLOCK)``, which ``conftest.py`` gives to every benchmark.
    """
    contest = Contest(candidates, pace)
    first, *others = contest.turns.values()

    def the_others() -> None:
        for turns in others:
            turns.take()

    benchmark.pedantic(lambda: CLOCK.advance(first.take()), setup=the_others, rounds=contest.rounds)
    return contest.times()
