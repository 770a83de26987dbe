"""Sums over ranks, in the order of the ranks: the same bits on all ranks, with every MPI and in every run."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from .halo import pieces
from .world import Message, World

SMALL = 1 << 14  # bytes: up to so many, each rank adds for itself, and one message each way is enough


def in_rank_order(world: World, array: np.ndarray) -> np.ndarray:
    """The sum of each rank's array; all ranks call it alike.

    Parameters
    ----------
    world : World
    array : ndarray
        Contiguous; of the same shape and dtype on all ranks.

    Returns
    -------
    ndarray
        A new one.
    """
    flat = array.reshape(-1)
    if array.nbytes <= SMALL:
        return _added(world, flat, [slice(0, flat.size)] * world.size).reshape(array.shape)
    bounds = [flat.size * rank // world.size for rank in range(world.size + 1)]
    parts = [slice(start, stop) for start, stop in pairwise(bounds)]
    total = np.empty_like(flat)
    mine = total[parts[world.rank]]
    mine[...] = _added(world, flat, parts)
    others = [rank for rank in range(world.size) if rank != world.rank]
    world.swap(
        [(rank, piece) for rank in others for piece in pieces(mine)],
        [(rank, piece) for rank in others for piece in pieces(total[parts[rank]])],
    )
    return total.reshape(array.shape)


def _added(world: World, flat: np.ndarray, parts: list[slice]) -> np.ndarray:
    """The sum of this rank's part; every other rank gets its part of `flat`."""
    own = flat[parts[world.rank]]
    terms = [own if rank == world.rank else np.empty_like(own) for rank in range(world.size)]
    sends: list[Message] = []
    receives: list[Message] = []
    for rank in range(world.size):
        if rank != world.rank:
            sends += [(rank, piece) for piece in pieces(flat[parts[rank]])]
            receives += [(rank, piece) for piece in pieces(terms[rank])]
    world.swap(sends, receives)
    total = terms[0].copy()
    for term in terms[1:]:
        total += term
    return total
