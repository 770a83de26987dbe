"""MPI, through mpi4py: the one module that imports it. It does so only in a process that a launcher has started.

A rank never waits inside MPI: it looks, and sleeps in turn. So it leaves the CPU to its neighbours while it waits,
receives signals, and notices when another rank has died. For how long it looks before it sleeps, :mod:`.patience` says.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import InputError, install_line
from .joining import start
from .patience import Patience
from .world import Message

#: The first sleep between two looks, and the longest. A look moves some 50 KB of a large message, so that a rank that
#: slept for longer would get less than a link of 1 Gbit/s brings: exchanges of 2 MB took 26 ms with 1 ms, and take 17.6
#: with this, which is what the link takes.
SLEEP_S, MOST_S = 20e-6, 0.25e-3
ABORT_S = 1.0  # for MPI to end this process, when it is asked to end all
LOOK_S = 0.25  # between two looks at the other processes
KNOCK = 1  # the tag of a message that rank 0 does not expect; that of swap() is 0, those of send() are above
RECORD = 8192  # bytes of what a rank tells of itself


def library(finalize: bool) -> Any:
    """mpi4py's module, which does not start MPI by itself.

    Parameters
    ----------
    finalize : bool
        Whether MPI, once started, is to be ended when the process ends.

    Raises
    ------
    InputError
        If mpi4py is not installed, or finds no MPI that it can use.
    """
    try:
        import mpi4py

        if "mpi4py.MPI" not in sys.modules:
            mpi4py.rc(initialize=False, finalize=finalize)
        from mpi4py import MPI
    except ImportError as error:
        if "mpi4py" in (error.name or ""):
            raise InputError(f"mpi4py is not installed: {install_line('mpi')}") from None
        raise InputError(f"mpi4py cannot be used: {_line(error)}; {install_line('mpi')}") from None
    except RuntimeError as error:  # no library, or another's
        raise InputError(f"mpi4py finds no MPI that it can use: {_line(error)}; {install_line('mpi')}") from None
    return MPI


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]


def version(module: Any) -> str:
    """The library's name and version, as ``"MPICH 5.0.2"``."""
    name, numbers = module.get_vendor()
    return f"{name} {'.'.join(map(str, numbers))}"


def slurm_plugin(version: str) -> str:
    """What ``srun --mpi=`` must be given for this library, of :func:`version`."""
    return "pmix" if version.startswith("Open MPI") else "pmi2"


def _end_in(seconds: float) -> None:
    """Let the kernel end this process in a while: an abort may wait for a launcher that cannot be reached."""
    with contextlib.suppress(ValueError):  # signals can be arranged by the main thread only
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def is_initialized() -> bool:
    """Whether the program itself has begun to use MPI, by mpi4py."""
    module = sys.modules.get("mpi4py.MPI")
    return module is not None and bool(module.Is_initialized()) and not module.Is_finalized()


class MPIWorld:
    """A communicator of MPI's; a :class:`~.world.World`.

    Attributes
    ----------
    lost : callable
        ``lost()``: called four times a second while this rank waits.
    idle : callable
        ``idle()``: called again and again while this rank waits.
    patience : Patience
        How long it looks before it sleeps.
    tape : None
        It keeps no timeline; :class:`~.tracing.TracedWorld` does.
    waited_ns : int
        How long this rank has waited, so far.
    version : str
        The library's.

    Parameters
    ----------
    patience : float
        Seconds for all ranks to come to MPI's start.
    """

    tape = None

    def __init__(self, patience: float) -> None:
        self._mpi = library(finalize=True)
        if not self._mpi.Is_initialized():
            start(self._mpi, patience)
        self.version = version(self._mpi)
        self._comm = self._mpi.COMM_WORLD.Dup()
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.serialized = self._mpi.Query_thread() >= self._mpi.THREAD_SERIALIZED
        self.lost: Callable[[], None] = lambda: None
        self.idle: Callable[[], object] = lambda: None
        self.patience = Patience()
        self.waited_ns = 0
        self._limit: float | None = None

    def gather(self, record: np.ndarray) -> np.ndarray:
        received = np.empty((self.size if self.rank == 0 else 0, len(record)), record.dtype)
        self._wait([self._comm.Igather(record, received if self.rank == 0 else None, root=0)])
        return received

    def broadcast(self, record: np.ndarray) -> None:
        self._wait([self._comm.Ibcast(record, root=0)])

    def swap(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        requests = [self._comm.Irecv(array, source=rank) for rank, array in receives if array.size]
        requests += [self._comm.Isend(array, dest=rank) for rank, array in sends if array.size]
        if requests:
            self._wait(requests)

    def send(self, rank: int, array: np.ndarray, tag: int) -> Any:
        return self._comm.Isend(array.view(np.uint8), dest=rank, tag=KNOCK + tag)  # MPI has no float16

    def receive(self, rank: int, array: np.ndarray, tag: int) -> Any:
        return self._comm.Irecv(array.view(np.uint8), source=rank, tag=KNOCK + tag)

    def over(self, requests: Sequence[Any]) -> list[int]:
        return self._mpi.Request.Testsome(list(requests)) or []

    def cancel(self, request: Any) -> None:
        if request != self._mpi.REQUEST_NULL:
            request.Cancel()

    def knock(self, record: np.ndarray) -> None:
        self._wait([self._comm.Isend(record, dest=0, tag=KNOCK)])

    def answer(self, record: np.ndarray) -> int | None:
        status = self._mpi.Status()
        if not self._comm.Iprobe(tag=KNOCK, status=status):
            return None
        rank = int(status.Get_source())
        self._wait([self._comm.Irecv(record, source=rank, tag=KNOCK)])
        return rank

    def everybody(self, own: dict[str, object]) -> list[dict[str, Any]]:
        """Each rank's description of its process."""
        record = np.zeros(RECORD, np.uint8)
        data = json.dumps(own).encode()
        record[: len(data)] = np.frombuffer(data, np.uint8)
        records = np.empty((self.size, RECORD), np.uint8)
        self._wait([self._comm.Iallgather(record, records)])
        return [json.loads(each.tobytes().rstrip(b"\0")) for each in records]

    def hurry(self, seconds: float | None) -> None:
        self._limit = None if seconds is None else time.monotonic() + seconds

    def abort(self, status: int) -> None:
        _end_in(ABORT_S)
        self._mpi.COMM_WORLD.Abort(status)
        os._exit(status)

    def _wait(self, requests: list[Any]) -> None:
        self.until(lambda: self._mpi.Request.Testall(requests))

    def until(self, over: Callable[[], bool]) -> None:
        if over():
            return
        began = time.monotonic_ns()
        try:
            self._look_and_sleep(over)
        finally:
            self.waited_ns += time.monotonic_ns() - began

    def _look_and_sleep(self, over: Callable[[], bool]) -> None:
        began = looked = time.monotonic()
        looks, pause = self.patience.looks_s, SLEEP_S
        while not over():
            self.idle()
            now = time.monotonic()
            if now - began < looks:
                continue
            if self._limit is not None and now > self._limit:
                raise TimeoutError("the other ranks do not come")
            if now - looked > LOOK_S:
                looked = now
                self.lost()
            time.sleep(pause)
            pause = min(1.2 * pause, MOST_S)
