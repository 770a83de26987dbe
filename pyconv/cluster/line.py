"""The line: how a rank other than 0 asks rank 0's desk (:mod:`.desk`) for what all lanes share."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from . import desk as d
from .world import World


class Line:
    """Requests to the desk; those that have an answer wait for it.

    Parameters
    ----------
    world : World
    signalled : callable
        ``signalled()``: number of a signal that this rank has received, or 0.
    waited : callable
        ``waited(began)``: this rank has waited for the desk since then (monotonic ns); returns how long in all.

    Attributes
    ----------
    pushes : int
        As of the last answer.
    closed : bool
        As of the last answer: whether to begin no further mini-batch.
    """

    def __init__(self, world: World, signalled: Callable[[], int], waited: Callable[[int], int]) -> None:
        self._world, self._signalled, self._waited = world, signalled, waited
        self._waited_ns = 0
        self.pushes = 0
        self.closed = self.ended = False

    def open(self) -> None:
        """Begin an epoch."""
        self.closed = self.ended = False

    # ---- as the desk has them ---------------------------------------------------------------------

    def take(self, lane: int, centre: np.ndarray) -> None:
        """Wait for the centre's lock, and bring the centre.

        Raises
        ------
        Ended
        """
        self._ask(self._request(d.LOCK, lane=lane), [centre])

    def give(self, lane: int, push: int, what: int, vectors: list[np.ndarray]) -> None:
        """Release the lock, and send what has changed under it."""
        self._tell(self._request(d.UNLOCK, lane=lane, what=what, push=push), vectors)

    def look(self, centre: np.ndarray) -> None:
        """Bring the centre as it is."""
        self._ask(self._request(d.LOOK), [centre])

    def bring_state(self, state: list[np.ndarray]) -> None:
        """Bring the shared state of the optimizer as it is."""
        self._ask(self._request(d.STATE), state)

    def count(self) -> int:
        """Number a push that is made without the lock."""
        return int(self._ask(self._request(d.COUNT))[d.FOUND])

    def add(self, what: int, changes: list[np.ndarray]) -> None:
        """Have changes added that were made without the lock."""
        self._tell(self._request(d.ADD, what=what), changes)

    def note(self, unit: int, lane: int, push: int, pulled: int, loss: float, correct: int) -> None:
        """Note a mini-batch that is done."""
        request = self._request(d.NOTE, lane=lane, unit=unit, push=push, pulled=pulled, correct=correct)
        request[d.LOSS : d.LOSS + 1].view(np.float64)[:] = loss
        self._ask(request)

    def arrive(self, lane: int, value: int) -> None:
        """Note how far a lane has come."""
        self._tell(self._request(d.ARRIVE, lane=lane, value=value))

    def reached(self, value: int) -> bool:
        """Whether all lanes have come so far."""
        return bool(self._ask(self._request(d.REACHED, value=value))[d.FOUND])

    def wait(self, value: int, seconds: float) -> None:
        """Wait until all lanes have come so far, or the gate is closed."""
        self._ask(self._request(d.WAIT, value=value))

    def clock(self) -> int:
        """Rank 0's clock, monotonic ns."""
        return int(self._ask(self._request(d.CLOCK))[d.TIME])

    def events(self, clock: np.ndarray, events: np.ndarray, lost: int) -> None:
        """Bring what this rank has noted for a timeline, with what it knows of its clock."""
        at, offset, uncertainty = clock.tolist()
        request = self._request(d.EVENTS, value=len(events), what=lost, unit=at, push=offset, pulled=uncertainty)
        self._tell(request, [events])

    def rest(self, failed: bool = False) -> None:
        """Say that this rank has nothing left to do in the epoch, or that it cannot go on."""
        self._tell(self._request(d.REST, what=int(failed)))

    # ---- messages ---------------------------------------------------------------------------------

    def _request(
        self, op: int, lane: int = 0, value: int = 0, what: int = 0, unit: int = 0, push: int = 0, pulled: int = 0,
        correct: int = 0,
    ) -> np.ndarray:  # fmt: skip
        request = np.zeros(d.REQUEST, np.int64)
        request[[d.OP, d.LANE, d.VALUE, d.WHAT, d.UNIT]] = op, lane, value, what, unit
        request[[d.PUSH, d.PULLED, d.CORRECT, d.SIGNAL]] = push, pulled, correct, self._signalled()
        request[d.WAITED] = self._waited_ns
        return request

    def _tell(self, request: np.ndarray, vectors: list[np.ndarray] | None = None) -> None:
        began = time.monotonic_ns()
        self._world.knock(request)
        self._world.swap([(0, vector) for vector in vectors or []], [])
        self._waited_ns = self._waited(began)

    def _ask(self, request: np.ndarray, vectors: list[np.ndarray] | None = None) -> np.ndarray:
        began = time.monotonic_ns()
        self._world.knock(request)
        reply = np.zeros(d.REPLY, np.int64)
        self._world.swap([], [(0, reply)])
        if reply[d.ENDED]:
            self.ended = True
            raise d.Ended
        self._world.swap([], [(0, vector) for vector in vectors or []])
        self.closed, self.pushes = bool(reply[d.CLOSED]), int(reply[d.PUSHES])
        self._waited_ns = self._waited(began)
        return reply
