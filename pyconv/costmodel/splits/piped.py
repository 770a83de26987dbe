"""A step of a pipeline, played: every stage does its passes in the schedule's order, and its messages between them.

With S equal stages, M micro-batches of f seconds forward and b back, and messages that take no time, a step takes

    (M + S - 1) (f + b)

of which each stage computes M (f + b): a share of (S - 1) / (M + S - 1), the bubble, is waiting. With stages that
differ, and messages of t_s + t_b a seconds for a bytes, there is no such form; the schedule is played instead. A stage
begins to send its last result, and to receive its next input, when its last pass is over, and goes on when both have
come; a message begins when both its ends are there.

Where ranks are more than the CPUs that they share, as on one machine, those that compute share the CPUs evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...cluster.pipeline.schedule import bubble
from ..clocks import Clocks
from .lines import StageWork, apart, sharing
from .phases import Links, StepTime


@dataclass(frozen=True)
class Piped:
    """A step of pipelines.

    Attributes
    ----------
    stages : sequence of StageWork
    micro_batches : int
    schedule : {"1f1b", "gpipe"}
    replicas : int
        Pipelines side by side, whose stages average their gradients.
    cpus : int or None
        CPUs that all ranks share; None: each has its own.
    """

    stages: Sequence[StageWork]
    micro_batches: int
    schedule: str = "1f1b"
    replicas: int = 1
    cpus: int | None = None

    @property
    def ranks(self) -> int:
        """Stages of all pipelines."""
        return len(self.stages) * self.replicas

    @property
    def bubble(self) -> float:
        """The share of a step in which each of equal stages would wait."""
        return bubble(len(self.stages), self.micro_batches)

    def time(self, links: Links) -> StepTime:
        """The time of a step, if all ranks compute as fast."""
        clocks = links.clocks(self.ranks)
        self.play(clocks, np.ones(self.ranks))
        m, r = self.micro_batches, self.replicas
        ways = sum(2 * m * stage.passed for stage in self.stages) / len(self.stages)
        sums = sum(2 * stage.parameters * (r - 1) / r for stage in self.stages) / len(self.stages)
        return StepTime(float(clocks.now.max()), clocks.computed / self.ranks, ways + sums)

    def play(self, clocks: Clocks, factors: np.ndarray) -> None:
        """One step, played; rank r computes `factors[r]` times as long as it should."""
        count, m = len(self.stages), self.micro_batches
        clocks.meet()
        starts, slower = (each.reshape(self.replicas, count) for each in (clocks.now, factors))
        ends = (apart if self.cpus is None else sharing)(self, clocks, starts, slower)
        work = np.array([m * (stage.forward_s + stage.backward_s) for stage in self.stages] * self.replicas) * factors
        clocks.now, clocks.computed = ends.reshape(-1), clocks.computed + float(work.sum())
        for number, stage in enumerate(self.stages):  # the replicas of a stage average their gradients
            group = slice(number, None, count)
            own = Clocks(self.replicas, clocks.t_s, clocks.t_b, clocks.t_a)
            own.now = clocks.now[group].copy()
            own.owners(stage.parameters)
            own.compute(stage.update_s * factors[group])
            clocks.now[group] = own.now
            clocks.computed += own.computed
