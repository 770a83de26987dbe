"""Device: the interface of :mod:`pyconv.cuda.device`, on this CPU."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyconv.cuda import source
from pyconv.cuda.array import DeviceArray
from pyconv.cuda.errors import DeviceLostError, DeviceMemoryError

from . import toolchain

ORDERS = {"natural": 0, "reversed": 1, "shuffled": 2}

#: Bytes before and after each allocation, which no kernel may touch. 256: a GPU's allocations are as aligned.
FENCE = 256


class EmulatedMemory:
    """Host memory in the place of device memory: filled with NaN, with a fence on either side."""

    def __init__(self, device: EmulatedDevice, nbytes: int) -> None:
        self.nbytes = nbytes
        whole = np.full(nbytes + 3 * FENCE, 0xFF, np.uint8)
        start = FENCE + -whole.ctypes.data % FENCE
        self.inside = whole[start : start + nbytes]
        self.fences = whole[start - FENCE : start], whole[start + nbytes : start + nbytes + FENCE]
        for fence in self.fences:
            fence[...] = 0xA5
        self.address = self.inside.ctypes.data
        self._device = device
        device.taken += nbytes
        device.live[self.address] = self

    def __del__(self) -> None:
        self._device.live.pop(self.address, None)
        self._device.taken -= self.nbytes


class EmulatedProgram:
    """A .cu file compiled for the CPU."""

    def __init__(self, device: EmulatedDevice, path: Path) -> None:
        self._device, self._path = device, path
        if device.sanitize not in toolchain.PROGRAMS:
            self._library = library = ctypes.CDLL(str(path))
            self._run = library.cuda_launch
            self._run.restype = ctypes.c_char_p

    def registers(self, kernel: str) -> int:
        return 0

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0) -> None:
        device = self._device
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        if shared > device.shared_bytes:
            raise DeviceLostError(f"{kernel}: {shared} bytes of shared memory where {device.shared_bytes} can be had")
        device.launches.append((self._path.stem.rsplit("-", 1)[0], kernel))
        shape = np.array([*grid, *block], np.uint32)
        device.seed += 1
        if device.sanitize in toolchain.PROGRAMS:
            self._launch_program(kernel, shape, args, shared)
        else:
            values, keep = (ctypes.c_void_p * len(args))(), []
            for i, argument in enumerate(args):
                cell = np.frombuffer(_bytes(argument).ljust(16, b"\0"), np.uint8).copy()
                keep.append(cell)
                values[i] = cell.ctypes.data
            if device.sanitize == "count":
                self._start_counting(args, shared)
            failure = self._run(
                kernel.encode(),
                values,
                ctypes.c_uint(len(args)),
                ctypes.c_void_p(shape.ctypes.data),
                ctypes.c_void_p(shape.ctypes.data + 12),
                ctypes.c_size_t(shared),
                ctypes.c_int(ORDERS[device.order]),
                ctypes.c_uint64(device.seed),
            )
            if failure:
                raise DeviceLostError(f"{kernel}: {failure.decode()}")
            if device.sanitize == "count":
                counted = (ctypes.c_uint64 * 4)()
                self._library.cuda_counted(counted)
                device.counted.append((kernel, tuple(counted)))
        device.check_fences(kernel)

    def _start_counting(self, args: tuple[Any, ...], shared: int) -> None:
        """Count accesses to arrays of floats; tables of integers are not part of the paper's memory traffic."""
        arrays = [a for a in args if isinstance(a, DeviceArray) and a.dtype.kind == "f"]
        ranges = [bound for a in arrays for bound in (a.address, a.address + a.nbytes)]
        self._library.cuda_count(
            (ctypes.c_size_t * len(ranges))(*ranges), ctypes.c_int(len(arrays)), ctypes.c_size_t(shared)
        )

    def _launch_program(self, kernel: str, shape: np.ndarray, args: tuple[Any, ...], shared: int) -> None:
        """Run the kernel in a sanitized program of its own, on copies of the memory that its arguments point to."""
        device = self._device
        used: list[EmulatedMemory] = []
        tail = b""
        for argument in args:
            if isinstance(argument, DeviceArray):
                memory = device.find(argument.address)
                if memory not in used:
                    used.append(memory)
                tail += struct.pack("<iQ", used.index(memory), argument.address - memory.address)
            else:
                value = _bytes(argument)
                tail += struct.pack("<iQ", -1, len(value)) + value
        head = kernel.encode().ljust(64, b"\0") + shape.tobytes()
        head += struct.pack("<QIQII", shared, ORDERS[device.order], device.seed, len(used), len(args))
        body = b"".join(struct.pack("<Q", memory.nbytes) + memory.inside.tobytes() for memory in used)
        options = "detect_leaks=0:halt_on_error=1:detect_stack_use_after_return=0"
        environment = {
            **os.environ,
            "ASAN_OPTIONS": options,
            "UBSAN_OPTIONS": "print_stacktrace=0",
            "TSAN_OPTIONS": "halt_on_error=1:report_bugs=1:history_size=4:atexit_sleep_ms=0",
        }
        with tempfile.NamedTemporaryFile(delete=False) as file:
            file.write(head + body + tail)
        try:
            done = subprocess.run(
                [*fixed_addresses(), str(self._path), file.name],
                capture_output=True,
                text=True,
                timeout=250,
                env=environment,
                check=False,
            )
            if done.returncode:
                raise DeviceLostError(f"{kernel}: {done.stderr[:6000]}")
            result = Path(file.name).read_bytes()
        finally:
            Path(file.name).unlink()
        start = 0
        for memory in used:
            memory.inside[...] = np.frombuffer(result, np.uint8, memory.nbytes, start)
            start += memory.nbytes


