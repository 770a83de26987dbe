"""The GPU through PyCUDA: the device of :mod:`pyconv.cuda.device` on a machine that has one.

It uses the device's *primary* context, which CUDA's runtime gives PyTorch and CuPy too, so that their arrays and ours
can be used together; and the legacy default stream, with which their streams synchronise.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import hashlib
import math
import os
import shutil
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BackendUnavailable, RunError, install_line
from .errors import CompileError, DeviceLostError, DeviceMemoryError
from .source import Macros, defines, text

#: The oldest compute capability that the kernels are compiled for and tested on: Turing.
OLDEST = (7, 5)

FORKED = (
    "this process was forked from one that used the GPU, or asked for it, which CUDA does not allow: "
    "start it with multiprocessing's 'spawn', or use the GPU in the child only"
)

_initialised_in: int | None = None


def _pycuda() -> Any:
    """PyCUDA's driver module, initialised; raises `BackendUnavailable`, which says what is missing."""
    try:
        import pycuda.driver as drv
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "pycuda":
            raise BackendUnavailable(
                f"PyCUDA is not installed: {install_line('cuda')} (it needs NVIDIA's CUDA toolkit)"
            ) from None
        raise BackendUnavailable(f"PyCUDA cannot be imported, {error.name} is missing: install it anew") from None
    except ImportError as error:
        if "libcuda" in str(error):
            raise BackendUnavailable(
                "there is no NVIDIA driver here (libcuda.so.1 is not found): install the driver of your GPU"
            ) from None
        raise BackendUnavailable(f"PyCUDA cannot be imported: {_line(error)}: build it anew for this machine") from None
    global _initialised_in
    if _initialised_in not in (None, os.getpid()):
        raise BackendUnavailable(FORKED)
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    also = "" if chosen is None else f", and CUDA_VISIBLE_DEVICES, which is {chosen!r}"
    check = f"check what nvidia-smi says{also}"
    try:
        drv.init()
        _initialised_in = os.getpid()
        count = drv.Device.count()
    except drv.Error as error:
        raise BackendUnavailable(f"no usable NVIDIA GPU: {_line(error)}: {check}") from None
    if not count:
        raise BackendUnavailable(f"no NVIDIA GPU is visible: {check}")
    return drv


def unavailable(gpus: Callable[[], tuple[int, ...]], ordinal: Callable[[], int]) -> str | None:
    """Why no GPU can be used here, in one line, or None.

    Parameters
    ----------
    gpus, ordinal : callable
        Give the numbers of the GPUs to use and that of this process's; asked for once PyCUDA is there.
    """
    try:
        drv = _pycuda()
        beyond = [number for number in gpus() if number >= drv.Device.count()]  # any worker's
        if beyond:
            return f"there is no GPU {beyond[0]}: {drv.Device.count()} visible; set PYCONV_GPUS or CUDA_VISIBLE_DEVICES"
        device = drv.Device(ordinal())
        capability = device.compute_capability()
        if tuple(capability) < OLDEST:
            return (
                f"{device.name()} has compute capability {capability[0]}.{capability[1]}: "
                f"pyconv needs {OLDEST[0]}.{OLDEST[1]} or newer"
            )
    except BackendUnavailable as error:
        return str(error)
    if shutil.which("nvcc") is None:
        return "nvcc is not found: install NVIDIA's CUDA toolkit and put its bin folder on PATH"
    return None


def devices() -> int:
    """How many GPUs are visible; ``CUDA_VISIBLE_DEVICES`` is respected."""
    return int(_pycuda().Device.count())


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())


def cache_folder() -> Path:
    """Where compiled kernels and tuned tile shapes are kept: ``PYCONV_CACHE_DIR``, or the user's cache folder."""
    own = os.environ.get("PYCONV_CACHE_DIR")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyconv"
    folder = base / "cuda"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be made: {error.strerror}; set PYCONV_CACHE_DIR to a folder that can be written to"
        ) from None
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Make `folder` where it is missing, and hold its lock."""
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise RunError(
            f"{folder}: cannot be written to: {error.strerror}; set PYCONV_CACHE_DIR to a folder that can"
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _keep_for_ever(thing: Any) -> None:
    """Never run PyCUDA's destructor: on a lost GPU it cannot free anything, and complains each time."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


class DriverMemory:
    """Device memory from the pool."""

    def __init__(self, allocation: Any, nbytes: int, device: DriverDevice) -> None:
        self._allocation = allocation
        self._device = device
        self.address = int(allocation)
        self.nbytes = nbytes
        device._taken += nbytes

    def __del__(self) -> None:
        self._device._taken -= self.nbytes
        if self._device.lost:
            _keep_for_ever(self._allocation)


