"""``python -m chaos.cluster.planted FAULT RANK CALLS FLAGS...``: training in which a rank fails by itself.

The rank fails in one of its calls of the operations that compute gradients of weights, which every split makes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pyconv import train
from pyconv.backends import compiled
from pyconv.cluster import session
from pyconv.command import script

OPERATIONS = ("conv2d_weight_grad", "conv2d_pool_weight_grad", "dense_weight_grad")


def spoilt(usual: Callable[..., Any], fault: str, calls: int, count: list[int]) -> Callable[..., Any]:
    """An operation that fails in that call, counted over all operations."""

    def operation(*arrays: Any, **how: Any) -> Any:
        found = usual(*arrays, **how)
        count[0] += 1
        result = how.get("out") if found is None else found
        if count[0] >= calls and not count[1] and isinstance(result, np.ndarray):
            count[1] = 1
            if fault == "exception":
                raise ValueError("planted")
            result[...] = np.nan
        return found

    return operation


def plant(fault: str, rank: int, calls: int) -> None:
    """Let one rank fail."""
    ranks = session("mpi")
    if ranks is None or ranks.rank != rank:
        return
    count = [0, 0]
    for kind in (compiled.Serial, compiled.Multicore):
        for name in OPERATIONS:
            if name in vars(kind):
                setattr(kind, name, staticmethod(spoilt(getattr(kind, name), fault, calls, count)))


if __name__ == "__main__":
    plant(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    sys.argv[1:] = sys.argv[4:]
    script(train.main)
