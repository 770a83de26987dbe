"""Verifies results before they are timed: the speed of a wrong result means nothing."""

from __future__ import annotations

import numpy as np

#: Largest error accepted, relative to the largest magnitude of the expected result. float32 sums of up to some
#: hundred thousand products, in other orders and through Winograd's transforms, stay well below it.
TOLERANCE = 2e-4


def relative_error(actual: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> float:
    """Largest difference over the largest magnitude of `expected`.

    Raises
    ------
    AssertionError
        If it exceeds `tolerance`, is NaN, or the shapes differ.
    """
    assert actual.shape == expected.shape, f"shape {actual.shape} instead of {expected.shape}"
    error = float(np.max(np.abs(actual - expected)) / np.max(np.abs(expected)))
    assert error <= tolerance, f"relative error {error:.2g}: the result is wrong and is not timed"
    return error
