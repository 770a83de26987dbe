"""The GPU's columns: kernels alone, and with the copies to the device and back; the paper reports both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pyconv

#: The paper's four variants, and the fast one of pyconv.
VARIANTS = ("naive", "shared_input", "shared_input_filter", "block_tuned", "implicit_gemm")


def unavailable() -> str | None:
    """Why there is no GPU here, or None."""
    return pyconv.backends()["cuda"]


class Clocked:
    """A candidate that is timed by the GPU's events.

    Parameters
    ----------
    run : callable
        The work of a call.
    clock : callable
        ``clock(run, calls)``: mean seconds of a call, as :mod:`pyconv.cuda.timing` gives them.
    """

    #: No more calls are queued at once: a driver's queue is finite.
    most_calls = 64

    def __init__(self, run: Callable[[], Any], clock: Callable[[Callable[[], Any], int], float]) -> None:
        self._run, self._clock = run, clock

    def __call__(self) -> Any:
        return self._run()

    def seconds(self, calls: int) -> float:
        """Mean seconds of a call."""
        return self._clock(self._run, calls)


def alone(run: Callable[..., Any], *arrays: np.ndarray) -> Clocked:
    """`run` on arrays that are on the device already: its time is the kernels'."""
    from pyconv.cuda import timing
    from pyconv.cuda.array import to_device

    there = [to_device(array) for array in arrays]
    return Clocked(lambda: run(*there), timing.kernels)


def with_copies(run: Callable[..., Any], *arrays: np.ndarray) -> Clocked:
    """`run` on arrays in main memory; its time ends when the result is there too."""
    from pyconv.cuda import timing

    return Clocked(lambda: np.asarray(run(*arrays)), timing.whole)
