"""Siblings: the ranks that the same launcher has started on this host, as the kernel tells of them.

They are seen before they have found each other by MPI, and if they never do: by their common ancestor, the launcher's
process on this host, and by the environment that it has given to each.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from .hosts import status
from .launch import Launch, launched, said

#: The variables in which launchers say how many processes they have started on this host.
HERE = ("MPI_LOCALNRANKS", "OMPI_COMM_WORLD_LOCAL_SIZE")

#: The variables in which they say which of these this one is, from 0.
PLACE = ("MPI_LOCALRANKID", "OMPI_COMM_WORLD_LOCAL_RANK", "SLURM_LOCALID")

MPICH = "MPI_LOCALNRANKS"
"""A variable that MPICH's launcher alone sets."""

PROC = Path("/proc")


class Siblings:
    """The ranks on this host, this one among them.

    Parameters
    ----------
    launch : Launch
        Of this process.

    Attributes
    ----------
    launch : Launch
    first : bool
        Whether this is the first rank on its host, which speaks for all.
    count : int or None
        How many there should be; None if that is not known, or if they cannot be seen.
    """

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._ranks: dict[int, int] = {}  # by process
        self._launcher = _launcher(launch)
        place = next((os.environ[name] for name in PLACE if name in os.environ), str(launch.rank))
        self.first = place == "0"
        counts = [os.environ[name] for name in HERE if os.environ.get(name, "").isdecimal()]
        self.count = int(counts[0]) if counts and launch.rank in self.present() else None

    def present(self) -> dict[int, int]:
        """The process of each rank that has begun and not ended."""
        found = {}
        for process in _children(self._launcher):
            if process not in self._ranks:
                one = said(_environment(process))
                if one is None or one.size != self.launch.size:
                    continue  # it is about to begin
                self._ranks[process] = one.rank
            if status(process)[0] not in ("Z", "X", ""):
                found[self._ranks[process]] = process
        return found

    def hosts(self) -> set[int]:
        """The hosts on which ranks have not all ended, as MPICH's launcher counts them from 0; empty if it is not here.

        It has a process for each on its own host, which says the number.
        """
        launcher = _parent(self._launcher)
        if launcher is None or not _read(launcher, "comm").startswith("mpiexec"):
            return set()
        found = set()
        for process in _children(launcher):
            words = self.words(process)
            if "--proxy-id" in words[:-1]:
                found.add(int(words[words.index("--proxy-id") + 1]))
        return found

    @staticmethod
    def words(process: int) -> list[str]:
        """The words of a process's command; those of a script that a shell has been given as one are told apart too."""
        return _read(process, "cmdline").replace("\0", " ").split()


def siblings() -> Siblings | None:
    """The ranks on this host, if a launcher has started this process as one of several."""
    launch = launched()
    return None if launch is None else Siblings(launch)


def _launcher(launch: Launch) -> int | None:
    """The launcher's process on this host: the nearest ancestor that is no rank; None if it cannot be seen."""
    process = _parent(os.getpid())
    while process is not None and said(_environment(process)) == launch:
        process = _parent(process)
    return process


def _parent(process: int | None) -> int | None:
    words = _read(process, "stat").rpartition(")")[2].split()
    return int(words[1]) or None if words else None


def _children(process: int | None) -> list[int]:
    found: list[int] = []
    try:
        for thread in (PROC / str(process) / "task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    except OSError:
        pass
    return found


def _environment(process: int) -> Mapping[str, str]:
    words = _read(process, "environ").split("\0")
    return {name: value for name, _, value in (word.partition("=") for word in words)}


def _read(process: int | None, what: str) -> str:
    try:
        return os.fsdecode((PROC / str(process) / what).read_bytes())
    except OSError:  # another user's, or it has ended
        return ""
