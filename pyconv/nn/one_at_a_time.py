"""The decorator ``one_at_a_time``: only one of Python's threads at a time computes with a network."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Any)


def one_at_a_time(method: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
    """Let `method` hold the network's lock, ``self._lock``, while it computes in the network's work arrays.

    Parameters
    ----------
    method : callable
        A network's method.

    Returns
    -------
    callable
        The same method, which several threads may call.
    """

    @functools.wraps(method)
    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return run
