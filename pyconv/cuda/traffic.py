"""How many numbers a variant moves: what its threads ask of global and of shared memory, counted, not measured.

These are the figures that the variants differ by. Caches answer part of what is asked of global memory, so the time
does not follow from them alone; but a number that is asked for once cannot come late twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..shapes import ConvGeometry


@dataclass(frozen=True)
class Traffic:
    """Numbers that all threads of a forward pass together read and write.

    Attributes
    ----------
    global_reads, global_writes : int
        In global memory, before any cache.
    shared_reads, shared_writes : int
        In shared memory.
    multiply_adds : int
        The convolution's own: one for each output point, kernel position and channel of its group.
    """

    global_reads: int
    global_writes: int
    shared_reads: int
    shared_writes: int
    multiply_adds: int


def forward(algorithm: str, g: ConvGeometry, dtype: Any = np.float32) -> Traffic:
    """The traffic of a forward pass without a bias.

    Parameters
    ----------
    algorithm : str
        Of ``pyconv.algorithms("cuda")``.
    g : ConvGeometry
    dtype : float32 or float64
        Larger numbers leave room for smaller tiles.

    Raises
    ------
    InputError
        If the variant refuses the shape.
    BackendUnavailable
        If there is no GPU: the tiles depend on it.
    """
    from .choice import TABLE
    from .problem import Problem

    return TABLE[algorithm].traffic(Problem.forward(g), np.dtype(dtype))


def taps_inside(out: int, kernel: int, stride: int, dilation: int, pad: int, up: int, size: int) -> int:
    """Along one axis: how many of all outputs' kernel positions meet a pixel."""
    at = np.arange(out)[:, None] * stride + np.arange(kernel) * dilation - pad
    return int(_meets(at, up, size).sum())


def tiles_inside(
    out: int, tile: int, kernel: int, stride: int, dilation: int, pad: int, up: int, size: int
) -> tuple[int, int]:
    """Along one axis: how many pixels the tiles of all outputs hold together, and how many tiles there are."""
    span = (tile - 1) * stride + (kernel - 1) * dilation + 1
    first = np.arange(0, out, tile)
    return int(_meets(first[:, None] * stride + np.arange(span) - pad, up, size).sum()), len(first)


def _meets(at: np.ndarray, up: int, size: int) -> np.ndarray:
    return (at >= 0) & (at % up == 0) & (at // up < size)
