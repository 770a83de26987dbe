"""How long those that meet wait for the slowest."""

from __future__ import annotations

import math


def expected_lead(workers: int) -> float:
    """How many standard deviations the slowest of `workers` normally distributed times is above the mean, on average.

    Exact for 2; for more, Blom's approximation of the largest order statistic, 3 % too high for 3 and closer beyond.
    """
    if workers < 2:
        return 0.0
    if workers == 2:
        return 1 / math.sqrt(math.pi)
    from scipy.special import ndtri

    return float(ndtri((workers - 0.375) / (workers + 0.25)))
