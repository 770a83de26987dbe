"""Halo: the rows that a rank lacks for its part of a result, brought from the ranks that have them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .rows import within
from .world import Message, World

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

    def bring(self, world: World, rows: np.ndarray) -> Rows:
        """Exchange rows; all ranks call it alike.

        Parameters
        ----------
        world : World
        rows : (N, h, W, C) ndarray
            Those that this rank has.

        Returns
        -------
        Rows
            Those that it has and those that it has lacked.
        """
        me, first = world.rank, self.have[world.rank].start
        sends: list[Message] = []
        for rank in range(world.size):
            for part in (part for other, part in self.messages(rank) if other == me):
                sent = np.ascontiguousarray(rows[:, part.start - first : part.stop - first])
                sends += [(rank, piece) for piece in pieces(sent)]
        came: list[tuple[range, np.ndarray]] = []
        receives: list[Message] = []
        for rank, part in self.messages(me):
            array = np.empty((rows.shape[0], len(part), *rows.shape[2:]), rows.dtype)
            came.append((part, array))
            receives += [(rank, piece) for piece in pieces(array)]
        world.swap(sends, receives)
        return Rows([(self.have[me], rows), *came])


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
        for which, array in self._parts:
            if part := within(rows, which):
                made[:, part.start - rows.start : part.stop - rows.start] = array[
                    :, part.start - which.start : part.stop - which.start
                ]
        return made
