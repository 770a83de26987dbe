"""How a command was started: as ``pyconv train``, ``python -m pyconv train`` or ``python -m pyconv.train``.

Help and messages use it, and so does a process in its first second. Nothing here imports anything that takes time.
"""

from __future__ import annotations

import os
import sys
from pathlib import PurePath

SCRIPT = "pyconv"
"""Name of the console command."""

#: The variables in which launchers say how many processes they have started, and which of these this one is.
LAUNCHERS = (
    ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),  # Open MPI's mpiexec
    ("PMI_SIZE", "PMI_RANK"),  # MPICH's mpiexec, and srun --mpi=pmi2
    ("SLURM_STEP_NUM_TASKS", "SLURM_PROCID"),  # srun; a batch script itself has no step
)


def started() -> str | None:
    """The module that this process runs as its program; known even while Python is still looking for it.

    Returns
    -------
    str or None
        ``"pyconv"`` for the console command and ``python -m pyconv``, ``"pyconv.train"`` for ``python -m
        pyconv.train``; None in a user's own program and in worker processes, which have their parent's ``sys.argv``.
    """
    words, program = sys.orig_argv, _program()
    if program == "-m":  # runpy leaves this there until it has found the module
        name = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
        return name if name == "pyconv" or name.startswith("pyconv.") else None
    return "pyconv" if PurePath(program).name == SCRIPT and program in words else None


def typed(command: str = "") -> str:
    """How the user would type `command`: in the same way as this process was started.

    Parameters
    ----------
    command : str
        Name of a command; by default, the program that lists the commands.

    Returns
    -------
    str
        ``"pyconv train"`` or ``"python -m pyconv train"``; otherwise, as in a user's own program, ``"python -m
        pyconv.train"``.
    """
    program = PurePath(_program())
    if program.name == SCRIPT:
        return f"{SCRIPT} {command}".rstrip()
    if not command or program.parts[-2:] == ("pyconv", "__main__.py"):
        return f"python -m pyconv {command}".rstrip()
    return f"python -m pyconv.{command}"


def completing() -> bool:
    """Whether a shell has started this process to complete a command line (argcomplete's protocol)."""
    return "_ARGCOMPLETE" in os.environ and "COMP_LINE" in os.environ and started() is not None


def follows() -> bool:
    """Whether a launcher has started this process as another rank than the first, which speaks for all."""
    return any(os.environ.get(rank, "0") != "0" for _, rank in LAUNCHERS)


def _program() -> str:
    """``sys.argv[0]``; a program that embeds Python may have none."""
    words = getattr(sys, "argv", None)
    return words[0] if words else ""
