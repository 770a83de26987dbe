"""A device on which everything happens at the worst moment that CUDA allows.

Work on the default stream is done only when the host waits for it. Copies on their own stream are done at once, or as
late as CUDA allows. Memory that is freed is given out again at once, as by a memory pool, although earlier work may
still use it. Host code that forgets to wait gets wrong results here every time; on a GPU, now and then.
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np

from .device import EmulatedDevice, EmulatedMemory, EmulatedProgram


class _Pooled:
    """Memory that goes back to the pool."""

    def __init__(self, pool: list[EmulatedMemory], memory: EmulatedMemory, nbytes: int) -> None:
        self._pool, self._memory = pool, memory
        self.address, self.nbytes = memory.address, nbytes

    def __del__(self) -> None:
        self._pool.append(self._memory)


class LateDevice(EmulatedDevice):
    """The device of this module.

    Parameters
    ----------
    copies : {"early", "late"}
        When a copy on the other stream runs: when it is started, or when it is waited for.
    """

    def __init__(self, copies: str = "early") -> None:
        super().__init__()
        self._early = copies == "early"
        self._queue: collections.deque[Callable[[], None]] = collections.deque()
        self._free: dict[int, list[EmulatedMemory]] = collections.defaultdict(list)
        self._copies: list[tuple[int, np.ndarray]] = []
        self._fetches: list[tuple[np.ndarray, int]] = []

    def _drain(self) -> None:
        while self._queue:
            self._queue.popleft()()

    def _copy_now(self) -> None:
        while self._copies:
            EmulatedDevice.copy_in(self, *self._copies.pop(0))

    def allocate(self, nbytes: int) -> Any:
        size = 1 << max(int(nbytes) - 1, 255).bit_length()
        pool = self._free[size]
        memory = pool.pop() if pool else EmulatedMemory(self, size)
        address = memory.address
        self._queue.append(lambda: self._bytes_at(address, size).fill(0xFF))
        return _Pooled(pool, memory, nbytes)

    def copy_in(self, address: int, host: np.ndarray) -> None:
        self._drain()
        super().copy_in(address, host)

    def copy_in_async(self, address: int, host: np.ndarray) -> Any:
        self._copies.append((address, host))
        if self._early:
            self._copy_now()
        return "done"

    def copy_out_async(self, host: np.ndarray, address: int) -> Any:
        if self._early:
            self._queue.append(lambda: EmulatedDevice.copy_out(self, host, address))
        else:
            self._fetches.append((host, address))
        return "out"

    def after(self, ticket: Any) -> None:
        self._copy_now()
        if ticket == "out":
            self._drain()
            while self._fetches:
                EmulatedDevice.copy_out(self, *self._fetches.pop(0))

    def copy_out(self, host: np.ndarray, address: int) -> None:
        self._drain()
        super().copy_out(host, address)

    def copy(self, to: int, address: int, nbytes: int) -> None:
        self._queue.append(lambda: EmulatedDevice.copy(self, to, address, nbytes))

    def clear(self, address: int, nbytes: int) -> None:
        self._queue.append(lambda: EmulatedDevice.clear(self, address, nbytes))

    def compile(self, name: str, macros: Any) -> Any:
        return _LateProgram(self._queue, super().compile(name, macros))

    def synchronise(self) -> None:
        self._copy_now()
        self._drain()

    @contextlib.contextmanager
    def timer(self) -> Iterator[Any]:
        with super().timer() as timer:
            yield timer
            self._drain()


class _LateProgram:
    def __init__(self, queue: collections.deque, program: EmulatedProgram) -> None:
        self._queue, self._program = queue, program

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0) -> None:
        # Addresses only: a launch keeps no memory from going back to the pool.
        plain = [SimpleNamespace(address=a.address) if hasattr(a, "address") else _copied(a) for a in args]
        self._queue.append(lambda: self._program.launch(kernel, grid, block, *plain, shared=shared))


def _copied(argument: Any) -> Any:
    return argument.copy() if isinstance(argument, np.ndarray) else argument
