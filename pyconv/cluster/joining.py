"""Joining: MPI's start, in which each rank waits until all have come to it.

A rank that never comes, because its program has failed before or does not use MPI, would leave the others waiting for
ever, and MPI's start neither returns nor heeds signals meanwhile. So a thread looks after it: it ends this process with
a line that says why, if a rank on this host has ended, or after a signal.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

from ..errors import Interrupted, RunError
from ..interrupts import NOTHING
from .siblings import MPICH, Siblings, siblings

FIRST_S, LOOK_S = 0.5, 0.25  # from the beginning to the first look, and between two looks
GONE_S = 1.5  # for which a rank that was seen is missing, until it counts as ended
NEVER_S = 2.0  # in which a rank that has not been seen may begin
SIGNAL_S = 1.0  # for MPI's start to be over after a signal, which is then handled as always
TURN_S = 1.0  # after which the next rank speaks if the one before it has not ended all
FORWARD_S = 0.5  # for the launcher to forward what this rank has written
NOTE_S = 30.0  # after which a note says what this rank waits for
#: For which a rank waits for the others at most: those of a command begin with MPI's start, those of a user's program
#: may read their data before.
COMMAND_S, PROGRAM_S = 300.0, 3600.0
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
OVER = 0


def start(module: Any, patience: float) -> None:
    """Start MPI, with all other ranks.

    Parameters
    ----------
    module : module
        ``mpi4py.MPI``, which has not started it.
    patience : float
        Seconds for all ranks to come to it.
    """
    near = siblings()
    with contextlib.nullcontext() if near is None else _looked_after(near, patience):
        _init(module)


def _init(module: Any) -> None:
    """MPI_Init_thread; mpi4py's own would hold the interpreter, and with it the thread that looks after this one."""
    try:
        init = ctypes.CDLL(module.__file__).MPI_Init_thread  # as the module itself finds it
    except (OSError, AttributeError):
        module.Init_thread(module.THREAD_SERIALIZED)
        return
    if init(None, None, module.THREAD_SERIALIZED, ctypes.byref(ctypes.c_int())):
        raise RunError("MPI cannot be started")
    for world in (module.COMM_WORLD, module.COMM_SELF):
        world.Set_errhandler(
            module.ERRORS_RETURN
        )  # then mpi4py raises exceptions, as it arranges in a start of its own


@contextlib.contextmanager
def _looked_after(near: Siblings, patience: float) -> Iterator[None]:
    """Within it, a thread looks for ranks that end, and for signals."""
    here, there = socket.socketpair()
    with here, there:
        there.setblocking(False)
        thread = threading.Thread(target=_look_after, args=(near, here, patience), name="joining", daemon=True)
        with _signals_to(there):
            thread.start()
            try:
                yield
            finally:
                there.send(bytes([OVER]))
                thread.join()


@contextlib.contextmanager
def _signals_to(there: socket.socket) -> Iterator[None]:
    """Within it, the numbers of signals are sent there too, at once."""
    try:
        before = signal.set_wakeup_fd(there.fileno(), warn_on_full_buffer=False)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)


def _look_after(near: Siblings, here: socket.socket, patience: float) -> None:
    """Look until the start is over; end this process if it never will be."""
    missing, began, signalled, noted = Missing(near, patience), time.monotonic(), None, False
    while True:
        came = here.recv(64) if select.select([here], [], [], LOOK_S)[0] else b""
        if OVER in came:
            return
        now = time.monotonic()
        if signalled is None and not SIGNALS.isdisjoint(came):
            signalled = now
        if signalled is not None and now - signalled > SIGNAL_S:
            _end(near, Interrupted(NOTHING), f"pyconv: {NOTHING}\n")
        if now - began < FIRST_S:
            continue
        problem = missing.look(now - began)
        if problem is not None:
            _end(near, problem, f"pyconv: error: {problem}\n")
        if now - began > NOTE_S and not noted:
            noted = True
            if near.first:
                write(
                    f"pyconv: note: rank {near.launch.rank} has waited {NOTE_S:.0f} s for all {near.launch.size} ranks "
                    "to begin MPI: each has to come to it, and none may be started with --cluster off\n"
                )


class Missing:
    """Notices that ranks have ended.

    Parameters
    ----------
    near : Siblings
    patience : float
        Seconds for all ranks to come.
    """

    def __init__(self, near: Siblings, patience: float = PROGRAM_S) -> None:
        self._near = near
        self._patience = patience + TURN_S * near.launch.rank  # so that one rank speaks for all hosts
        self._ranks: dict[int, float] = {}  # of this host that were seen, and when that was last
        self._hosts = dict.fromkeys(near.hosts(), 0.0)

    def look(self, now: float) -> RunError | None:
        """What is wrong, or None.

        Parameters
        ----------
        now : float
            Seconds since the beginning.
        """
        near, present, late = self._near, self._near.present(), now > NEVER_S
        if now > self._patience:
            return RunError(
                f"rank {near.launch.rank} has waited {now:.0f} s for all {near.launch.size} ranks to begin MPI: one "
                "has ended before it, or never began"
            )
        if near.launch.rank not in present:
            return None  # they cannot be seen
        self._ranks |= dict.fromkeys(present, now)
        self._hosts |= dict.fromkeys(near.hosts(), now)
        ended = [rank for rank, seen in self._ranks.items() if now - seen > GONE_S]
        if late and near.count == near.launch.size:
            ended += set(range(near.launch.size)) - self._ranks.keys()
        if ended:
            who = f"rank {min(ended)} has ended before it"
        elif late and near.count is not None and len(self._ranks) < near.count:
            who = f"a rank on the host of rank {near.launch.rank} has ended before it"
        elif any(now - seen > GONE_S for seen in self._hosts.values()) or (late and self._lacks_a_host()):
            who = "the ranks on another host have ended before they"
        else:
            return None
        return RunError(f"{who} came to MPI's start, at which all others wait")

    def _lacks_a_host(self) -> bool:
        """Whether there must have been a host that was not seen."""
        seen, near = self._hosts.keys(), self._near
        several = near.count is not None and near.count < near.launch.size
        return seen != set(range(max(seen, default=-1) + 1)) or (several and len(seen) == 1)


def _end(near: Siblings, error: BaseException, line: str) -> NoReturn:
    """End all ranks; the first on this host writes the line, unless it has not come to MPI's start."""
    before = sorted(near.present()).index(near.launch.rank) if near.launch.rank in near.present() else 0
    time.sleep(TURN_S * before)
    write(line)
    leave(int(getattr(error, "exit_status", 1)))


def leave(status: int) -> NoReturn:
    """End this process, which has not started MPI, so that its launcher ends the other ranks.

    MPICH's launcher ends them only where a signal has ended one.
    """
    time.sleep(FORWARD_S)
    if MPICH in os.environ:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(status)


def write(text: str) -> None:
    """Write to standard error, if that is there."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
            sys.stderr.flush()
