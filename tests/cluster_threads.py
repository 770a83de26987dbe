"""A world of threads: the ranks of a cluster in one process, for tests that need no MPI."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyconv.cluster.hosts import Here
from pyconv.cluster.session import Session
from pyconv.cluster.world import Message


class Aborted(BaseException):
    """One rank has ended all ranks."""


class _Meeting:
    """What the ranks share: a place for the arrays of each rank, and a barrier before and after these are read."""

    def __init__(self, size: int) -> None:
        self.barrier = threading.Barrier(size)
        self.aborted = False
        self.places: list[Any] = [None] * size
        self.knocks: deque[tuple[int, np.ndarray]] = deque()
        self.boxes = {(source, to): _Box() for source in range(size) for to in range(size)}


class ThreadWorld:
    """One rank's view of the world. All ranks meet in every operation; if one stays out, all hang, as in MPI."""

    version = "threads"
    serialized = True

    def __init__(self, rank: int, meeting: _Meeting, size: int) -> None:
        self.rank, self.size, self._meeting = rank, size, meeting
        self.lost: Callable[[], None] = lambda: None
        self._limit: float | None = None
        self.swapped = 0  # bytes that this rank has sent

    def _meet(self, own: Any) -> list[Any]:
        meeting = self._meeting
        try:
            meeting.places[self.rank] = own
            meeting.barrier.wait(self._limit or 60)
            found = list(meeting.places)
            meeting.barrier.wait(60)
        except threading.BrokenBarrierError:
            raise (TimeoutError() if self._limit and not meeting.aborted else Aborted()) from None
        return found

    def gather(self, record: np.ndarray) -> np.ndarray:
        records = self._meet(("gather", record.copy()))
        assert {what for what, _ in records} == {"gather"}
        return np.stack([each for _, each in records])

    def broadcast(self, record: np.ndarray) -> None:
        records = self._meet(("broadcast", record.copy()))
        assert {what for what, _ in records} == {"broadcast"}
        record[...] = records[0][1]

    def swap(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """Exchange point-to-point messages; ranks without a message take no part."""
        for array in [each for _, each in (*sends, *receives)]:
            assert array.flags.c_contiguous
        for to, array in sends:
            if array.size:
                self._meeting.boxes[self.rank, to].append(array.copy())
                self.swapped += array.nbytes
        for source, array in receives:
            if array.size:
                sent = self._meeting.boxes[source, self.rank].take()
                assert sent.nbytes == array.nbytes and sent.dtype == array.dtype
                array[...] = sent.reshape(array.shape)

    def knock(self, record: np.ndarray) -> None:
        self._meeting.knocks.append((self.rank, record.copy()))

    def answer(self, record: np.ndarray) -> int | None:
        assert self.rank == 0
        if not self._meeting.knocks:
            return None
        rank, record[...] = self._meeting.knocks.popleft()
        return rank

    def hurry(self, seconds: float | None) -> None:
        self._limit = seconds

    def abort(self, status: int) -> None:
        self._meeting.aborted = True
        self._meeting.barrier.abort()
        raise Aborted


class _Box:
    """Messages on their way, in order."""

    def __init__(self) -> None:
        self._arrays: list[np.ndarray] = []
        self._condition = threading.Condition()

    def append(self, array: np.ndarray) -> None:
        with self._condition:
            self._arrays.append(array)
            self._condition.notify()

    def take(self) -> np.ndarray:
        with self._condition:
            if not self._condition.wait_for(lambda: bool(self._arrays), 60):
                raise Aborted
            return self._arrays.pop(0)


def on_ranks(size: int, body: Callable[[Session], Any]) -> list[Any]:
    """The result of `body` on each of `size` ranks, or the error that it raises there."""
    meeting = _Meeting(size)
    places = [Here("here", -1, "-", "f", 4, 4, {"pyconv": "1"}) for _ in range(size)]
    results: list[Any] = [None] * size

    def run(rank: int) -> None:
        session = Session(ThreadWorld(rank, meeting, size), places, "threads")
        try:
            with session.together():
                results[rank] = body(session)
        except BaseException as error:
            results[rank] = error
            if isinstance(error, Aborted):
                meeting.barrier.abort()

    threads = [threading.Thread(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive(), "a rank hangs"
    return results
