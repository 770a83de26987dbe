"""Traffic: what a convolution kernel reads and writes in global and in shared memory, and helpers that count it.

The numbers are counted, not measured. The variants of a kernel differ by them. The time does not follow from them
alone, because caches answer a part of the reads from global memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def taps_inside(out: int, kernel: int, stride: int, dilation: int, pad: int, up: int, size: int) -> int:
    """Along one axis: how many pairs of an output and a kernel position meet a pixel."""
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
