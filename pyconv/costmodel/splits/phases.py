"""A step as phases: every rank computes, then messages pass between them, and so on.

move         what passes, of a phase of n bytes                                      seconds on p ranks
meet         small messages to rank 0, and its answer                                2 t_m ⌈log2 p⌉
neighbours   n bytes between a rank and its neighbours, each way                     t_s + t_b n
gather       all ranks get all parts of n bytes, of which each has one               t_s + t_b n (p - 1) / p
sum          all ranks get the sum of their vectors of n bytes: two gathers, and     2 t_s + (2 t_b + t_a) n (p - 1) / p
             adding between them
             up to 16 KB: each adds all for itself                                   t_s + (t_b + t_a) n (p - 1)
wait         what is not played: n seconds                                           n

What all ranks wait for together are messages that are on their way at the same time: one start-up.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..clocks import SMALL, Clocks
from ..profile import Profile
from ..reductions import REDUCTIONS, meeting_time


@dataclass(frozen=True)
class Links:
    """What messages between ranks cost.

    Attributes
    ----------
    t_s, t_b : float
        Seconds to start a message, and a byte.
    t_a : float
        Seconds to add a byte of one vector to another.
    t_m : float or None
        Seconds of a small message in a round, whose end nobody looks out for; by default t_s.
    t_p : float
        Seconds of a CPU that a byte takes from computing, if it is sent, and another received, meanwhile.
    t_l : float
        Seconds at most by which a stage of a pipeline that waits is late to notice that it can go on.
    eager : float
        Bytes that leave a stage of a pipeline at once, while the next one computes.
    """

    t_s: float
    t_b: float
    t_a: float = 0.0
    t_m: float | None = None
    t_p: float = 0.0
    t_l: float = 0.0
    eager: float = 0.0

    def clocks(self, ranks: int) -> Clocks:
        """Clocks of so many ranks."""
        return Clocks(ranks, self.t_s, self.t_b, self.t_a, self.meeting_s, self.t_p, self.t_l, self.eager)

    @property
    def meeting_s(self) -> float:
        """Seconds of a small message in a round."""
        return self.t_s if self.t_m is None else self.t_m


@dataclass(frozen=True)
class Phase:
    """What all ranks compute, and the messages that follow.

    Attributes
    ----------
    compute_s : float
        Seconds, of the rank that has most to do.
    move : str
        One of the moves, or "" for none.
    size : float
        Bytes, as the move counts them; seconds of a wait.
    """

    compute_s: float = 0.0
    move: str = ""
    size: float = 0.0

    def sending_s(self, ranks: int, links: Links) -> float:
        """Seconds of the messages, if all ranks come at once."""
        n, p, t_s, t_b, t_a = self.size, ranks, links.t_s, links.t_b, links.t_a
        if self.move == "wait":
            return n
        if not self.move or p == 1:
            return 0.0
        if self.move == "meet":
            return meeting_time(p, links.meeting_s)
        if self.move == "neighbours":
            return t_s + t_b * n
        if self.move == "gather":
            return t_s + t_b * n * (p - 1) / p
        if n <= SMALL:
            return t_s + (t_b + t_a) * n * (p - 1)
        return REDUCTIONS["owners"](p, n, t_s, t_b, t_a)

    def sent(self, ranks: int) -> float:
        """Bytes that a rank sends."""
        n, p = self.size, ranks
        if self.move in ("", "meet", "wait") or p == 1:
            return 0.0
        if self.move == "neighbours":
            return n
        if self.move == "sum":
            return n * (p - 1) if n <= SMALL else 2 * n * (p - 1) / p
        return n * (p - 1) / p


@dataclass(frozen=True)
class StepTime:
    """The time of a step.

    Attributes
    ----------
    seconds : float
    compute_s : float
        The part of it in which a rank computes, the mean over the ranks.
    sent : float
        Bytes that a rank sends in it.
    """

    seconds: float
    compute_s: float
    sent: float


@dataclass(frozen=True)
class Phases:
    """A step of ranks that all do the same phases.

    Attributes
    ----------
    ranks : int
    phases : sequence of Phase
    """

    ranks: int
    phases: Sequence[Phase]

    def tidy(self, compute_s: float | None = None) -> Phases:
        """Without phases in which nothing happens; with `compute_s`, with so many seconds of computing in all."""
        factor = 1.0
        if compute_s is not None:
            factor = compute_s / max(math.fsum(phase.compute_s for phase in self.phases), 1e-30)
        made = [Phase(factor * phase.compute_s, phase.move, phase.size) for phase in self.phases]
        return Phases(self.ranks, [each for each in made if each.compute_s or each.size or each.move == "meet"])

    def time(self, links: Links) -> StepTime:
        """By the equations: the sum over the phases."""
        compute_s = sum(phase.compute_s for phase in self.phases)
        sending_s = sum(phase.sending_s(self.ranks, links) for phase in self.phases)
        return StepTime(compute_s + sending_s, compute_s, sum(phase.sent(self.ranks) for phase in self.phases))

    def play(self, clocks: Clocks, factors: np.ndarray) -> None:
        """One step, played; rank r computes `factors[r]` times as long as it should."""
        for phase in self.phases:
            clocks.compute(phase.compute_s * factors)
            if phase.move == "wait":
                clocks.now = clocks.now + phase.size
            elif not phase.move or self.ranks == 1:
                continue
            elif phase.move == "meet":
                clocks.meet()
            elif phase.move == "neighbours":
                clocks.neighbours(phase.size)
            elif phase.move == "gather":
                clocks.exchange(phase.size)
            else:
                clocks.sum(phase.size)


def alone(profile: Profile, part_s: float | None) -> Phases:
    """A step of one rank, where nothing passes: `part_s` seconds, if that was measured, else what the profile says."""
    return Phases(1, [Phase(profile.gradient_s + profile.update_s if part_s is None else part_s)])
