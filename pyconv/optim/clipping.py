"""Clipping: shortens a gradient whose norm is too large, without changing its direction.

Pascanu, Mikolov and Bengio, "On the difficulty of training recurrent neural networks" (2013), algorithm 1.
"""

from __future__ import annotations

import math

import numpy as np

from pyconv.arithmetic import own, total

BLOCK = 16384


@own
def sum_of_squares(vector: np.ndarray) -> float:
    """``Σ v²``, accumulated in float64, in an order that depends on the length only."""
    parts = (vector[start : start + BLOCK].astype(np.float64) for start in range(0, vector.size, BLOCK))
    return total(float(np.square(part, out=part).sum()) for part in parts)


def factor(norm: float, most: float) -> float:
    """The factor that makes this norm of a gradient at most `most`; 1 if the norm is not finite."""
    return most / norm if math.isfinite(norm) and norm > most else 1.0


def clip(gradient: np.ndarray, most: float) -> None:
    """Shorten the gradient, a flat vector, in place if its norm is larger than `most`."""
    times = factor(math.sqrt(sum_of_squares(gradient)), most)
    if times != 1.0:
        gradient *= gradient.dtype.type(times)
