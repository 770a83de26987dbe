"""Finds out from the environment whether this process was started alone, or by a launcher as one of several."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from dataclasses import dataclass

#: The variables in which launchers say how many processes they have started, and which of these this one is.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI's mpiexec
    ("PMI_SIZE", "PMI_RANK"),  # MPICH's mpiexec, and srun --mpi=pmi2
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun; a batch script itself has no step
)


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
