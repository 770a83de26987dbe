"""What a cluster's protocol needs of MPI: three moves that all ranks make in the same order, messages that travel while
a rank computes, a message to rank 0 at any time, and a way out.

:mod:`.mpi` has the real one; the tests have one of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from .tracing.tape import Tape

Message = tuple[int, np.ndarray]
"""The other rank, and a contiguous array that is sent or written."""


class World(Protocol):
    """The ranks of a run, as one of them sees the others.

    Attributes
    ----------
    rank, size : int
        This one's number, from 0, and how many there are.
    serialized : bool
        Whether any thread may call it, one at a time; else only the one that has made it.
    lost : callable
        ``lost()``: called four times a second while this rank waits.
    idle : callable
        ``idle()``: called again and again while this rank waits.
    tape : Tape or None
        Where this rank notes what it does, if the run keeps a timeline (:mod:`.tracing`).
    waited_ns : int
        How long this rank has waited in its calls, so far.
    """

    rank: int
    size: int
    serialized: bool
    lost: Callable[[], None]
    idle: Callable[[], object]

    @property
    def tape(self) -> Tape | None: ...

    @property
    def waited_ns(self) -> int: ...

    def gather(self, record: np.ndarray) -> np.ndarray:
        """Bring every rank's record, ``(k,)`` int64, to rank 0: ``(size, k)`` there, without meaning on other ranks."""
        ...

    def broadcast(self, record: np.ndarray) -> None:
        """Bring rank 0's record, ``(k,)`` int64, to all ranks; it is written in place."""
        ...

    def swap(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Send and receive arrays; between two ranks in the order of the lists. Empty ones are left out."""
        ...

    def send(self, rank: int, array: np.ndarray, tag: int) -> Any:
        """Begin to send an array, which must not change until that is over. Returns a request for :meth:`over`."""
        ...

    def receive(self, rank: int, array: np.ndarray, tag: int) -> Any:
        """Begin to receive an array: what the rank has sent with the same tag, in the order of the calls."""
        ...

    def over(self, requests: Sequence[Any]) -> list[int]:
        """Move on without waiting; returns the indices of the requests that are over, which may not be given again."""
        ...

    def cancel(self, request: Any) -> None:
        """Give up a receive, unless its message has come already; it is over soon."""
        ...

    def until(self, over: Callable[[], bool]) -> None:
        """Wait until ``over()`` is true: look and sleep in turn."""
        ...

    def knock(self, record: np.ndarray) -> None:
        """Send a record, ``(k,)`` int64, to rank 0, which does not expect it; what follows goes by :meth:`swap`."""
        ...

    def answer(self, record: np.ndarray) -> int | None:
        """Rank 0: the rank of the next record that has come by :meth:`knock`, which is written; None if none has."""
        ...

    def hurry(self, seconds: float | None) -> None:
        """From here on, end each wait with a :class:`TimeoutError` after so many seconds; None removes the limit."""
        ...

    def abort(self, status: int) -> None:
        """End all ranks at once; if there are other processes, it does not return."""
        ...
