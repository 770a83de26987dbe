"""A world of one rank: it computes its part, nothing is sent, and what would have been is noted.

So a rank's own computing can be timed on one machine, whatever the number of ranks. What should have come from the
others is what this rank sends in the same exchange, again and again: numbers of the same kind. Writing them is not part
of the time.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import nn, optim
from ..cluster.by_rows import RowMember
from ..cluster.filters import FilterMember
from ..cluster.world import Message
from ..parallel import Job
from .network import example

MEMBERS: dict[str, Any] = {"rows": RowMember, "filters": FilterMember}
#: Steps that are measured at least, after one that is not.
FEWEST = 3


class SilentWorld:
    """One rank's view of ranks that are not there; a :class:`~pyconv.cluster.world.World` for a split network.

    Attributes
    ----------
    rank, size : int
    exchanges : list of (int, int)
        Bytes that were sent, and received, in each exchange.
    aside_s : float
        Seconds so far of making up what is received.
    """

    serialized = False
    tape = None
    waited_ns = 0

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.lost: Callable[[], None] = lambda: None
        self.idle: Callable[[], object] = lambda: None
        self.exchanges: list[tuple[int, int]] = []
        self.aside_s = 0.0
        self._sends: list[np.ndarray] = []  # of an exchange by send() and receive()
        self._receives: list[np.ndarray] = []

    def gather(self, record: np.ndarray) -> np.ndarray:
        return np.tile(record, (self.size, 1))

    def broadcast(self, record: np.ndarray) -> None:
        """Nobody is there."""

    def swap(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        self._exchange([array for _, array in sends], [array for _, array in receives])

    def send(self, rank: int, array: np.ndarray, tag: int) -> Any:
        self._sends.append(array)
        return None

    def receive(self, rank: int, array: np.ndarray, tag: int) -> Any:
        self._receives.append(array)
        return None

    def over(self, requests: Sequence[Any]) -> list[int]:
        return list(range(len(requests)))

    def cancel(self, request: Any) -> None:
        """Everything is over at once."""

    def until(self, over: Callable[[], bool]) -> None:
        self._exchange(self._sends, self._receives)
        self._sends, self._receives = [], []
        while not over():
            pass

    def knock(self, record: np.ndarray) -> None:
        raise NotImplementedError("nobody answers")

    def answer(self, record: np.ndarray) -> int | None:
        return None

    def hurry(self, seconds: float | None) -> None:
        """Nothing lasts."""

    def abort(self, status: int) -> None:
        raise SystemExit(status)

    def _exchange(self, sends: Sequence[np.ndarray], receives: Sequence[np.ndarray]) -> None:
        began = time.perf_counter()
        self.exchanges.append((sum(each.nbytes for each in sends), sum(each.nbytes for each in receives)))
        own = [each.reshape(-1).view(np.uint8) for each in sends if each.nbytes]
        for each in (array.reshape(-1).view(np.uint8) for array in receives if array.nbytes):
            if not own:
                each[...] = 0
                continue
            source = max(own, key=len)
            for start in range(0, each.size, source.size):
                part = each[start : start + source.size]
                part[...] = source[: part.size]
        self.aside_s += time.perf_counter() - began


@dataclasses.dataclass(frozen=True)
class Part:
    """The steps of one rank of a split network, as they were measured.

    Attributes
    ----------
    seconds : tuple of float
        Of each step, with gathering the images and the update; without messages.
    exchanges : tuple of (int, int)
        Bytes that are sent, and received, in each exchange of a step.
    """

    seconds: tuple[float, ...]
    exchanges: tuple[tuple[int, int], ...]


def measured_part(
    model: nn.Sequential, split: str, rank: int, ranks: int, batch: int, *, backend: str = "auto", threads: int = 1,
    seconds: float = 1.0,
) -> Part:  # fmt: skip
    """Train one rank's part of a split network for a moment, without the others, and measure its steps.

    Parameters
    ----------
    model : Sequential
        It does not change.
    split : {"rows", "filters"}
    rank, ranks : int
    batch : int
        Images of a step.
    backend : str
    threads : int
    seconds : float
        How long; at least three steps are measured.

    Returns
    -------
    Part

    Raises
    ------
    InputError
        If the network cannot be split so.
    """
    twin, x, labels = example(model, batch, backend=backend, threads=threads)
    whole = len(x) // batch * batch
    world = SilentWorld(rank, ranks)
    job = Job(optim.SGD(lr=1e-6, momentum=0.9), batch, 1, backend=backend, split=split, threads_per_worker=threads)
    member = MEMBERS[split](twin, x[:whole], labels[:whole], job, world, threads)
    taken: list[float] = []
    end, epoch = time.perf_counter() + seconds, 0
    while len(taken) < FEWEST + 1 or time.perf_counter() < end:
        steps = member.epoch(epoch)
        epoch += 1
        for _ in range(member.steps_per_epoch):
            world.exchanges, world.aside_s = [], 0.0
            began = time.perf_counter()
            with member.together():
                next(steps)
            taken.append(time.perf_counter() - began - world.aside_s)
            if len(taken) > FEWEST and time.perf_counter() > end:
                break
        steps.close()
    member.close()
    return Part(tuple(taken[1:]), tuple(world.exchanges))
