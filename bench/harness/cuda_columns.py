"""The GPU's columns: kernels alone, and with the copies to the device and back, which the paper reports apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import pyconv

VARIANTS = ("naive", "shared_input", "shared_input_filter", "block_tuned")


def unavailable() -> str | None:
    """Why there is no GPU here, or None."""
    return pyconv.backends()["cuda"]


def alone(run: Callable[..., Any], *arrays: np.ndarray) -> Callable[[], Any]:
    """`run` on arrays that are on the device already, until the device has finished."""
    from pyconv import cuda
    from pyconv.cuda.array import to_device

    there = [to_device(array) for array in arrays]

    def timed() -> Any:
        result = run(*there)
        cuda.current().synchronise()
        return result

    return timed


def with_copies(run: Callable[..., Any], *arrays: np.ndarray) -> Callable[[], np.ndarray]:
    """`run` on arrays in main memory, until the result is there too."""
    return lambda: np.asarray(run(*arrays))
