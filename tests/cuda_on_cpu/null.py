"""A device that does nothing: it shows what the host code asks of a device, and how long the host code itself takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyconv.cuda import source


class NullDevice:
    """Records what is compiled and launched; changes no memory.

    Parameters
    ----------
    multiprocessors : int
        Multiprocessors that it reports; tiles depend on them.
    """

    name = "a device that does nothing"
    number = 0
    capability = (9, 0)
    shared_bytes = 48 * 1024

    def __init__(self, multiprocessors: int = 132) -> None:
        self.multiprocessors = multiprocessors
        self.compiled: dict[tuple[str, tuple[str, ...]], source.Macros] = {}
        self.compilations = self.launches = 0

    def allocate(self, nbytes: int) -> Any:
        return SimpleNamespace(address=1 << 20, nbytes=nbytes)  # as aligned as a GPU's

    def compile(self, name: str, macros: source.Macros) -> NullDevice:
        self.compilations += 1
        self.compiled[name, tuple(source.defines(macros))] = macros
        return self

    def launch(self, *_: Any, shared: int = 0) -> None:
        self.launches += 1

    def registers(self, kernel: str) -> int:
        return 0

    def copy_out(self, host: np.ndarray, address: int) -> None:
        host[...] = 0

    copy_out_async = copy_out

    def page_locked(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def memory(self) -> tuple[int, int]:
        return 1 << 33, 1 << 33

    def _nothing(self, *_: Any) -> None:
        pass

    copy_in = copy_in_async = after = copy = clear = synchronise = wrap = limit_memory = hold = owner = _nothing

    @contextlib.contextmanager
    def timer(self) -> Iterator[Any]:
        yield SimpleNamespace(milliseconds=0.0)
