"""Finds out from the environment whether this process was started alone, or by a launcher as one of several."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

#: The variables in which launchers say how many processes they have started, and which of these this one is.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI's mpiexec
    ("PMI_SIZE", "PMI_RANK"),  # MPICH's mpiexec, and srun --mpi=pmi2
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun; a batch script itself has no step
)


#: A launcher that waits for its daemons on all hosts when it ends, and their links' time-outs, which take minutes.
WAITS = "prterun"  # Open MPI's
WAIT_S = 3.0  # it has for the daemons that it can reach


@dataclass(frozen=True)
class Launch:
    """How a launcher has started this process.

    Attributes
    ----------
    size, rank : int
        How many processes were started, and the number of this one.
    """

    size: int
    rank: int


def launched(environment: Mapping[str, str] = os.environ) -> Launch | None:
    """How this process was started, or None if no launcher says that it is one of several.

    A child of a rank, as of a ``multiprocessing.Pool``, inherits the variables and is no rank.

    Parameters
    ----------
    environment : mapping
        By default, the process's environment.
    """
    if multiprocessing.parent_process() is not None:
        return None
    for size, rank in LAUNCHERS:
        try:
            found = Launch(int(environment[size]), int(environment[rank]))
        except (KeyError, ValueError):
            continue
        return found if found.size > 1 else None
    return None


def end_waiting_launcher() -> None:
    """See to it that the launcher ends although a host cannot be reached, if it is one that would wait for it.

    It has some seconds for the other hosts; then a process that outlives this one kills it. Only a rank that the
    launcher itself has started can do this.
    """
    parent = os.getppid()
    try:
        words = Path(f"/proc/{parent}/stat").read_text()
    except OSError:
        return
    if f"({WAITS})" not in words:
        return
    began = words.rpartition(")")[2].split()[19]  # so that no later process with the same number is meant
    still = f'[ "$(cut -d" " -f22 /proc/{parent}/stat)" = {began} ]'
    with contextlib.suppress(OSError):
        subprocess.Popen(
            ["sh", "-c", f"sleep {WAIT_S}; {still} && kill -9 {parent}"], stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd="/",
        )  # fmt: skip
