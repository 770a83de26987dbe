"""Pipelines played pass by pass: when each stage ends its schedule.

A stage comes to an exchange with its last result, and to get its next input; when all has left and come, it does its
next pass. A message begins when both its ends are there; one that fits into the buffers of MPI and of the network
leaves at once, and waits there for the stage that gets it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np

from ...cluster.pipeline.schedule import FORWARD, Exchange, Pass, exchanges, passes
from ..clocks import Clocks
from .crowd import Crowd


@dataclass(frozen=True)
class StageWork:
    """What a stage has to do for one micro-batch, and at the end of a step.

    Attributes
    ----------
    forward_s, backward_s : float
        Seconds of its two passes.
    passed : float
        Bytes of the result that the next stage gets, and of the gradient that comes back for it; 0 for the last.
    parameters : float
        Bytes.
    update_s : float
        Seconds of its update.
    """

    forward_s: float
    backward_s: float
    passed: float
    parameters: float = 0.0
    update_s: float = 0.0


class Pipeline(Protocol):
    """What is played; :class:`.Piped`."""

    @property
    def stages(self) -> Sequence[StageWork]:
        """Their work."""

    @property
    def micro_batches(self) -> int:
        """Of a step."""

    @property
    def schedule(self) -> str:
        """The order of the passes."""

    @property
    def cpus(self) -> int | None:
        """That all ranks share."""


def apart(step: Pipeline, clocks: Clocks, starts: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """When each stage of each pipeline ends, if each has a CPU of its own.

    Parameters
    ----------
    step : Pipeline
    clocks : Clocks
        Whose messages take so long.
    starts, factors : (pipelines, stages) ndarray
        When each stage begins, and how many times as long it computes.

    Returns
    -------
    (pipelines, stages) ndarray
    """
    ends = np.empty_like(starts)
    todo: list[tuple[int, np.ndarray]] = [(stage, starts[:, stage]) for stage in range(starts.shape[1])]

    def work(stage: int, seconds: float, over: np.ndarray) -> None:
        todo.append((stage, over + seconds * factors[:, stage]))

    def ended(stage: int, over: np.ndarray) -> None:
        ends[:, stage] = over

    line = _Line(step, clocks, work, ended)
    while todo:  # in any order: who waits for a message comes when it is over
        line.meet(*todo.pop())
    return ends


def sharing(step: Pipeline, clocks: Clocks, starts: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """The same, if all ranks share some CPUs evenly: each end of a message takes half of t_p from those who compute."""
    crowd, ends = Crowd(step.cpus), np.empty_like(starts)
    for number in range(len(starts)):
        _line_in(crowd, step, clocks, starts[number], factors[number], ends[number])
    crowd.run()
    return ends


def _line_in(
    crowd: Crowd, step: Pipeline, clocks: Clocks, starts: np.ndarray, factors: np.ndarray, ends: np.ndarray
) -> None:
    """Add one pipeline to a crowd, which has its moments one after the other."""

    def work(stage: int, seconds: float, over: np.ndarray) -> None:
        crowd.at(float(over), partial(crowd.work, seconds * factors[stage], partial(came, stage)))

    def ended(stage: int, over: np.ndarray) -> None:
        ends[stage] = over

    def came(stage: int) -> None:
        line.meet(stage, np.asarray(crowd.now))

    line = _Line(step, clocks, work, ended, clocks.t_p / 2)
    for stage, start in enumerate(starts.tolist()):
        crowd.at(start, partial(came, stage))


class _Line:
    """Pipelines that are played together: each moment is an array with one of each.

    Parameters
    ----------
    step : Pipeline
    clocks : Clocks
    work : callable
        ``work(stage, seconds, moment)``: a stage computes from a moment on; :meth:`meet` is to follow.
    ended : callable
        ``ended(stage, moment)``: a stage has finished.
    a_byte : float
        Seconds of a CPU that each end of a message takes for a byte.
    """

    def __init__(
        self, step: Pipeline, clocks: Clocks, work: Callable[[int, float, np.ndarray], None],
        ended: Callable[[int, np.ndarray], None], a_byte: float = 0.0,
    ) -> None:  # fmt: skip
        count = len(step.stages)
        self._stages, self._work, self._ended = step.stages, work, ended
        self._seconds = [clocks.t_s + clocks.t_b * stage.passed for stage in step.stages]
        back = [stage > 0 for stage in range(count)]
        self._orders: list[list[Pass]] = [
            passes(step.schedule, count, stage, step.micro_batches) for stage in range(count)
        ]
        self._messages: list[list[Exchange]] = [
            exchanges(order, count, stage, back) for stage, order in enumerate(self._orders)
        ]
        self._place = [0] * count  # of each stage: how many exchanges are over
        self._open = [0] * count  # messages that its present exchange still waits for
        self._until = [np.zeros(())] * count  # when those that are known are over
        self._came = [np.zeros(())] * count  # when it came to the exchange
        self._late, self._a_byte = clocks.t_l, a_byte
        self._moved = [0.0] * count  # bytes of the messages of its last exchange
        self._ready: dict[tuple[int, int], np.ndarray] = {}  # when the first end of a message came
        self._eager, self._held_s = clocks.eager, clocks.t_s + clocks.t_b * clocks.eager
        self._sent: dict[tuple[int, int], deque[np.ndarray]] = {}  # when those will be over that nobody waits for yet
        self._free: dict[tuple[int, int], np.ndarray] = {}  # when a link has passed all that was sent

    def meet(self, stage: int, now: np.ndarray) -> None:
        """A stage comes to its next exchange."""
        messages = self._messages[stage][self._place[stage]]
        ways = []
        if messages.to is not None:
            ways.append((stage, messages.to))
        if messages.source is not None:
            ways.append((messages.source, stage))
        self._open[stage], self._until[stage], self._came[stage] = len(ways), now, now
        self._moved[stage] = sum(self._stages[min(way)].passed for way in ways)
        if not ways:
            self._go(stage)
        for way in ways:
            first, seconds = self._ready.pop(way, None), self._seconds[min(way)]
            if 0 < self._stages[min(way)].passed <= self._eager:
                self._pass_eagerly(way, stage, now, first)
            elif first is None:
                self._ready[way] = now
            else:
                over = np.maximum(first, now) + seconds
                for end in way:
                    self._have(end, over)

    def _pass_eagerly(self, way: tuple[int, int], stage: int, now: np.ndarray, first: np.ndarray | None) -> None:
        """One end of a message comes that is on its way once its sender has come, when those before it have passed.

        The sender goes on as soon as what is left fits into the buffers.
        """
        sent = self._sent.setdefault(way, deque())
        if stage == way[0]:
            over = np.maximum(self._free.get(way, now), now) + self._seconds[min(way)]
            self._free[way] = over
            self._have(stage, np.maximum(now, over - self._held_s))
            if first is None:
                sent.append(over)
            else:
                self._have(way[1], over)
        elif sent:
            self._have(stage, sent.popleft())
        else:
            self._ready[way] = now

    def _have(self, stage: int, over: np.ndarray) -> None:
        """One message of a stage's exchange is over for it at a moment."""
        self._until[stage] = np.maximum(self._until[stage], over)
        self._open[stage] -= 1
        if not self._open[stage]:
            self._go(stage)

    def _go(self, stage: int) -> None:
        """A stage has what it needs for its next pass."""
        place, over = self._place[stage], self._until[stage]
        if self._late:  # who has waited for long sleeps for long: a sixth of that, and on average half of it too long
            over = over + np.minimum((over - self._came[stage]) / 12, self._late)
        self._place[stage] += 1
        if place == len(self._orders[stage]):
            self._ended(stage, over)
            return
        own = self._stages[stage]
        forward = self._orders[stage][place].way == FORWARD
        seconds = own.forward_s if forward else own.backward_s
        self._work(stage, seconds + self._a_byte * self._moved[stage], over)
