"""The autotuner of `block_tuned`: times the likely tiles on the device, and remembers the fastest in a file."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from ..errors import RunError
from ..files import write_atomically
from ..shapes import ConvGeometry
from . import device as door
from . import timing
from .array import DeviceArray, empty
from .problem import Problem

if TYPE_CHECKING:
    from .block_tuned import Tile

#: Tiles that are timed, the likeliest first in the estimate.
TRIES = 24

_VERSION = 1


def path() -> Path:
    """The file with the tuned tiles."""
    from .driver import cache_folder

    return cache_folder() / "tuned.json"


def _key(algorithm: str, p: Problem, dtype: Any) -> str:
    device = door.current()
    return f"{algorithm} {np.dtype(dtype).name} {p.key()} {device.name} {device.multiprocessors}"


@functools.cache
def _read(file: Path) -> dict[str, dict[str, int]]:
    """What the file holds; nothing if it is missing, damaged or of another version: it can be made anew."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] == _VERSION:
            return dict(content["tiles"])
    return {}


def tuned(algorithm: str, p: Problem, dtype: Any) -> Any:
    """The tile that tuning found for `p` on this device, or None."""
    from .block_tuned import Tile, candidates

    found = _read(path()).get(_key(algorithm, p, dtype))
    try:
        tile = None if found is None else Tile(**found)
    except TypeError:
        return None
    # Any other tile would read past its arrays, or leave numbers out: the kernel does not check.
    return None if tile is None else next((known for known in candidates(p, dtype) if known == tile), None)


def remember(algorithm: str, p: Problem, dtype: Any, tile: Any) -> None:
    """Write a tile to the file, whole or not at all; tuning in several processes at once may lose some, no more."""
    file = path()
    _read.cache_clear()
    tiles = {**_read(file), _key(algorithm, p, dtype): asdict(tile)}
    try:
        write_atomically(file, json.dumps({"version": _VERSION, "tiles": tiles}, indent=1).encode())
    except OSError as error:
        raise RunError(f"{file}: the tuned tiles cannot be written: {error.strerror}") from None
    _read.cache_clear()


def milliseconds(run: Callable[[], None], *, repeats: int = 5) -> float:
    """The least of several times of `run`, by events, after one run that does not count."""
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
    from .choice import TABLE

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
    """The likeliest tiles, no more than three for each number of outputs a thread: the estimate is least sure there."""
    from .block_tuned import candidates

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
