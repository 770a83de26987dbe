"""The engine of rank 0 in a network that all ranks compute together: it leads them from step to step."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from ...parallel import StepReport
from .. import rounds as r
from .member import Member


class JointLeader:
    """An Engine, at rank 0: it does the steps of its member when all ranks have come to them.

    Parameters
    ----------
    rounds : Rounds
    member : Member
        Rank 0's; its network holds the result whenever the engine is at rest.
    interrupted : callable
        ``interrupted(number)``: another rank has received that signal.
    described : str
        A line for the start of a run.
    """

    def __init__(
        self, rounds: r.Rounds, member: Member, interrupted: Callable[[int], None], described: str
    ) -> None:  # fmt: skip
        self._rounds, self._member, self._interrupted, self._described = rounds, member, interrupted, described
        self.steps_per_epoch = member.steps_per_epoch

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """See :class:`~pyconv.parallel.Engine`."""
        self._command(r.BEGIN, epoch=epoch, step=first_step)
        steps, closed = self._member.epoch(epoch, first_step), False
        for step in range(first_step, self.steps_per_epoch + 1):
            self._meet(r.BOUNDARY, step)
            if closed or step == self.steps_per_epoch:
                self._rounds.tell(r.CLOSE)
                break
            self._rounds.tell(r.GO)
            with self._member.together():
                report = next(steps)
            try:
                yield report
            except GeneratorExit:
                if self._rounds.ended:
                    raise
                closed = True
        steps.close()
        self._gather(everything=False)

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.Engine`."""
        return self._member.statistics()

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.Engine`; as the engine of one process gives it."""
        self._gather(everything=True)
        return self._member.state()

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See :class:`~pyconv.parallel.Engine`; that of one process, or of any number of ranks, will do."""
        self._member.load_state(state)
        self._command(r.LOAD)
        self._member.exchange()

    def describe(self) -> str:
        """See :class:`~pyconv.parallel.Engine`."""
        return self._described

    def close(self) -> None:
        """See :class:`~pyconv.parallel.Engine`; the session ends the other ranks' part."""
        self._member.close()

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
        self._member.collect(everything)
