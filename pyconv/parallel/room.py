"""Whether the system grants the processes, threads and descriptors that a run needs, asked before its start."""

from __future__ import annotations

import errno
from pathlib import Path

from .. import limits
from ..errors import InputError
from ..threads import counted

# A worker's last words (its memory and the mapping's duplicate), the pipe of its log, and two of its process.
_DESCRIPTORS, _WORKERS_DESCRIPTORS = 14, 5
# Of a worker: itself, its heartbeat, and the parent's thread that hears its log; besides, its own further threads.
_WORKERS_PROCESSES = 3
_PROCESSES = 2  # the supervisor, and multiprocessing's tracker

#: What the system's words for a refusal mean here.
MORE_PROCESSES = "allow more processes (ulimit -u, or pids.max of the control group)"
MORE_DESCRIPTORS = "allow more descriptors (ulimit -n)"


def check_room(workers: int, threads: int, own_threads: int) -> None:
    """Refuse a run that the system would refuse later, in mid-start and in words of its own.

    Parameters
    ----------
    workers : int
        0 where this process alone computes.
    threads, own_threads : int
        Of each worker, and of this process.

    Raises
    ------
    InputError
        If there are too few; the message has both numbers.
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
    except FileNotFoundError:  # worker processes begin in it
        raise InputError("the folder that the program runs in no longer exists: change to one that does") from None
    needed = _DESCRIPTORS + _WORKERS_DESCRIPTORS * workers
    open_files = limits.descriptors(needed)
    if open_files is not None and open_files.left < needed:
        raise InputError(
            f"{counted(workers, 'worker')} cannot be started: they need about {needed} more descriptors, and of the "
            f"{open_files.most} of this process {open_files.left} are left; {MORE_DESCRIPTORS}, or take fewer workers"
        )


def why_not_started(error: BaseException) -> str:
    """Why a process or thread could not be started, and what to do."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{error.strerror}; {MORE_DESCRIPTORS}"
    if (isinstance(error, OSError) and error.errno == errno.EAGAIN) or "can't start new thread" in str(error):
        return f"the system refuses another process or thread; {MORE_PROCESSES}"
    return (isinstance(error, OSError) and error.strerror) or str(error)
