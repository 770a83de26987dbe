"""Flow: vectors that travel in pieces between ranks, while these compute.

Both ends know the pieces and their order. A rank posts some at a time, and more whenever it looks (:meth:`Flow.look`),
because MPI moves nothing by itself and asks for the more time in a call, the more requests there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .world import World

FIRST_BYTES, MOST_BYTES = 16 << 10, 1 << 20  # of a piece: the first of a stretch is the smallest
WINDOW = 16  # pieces that are on their way to one rank, or from it, at a time

Pieces = Mapping[int, Sequence[np.ndarray]]
"""By the other rank, the pieces in their order."""


def cut(start: int, stop: int, itemsize: int) -> list[tuple[int, int]]:
    """Cut a stretch of a vector into pieces: small ones at its beginning, each later one twice as large, up to a limit.

    The first layers' gradients are the last to be computed, and their parameters the first to be read: small pieces of
    them arrive soon. Large pieces cost less.

    Parameters
    ----------
    start, stop : int
        The stretch.
    itemsize : int
        Bytes of a number.

    Returns
    -------
    list of (int, int)
        Start and stop of each piece, from the first to the last.
    """
    pieces, size = [], FIRST_BYTES // itemsize
    while start < stop:
        pieces.append((start, min(start + size, stop)))
        start, size = pieces[-1][1], min(2 * size, MOST_BYTES // itemsize)
    return pieces


class _Way:
    """The pieces to one rank, or from it.

    Attributes
    ----------
    allowed, posted, over : int
        How many pieces, from the first on, may be sent, are on their way or were, and have arrived.
    """

    def __init__(self, rank: int, pieces: Sequence[np.ndarray], sends: bool) -> None:
        self.rank, self.pieces, self.sends = rank, pieces, sends
        self.restart()

    def restart(self) -> None:
        self.allowed = 0 if self.sends else len(self.pieces)
        self.posted = self.over = 0
        self._done = bytearray(len(self.pieces) + 1)

    def note(self, number: int) -> None:
        """A piece has arrived, or has left."""
        self._done[number] = 1
        while self._done[self.over]:
            self.over += 1

    @property
    def complete(self) -> bool:
        return self.over == len(self.pieces)


class Flow:
    """Pieces between this rank and the others.

    Parameters
    ----------
    world : World
    tag : int
        Keeps its messages apart from others.
    sends, receives : mapping of int to sequence of ndarray
        The pieces to and from each rank; contiguous arrays, the same ones at each turn.

    Attributes
    ----------
    going : bool
        Whether it has begun, and pieces may be on their way.
    """

    def __init__(self, world: World, tag: int, sends: Pieces, receives: Pieces) -> None:
        self._world, self._tag = world, tag
        self._out = {rank: _Way(rank, pieces, True) for rank, pieces in sends.items() if len(pieces)}
        self._in = {rank: _Way(rank, pieces, False) for rank, pieces in receives.items() if len(pieces)}
        self._ways = [*self._in.values(), *self._out.values()]
        self._requests: list[Any] = []
        self._of: list[tuple[_Way, int]] = []  # which piece each request is for
        self.going = False
        self._done = True  # all pieces have arrived or left

    def begin(self) -> None:
        """Begin a turn; pieces are sent as they are allowed to."""
        assert not self._requests
        for way in self._ways:
            way.restart()
        self.going, self._done = True, not self._ways
        self.look()

    def allow(self, rank: int, pieces: int) -> None:
        """So many pieces to the rank, from the first on, hold what is to be sent, and do not change any more."""
        if rank in self._out:
            self._out[rank].allowed = pieces

    def allowed(self, rank: int) -> int:
        """What :meth:`allow` was told last; 0 before."""
        return self._out[rank].allowed if rank in self._out else 0

    def allow_all(self) -> None:
        """All pieces hold what is to be sent."""
        for way in self._ways:
            way.allowed = len(way.pieces)

    def came(self, rank: int) -> int:
        """How many pieces from the rank, from the first on, have arrived."""
        return self._in[rank].over if rank in self._in else 0

    def look(self) -> bool:
        """Send and receive what can be without waiting; returns whether all is done."""
        if self._done:
            return True
        over = self._world.over(self._requests) if self._requests else []
        if over:
            for index in over:
                way, number = self._of[index]
                way.note(number)
            gone = set(over)
            self._requests = [each for index, each in enumerate(self._requests) if index not in gone]
            self._of = [each for index, each in enumerate(self._of) if index not in gone]
        for way in self._ways:
            if way.posted < way.allowed:
                self._post(way)
        self._done = not self._requests and all(way.complete for way in self._ways)
        return self._done

    def _post(self, way: _Way) -> None:
        """Begin with further pieces."""
        begin = self._world.send if way.sends else self._world.receive
        while way.posted < min(way.allowed, way.over + WINDOW):
            self._requests.append(begin(way.rank, way.pieces[way.posted], self._tag))
            self._of.append((way, way.posted))
            way.posted += 1

    def finish(self) -> None:
        """Wait until all pieces have arrived here, and this rank's have left."""
        self.allow_all()
        self._world.until(self.look)
        self.going = False

    def settle(self) -> None:
        """End a turn that will not be completed; all ranks call it.

        Pieces that were sent are received, since MPI cannot end while a message is under way. Nothing else is.
        """
        others = [rank for rank in range(self._world.size) if rank != self._world.rank]
        mine, theirs = np.zeros((2, self._world.size, 1), np.int64)
        for rank, way in self._out.items():
            mine[rank] = way.posted
        self._world.swap([(rank, mine[rank]) for rank in others], [(rank, theirs[rank]) for rank in others])
        for way in self._ways:
            way.allowed = way.posted if way.sends else int(theirs[way.rank, 0])
        for index, (way, number) in enumerate(self._of):
            if not way.sends and number >= way.allowed:
                self._world.cancel(self._requests[index])
        self._world.until(self._settled)
        self.going = False

    def _settled(self) -> bool:
        self.look()
        return not self._requests and all(way.over >= way.allowed for way in self._ways)
