"""Shared memory without a name: nothing can be left behind, and nothing can run out in mid-run.

A segment is a file on ``/dev/shm`` that never gets a name (``O_TMPFILE``): worker processes inherit its
descriptor, and the kernel frees it when the last process that maps it is gone, however it went. There is
nothing to reclaim after a ``kill -9``, and no resource tracker has an opinion on it, on any version of Python.

All its pages are reserved when it is made (``posix_fallocate``), so a full ``/dev/shm`` is an error with a
message before the first step, and never a SIGBUS later, whoever else fills it.
"""

from __future__ import annotations

import errno
import mmap
import os
import weakref
from multiprocessing import reduction
from pathlib import Path
from typing import Any

import numpy as np

from .. import limits
from ..descriptors import open_standard
from ..errors import PyconvError

FOLDER = Path("/dev/shm")
ALIGNMENT = 64  # bytes of a cache line: no two workers write to the same one


class SharedMemoryError(PyconvError, MemoryError):
    """There is not enough shared memory for the run; nothing has been started."""

    exit_status = 2


def free_bytes() -> int | None:
    """Bytes that ``/dev/shm`` has left for this user, or None where there is no such folder or it is read-only."""
    try:
        status = os.statvfs(FOLDER)
    except OSError:
        return None
    if status.f_flag & os.ST_RDONLY:
        return None
    return status.f_bavail * status.f_frsize


def _megabytes(count: int) -> str:
    return f"{count / 2**20:.1f} MB" if count >= 2**20 else f"{count / 2**10:.1f} kB"


def _needed(purpose: str, size: int) -> str:
    return f"for {purpose}, {_megabytes(size)} of shared memory are needed"


def _too_small(purpose: str, size: int) -> SharedMemoryError:
    free = free_bytes()
    left = "" if free is None else f", and {_megabytes(free)} are left"
    return SharedMemoryError(
        f"{_needed(purpose, size)} in {FOLDER}{left}; free some, make it larger "
        f"(mount -o remount,size=... {FOLDER}, or --shm-size for a container), or use fewer workers"
    )


def _check_room(size: int, purpose: str) -> None:
    """Refuse what the folder, the control group, the machine or the limit on files has no room for."""
    free = free_bytes()
    if free is not None and size > free:
        raise _too_small(purpose, size)
    fewer = "take fewer images (--limit) or fewer workers"
    found = [
        (limits.memory(), "the control group's limit of {} leaves {}; raise memory.max (--memory for a container)"),
        (limits.machine_memory(), "of the machine's {} of memory {} are left; end other programs"),
        (limits.file_size(), "a file of this process may have {} at most; allow larger ones (ulimit -f)"),
    ]
    for limit, words in found:
        if limit is not None and size > limit.left:
            numbers = words.format(_megabytes(limit.most), _megabytes(limit.left))
            raise SharedMemoryError(f"{_needed(purpose, size)}, and {numbers}, or {fewer}")


# Not there, not a tmpfs, not to be written to, or a kernel that cannot: the kernel's own anonymous files do the same
# without the folder.
_FOLDER_UNUSABLE = (errno.ENOENT, errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOTDIR, errno.EACCES,
                    errno.EPERM, errno.EROFS)  # fmt: skip


