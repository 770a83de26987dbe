"""Keeps the fastest tiles that the autotuner found in a file, for other runs and other processes."""

from __future__ import annotations

import contextlib
import functools
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import RunError
from ..files import write_atomically
from . import device as door
from .driver import cache_folder
from .problem import Problem

_VERSION = 1


def path() -> Path:
    """The file with the tuned tiles."""
    return cache_folder() / "tuned.json"


def _key(algorithm: str, p: Problem, dtype: Any) -> str:
    device = door.current()
    return f"{algorithm} {np.dtype(dtype).name} {p.key()} {device.name} {device.multiprocessors}"


@functools.cache
def _read(file: Path) -> dict[str, dict[str, int]]:
    """The file's content; empty if it is missing, damaged or of another version, since it can be made again."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["version"] == _VERSION:
            return dict(content["tiles"])
    return {}


def found(algorithm: str, p: Problem, dtype: Any) -> dict[str, int] | None:
    """The file's tile for `p` on this device, not checked; None if there is none."""
    return _read(path()).get(_key(algorithm, p, dtype))


def remember(algorithm: str, p: Problem, dtype: Any, tile: Any) -> None:
    """Write a tile to the file, whole or not at all. Several processes that tune at once may lose some tiles."""
    file = path()
    _read.cache_clear()
    tiles = {**_read(file), _key(algorithm, p, dtype): asdict(tile)}
    try:
        write_atomically(file, json.dumps({"version": _VERSION, "tiles": tiles}, indent=1).encode())
    except OSError as error:
        raise RunError(f"{file}: the tuned tiles cannot be written: {error.strerror}") from None
    _read.cache_clear()
