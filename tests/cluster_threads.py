"""A world of threads: the ranks of a cluster in one process, for tests that need no MPI."""

from __future__ import annotations

import itertools
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pyconv.cluster.hosts import Here
from pyconv.cluster.session import Session
from pyconv.cluster.world import Message


class Aborted(BaseException):
    """One rank has ended all ranks."""


class _Barrier:
    """A barrier; ranks that wait at it do what they do while they wait."""

    def __init__(self, size: int) -> None:
        self._size, self._lock = size, threading.Lock()
        self._count = self._turn = 0
        self._broken = False

    def wait(self, seconds: float, idle: Callable[[], object]) -> None:
        with self._lock:
            turn, self._count = self._turn, self._count + 1
            if self._count == self._size:
                self._turn, self._count = turn + 1, 0
        end = time.monotonic() + seconds
        while self._turn == turn:
            if self._broken or time.monotonic() > end:
                self._broken = True
                raise threading.BrokenBarrierError
            idle()
            time.sleep(1e-5)

    def abort(self) -> None:
        self._broken = True


class _Meeting:
    """What the ranks share: a place for the arrays of each rank, and a barrier before and after these are read."""

    def __init__(self, size: int) -> None:
        self.barrier = _Barrier(size)
        self.aborted = False
        self.places: list[Any] = [None] * size
        self.knocks: deque[tuple[int, np.ndarray]] = deque()
        self.boxes: dict[tuple[int, int, int], _Box] = defaultdict(_Box)  # by source, destination and tag
        self.lock = threading.Lock()

    def box(self, source: int, to: int, tag: int) -> _Box:
        with self.lock:
            return self.boxes[source, to, tag]


class ThreadWorld:
    """One rank's view of the world. All ranks meet in every operation; if one stays out, all hang, as in MPI."""

    version = "threads"
    serialized = True

    def __init__(self, rank: int, meeting: _Meeting, size: int) -> None:
        self.rank, self.size, self._meeting = rank, size, meeting
        self.lost: Callable[[], None] = lambda: None
        self.idle: Callable[[], object] = lambda: None
        self._limit: float | None = None
        self.swapped = 0  # bytes that this rank has sent
        self.tape, self.waited_ns = None, 0
        self._chance = np.random.default_rng(rank)

    def _meet(self, own: Any) -> list[Any]:
        meeting = self._meeting
        try:
            meeting.places[self.rank] = own
            meeting.barrier.wait(self._limit or 60, self.idle)
            found = list(meeting.places)
            meeting.barrier.wait(60, self.idle)
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
        for (_, sent), (_, received) in itertools.product(sends, receives):
            assert not np.may_share_memory(sent, received), "it may be overwritten before it is sent"
        for to, array in sends:
            if array.size:
                self._meeting.box(self.rank, to, 0).append(array.copy())
                self.swapped += array.nbytes
        for source, array in receives:
            if array.size:
                _put(self._take(source), array)

    def _take(self, source: int) -> np.ndarray:
        box, end = self._meeting.box(source, self.rank, 0), time.monotonic() + (self._limit or 60)
        while (found := box.take(0.1)) is None:
            if self._meeting.aborted or time.monotonic() > end:
                raise TimeoutError if self._limit and not self._meeting.aborted else Aborted
        return found

    def send(self, rank: int, array: np.ndarray, tag: int) -> Any:
        """As in MPI, the array is read at any time until the request is over; here, when the message is received."""
        assert tag > 0 and array.flags.c_contiguous and array.size
        self.swapped += array.nbytes
        sent = _Sent(array)
        self._meeting.box(self.rank, rank, tag).append(sent)
        return sent

    def receive(self, rank: int, array: np.ndarray, tag: int) -> Any:
        assert tag > 0 and array.flags.c_contiguous and array.size
        array.view(np.uint8)[...] = 0xFF  # NaN, so that nothing can use what has not come
        expected = _Expected(array, self._meeting.box(rank, self.rank, tag))
        expected.box.expect(expected)
        return expected

    def over(self, requests: Sequence[Any]) -> list[int]:
        """Some of those that are over, as MPI tells of them when it likes."""
        for each in requests:
            if isinstance(each, _Expected):
                each.box.match(1 + self._chance.integers(2))
        return [index for index, each in enumerate(requests) if each.over and self._chance.random() < 0.8]

    def cancel(self, request: Any) -> None:
        request.box.cancel(request)

    def until(self, over: Callable[[], bool]) -> None:
        end = time.monotonic() + (self._limit or 60)
        while not over():
            self.idle()
            if self._meeting.aborted:
                raise Aborted
            if time.monotonic() > end:
                raise TimeoutError if self._limit else Aborted
            time.sleep(1e-4)

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


def _put(sent: np.ndarray, array: np.ndarray) -> None:
    assert sent.nbytes == array.nbytes and sent.dtype == array.dtype
    array[...] = sent.reshape(array.shape)


class _Sent:
    """A message of send()."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.over = array, False


class _Expected:
    """A message that receive() waits for."""

    def __init__(self, array: np.ndarray, box: _Box) -> None:
        self.array, self.box, self.over = array, box, False


class _Box:
    """Messages on their way, in order; and those of receive()."""

    def __init__(self) -> None:
        self._arrays: list[Any] = []
        self._expected: list[_Expected] = []
        self._condition = threading.Condition()

    def append(self, array: Any) -> None:
        with self._condition:
            self._arrays.append(array)
            self._condition.notify()

    def expect(self, expected: _Expected) -> None:
        with self._condition:
            self._expected.append(expected)

    def match(self, most: int) -> None:
        """Receive at most so many messages."""
        with self._condition:
            while self._arrays and self._expected and most:
                sent, expected = self._arrays.pop(0), self._expected.pop(0)
                _put(sent.array, expected.array)
                sent.over = expected.over = True
                most -= 1

    @property
    def busy(self) -> bool:
        """Whether a message is on its way, or is waited for."""
        return bool(self._arrays or self._expected)

    def cancel(self, expected: _Expected) -> None:
        with self._condition:
            if not expected.over:
                self._expected.remove(expected)
                expected.over = True

    def take(self, seconds: float) -> np.ndarray | None:
        with self._condition:
            return self._arrays.pop(0) if self._condition.wait_for(lambda: bool(self._arrays), seconds) else None


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


def with_sessions(monkeypatch: Any, *modules: Any) -> Callable[[int, Callable[[Session], Any]], list[Any]]:
    """:func:`on_ranks`, where what the modules import as ``session`` finds each rank's session."""
    here = threading.local()
    for module in modules:
        monkeypatch.setattr(module, "session", lambda cluster="auto": getattr(here, "session", None))

    def play(size: int, body: Callable[[Session], Any]) -> list[Any]:
        def start(session: Session) -> Any:
            here.session = session
            return body(session)

        return on_ranks(size, start)

    return play


def fine(results: Sequence[Any]) -> Sequence[Any]:
    """The results of ranks; raises what a rank has raised."""
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return results
