"""Device: the one interface to the GPU: allocate, copy, compile, launch, time, synchronise.

Everything above this module (tile shapes, grids, operations, training) talks to a :class:`Device` and to nothing else.
There are two devices: :class:`pyconv.cuda.driver.DriverDevice`, a GPU through PyCUDA, and the tests' own, which runs
the same kernels on the CPU. The device is made at its first use, never at import and never before a fork.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from ..errors import BackendUnavailable
from .source import Macros


class Memory(Protocol):
    """A piece of device memory; it is freed when the last reference to it goes."""

    address: int
    nbytes: int


class Program(Protocol):
    """A compiled .cu file."""

    def launch(self, kernel: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0) -> None:
        """Start a kernel; it runs after everything started before it.

        Parameters
        ----------
        kernel : str
            Name of the kernel in the file.
        grid, block : tuple of 1 to 3 int
            Blocks, and threads in each.
        *args
            Device arrays (their address is passed), None (a null pointer), NumPy scalars, and NumPy arrays of int32,
            which are passed whole, by value, as a C struct of ints.
        shared : int
            Bytes of dynamic shared memory.
        """

    def registers(self, kernel: str) -> int:
        """Registers of one thread, or 0 where the device cannot tell."""


class Timer(Protocol):
    """Measures what the device does between two moments."""

    milliseconds: float


class Device(Protocol):
    """What pyconv asks of a GPU.

    Attributes
    ----------
    name : str
        As the maker calls it.
    number : int
        Among the GPUs that this process sees.
    capability : (int, int)
        Compute capability.
    multiprocessors : int
    shared_bytes : int
        Shared memory that one block may have, in bytes, without asking for more.
    """

    name: str
    number: int
    capability: tuple[int, int]
    multiprocessors: int
    shared_bytes: int

    def allocate(self, nbytes: int) -> Memory:
        """Take memory, which holds garbage.

        Parameters
        ----------
        nbytes : int

        Returns
        -------
        Memory
            Freed when the last reference to it goes.

        Raises
        ------
        DeviceMemoryError
            Where there is not enough.
        """

    def owner(self, address: int) -> int | None:
        """The GPU that a piece of memory belongs to.

        Parameters
        ----------
        address : int
            In the device's memory.

        Returns
        -------
        int or None
            Its number, or None where nobody can tell.
        """

    def wrap(self, address: int, nbytes: int, stream: int | None) -> None:
        """Make sure that foreign memory may be used from here on.

        Parameters
        ----------
        address : int
            On the device.
        nbytes : int
        stream : int or None
            The stream that its owner computes on, as in the CUDA array interface. If it is not ours, it is waited for.
        """

    def copy_in(self, address: int, host: np.ndarray) -> None:
        """Copy to the device.

        Parameters
        ----------
        address : int
            On the device.
        host : ndarray, C-contiguous
            May be changed as soon as this returns.
        """

    def copy_in_async(self, address: int, host: np.ndarray) -> object:
        """Copy to the device while it computes.

        Parameters
        ----------
        address : int
            On the device.
            Nothing that was started before may still use the memory there: use two buffers in turn.
        host : ndarray, C-contiguous, page-locked
            Not to be changed until the copy is done.

        Returns
        -------
        object
            A ticket for :meth:`after`.
        """

    def copy_out_async(self, host: np.ndarray, address: int) -> object:
        """Copy from the device, after everything started before, while it computes what is started from here on.

        Until :meth:`after` has waited for the ticket, nothing may be started that writes to the memory.

        Parameters
        ----------
        host : ndarray, C-contiguous, page-locked
            Overwritten.
        address : int
            On the device.

        Returns
        -------
        object
            A ticket for :meth:`after`.
        """

    def after(self, ticket: object) -> None:
        """Wait for a copy: from here on it is done, for the host and for what is started on the device.

        Parameters
        ----------
        ticket : object
            Of :meth:`copy_in_async` or :meth:`copy_out_async`.
        """

    def copy_out(self, host: np.ndarray, address: int) -> None:
        """Copy from the device, after everything started before.

        Parameters
        ----------
        host : ndarray, C-contiguous
            Overwritten.
        address : int
            On the device.
        """

    def copy(self, to: int, address: int, nbytes: int) -> None:
        """Copy within the device.

        Parameters
        ----------
        to, address : int
            Where to and where from.
        nbytes : int
        """

    def clear(self, address: int, nbytes: int) -> None:
        """Fill with zero bytes.

        Parameters
        ----------
        address : int
            On the device.
        nbytes : int
        """

    def page_locked(self, shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
        """Host memory from which copies can run while the device computes.

        Parameters
        ----------
        shape : tuple of int
        dtype : dtype

        Returns
        -------
        ndarray
            It holds garbage.
        """

    def compile(self, name: str, macros: Macros) -> Program:
        """Compile a .cu file of this folder.

        Parameters
        ----------
        name : str
            The file's, without its ending.
        macros : Macros
            What the file's parameters are defined as.

        Returns
        -------
        Program

        Raises
        ------
        CompileError
            If nvcc refuses it.
        """

    def synchronise(self) -> None:
        """Wait until everything started is done; errors of kernels come up here at the latest."""

    def timer(self) -> contextlib.AbstractContextManager[Timer]:
        """Time what is started in a ``with`` block, by events on the device.

        Returns
        -------
        context manager of Timer
            Its ``milliseconds`` is set at the block's end.
        """

    def hold(self, milliseconds: float) -> None:
        """Keep the device busy, so that what is started in the meantime queues up.

        Parameters
        ----------
        milliseconds : float
            About how long.
        """

    def memory(self) -> tuple[int, int]:
        """The device's memory.

        Returns
        -------
        free, total : int
            Bytes.
        """

    def limit_memory(self, nbytes: int | None) -> None:
        """Limit what this process takes from the device from here on, as one of several workers.

        Parameters
        ----------
        nbytes : int or None
            None is all that there is.
        """


_chosen: Device | None = None
_made: Device | None = None
_made_in = 0
_worker = 0


def current() -> Device:
    """The device of this process, made at the first call.

    Returns
    -------
    Device

    Raises
    ------
    BackendUnavailable
        If there is none; the message says why. Also if this process was forked from one that used the GPU: a CUDA
        context does not survive a fork.
    """
    global _made, _made_in
    if _chosen is not None:
        return _chosen
    if _made is None:
        reason = unavailable()
        if reason is not None:
            raise BackendUnavailable(reason)
        _made, _made_in = _make(), os.getpid()
    elif _made_in != os.getpid():
        from .driver import FORKED

        raise BackendUnavailable(FORKED)
    return _made


def _make() -> Device:
    """The GPU; or, if ``PYCONV_CUDA_DEVICE`` names a class as ``module:name``, that device instead."""
    named = os.environ.get("PYCONV_CUDA_DEVICE")
    if named:
        module, _, name = named.partition(":")
        return getattr(importlib.import_module(module), name)()
    from .driver import DriverDevice

    return DriverDevice(ordinal())


def gpus() -> tuple[int, ...]:
    """Numbers of the GPUs to use among the visible ones: ``PYCONV_GPUS``, such as ``0,2``; all of them by default."""
    text = os.environ.get("PYCONV_GPUS", "")
    if not text:
        from .driver import devices

        return tuple(range(devices()))
    try:
        numbers = tuple(dict.fromkeys(int(item) for item in text.split(",")))  # one GPU has one share of workers
    except ValueError:
        numbers = (-1,)
    if min(numbers) < 0:
        raise BackendUnavailable(f"PYCONV_GPUS must be numbers of GPUs, from 0 on, such as 0,2; not {text!r}")
    return numbers


def ordinal() -> int:
    """Number of this process's GPU among the visible ones; workers take the GPUs in turn."""
    numbers = gpus()
    return numbers[_worker % len(numbers)]


