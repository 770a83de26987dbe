"""Halo: the rows that a rank lacks for its part of a result, brought from the ranks that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .rows import within
from .world import Message, World

TAG = 3  # of its messages; overlap.py has 1 and 2
MOST = 1 << 30  # bytes of one message: Open MPI refuses 2 GiB


def pieces(array: np.ndarray) -> list[np.ndarray]:
    """A contiguous array's bytes, as vectors that are messages of a size that every MPI takes."""
    flat = array.reshape(-1).view(np.uint8)
    return [flat[start : start + MOST] for start in range(0, flat.size, MOST)]


@dataclass(frozen=True)
class Halo:
    """Which rows each rank has, and which it needs.

    Attributes
    ----------
    have, need : sequence of range
        By rank; what a rank needs may begin and end anywhere.
    """

    have: Sequence[range]
    need: Sequence[range]

    def _lacks(self, rank: int) -> tuple[range, range]:
        """What a rank needs above the rows that it has, and below them."""
        have, need = self.have[rank], self.need[rank]
        above = range(need.start, max(min(need.stop, have.start), need.start))
        below = range(min(max(need.start, have.stop), need.stop), need.stop)
        return above, range(max(below.start, above.stop), max(below.stop, above.stop))

    def messages(self, rank: int) -> list[tuple[int, range]]:
        """From which rank each of the rows that a rank lacks come: other ranks, and rows of theirs, in order."""
        return [
            (other, part)
            for lacking in self._lacks(rank)
            for other in range(len(self.have))
            if other != rank and (part := within(lacking, self.have[other]))
        ]

    def begin(self, world: World, rows: np.ndarray) -> Coming:
        """Begin to exchange rows; all ranks call it alike.

        Parameters
        ----------
        world : World
        rows : (N, h, W, C) ndarray
            Those that this rank has; they must not change until the exchange is over.

        Returns
        -------
        Coming
            Those that it has, and those that it has lacked.
        """
        me, first = world.rank, self.have[world.rank].start
        came: list[tuple[range, np.ndarray]] = []
        requests: list[Any] = []
        for rank, part in self.messages(me):
            array = np.empty((rows.shape[0], len(part), *rows.shape[2:]), rows.dtype)
            came.append((part, array))
            requests += [world.receive(rank, piece, TAG) for piece in pieces(array)]
        for rank in range(world.size):
            for part in (part for other, part in self.messages(rank) if other == me):
                sent = np.ascontiguousarray(rows[:, part.start - first : part.stop - first])
                requests += [world.send(rank, piece, TAG) for piece in pieces(sent)]
        return Coming(world, Rows([(self.have[me], rows)]), Rows([(self.have[me], rows), *came]), requests)

    def give_back(self, world: World, gradient: np.ndarray, out: np.ndarray) -> None:
        """The gradient of what each rank has, from those of what each rank needs; all ranks call it alike.

        Parameters
        ----------
        world : World
        gradient : (N, h, W, C) ndarray
            Of the rows that this rank needs.
        out : (N, h, W, C) ndarray
            Of the rows that it has: the sum of all ranks' gradients for them, in the order of the ranks.
        """
        me, need, have = world.rank, self.need[world.rank], self.have[world.rank]
        sends: list[Message] = []
        receives: list[Message] = []
        terms = (
            {me: (own, gradient[:, own.start - need.start : own.stop - need.start])}
            if (own := within(need, have))
            else {}
        )
        for rank, part in self.messages(me):
            sent = np.ascontiguousarray(gradient[:, part.start - need.start : part.stop - need.start])
            sends += [(rank, piece) for piece in pieces(sent)]
        for rank in range(world.size):
            for part in (part for other, part in self.messages(rank) if other == me):
                array = np.empty((gradient.shape[0], len(part), *gradient.shape[2:]), gradient.dtype)
                terms[rank] = (part, array)
                receives += [(rank, piece) for piece in pieces(array)]
        world.swap(sends, receives)
        out[...] = 0
        for rank in sorted(terms):
            part, term = terms[rank]
            out[:, part.start - have.start : part.stop - have.start] += term


class Rows:
    """Some rows of a batch of images, in several arrays.

    Parameters
    ----------
    parts : list of (range, (N, h, W, C) ndarray)
        Which rows, and their pixels.
    """

    def __init__(self, parts: list[tuple[range, np.ndarray]]) -> None:
        self._parts = parts

    def take(self, rows: range) -> np.ndarray:
        """These rows, ``(N, h, W, C)``, contiguous; without a copy if one array is just that."""
        for which, array in self._parts:
            if within(rows, which) == rows:
                return np.ascontiguousarray(array[:, rows.start - which.start : rows.stop - which.start])
        like = self._parts[0][1]
        made = np.empty((like.shape[0], len(rows), *like.shape[2:]), like.dtype)
        self.into(rows, made)
        return made

    def into(self, rows: range, out: np.ndarray) -> None:
        """Copy these rows to `out`, ``(N, h, W, C)``."""
        for which, array in self._parts:
            if part := within(rows, which):
                out[:, part.start - rows.start : part.stop - rows.start] = array[
                    :, part.start - which.start : part.stop - which.start
                ]

    def has(self, rows: range) -> bool:
        """Whether one array has all of these."""
        return any(within(rows, which) == rows for which, _ in self._parts)


class Coming:
    """A rank's own rows, and those that are on their way to it.

    Parameters
    ----------
    world : World
    own, whole : Rows
        Without and with the rows that come.
    requests : list
        Of all messages, this rank's own too.
    """

    def __init__(self, world: World, own: Rows, whole: Rows, requests: list[Any]) -> None:
        self._world, self._own, self._whole, self._requests = world, own, whole, requests

    def take(self, rows: range) -> np.ndarray:
        """These rows, ``(N, h, W, C)``, contiguous; if some are not its own, when all messages have come."""
        if self._own.has(rows):
            return self._own.take(rows)
        self.wait()
        return self._whole.take(rows)

    def into(self, rows: range, out: np.ndarray) -> None:
        """Copy these rows to `out`, ``(N, h, W, C)``, when all messages have come."""
        self.wait()
        self._whole.into(rows, out)

    def wait(self) -> None:
        """Wait until all messages are over."""
        if self._requests:
            self._world.until(self._over)

    def _over(self) -> bool:
        done = set(self._world.over(self._requests))
        self._requests = [each for index, each in enumerate(self._requests) if index not in done]
        return not self._requests
