"""The desk: what all lanes share under an update rule that waits for nobody.

Rank 0 has it: the centre and the shared state of the optimizer, the centre's lock, the number of pushes, how far every
lane has come, and the table of mini-batches. Its own lanes use them where they are. The other ranks send requests
(:mod:`.line`), which a thread answers: it alone calls MPI while it runs, and sleeps between its looks.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import numpy as np

from ..arithmetic import quiet
from .world import World

SLEEP_S, MOST_S = 50e-6, 1e-3  # the thread's first sleep, and its longest
LOOK_S = 0.25  # between two looks at the other processes
REST_S = 3.0  # in which all ranks come to rest once one of them cannot go on

# ---- requests -------------------------------------------------------------------------------------
LOCK, UNLOCK, LOOK, STATE, COUNT, ADD, NOTE, ARRIVE, REACHED, WAIT, REST, CLOCK, EVENTS = range(13)

# ---- words of a request ---------------------------------------------------------------------------
OP, LANE, VALUE, WHAT, UNIT, PUSH, PULLED, CORRECT, LOSS, SIGNAL, WAITED = range(11)
REQUEST = 16

# ---- words of a reply -----------------------------------------------------------------------------
ENDED, CLOSED, PUSHES, FOUND, TIME = range(5)
REPLY = 8

EVENT = 8  # words of an event for a timeline

# ---- what is brought, or has been changed; bits ---------------------------------------------------
CENTRE, STATES = 1, 2


class Ended(Exception):
    """A rank cannot go on: all stop where they are, and hear in a round why."""


class Desk:
    """What all lanes share; rank 0's.

    Parameters
    ----------
    world : World
    lanes : int
        Of all ranks.
    vectors : callable
        ``vectors(what)``: the shared vectors, of ``CENTRE`` and ``STATES``.
    noted : callable
        ``noted(unit, lane, push, pulled, loss, correct)``: write a mini-batch of another rank's into the table.

    Attributes
    ----------
    pushes : int
        Gradients that were added to the centre since the start of the run.
    closed, ended : bool
        Whether lanes should begin no further mini-batch; whether they should stop because a rank cannot go on.
    signal : int
        A signal that another rank has received, or 0.
    waited_ns : dict of int to int
        By rank, how long it has waited in the run, as it has said last.
    heard : callable
        ``heard(rank, clock, events, lost)``: a rank has brought what it has noted for a timeline (:mod:`.tracing`).
    """

    def __init__(
        self, world: World, lanes: int, vectors: Callable[[int], list[np.ndarray]],
        noted: Callable[[int, int, int, int, float, int], None],
    ) -> None:  # fmt: skip
        self._world, self._vectors, self._noted = world, vectors, noted
        self.pushes = self.signal = 0
        self.closed = self.ended = False
        self.waited_ns: dict[int, int] = {}
        self.heard: Callable[[int, np.ndarray, np.ndarray, int], None] = lambda rank, clock, events, lost: None
        self._turn = threading.Condition()
        self._bell = threading.Event()  # something has changed that another rank may wait for
        self._queue: deque[tuple[int, int]] = deque()  # lanes with their ranks; the first has the lock
        self._granted = False  # it is another rank's, and has been told
        self._arrived = np.zeros(lanes, np.int64)
        self._waiting: dict[int, int] = {}  # ranks, and what all lanes must have come to before they go on
        self._resting: set[int] = set()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._until: float | None = None  # when the thread ends at the latest

    # ---- from the start of an epoch to its end ----------------------------------------------------

    def open(self) -> None:
        """Begin to answer the other ranks."""
        self._queue.clear()
        self._waiting.clear()
        self._resting.clear()
        self._arrived[:] = 0
        self._granted = self.closed = self.ended = False
        self._until = None
        self._thread = threading.Thread(target=self._serve, name="desk", daemon=True)
        self._thread.start()

    def close_gate(self) -> None:
        """Let no further mini-batch begin."""
        with self._turn:
            self.closed = True
            self._news()

    def end(self) -> None:
        """Have all ranks stop, for one cannot go on."""
        with self._turn:
            self.ended, self._until = True, self._until or time.monotonic() + REST_S
            self._news()

    @property
    def done(self) -> bool:
        """Whether all other ranks are at rest; the thread has ended then.

        Raises
        ------
        Ended
            If they cannot go on.
        """
        thread = self._thread
        if thread is not None and thread.is_alive():
            if self.ended:
                raise Ended
            return False
        if self.ended:
            raise Ended
        return True

    def join(self) -> None:
        """Wait until the thread has ended, for all other ranks are at rest.

        Raises
        ------
        Exception
            That ended the thread before they were.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _news(self) -> None:
        self._turn.notify_all()
        self._bell.set()

    # ---- rank 0's own lanes -----------------------------------------------------------------------

    def take(self, lane: int, centre: np.ndarray) -> None:
        """Wait for the centre's lock; then `centre` is what all share.

        Raises
        ------
        Ended
        """
        with self._turn:
            if (lane, 0) not in self._queue:
                self._queue.append((lane, 0))
            while self._queue[0] != (lane, 0):
                self._turn.wait(LOOK_S)
                if self.ended:
                    raise Ended

    def give(self, lane: int, push: int, what: int, vectors: list[np.ndarray]) -> None:
        """Release the lock, if the lane has it."""
        with self._turn:
            if self._queue and self._queue[0] == (lane, 0):
                self._queue.popleft()
                self._news()

    def count(self) -> int:
        """Number a push that is made without the lock."""
        with self._turn:
            self.pushes += 1
            return self.pushes

    def arrive(self, lane: int, value: int) -> None:
        """Note how far a lane has come."""
        with self._turn:
            self._arrived[lane] = max(self._arrived[lane], value)
            self._news()

    def reached(self, value: int) -> bool:
        """Whether all lanes have come so far."""
        return bool((self._arrived >= value).all())

    def wait(self, value: int, seconds: float) -> None:
        """Wait for :meth:`reached`, at most so long, or until the gate is closed."""
        with self._turn:
            if not (self.reached(value) or self.closed or self.ended):
                self._turn.wait(seconds)

    # ---- the other ranks --------------------------------------------------------------------------

    @quiet
    def _serve(self) -> None:
        """Answer until all other ranks are at rest."""
        pause, looked = SLEEP_S, time.monotonic()
        try:
            while len(self._resting) < self._world.size - 1:
                if self._answer() or self._grant() or self._let_go():
                    pause = SLEEP_S
                    continue
                now = time.monotonic()
                if self._until is not None and now > self._until:
                    raise TimeoutError("the other ranks do not come to rest")
                if now - looked > LOOK_S:
                    looked = now
                    self._world.lost()
                if self._bell.wait(pause):
                    self._bell.clear()
                pause = min(1.2 * pause, MOST_S)
        except BaseException as error:
            self._error = error
            self.end()

    def _answer(self) -> bool:
        """Do what the next request asks for; whether there was one."""
        request = np.zeros(REQUEST, np.int64)
        rank = self._world.answer(request)
        if rank is None:
            return False
        op, lane, value, what = request[[OP, LANE, VALUE, WHAT]].tolist()
        self.signal = self.signal or int(request[SIGNAL])
        self.waited_ns[rank] = int(request[WAITED])
        with self._turn:
            if op == LOCK:
                self._queue.append((lane, rank))
            elif op == ARRIVE:
                self._arrived[lane] = max(self._arrived[lane], value)
                self._turn.notify_all()
            elif op == WAIT:
                self._waiting[rank] = value
            elif op == REST:
                self._resting.add(rank)
        if op == REST and what:
            self.end()
        elif op == UNLOCK:
            self._world.swap([], [(rank, vector) for vector in self._vectors(what)])
            with self._turn:
                self.pushes = max(self.pushes, int(request[PUSH]))
                self._queue.popleft()
                self._granted = False
                self._turn.notify_all()
        elif op == ADD:
            changes = [np.empty_like(vector) for vector in self._vectors(what)]
            self._world.swap([], [(rank, change) for change in changes])
            for vector, change in zip(self._vectors(what), changes, strict=True):
                vector += change
        elif op in (LOOK, STATE):
            self._reply(rank, 0, [vector.copy() for vector in self._vectors(CENTRE if op == LOOK else STATES)])
        elif op == CLOCK:
            self._reply(rank)
        elif op == EVENTS:
            events = np.empty((value, EVENT), np.int64)
            self._world.swap([], [(rank, events)])
            self.heard(rank, request[[UNIT, PUSH, PULLED]], events, what)
        elif op == COUNT:
            self._reply(rank, self.count())
        elif op == REACHED:
            self._reply(rank, int(self.reached(value)))
        elif op == NOTE:
            unit, push, pulled, correct = request[[UNIT, PUSH, PULLED, CORRECT]].tolist()
            self._noted(unit, lane, push, pulled, float(request[LOSS : LOSS + 1].view(np.float64)[0]), correct)
            self._reply(rank)
        return True

    def _grant(self) -> bool:
        """Tell another rank whose turn it is that it has the lock; once all have to stop, tell those who wait that."""
        with self._turn:
            if not self._queue:
                return False
            first, rank = self._queue[0]
            left = [each for each in self._queue if each[1] and not (self._granted and each == (first, rank))]
            if self.ended:
                for each in left:
                    self._queue.remove(each)
                told = [each[1] for each in left]
            elif rank and not self._granted:
                self._granted, told = True, [rank]
            else:
                return False
        for to in told:
            self._reply(to, 0, self._vectors(CENTRE))
        return bool(told)

    def _let_go(self) -> bool:
        """Let ranks go on that have waited for lanes which have come now."""
        with self._turn:
            stop = self.closed or self.ended
            ready = [rank for rank, value in self._waiting.items() if stop or self.reached(value)]
            for rank in ready:
                del self._waiting[rank]
        for rank in ready:
            self._reply(rank)
        return bool(ready)

    def _reply(self, rank: int, found: int = 0, vectors: list[np.ndarray] | None = None) -> None:
        reply = np.zeros(REPLY, np.int64)
        reply[[ENDED, CLOSED, PUSHES, FOUND, TIME]] = self.ended, self.closed, self.pushes, found, time.monotonic_ns()
        follow = [] if reply[ENDED] else [(rank, vector) for vector in vectors or []]
        self._world.swap([(rank, reply), *follow], [])
