"""Weighted sums over workers, added in the order of the workers, so that every run gives the same bits."""

from __future__ import annotations

import numpy as np


def in_order(vectors: np.ndarray, weights: np.ndarray, out: np.ndarray) -> None:
    """``out = Σ_w weights[w] vectors[w]``, added in the order of the rows.

    Parameters
    ----------
    vectors : (W, n) ndarray of float32 or float64
        The rows may lie anywhere; each is contiguous.
    weights : (W,) ndarray
        A row of weight 0 is skipped, whatever it holds.
    out : (n,) ndarray of the same dtype
        Written.
    """
    from . import _atomics  # imported here: one worker can train without the compiled modules

    _atomics.reduce_slots(vectors, np.ascontiguousarray(weights, np.float64), out)
