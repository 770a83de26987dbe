"""``python -m chaos.cluster.planted FAULT RANK FLAGS...``: training in which a rank fails by itself.

The rank fails in the first of its operations that compute gradients of weights after it has received the signal
STRIKE. Every split makes such operations, each another number of them.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from pyconv import train
from pyconv.backends import compiled
from pyconv.cluster import session
from pyconv.command import script

from .faults import STRIKE

OPERATIONS = ("conv2d_weight_grad", "conv2d_pool_weight_grad", "dense_weight_grad")


class Planted:
    """A fault, which strikes once.

    Parameters
    ----------
    fault : {"exception", "NaN"}
    """

    def __init__(self, fault: str) -> None:
        self._fault, self._due = fault, False
        signal.signal(STRIKE, self._strike)

    def _strike(self, *_: Any) -> None:
        self._due = True

    def within(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        """An operation that suffers it."""

        def operation(*arrays: Any, **how: Any) -> Any:
            found = usual(*arrays, **how)
            result = how.get("out") if found is None else found
            if self._due and isinstance(result, np.ndarray):
                self._due = False
                if self._fault == "exception":
                    raise ValueError("planted")
                result[...] = np.nan
            return found

        return operation


def plant(fault: str, rank: int) -> None:
    """Let one rank fail."""
    ranks = session("mpi")
    if ranks is None or ranks.rank != rank:
        return
    planted = Planted(fault)
    for kind in (compiled.Serial, compiled.Multicore):
        for name in OPERATIONS:
            if name in vars(kind):
                setattr(kind, name, staticmethod(planted.within(getattr(kind, name))))


if __name__ == "__main__":
    plant(sys.argv[1], int(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    script(train.main)
