"""The engine of rank 0 in a network split by filters: it leads the ranks through epochs, and has filters of its own."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from ...nn import Sequential
from ...parallel import Job, StepReport
from ...threads import counted
from .. import rounds as r
from ..world import World
from .following import Member


class FilterLeader(Member):
    """Trains a network whose filters and units are on all ranks; an Engine, at rank 0.

    Parameters
    ----------
    rounds : Rounds
    world : World
    model : Sequential
        Holds the result whenever the engine is at rest.
    x, labels : ndarray
        All training images.
    job : Job
    threads : int
        OpenMP threads of this rank.
    interrupted : callable
        ``interrupted(number)``: another rank has received that signal.
    where : str
        The ranks and their MPI, in words.
    """

    def __init__(
        self, rounds: r.Rounds, world: World, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job,
        threads: int, interrupted: Callable[[int], None], where: str,
    ) -> None:  # fmt: skip
        super().__init__(model, x, labels, job, world, threads)
        self._rounds, self._interrupted, self._where = rounds, interrupted, where
        self._threads = threads

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """See :class:`~pyconv.parallel.Engine`."""
        self._command(r.BEGIN, epoch=epoch, step=first_step)
        steps, closed = super().epoch(epoch, first_step), False
        for step in range(first_step, self.steps_per_epoch + 1):
            self._meet(r.BOUNDARY, step)
            if closed or step == self.steps_per_epoch:
                self._rounds.tell(r.CLOSE)
                break
            self._rounds.tell(r.GO)
            with self.group.together():
                report = next(steps)
            try:
                yield report
            except GeneratorExit:
                if self._rounds.ended:
                    raise
                closed = True
        steps.close()
        self._gather(everything=False)

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.Engine`; as the engine of one process gives it."""
        self._gather(everything=True)
        return super().state()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See :class:`~pyconv.parallel.Engine`; that of one process, or of any number of ranks, will do."""
        super().load_state(state)
        self._command(r.LOAD)
        self.exchange()

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.Engine`."""
        found = super().statistics()
        waited, self.group.waited_s = self.group.waited_s, 0.0
        return {**found, "compute_s": max(found["compute_s"] - waited, 0.0), "communication_s": waited}

    def describe(self) -> str:
        """See :class:`~pyconv.parallel.Engine`."""
        return (
            f"backend {self._model.backend.name}, filters split over {self._where}, each on "  # type: ignore[attr-defined]
            f"{counted(self._threads, 'thread')}"
        )

    # ---- rounds -----------------------------------------------------------------------------------

    def _meet(self, kind: int, value: int = 0) -> None:
        """Wait until all ranks have come to a place; a tell() must follow."""
        for signal in self._rounds.collect(self._rounds.header(kind, value))[1:, r.SIGNAL]:
            if signal:
                self._interrupted(int(signal))

    def _command(self, action: int, epoch: int = 0, step: int = 0, what: int = 0) -> None:
        self._meet(r.REST)
        self._rounds.tell(action, epoch=epoch, step=step, what=what)

    def _gather(self, everything: bool) -> None:
        self._command(r.COLLECT, what=int(everything))
        self.collect(everything)
