"""Activations other than ReLU, and zero padding, on device arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from .array import DeviceArray
from .layers import program
from .problem import BLOCK, blocks

_KINDS = ("leaky_relu", "clip", "sigmoid", "tanh")


def _each(kernel: str, result: DeviceArray, *args: Any) -> None:
    """Run a kernel of activations.cu with one thread for each number of `result`."""
    if result.size:
        program("activations.cu", result.dtype).launch(kernel, blocks(result.size), (BLOCK,), *args)


def _how(y: DeviceArray, kind: str, first: float, second: float) -> tuple[Any, ...]:
    real = y.dtype.type
    return np.int64(y.size), np.int32(_KINDS.index(kind)), real(first), real(second)


def activate(x: DeviceArray, kind: str, first: float, second: float, y: DeviceArray) -> None:
    """The activation `kind` of each number."""
    _each("activate", y, x, y, *_how(y, kind, first, second))


def activate_grad(
    dy: DeviceArray, y: DeviceArray, kind: str, first: float, second: float, dx: DeviceArray
) -> None:  # fmt: skip
    """The activation's gradient, from its result `y`."""
    _each("activate_grad", dx, dy, y, dx, *_how(dx, kind, first, second))


def move(x: DeviceArray, y: DeviceArray, top: int, left: int) -> None:
    """The images `x` moved down and right into `y`, the rest zeros; a negative number moves up or left."""
    sizes = (*x.shape[1:3], *y.shape[1:4], top, left)
    _each("move", y, x, y, np.int64(y.size), *map(np.int32, sizes))