def join(worker: int, workers: int) -> Device:
    """Make this process one of several that share the GPUs, before it first uses one.

    Each GPU's memory is divided evenly among its workers. A worker that needs more than its part gets an error that
    says so, instead of taking memory from another worker.

    Parameters
    ----------
    worker : int
        Its number, from 0 on; workers take the GPUs in turn.
    workers : int
        How many there are.

    Returns
    -------
    Device

    Raises
    ------
    BackendUnavailable
        If there is no GPU.
    """
    global _worker
    _worker = worker
    device = current()
    alone = _chosen is not None or "PYCONV_CUDA_DEVICE" in os.environ
    numbers = (0,) if alone else gpus()
    beside = len(range(worker % len(numbers), workers, len(numbers)))
    _, total = device.memory()
    device.limit_memory(max(int(total * 0.9) // beside - CONTEXT_BYTES, total // (4 * beside)))
    return device


#: About how much device memory a process's context takes beside its arrays.
CONTEXT_BYTES = 512 << 20


@contextlib.contextmanager
def use(device: Device) -> Iterator[Device]:
    """Use another device in this process for the length of a ``with`` block.

    Parameters
    ----------
    device : Device

    Yields
    ------
    Device
        The same.
    """
    global _chosen
    before, _chosen = _chosen, device
    try:
        yield device
    finally:
        _chosen = before


def unavailable() -> str | None:
    """Why the GPU cannot be used here. Asking creates no context and compiles nothing.

    Returns
    -------
    str or None
        One line with what to do; None if it can be used.
    """
    if _chosen is not None or _made is not None or os.environ.get("PYCONV_CUDA_DEVICE"):
        return None
    from . import driver

    return driver.unavailable(gpus, ordinal)