def _unnamed_file() -> int:
    """Descriptor of a new file in memory that has no name anywhere."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(FOLDER, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in _FOLDER_UNUSABLE:
            raise
        return os.memfd_create("pyconv", os.MFD_CLOEXEC)


class Segment:
    """A piece of memory that this process shares with the workers it starts.

    It can be sent to a process while that is being started (as an argument of a ``spawn`` process), and at no
    other time.

    Parameters
    ----------
    size : int
        Bytes, at least 1; zero-filled.
    purpose : str
        What it is for, as the beginning of an error message: "the parameter server of 4 workers".

    Raises
    ------
    SharedMemoryError
        If ``/dev/shm`` is too small or too full, or the control group, the machine or a limit on files leaves less.
    """

    def __init__(self, size: int, purpose: str) -> None:
        open_standard()  # neither this file nor the mapping's own duplicate of it may be what libraries print to
        _check_room(size, purpose)
        try:
            descriptor = _unnamed_file()
        except OSError as error:
            raise SharedMemoryError(f"{purpose}: no shared memory can be had in {FOLDER}: {error.strerror}") from None
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            os.close(descriptor)
            if error.errno in (errno.ENOSPC, errno.ENOMEM, errno.EDQUOT):
                raise _too_small(purpose, size) from None
            raise SharedMemoryError(f"{purpose}: no shared memory can be had: {error.strerror}") from None
        try:
            self._map(descriptor, size)
        except OSError as error:
            os.close(descriptor)
            raise SharedMemoryError(f"{purpose}: shared memory cannot be mapped: {error.strerror}") from None

    def _map(self, descriptor: int, size: int) -> None:
        self._mapping = mmap.mmap(descriptor, size)
        self.size = size
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def __reduce__(self) -> Any:
        return _attach, (reduction.DupFd(self._descriptor), self.size)

    def fileno(self) -> int:
        """Descriptor of the memory as a file, for what writes to files only; it stays the segment's."""
        return self._descriptor

    def array(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> np.ndarray:
        """An array in the segment, `offset` bytes from its start. It keeps the memory alive."""
        return np.ndarray(shape, dtype, buffer=self._mapping, offset=offset)


def _attach(handle: Any, size: int) -> Segment:
    """The segment of the starting process, in the process that it started."""
    segment = Segment.__new__(Segment)
    segment._map(handle.detach(), size)
    return segment


class SharedArray(np.ndarray):
    """An array in shared memory; made by :func:`share`. It behaves as any array, and copies are ordinary ones."""

    segment: Segment | None = None

    def __array_finalize__(self, source: Any) -> None:
        self.segment = None  # a view or a result of arithmetic is not the whole segment

    def __reduce__(self) -> Any:
        if self.segment is None:
            return np.asarray(self).__reduce__()
        return _view, (self.segment, self.shape, self.dtype)


def _view(segment: Segment, shape: tuple[int, ...], dtype: np.dtype) -> SharedArray:
    array = segment.array(shape, dtype).view(SharedArray)
    array.segment = segment
    return array


# Segments that hold a shared array, by where and what it is: np.asarray() forgets it, but keeps these.
_holders: weakref.WeakValueDictionary[tuple[int, tuple[int, ...], str], Segment] = weakref.WeakValueDictionary()


def _key(array: np.ndarray) -> tuple[int, tuple[int, ...], str]:
    return array.ctypes.data, array.shape, array.dtype.str


def share(array: np.ndarray, purpose: str = "an array") -> SharedArray:
    """The array in shared memory, C-contiguous; copied there unless it is there already.

    Training with workers shares the data it is given. A caller who shares large data first, and forgets the
    original, has it in memory once::

        x = pyconv.parallel.share(x)

    Parameters
    ----------
    array : ndarray
        Any shape and dtype without Python objects.
    purpose : str
        What it is, for an error message.

    Returns
    -------
    SharedArray
        An ndarray that keeps its memory alive.

    Raises
    ------
    SharedMemoryError
        If ``/dev/shm`` is too small or too full.
    """
    holder = _holders.get(_key(array)) if array.flags.c_contiguous else None
    if holder is not None:
        return _view(holder, array.shape, array.dtype)
    copy = _view(Segment(max(array.nbytes, 1), purpose), array.shape, array.dtype)
    copy[...] = array
    assert copy.segment is not None
    _holders[_key(copy)] = copy.segment
    return copy


class Layout:
    """Places for named arrays in one segment, each on a cache line of its own."""

    def __init__(self) -> None:
        self.size = 0
        self._places: dict[str, tuple[tuple[int, ...], np.dtype, int]] = {}

    def add(self, name: str, shape: tuple[int, ...], dtype: Any) -> None:
        """Make room for an array."""
        kind = np.dtype(dtype)
        self._places[name] = (shape, kind, self.size)
        count = kind.itemsize * int(np.prod(shape, dtype=np.int64))
        self.size += -(-count // ALIGNMENT) * ALIGNMENT

    def arrays(self, segment: Segment) -> dict[str, np.ndarray]:
        """All the arrays, in the segment."""
        return {name: segment.array(*place) for name, place in self._places.items()}
