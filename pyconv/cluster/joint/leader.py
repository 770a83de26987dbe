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
        self._waits = np.zeros(member.world.size, np.int64)
        self._seen = self._waits.copy()

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """See :class:`~pyconv.parallel.Engine`."""
        self._command(r.BEGIN, epoch=epoch, step=first_step)
        steps, closed = self._member.epoch(epoch, first_step), False
        self._member.begin()
        for step in range(first_step, self.steps_per_epoch + 1):
            self._waits = self._meet(self._member.header(self._rounds, step))[:, r.WAIT]
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
        self._member.end()
        self._gather(everything=False)

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.Engine`; `wait_s` is what ranks wait for each other and for messages."""
        found, waited = self._member.statistics(), float((self._waits - self._seen).mean()) / 1e9
        self._seen = self._waits
        return {**found, "communication_s": max(found["communication_s"], waited), "wait_s": waited}

    @property
    def waited_s(self) -> float:
        """Seconds for which ranks have waited within epochs so far; their mean."""
        return float(self._waits.mean()) / 1e9

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

    def _meet(self, header: np.ndarray) -> np.ndarray:
        """Every rank's header, when all have come to a place; a tell() must follow."""
        headers = self._rounds.collect(header)
        for signal in headers[1:, r.SIGNAL]:
            if signal:
                self._interrupted(int(signal))
        return headers

    def _command(self, action: int, epoch: int = 0, step: int = 0, what: int = 0) -> None:
        self._meet(self._rounds.header(r.REST))
        self._rounds.tell(action, epoch=epoch, step=step, what=what)

    def _gather(self, everything: bool) -> None:
        self._command(r.COLLECT, what=int(everything))
        self._member.collect(everything)
