"""Checks, before a run starts, that the system grants the processes, threads, descriptors and memory that it needs."""

from __future__ import annotations

import errno
from pathlib import Path

from .. import limits
from ..errors import InputError
from ..threads import counted
from .memory import FEWER, SharedMemoryError

# Descriptors of this process; of each worker: its last words (twice), the pipe of its log, and two of its process.
_DESCRIPTORS, _WORKERS_DESCRIPTORS = 14, 5
# Of a worker: itself, its heartbeat, and the parent's thread that reads its log; its further threads are added.
_WORKERS_PROCESSES = 3
_PROCESSES = 2  # the supervisor, and multiprocessing's tracker
# The least memory of a worker and of the tracker: Python, NumPy and SciPy, without a network or images. A worker took
# 40 MB in a measurement (Python 3.11, Linux). The numbers are low: to refuse a run that would work is worse than to
# try.
_WORKERS_BYTES, _TRACKERS_BYTES = 32 << 20, 4 << 20

#: What to do when the system refuses something.
MORE_PROCESSES = "allow more processes (ulimit -u, or pids.max of the control group)"
MORE_MEMORY = "take fewer workers or a smaller batch, or raise memory.max (--memory for a container)"
MORE_DESCRIPTORS = "allow more descriptors (ulimit -n)"


def check_room(workers: int, threads: int, own_threads: int) -> None:
    """Refuse a run that the system would refuse later, in the middle of its start and in words of its own.

    Parameters
    ----------
    workers : int
        0 if this process alone computes.
    threads, own_threads : int
        Threads of each worker, and of this process.

    Raises
    ------
    InputError
        If too few are left; the message has both numbers.
    """
    needed = own_threads - 1
    if workers:
        needed += _PROCESSES + workers * (_WORKERS_PROCESSES + threads - 1)
    granted = limits.processes()
    if granted is not None and granted.left < needed:
        raise InputError(
            f"{counted(workers, 'worker') if workers else counted(own_threads, 'thread')} cannot be started: they need "
            f"{needed} processes and threads, and the control group's limit of {granted.most} leaves {granted.left}; "
            f"raise pids.max, or take fewer {'workers' if workers else 'threads (PYCONV_NUM_THREADS)'}"
        )
    if not workers:
        return
    try:
        Path.cwd()
    except FileNotFoundError:  # worker processes begin in this folder
        raise InputError("the folder that the program runs in no longer exists: change to one that does") from None
    needed = _DESCRIPTORS + _WORKERS_DESCRIPTORS * workers
    open_files = limits.descriptors(needed)
    if open_files is not None and open_files.left < needed:
        raise InputError(
            f"{counted(workers, 'worker')} cannot be started: they need about {needed} more descriptors, and of the "
            f"{open_files.most} of this process {open_files.left} are left; {MORE_DESCRIPTORS}, or take fewer workers"
        )


def check_memory(workers: int, parameters: int) -> None:
    """Refuse workers if memory is certainly too small for what each needs beside the shared memory.

    Parameters
    ----------
    workers : int
    parameters : int
        Bytes of the network's parameters; each worker has a gradient of that size.

    Raises
    ------
    SharedMemoryError
        The message has both numbers.
    """
    needed = _TRACKERS_BYTES + workers * (_WORKERS_BYTES + parameters)
    reason = limits.shortage(needed)
    if reason is not None:
        raise SharedMemoryError(
            f"{counted(workers, 'worker')} cannot be started: they need {limits.amount(needed)} of memory at least, "
            f"and {reason}, or {FEWER}"
        )


def why_not_started(error: BaseException) -> str:
    """Why a process or thread could not be started, and what to do."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; {MORE_DESCRIPTORS}"
    if (isinstance(error, OSError) and error.errno == errno.EAGAIN) or "can't start new thread" in str(error):
        return f"the system refuses another process or thread; {MORE_PROCESSES}"
    return (isinstance(error, OSError) and error.strerror) or str(error)
