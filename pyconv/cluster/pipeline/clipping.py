"""The norm of a gradient that is spread over the stages of a pipeline, with the bits of :mod:`pyconv.optim.clipping`.

There a whole vector is squared and added block by block, and the blocks' sums exactly. A stage does so for the blocks
that are wholly its own, and rank 0 for those that lie on two stages or more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...arithmetic import total
from ...optim.clipping import BLOCK, factor, sum_of_squares
from ..world import World


def shrink(gradient: np.ndarray, most: float, spans: Sequence[slice], world: World, chunk: int | None = None) -> float:
    """The factor that brings the whole gradient's norm to at most `most`; all ranks call it, and get the same.

    Parameters
    ----------
    gradient : (n,) ndarray
        This stage's stretch.
    most : float
    spans : sequence of slice
        Where each stage's stretch lies in the whole vector. Rank s of the first ranks has stage s.
    world : World
    chunk : int, optional
        Add the squares of so many numbers, a multiple of a block, and then these sums, as workers under sync do.

    Returns
    -------
    float
    """
    answer = np.empty(1)
    if world.rank == 0:
        pieces = [_room(span, gradient.dtype) for span in spans]
        pieces[0] = _pieces(gradient, spans[0])
        world.swap([], [(stage, each) for stage, piece in enumerate(pieces) if stage for each in piece])
        answer[0] = factor(math.sqrt(_whole(pieces, chunk)), most)
        world.swap([(rank, answer) for rank in range(1, world.size)], [])
    else:
        sends = _pieces(gradient, spans[world.rank]) if world.rank < len(spans) else ()
        world.swap([(0, each) for each in sends], [])
        world.swap([], [(0, answer)])
    return float(answer[0])


def _inner(span: slice) -> tuple[int, int]:
    """The whole blocks of a stretch: numbers before them, and before what follows them; both its end if it has none."""
    first, last = -(-span.start // BLOCK) * BLOCK, span.stop // BLOCK * BLOCK
    return (first, last) if first < last else (span.stop, span.stop)


def _pieces(gradient: np.ndarray, span: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What a stage tells: its numbers before its whole blocks, the sums of these, and its numbers after them."""
    first, last = (each - span.start for each in _inner(span))
    sums = np.array([sum_of_squares(gradient[at : at + BLOCK]) for at in range(first, last, BLOCK)], np.float64)
    return np.ascontiguousarray(gradient[:first]), sums, np.ascontiguousarray(gradient[last:])


def _room(span: slice, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    first, last = _inner(span)
    return (
        np.empty(first - span.start, dtype),
        np.empty((last - first) // BLOCK),
        np.empty(span.stop - last, dtype),
    )


def _whole(pieces: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], chunk: int | None) -> float:
    """The sum of all squares."""
    sums: list[float] = []
    begun: list[np.ndarray] = []  # what there is so far of a block that is not complete

    def add(numbers: np.ndarray) -> None:
        while len(numbers):
            room = BLOCK - sum(map(len, begun))
            begun.append(numbers[:room])
            numbers = numbers[room:]
            if sum(map(len, begun)) == BLOCK:
                sums.append(sum_of_squares(np.concatenate(begun)))
                begun.clear()

    for before, whole, after in pieces:
        add(before)
        sums += whole.tolist()
        add(after)
    if begun:
        sums.append(sum_of_squares(np.concatenate(begun)))
    if chunk is None:
        return total(sums)
    blocks = chunk // BLOCK
    return total(total(sums[at : at + blocks]) for at in range(0, len(sums), blocks))