class _Event:
    """A recorded event on a stream, usually the default stream."""

    event: Any = None

    def __init__(self, device: DriverDevice, flags: int = 0, stream: Any = None) -> None:
        self._device, self.event = device, device._drv.Event(flags)
        self.event.record(stream)

    def __del__(self) -> None:
        if self._device.lost:
            _keep_for_ever(self.event)


class _Pushed:
    """Makes a context current in a thread while this object lives: PyCUDA aborts if a thread ends with a context."""

    def __init__(self, context: Any) -> None:
        self._context = context
        context.push()

    def __del__(self) -> None:
        with contextlib.suppress(Exception):  # at exit the driver may be gone already
            self._context.pop()


class DriverTimer:
    """Milliseconds between two events."""

    milliseconds = float("nan")


class DriverDevice:
    """One GPU; see :class:`pyconv.cuda.device.Device`."""

    def __init__(self, number: int = 0) -> None:
        drv = _pycuda()
        import pycuda.compiler
        import pycuda.tools

        self._drv, self._compiler = drv, pycuda.compiler
        self.lost = False
        self._context: Any = None
        self._pool: Any = None
        self._copies: Any = None
        self._programs: dict[tuple[str, tuple[str, ...]], DriverProgram] = {}
        self._page_locked: list[weakref.ref[np.ndarray]] = []
        self._gpu = device = drv.Device(number)
        attribute = drv.device_attribute
        self.name: str = device.name()
        self.number = number
        self.capability: tuple[int, int] = tuple(device.compute_capability())
        self.multiprocessors: int = device.get_attribute(attribute.MULTIPROCESSOR_COUNT)
        self.shared_bytes: int = device.get_attribute(attribute.MAX_SHARED_MEMORY_PER_BLOCK)
        self._kilohertz: int = device.get_attribute(attribute.CLOCK_RATE)
        try:
            self._context = device.retain_primary_context()
            self._entered = threading.local()
            self._enter()
            self._pool = pycuda.tools.DeviceMemoryPool()
            self._copies = drv.Stream(1)  # CU_STREAM_NON_BLOCKING: it and the default stream do not wait for each other
        except drv.Error as error:
            raise self._translated(error, "its context cannot be made") from None
        self._taken = 0
        self._limit: float = math.inf
        self._pooled = os.environ.get("PYCONV_CUDA_POOL", "1") != "0"
        atexit.register(self._leave)

    def _enter(self) -> None:
        """Make the context current in this thread: each thread has its own, and ``cudaSetDevice`` may change it."""
        if not hasattr(self._entered, "context") or not self._is_current():
            self._entered.context = _Pushed(self._context)

    def _is_current(self) -> bool:
        try:
            return self._drv.Context.get_device() == self._gpu
        except self._drv.Error:
            return False

    def _leave(self) -> None:
        """At exit, while PyCUDA is still usable: free the pool's memory and detach the context."""
        if self.lost:
            return
        with contextlib.suppress(self._drv.Error):
            self._programs.clear()
            gc.collect()
            self._pool.stop_holding()
            self._entered.__dict__.clear()
            self._context.detach()  # its destructor would destroy the primary context as if it were PyCUDA's own

    def _translated(self, error: BaseException, doing: str) -> Exception:
        """PyCUDA's `error` as one of pyconv's, in one line."""
        words = _line(error)
        if isinstance(error, self._drv.MemoryError) or "out of memory" in words:
            free, total = self._free_and_total()
            return DeviceMemoryError(
                f"{self.name}: out of memory, {doing}: {free >> 20} MiB of {total >> 20} are free; "
                "take a smaller batch, fewer workers on this GPU, or stop what else runs there"
            )
        self._lose()
        return DeviceLostError(
            f"{self.name} failed, {doing}: {words}; start the run again with --resume, "
            "and look at nvidia-smi and the system's log if it fails again"
        )

    def _lose(self) -> None:
        """Leave all of PyCUDA's objects to the end of the process, because the GPU is lost."""
        if not self.lost:
            self.lost = True
            modules = [program._module for program in self._programs.values()]
            arrays = [array() for array in self._page_locked]
            for thing in (self._context, self._pool, self._copies, *modules, *arrays):
                _keep_for_ever(thing)

    def _free_and_total(self) -> tuple[int, int]:
        try:
            return self._drv.mem_get_info()
        except self._drv.Error:
            return 0, 0

    # ---- memory ------------------------------------------------------------------------------------------------------

    def allocate(self, nbytes: int) -> DriverMemory:
        self._enter()
        size = max(int(nbytes), 1)
        if self._taken + size > self._limit:
            gc.collect()
            self._within(self._taken + size)
        try:
            allocation = self._take(size)
            # The pool keeps freed memory for arrays of the same size only: make room where it has grown too far.
            if self._pool.managed_bytes > self._limit:
                allocation.free()
                self._tidy()
                allocation = self._take(size)
                self._within(self._pool.managed_bytes)
        except self._drv.MemoryError:
            self._tidy()
            try:
                allocation = self._take(size)
            except self._drv.Error as error:
                raise self._translated(error, f"allocating {size >> 20} MiB") from None
        except self._drv.Error as error:
            raise self._translated(error, f"allocating {size >> 20} MiB") from None
        return DriverMemory(allocation, size, self)

    def _take(self, size: int) -> Any:
        """Memory from the pool; ``PYCONV_CUDA_POOL=0``: memory of its own, so that compute-sanitizer sees its end."""
        return self._pool.allocate(size) if self._pooled else self._drv.mem_alloc(size)

    def _tidy(self) -> None:
        """Let the pool free what it keeps for later."""
        gc.collect()
        self._pool.free_held()

    def _within(self, needed: int) -> None:
        """Refuse to take `needed` bytes in all if this worker's part of the memory is smaller."""
        if needed > self._limit:
            raise DeviceMemoryError(
                f"{self.name}: this worker's share of {int(self._limit) >> 20} MiB does not suffice, "
                f"{needed >> 20} MiB are needed; take a smaller batch or fewer workers on this GPU"
            )

    def limit_memory(self, nbytes: int | None) -> None:
        self._limit = math.inf if nbytes is None else nbytes

    def memory(self) -> tuple[int, int]:
        self._enter()
        return self._free_and_total()

    def owner(self, address: int) -> int | None:
        # PyCUDA has no function for this; the driver library that it has loaded is asked directly.
        number, ordinal = ctypes.c_int(), 9  # CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        self._enter()
        failed = ctypes.CDLL("libcuda.so.1").cuPointerGetAttribute(
            ctypes.byref(number), ordinal, ctypes.c_uint64(address)
        )
        return None if failed else number.value

    def wrap(self, address: int, nbytes: int, stream: int | None) -> None:
        self._enter()
        # None: nothing to wait for. 1: the legacy default stream, which we use. Any other may still be writing.
        if stream not in (None, 1):
            self._call(self._context.synchronize, doing="waiting for another library's stream")

    def page_locked(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        self._enter()
        array = self._call(self._drv.pagelocked_empty, shape, dtype, doing="page-locking memory")
        self._page_locked = [other for other in self._page_locked if other() is not None] + [weakref.ref(array)]
        return array

    # ---- copies ------------------------------------------------------------------------------------------------------

    def _call(self, function: Callable[..., Any], *args: Any, doing: str) -> Any:
        try:
            return function(*args)
        except self._drv.Error as error:
            raise self._translated(error, doing) from None

    def copy_in(self, address: int, host: np.ndarray) -> None:
        self._enter()
        self._call(self._drv.memcpy_htod, address, host, doing="copying to it")

    def copy_in_async(self, address: int, host: np.ndarray) -> Any:
        self._enter()
        drv = self._drv
        try:
            drv.memcpy_htod_async(address, host, self._copies)
            return _Event(self, drv.event_flags.DISABLE_TIMING, self._copies)
        except drv.Error as error:
            raise self._translated(error, "copying to it") from None

    def copy_out_async(self, host: np.ndarray, address: int) -> Any:
        self._enter()
        drv = self._drv
        try:
            self._copies.wait_for_event(_Event(self, drv.event_flags.DISABLE_TIMING).event)
            drv.memcpy_dtoh_async(host, address, self._copies)
            return _Event(self, drv.event_flags.DISABLE_TIMING, self._copies)
        except drv.Error as error:
            raise self._translated(error, "copying from it") from None

    def after(self, ticket: Any) -> None:
        # PyCUDA cannot make the default stream wait for an event. The copy ran beside the last step and is done by now.
        self._call(ticket.event.synchronize, doing="copying to it")

    def copy_out(self, host: np.ndarray, address: int) -> None:
        self._enter()
        self._call(self._drv.memcpy_dtoh, host, address, doing="copying from it")

    def copy(self, to: int, address: int, nbytes: int) -> None:
        self._enter()
        self._call(self._drv.memcpy_dtod_async, to, address, nbytes, doing="copying on it")

    def clear(self, address: int, nbytes: int) -> None:
        self._enter()
        self._call(self._drv.memset_d8_async, address, 0, nbytes, doing="clearing memory")

    # ---- kernels -----------------------------------------------------------------------------------------------------

    def compile(self, name: str, macros: Macros) -> DriverProgram:
        self._enter()
        options = tuple(defines(macros))
        key = (name, options)
        program = self._programs.get(key)
        if program is None:
            module = self._module(name, ["-O3", "-std=c++17", "--fmad=true", *options])
            program = self._programs[key] = DriverProgram(self, name, module)
        return program

    def _module(self, name: str, options: list[str]) -> Any:
        """Compile with PyCUDA, which keeps the result in the cache folder.

        That cache is not safe for several processes at once. So each program has a folder with a lock, which lets one
        process write while the others wait. A result that does not load (its writer was killed) is compiled again.
        """
        source = text(name)
        digest = hashlib.sha256(repr((source, options, self.capability)).encode()).hexdigest()[:24]
        folder, drv = cache_folder() / digest, self._drv

        def build() -> Any:
            return self._compiler.SourceModule(source, options=options, no_extern_c=True, cache_dir=str(folder))

        with _locked(folder):
            try:
                try:
                    return build()
                except drv.CompileError:
                    raise
                except (drv.LogicError, drv.RuntimeError):
                    for kept in folder.glob("*.cubin"):
                        kept.unlink()
                    return build()
            except drv.CompileError as error:
                lines = [line for line in (error.stderr or "").splitlines() if "error" in line or "fatal" in line]
                found = lines[0] if lines else _line(error.msg)
                if "gpu-architecture" in found:
                    found = f"it does not know {self.name} yet ({found}); install a newer CUDA toolkit"
                raise CompileError(f"nvcc refused {name} with {' '.join(options)}: {found}") from None
            except drv.Error as error:
                if "image" in _line(error):
                    raise CompileError(
                        f"{self.name} does not take what nvcc made of {name}: {_line(error)}; "
                        "install a driver that is as new as the CUDA toolkit"
                    ) from None
                raise self._translated(error, f"loading {name}") from None
            except OSError as error:
                if error.errno is None:  # PyCUDA raises it so when a command fails
                    raise CompileError(f"nvcc cannot be run: {_line(error)}; put the CUDA toolkit on PATH") from None
                raise RunError(f"{name} cannot be compiled: {error}; make room there, or set TMPDIR") from None

    def synchronise(self) -> None:
        self._enter()
        self._call(self._context.synchronize, doing="running a kernel")

    def hold(self, milliseconds: float) -> None:
        program = self.compile("hold.cu", {"REAL": "float"})
        program.launch("hold", (1,), (1,), np.int64(milliseconds * self._kilohertz))

    @contextlib.contextmanager
    def timer(self) -> Iterator[DriverTimer]:
        self._enter()
        result = DriverTimer()
        start = self._call(_Event, self, doing="running a kernel")
        yield result
        end = self._call(_Event, self, doing="running a kernel")
        self._call(end.event.synchronize, doing="running a kernel")
        result.milliseconds = start.event.time_till(end.event)


class DriverProgram:
    """A compiled module on the GPU, and its kernels."""

    def __init__(self, device: DriverDevice, name: str, module: Any) -> None:
        self._device, self._name, self._module = device, name, module
        self._kernels: dict[str, Any] = {}

    def _kernel(self, kernel: str, form: str) -> Any:
        function = self._kernels.get(kernel)
        if function is None:
            function = self._kernels[kernel] = self._module.get_function(kernel)
            function.prepare([form])
        return function

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0) -> None:
        form = ""
        values: list[Any] = []
        for argument in args:
            if argument is None:
                form += "P"
                values.append(0)
            elif isinstance(argument, np.generic):
                form += argument.dtype.char
                values.append(argument.item())
            elif isinstance(argument, np.ndarray):
                form += f"{argument.nbytes}s"
                values.append(argument.tobytes())
            else:
                form += "P"
                values.append(argument.address)
        device = self._device
        device._enter()
        grid, block = (*grid, 1, 1)[:3], (*block, 1, 1)[:3]
        try:
            self._kernel(kernel, form).prepared_async_call(grid, block, None, *values, shared_size=shared)
        except device._drv.Error as error:
            raise device._translated(error, f"starting {kernel} of {self._name}") from None

    def registers(self, kernel: str) -> int:
        return int(self._module.get_function(kernel).num_regs)
