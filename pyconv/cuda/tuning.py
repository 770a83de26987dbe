"""The autotuner of `block_tuned`: times the most promising tiles on the device, and keeps the fastest in a file."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ..shapes import ConvGeometry
from . import timing
from .array import DeviceArray, empty
from .block_tuned import Tile, candidates
from .choice import TABLE
from .problem import Problem
from .tile_file import remember

#: How many tiles are timed; those with the best estimate come first.
TRIES = 24


def milliseconds(run: Callable[[], None], *, repeats: int = 5) -> float:
    """The least of several times of `run`, by events, after one run that is not counted."""
    run()
    return 1e3 * min(timing.kernels(run, 2) for _ in range(repeats))


def tune(g: ConvGeometry, dtype: DTypeLike = np.float32, *, tries: int = TRIES) -> dict[str, list[tuple[Tile, float]]]:
    """Find the fastest tiles of `block_tuned` for a layer's forward pass and input gradient, and remember them.

    Parameters
    ----------
    g : ConvGeometry
        The layer, with its batch size: the best tile depends on it.
    dtype : float32 or float64
    tries : int
        Tiles to time, for each of the two.

    Returns
    -------
    dict
        For "forward" and "input_grad" the tiles tried with their milliseconds, the fastest first.

    Raises
    ------
    BackendUnavailable
        If there is no GPU.
    """
    variant: Any = TABLE["block_tuned"]
    results = {}
    for name, p in (("forward", Problem.forward(g)), ("input_grad", Problem.input_grad(g))):
        shapes = ((p.images, p.height, p.width, p.channels), (p.weights,), (p.filters,), (p.pixels, p.filters))
        x, weight, bias, y = (_numbers(shape, dtype) for shape in shapes)
        timed = []
        for tile in _spread(p, dtype, tries):
            run = functools.partial(variant.convolve_with, tile, p, x, weight, bias, y, False)
            timed.append((tile, milliseconds(run)))
        timed.sort(key=lambda item: item[1])
        if timed:
            remember(variant.name, p, dtype, timed[0][0])
        results[name] = timed
    variant.forget()
    return results


def _spread(p: Problem, dtype: Any, tries: int) -> list[Any]:
    """The tiles with the best estimates, at most three for each number of outputs a thread: there it is least sure."""
    chosen: list[Any] = []
    seen: dict[tuple[int, int], int] = {}
    for tile in candidates(p, dtype):
        kind = (tile.out_p, tile.out_k)
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 3:
            chosen.append(tile)
        if len(chosen) == tries:
            break
    return chosen


def _numbers(shape: tuple[int, ...], dtype: Any) -> DeviceArray:
    """Random numbers on the device: zeros would draw less power and run faster."""
    array = empty(shape, dtype)
    array.set(np.random.default_rng(0).standard_normal(shape, np.float32).astype(dtype))
    return array
