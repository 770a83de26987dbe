"""Shared memory without a name: nothing is left behind after a run, and nothing runs out during one.

A segment is a file on ``/dev/shm`` that never gets a name (``O_TMPFILE``). Worker processes inherit its descriptor. The
kernel frees it when the last process that maps it has ended, in whatever way. So nothing has to be cleaned up after a
``kill -9``, and Python's resource tracker has no part in it. All pages are reserved when the segment is made
(``posix_fallocate``): a full ``/dev/shm`` is an error with a message before the first step, and never a SIGBUS later,
whoever else fills it.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import stat
import weakref
from multiprocessing import reduction
from pathlib import Path
from typing import Any, cast

import numpy as np

from .. import limits
from ..datasets.rows import Rows
from ..descriptors import open_standard
from ..errors import InputError, PyconvError, shown
from ..values import masked

FOLDER = Path("/dev/shm")
FEWER = "take fewer images (--limit) or fewer workers"
ALIGNMENT = 64  # bytes of a cache line: no two workers write to the same line


class SharedMemoryError(PyconvError, MemoryError):
    """There is not enough shared memory for the run; nothing was started."""

    exit_status = 2


def free_bytes() -> int | None:
    """Bytes that are left in ``/dev/shm`` for this user; None if there is no such folder or it is read-only."""
    try:
        status = os.statvfs(FOLDER)
    except OSError:
        return None
    if status.f_flag & os.ST_RDONLY:
        return None
    return status.f_bavail * status.f_frsize


def _needed(purpose: str, size: int) -> str:
    return f"for {purpose}, {limits.amount(size)} of shared memory are needed"


def _too_small(purpose: str, size: int) -> SharedMemoryError:
    free = free_bytes()
    left = "" if free is None else f", and {limits.amount(free)} are left"
    return SharedMemoryError(
        f"{_needed(purpose, size)} in {FOLDER}{left}; free some, make it larger "
        f"(mount -o remount,size=... {FOLDER}, or --shm-size for a container), or use fewer workers"
    )


def _check_room(size: int, purpose: str) -> None:
    """Raise an error if the folder, the control group, the machine or the limit on files has no room for it."""
    free = free_bytes()
    if free is not None and size > free:
        raise _too_small(purpose, size)
    reason, files = limits.shortage(size), limits.file_size()
    if reason is None and files is not None and size > files.left:
        most = limits.amount(files.most)
        reason = f"a file of this process may have {most} at most; allow larger ones (ulimit -f)"
    if reason is not None:
        raise SharedMemoryError(f"{_needed(purpose, size)}, and {reason}, or {FEWER}")


# /dev/shm is missing, not a tmpfs or not writable, or the kernel cannot do it: then the kernel's own anonymous files
# do the same without a folder.
_FOLDER_UNUSABLE = (errno.ENOENT, errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOTDIR, errno.EACCES,
                    errno.EPERM, errno.EROFS)  # fmt: skip


def _unnamed_file() -> int:
    """Descriptor of a new file in memory that has no name."""
    flags = os.O_RDWR | os.O_CLOEXEC
    try:
        return os.open(FOLDER, flags | os.O_TMPFILE, 0o600)
    except OSError as error:
        if error.errno not in _FOLDER_UNUSABLE:
            raise
        return os.memfd_create("pyconv", os.MFD_CLOEXEC)


class Segment:
    """A piece of memory that this process shares with the workers that it starts.

    It can be sent to a process only while that process is being started (as an argument of a ``spawn`` process).

    Parameters
    ----------
    size : int
        Bytes, at least 1; they are zero at first.
    purpose : str
        What the memory is for; an error message begins with it: "the parameter server of 4 workers".

    Raises
    ------
    SharedMemoryError
        If ``/dev/shm`` is too small or too full, or the control group, the machine or a limit on files leaves less.
    """

    _protection = mmap.PROT_READ | mmap.PROT_WRITE

    def __init__(self, size: int, purpose: str) -> None:
        open_standard()  # else a descriptor of this memory could be 1 or 2, to which libraries print
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
        self._mapping = mmap.mmap(descriptor, size, prot=self._protection)
        self.size = size
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    def __reduce__(self) -> Any:
        return _attach, (type(self), reduction.DupFd(self._descriptor), self.size)

    @property
    def address(self) -> int:
        """Of the memory, in this process."""
        return _address(self._mapping)

    def fileno(self) -> int:
        """Descriptor of the memory as a file, for functions that write to files only; the segment closes it."""
        return self._descriptor

    def array(self, shape: tuple[int, ...], dtype: Any, offset: int = 0) -> np.ndarray:
        """An array in the segment, `offset` bytes from its start. It keeps the memory alive."""
        return np.ndarray(shape, dtype, buffer=self._mapping, offset=offset)


def _address(mapping: mmap.mmap) -> int:
    return int(np.frombuffer(mapping, np.uint8).ctypes.data)


def _attach(kind: type[Segment], handle: Any, size: int) -> Segment:
    """The segment of the starting process, made in the started process."""
    segment = kind.__new__(kind)
    segment._map(handle.detach(), size)
    return segment


class File(Segment):
    """The beginning of a file on disk, which every process maps for reading; the kernel reads only the pages in use.

    Parameters
    ----------
    descriptor : int
        Of the open file; the segment closes it.
    size : int
        Bytes.
    """

    _protection = mmap.PROT_READ

    def __init__(self, descriptor: int, size: int) -> None:
        self._map(descriptor, size)


class SharedArray(np.ndarray):
    """An array in shared memory, made by :func:`share`. It behaves as any array; its copies are ordinary arrays."""

    segment: Segment | None = None
    offset = 0

    def __array_finalize__(self, source: Any) -> None:
        self.segment = None  # a view, or a result of arithmetic, is not the whole segment

    def __reduce__(self) -> Any:
        if self.segment is None:
            return np.asarray(self).__reduce__()
        return _view, (self.segment, self.shape, self.dtype, self.offset)


def _view(segment: Segment, shape: tuple[int, ...], dtype: np.dtype, offset: int = 0) -> SharedArray:
    array = segment.array(shape, dtype, offset).view(SharedArray)
    array.segment, array.offset = segment, offset
    return array


# Segments that hold a shared array, by the array's address, shape and dtype: np.asarray() drops the segment, not these.
_holders: weakref.WeakValueDictionary[tuple[int, tuple[int, ...], str], Segment] = weakref.WeakValueDictionary()


def _key(array: np.ndarray) -> tuple[int, tuple[int, ...], str]:
    return array.ctypes.data, array.shape, array.dtype.str


def share(array: np.ndarray, purpose: str = "an array") -> SharedArray:
    """The array in shared memory, C-contiguous; it is copied unless it is there already.

    Training with workers puts its data into shared memory. To keep large data in memory only once, share them first and
    drop the original::

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
    InputError
        If the array holds Python objects or has a mask.
    SharedMemoryError
        If ``/dev/shm`` is too small or too full.
    """
    if not isinstance(array, np.ndarray) or array.dtype.hasobject or masked(array):
        raise InputError(f"array must be an array without Python objects or a mask, not {shown(array)}")
    holder = _holders.get(_key(array)) if array.flags.c_contiguous else None
    if holder is not None:
        return _view(holder, array.shape, array.dtype, array.ctypes.data - holder.address)
    copy = _view(Segment(max(array.nbytes, 1), purpose), array.shape, array.dtype)
    copy[...] = array
    assert copy.segment is not None
    _holders[_key(copy)] = copy.segment
    return copy


def share_images(x: np.ndarray, purpose: str) -> np.ndarray:
    """Images in shared memory, as :func:`share` puts them there; a map of a file stays a map of that file.

    Parameters
    ----------
    x : (N, ...) ndarray or Rows
    purpose : str

    Returns
    -------
    SharedArray or Rows
    """
    if isinstance(x, Rows):
        return cast(np.ndarray, Rows(share_images(x.array, purpose), share(x.rows, purpose)))
    mapped = _mapped(x)
    return share(x, purpose) if mapped is None else mapped


_LOOK = 4096  # bytes that are compared at the beginning, in the middle and at the end


def _mapped(array: np.ndarray) -> SharedArray | None:
    """The array as a map of its file that can be sent to workers; None if it is no map of a file.

    None, too, if the file is no longer there under its name, or if it was mapped copy-on-write: then changes of the
    array are not in the file.
    """
    root: Any = array
    while isinstance(root, np.ndarray) and getattr(root, "_mmap", None) is None:
        root = root.base
    if not isinstance(root, np.memmap) or root.filename is None or root.mode == "c" or not array.flags.c_contiguous:
        return None
    begin = root.offset - root.offset % mmap.ALLOCATIONGRANULARITY  # of the mapping, in the file
    offset = begin + array.ctypes.data - _address(root._mmap)  # type: ignore[attr-defined]
    try:
        descriptor = os.open(root.filename, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    if not _holds(descriptor, array, offset):
        os.close(descriptor)
        return None
    view = _view(File(descriptor, offset + array.nbytes), array.shape, array.dtype, offset)
    assert view.segment is not None
    _holders[_key(view)] = view.segment
    return view


def _holds(descriptor: int, array: np.ndarray, offset: int) -> bool:
    """Whether an array is a map of this file, at this offset: by the file's number, and by some of the bytes."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_size < offset + array.nbytes or not array.nbytes:
        return False
    if _inode(array.ctypes.data) not in (None, status.st_ino):
        return False
    content = array.reshape(-1).view(np.uint8)
    places = (0, max(array.nbytes - _LOOK, 0) // 2, max(array.nbytes - _LOOK, 0))
    return all(
        os.pread(descriptor, min(_LOOK, array.nbytes), offset + place) == content[place : place + _LOOK].tobytes()
        for place in places
    )


def _inode(address: int) -> int | None:
    """Number of the file that is mapped at an address, or None where Linux's list of maps is not there."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/maps").read_text(errors="replace").splitlines():
            place, _, _, _, inode, *_ = line.split(None, 5)
            first, last = (int(end, 16) for end in place.split("-"))
            if first <= address < last:
                return int(inode)
    return None


class Layout:
    """The positions of named arrays in one segment; each array begins a new cache line."""

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