def fixed_addresses() -> list[str]:
    """The race detector maps its shadow where random addresses may get in the way."""
    return ["setarch", os.uname().machine, "-R"] if Path("/usr/bin/setarch").exists() else []


def _bytes(argument: Any) -> bytes:
    """The bytes of an argument as a kernel reads them: an address, a number, or a struct."""
    if argument is None:
        return struct.pack("<Q", 0)
    if isinstance(argument, (np.generic, np.ndarray)):
        return argument.tobytes()
    return struct.pack("<Q", argument.address)


class EmulatedDevice:
    """A GPU in software.

    Parameters
    ----------
    order : {"natural", "reversed", "shuffled"}
        The order in which blocks, and threads between two barriers, run.
    sanitize : None, "address", "thread" or "count"
        Run each launch in a program under AddressSanitizer with UndefinedBehaviorSanitizer, or ThreadSanitizer; or
        count the bytes that it reads and writes, in global and in shared memory: `counted`.
    macros : dict, optional
        Macros for every file, to plant a bug.
    """

    name = "CUDA on the CPU"
    number = 0
    capability = (9, 0)
    multiprocessors = 4
    shared_bytes = 48 * 1024

    def __init__(
        self,
        order: str = "natural",
        sanitize: str | None = None,
        macros: dict | None = None,
        seed: int = 0,
        memory: int = 1 << 30,
    ) -> None:
        self.order, self.sanitize, self.macros, self.seed = order, sanitize, macros or {}, seed
        self.live: dict[int, EmulatedMemory] = {}
        self.taken, self._total, self._limit = 0, memory, None
        self.launches: list[tuple[str, str]] = []
        self.copied_in = self.copied_out = 0  # bytes
        self.counted: list[tuple[str, tuple[int, int, int, int]]] = []
        self._programs: dict[Any, EmulatedProgram] = {}

    def find(self, address: int) -> EmulatedMemory:
        """The allocation that contains `address`."""
        for memory in self.live.values():
            if memory.address <= address < memory.address + memory.nbytes:
                return memory
        raise DeviceLostError("an illegal memory access was encountered")

    def check_fences(self, kernel: str) -> None:
        """Fail if a kernel wrote outside an allocation."""
        for memory in list(self.live.values()):
            if any((fence != 0xA5).any() for fence in memory.fences):
                raise DeviceLostError(f"{kernel} wrote outside its arrays")

    def allocate(self, nbytes: int) -> EmulatedMemory:
        if self.taken + nbytes > (self._total if self._limit is None else self._limit):
            raise DeviceMemoryError(f"{self.name}: out of memory")
        return EmulatedMemory(self, max(int(nbytes), 1))

    def limit_memory(self, nbytes: int | None) -> None:
        self._limit = nbytes

    def memory(self) -> tuple[int, int]:
        return self._total - self.taken, self._total

    def owner(self, address: int) -> int | None:
        return self.number

    def wrap(self, address: int, nbytes: int, stream: int | None) -> None:
        self.find(address)

    def _bytes_at(self, address: int, nbytes: int) -> np.ndarray:
        memory = self.find(address)
        start = address - memory.address
        assert start + nbytes <= memory.nbytes, "a copy runs past its memory"
        return memory.inside[start : start + nbytes]

    def copy_in(self, address: int, host: np.ndarray) -> None:
        assert host.flags.c_contiguous
        self.copied_in += host.nbytes
        self._bytes_at(address, host.nbytes)[...] = host.reshape(-1).view(np.uint8)

    def copy_in_async(self, address: int, host: np.ndarray) -> Any:
        self.copy_in(address, host)
        return "done"

    def copy_out_async(self, host: np.ndarray, address: int) -> Any:
        self.copy_out(host, address)
        return "done"

    def after(self, ticket: Any) -> None:
        assert ticket == "done"

    def copy_out(self, host: np.ndarray, address: int) -> None:
        self.copied_out += host.nbytes
        host.reshape(-1).view(np.uint8)[...] = self._bytes_at(address, host.nbytes)

    def copy(self, to: int, address: int, nbytes: int) -> None:
        self._bytes_at(to, nbytes)[...] = self._bytes_at(address, nbytes).copy()

    def clear(self, address: int, nbytes: int) -> None:
        self._bytes_at(address, nbytes)[...] = 0

    def page_locked(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return np.empty(shape, dtype)

    def compile(self, name: str, macros: source.Macros) -> EmulatedProgram:
        macros = {**macros, **self.macros}
        key = (name, tuple(source.defines(macros)))
        if key not in self._programs:
            path = toolchain.build(source.HERE / name, source.text(name), macros, self.sanitize)
            self._programs[key] = EmulatedProgram(self, path)
        return self._programs[key]

    def synchronise(self) -> None:
        pass

    def hold(self, milliseconds: float) -> None:
        self.compile("hold.cu", {"REAL": "float"}).launch("hold", (1,), (1,), np.int64(1000 * milliseconds))

    @contextlib.contextmanager
    def timer(self) -> Iterator[Any]:
        result, start = SimpleNamespace(milliseconds=float("nan")), time.perf_counter()
        yield result
        result.milliseconds = (time.perf_counter() - start) * 1e3
