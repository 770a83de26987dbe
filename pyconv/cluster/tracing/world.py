"""TracedWorld: a world whose calls are noted on a tape. A run without a timeline has none, and pays nothing."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..world import Message, World
from .tape import MESSAGES, NUMBER, PIECES, RECEIVES, ROUND, SENDS, SWAP, TAGS, Tape

KNOCKS = -1  # in the place of a tag: records that rank 0 does not expect


class _Request:
    """A message that is on its way, with what there is to note of it."""

    __slots__ = ("began", "bytes", "call", "inner", "number", "rank", "row", "tag")

    def __init__(
        self, inner: Any, row: int, rank: int, tag: int, size: int, number: int, began: int, call: int
    ) -> None:
        self.inner, self.row, self.rank, self.tag, self.bytes = inner, row, rank, tag, size
        self.number, self.began, self.call = number, began, call


class TracedWorld:
    """A :class:`~..world.World` that notes what another one does.

    Messages between two ranks with the same tag arrive in the order in which they were sent. So both ranks number them,
    and the numbers say which receive belongs to which send.

    Parameters
    ----------
    world : World
    tape : Tape

    Attributes
    ----------
    aborting : callable
        ``aborting()``: called before all ranks are ended.
    """

    def __init__(self, world: World, tape: Tape) -> None:
        self._world, self.tape = world, tape
        self.rank, self.size, self.serialized = world.rank, world.size, world.serialized
        self.aborting: Callable[[], None] = lambda: None
        self._sent: dict[tuple[int, int], int] = defaultdict(int)  # by the other rank and tag
        self._received: dict[tuple[int, int], int] = defaultdict(int)
        self._waiter: int | None = None  # the thread that waits
        self._looks = 0  # since it began to
        self._helped = 0  # CPU time of the thread that looks after messages, ns

    @property
    def idle(self) -> Callable[[], object]:
        return self._world.idle

    @idle.setter
    def idle(self, idle: Callable[[], object]) -> None:
        self._world.idle = idle

    @property
    def lost(self) -> Callable[[], None]:
        return self._world.lost

    @lost.setter
    def lost(self, lost: Callable[[], None]) -> None:
        self._world.lost = lost

    @property
    def waited_ns(self) -> int:
        return self._world.waited_ns

    # ---- calls that wait --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _wait(self, what: int) -> Iterator[None]:
        """Within it the calling thread waits; how much CPU time it needs for that is noted too."""
        outer, self._waiter, self._looks = self._waiter, threading.get_ident(), 0
        used, began = time.thread_time_ns(), time.monotonic_ns()
        try:
            yield
        finally:
            ended, used = time.monotonic_ns(), time.thread_time_ns() - used
            self._waiter = outer
            self.tape.add(self.tape.row(), NUMBER["wait"], began, ended, what, used, self._looks)

    def gather(self, record: np.ndarray) -> np.ndarray:
        self.tape.count_cpu(self._helped)
        with self._wait(ROUND):
            return self._world.gather(record)

    def broadcast(self, record: np.ndarray) -> None:
        with self._wait(ROUND):
            self._world.broadcast(record)

    def swap(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        sends, receives = ([each for each in messages if each[1].size] for messages in (sends, receives))
        if not (sends or receives):
            return
        began = time.monotonic_ns()
        with self._wait(SWAP):
            self._world.swap(sends, receives)
        ended = time.monotonic_ns()
        for row, messages in ((SENDS, sends), (RECEIVES, receives)):
            for rank, array in messages:
                self._note(row, rank, 0, array.nbytes, self._number(row, rank, 0), began, ended, 0)

    def until(self, over: Callable[[], bool]) -> None:
        with self._wait(PIECES):
            self._world.until(over)

    # ---- messages that travel meanwhile -----------------------------------------------------------

    def _number(self, row: int, rank: int, tag: int) -> int:
        """The next number of a message to the rank, or from it."""
        numbers = self._sent if row == SENDS else self._received
        numbers[rank, tag] += 1
        return numbers[rank, tag]

    def _note(
        self, row: int, rank: int, tag: int, size: int, number: int, began: int, ended: int, call: int
    ) -> None:  # fmt: skip
        what = NUMBER["request" if tag == KNOCKS else TAGS[tag]]
        self.tape.add(row, what, began, ended, rank, size, number, call)

    def send(self, rank: int, array: np.ndarray, tag: int) -> Any:
        return self._begin(SENDS, self._world.send, rank, array, tag)

    def receive(self, rank: int, array: np.ndarray, tag: int) -> Any:
        return self._begin(RECEIVES, self._world.receive, rank, array, tag)

    def _begin(self, row: int, call: Callable[..., Any], rank: int, array: np.ndarray, tag: int) -> _Request:
        number, began = self._number(row, rank, tag), time.monotonic_ns()
        inner = call(rank, array, tag)
        return _Request(inner, row, rank, tag, array.nbytes, number, began, time.monotonic_ns() - began)

    def over(self, requests: Sequence[Any]) -> list[int]:
        began = time.monotonic_ns()
        found = self._world.over([each.inner for each in requests])
        ended = time.monotonic_ns()
        for index in found:
            each = requests[index]
            if each.row:
                self._note(each.row, each.rank, each.tag, each.bytes, each.number, each.began, ended, each.call)
        row = self.tape.row()
        if row == MESSAGES:
            self._helped = time.thread_time_ns()
        if threading.get_ident() == self._waiter:
            self._looks += 1
        else:
            self.tape.add(row, NUMBER["look"], began, ended, len(requests), len(found))
        return found

    def cancel(self, request: Any) -> None:
        self._world.cancel(request.inner)
        request.row = 0  # it has no event

    def knock(self, record: np.ndarray) -> None:
        began = time.monotonic_ns()
        self._world.knock(record)
        number = self._number(SENDS, 0, KNOCKS)
        self._note(SENDS, 0, KNOCKS, record.nbytes, number, began, time.monotonic_ns(), 0)

    def answer(self, record: np.ndarray) -> int | None:
        began = time.monotonic_ns()
        rank = self._world.answer(record)
        if rank is not None:
            number, ended = self._number(RECEIVES, rank, KNOCKS), time.monotonic_ns()
            self._note(RECEIVES, rank, KNOCKS, record.nbytes, number, began, ended, 0)
            self.tape.add(self.tape.row(), NUMBER["answer"], began, ended)
        return rank

    # ---- without a note ---------------------------------------------------------------------------

    def hurry(self, seconds: float | None) -> None:
        self._world.hurry(seconds)

    def abort(self, status: int) -> None:
        self.aborting()
        self._world.abort(status)
