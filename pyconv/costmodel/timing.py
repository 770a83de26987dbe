"""Measures how long a function takes, for the calibration."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np


def seconds_of(work: Callable[[], object], *, budget: float = 0.05, turns: int = 5) -> list[float]:
    """Several measurements of the seconds of one call of `work`.

    Parameters
    ----------
    work : callable
        Called once to warm up, unless that alone takes longer than `budget`.
    budget : float
        Seconds to spend, roughly; at least one call is timed.
    turns : int
        Samples; each is the mean over as many calls as fit into its part of the budget.
    """
    start = time.perf_counter()
    work()
    once = max(time.perf_counter() - start, 1e-7)
    if once > budget:
        return [once]
    calls = max(1, int(budget / turns / once))
    samples = []
    for _ in range(turns):
        start = time.perf_counter()
        for _ in range(calls):
            work()
        samples.append((time.perf_counter() - start) / calls)
    return samples


def median_seconds(work: Callable[[], object], *, budget: float = 0.05) -> float:
    """The median of :func:`seconds_of`."""
    return float(np.median(seconds_of(work, budget=budget)))
