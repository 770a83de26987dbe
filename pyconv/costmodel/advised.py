"""The result of advice."""

from __future__ import annotations

from dataclasses import dataclass

from ..threads import counted
from .prediction_result import Prediction

#: A smaller gain is not worth the memory, the start and the different learning rate of more workers.
WORTH = 1.1


@dataclass(frozen=True)
class Advice:
    """What to run, and why.

    Attributes
    ----------
    workers, threads : int
        Processes, and threads in each.
    update : str
        The update rule's name.
    reason : str
        One line for the user.
    considered : tuple of Prediction
        Everything that was compared, fastest first; speed-ups are relative to the one-worker prediction among them. On
        ranks, each split's, over one rank alone.
    ranks : int
        Ranks of a cluster to use.
    split : {"data", "rows", "filters", "pipeline"}
        What they divide.
    left_out : tuple of (str, str)
        Splits that this network or these ranks do not allow, and why.
    """

    workers: int
    threads: int
    update: str
    reason: str
    considered: tuple[Prediction, ...]
    ranks: int = 1
    split: str = "data"
    left_out: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        if self.ranks > 1:
            return f"{self.considered[0].setting}: {self.reason}"
        return f"{counted(self.workers, 'worker')} × {counted(self.threads, 'thread')}: {self.reason}"
