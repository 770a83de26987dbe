"""Whether all numbers of an array are finite."""

from __future__ import annotations

import numpy as np


def finite(array: np.ndarray) -> bool:
    """Whether every number is finite; read once, in C.

    Parameters
    ----------
    array : ndarray of float32 or float64
    """
    # Not at the top: pyconv can be imported without the compiled modules.
    from ..parallel import _atomics

    return bool(_atomics.finite(np.ascontiguousarray(array).reshape(-1)))
