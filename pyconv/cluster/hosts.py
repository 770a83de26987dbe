"""Where the ranks are: their hosts, processes and CPUs; and whether the ranks on this host are alive."""

from __future__ import annotations

import os
import platform
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import InputError
from ..threads import split, usable_cpus
from ..version import __version__

STOPPED_LOOKS = 12  # after so many looks in a row that find a process stopped, a quarter of a second apart, it is lost
GONE_LOOKS = 6  # after so many looks that find a process ended, it is lost


@dataclass(frozen=True)
class Here:
    """What a rank tells the other ranks about its process.

    Attributes
    ----------
    host : str
    process : int
    started : str
        When it was started, in the kernel's units; this distinguishes it from a later process with the same number.
    cpus : str
        The CPUs that it may run on.
    usable, machine : int
        CPUs that it may use, and that its machine has.
    versions : dict of str to str
    """

    host: str
    process: int
    started: str
    cpus: str
    usable: int
    machine: int
    versions: dict[str, str]

    @classmethod
    def now(cls) -> Here:
        """Of this process."""
        import numpy as np

        cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        return cls(
            platform.node(),
            os.getpid(),
            status(os.getpid())[1],
            f"{sum(1 << cpu for cpu in cpus):x}",
            usable_cpus(),
            os.cpu_count() or 1,
            {"pyconv": __version__, "numpy": np.__version__},
        )

    def record(self) -> dict[str, object]:
        """For a message."""
        return asdict(self)


def status(process: int) -> tuple[str, str, int]:
    """State of a process in the kernel's letters, when it was started, and its exit status; empty if there is none."""
    try:
        words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", "", 0
    return words[0], words[19], int(words[49])


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Hosts:
    """The places of all ranks.

    Parameters
    ----------
    places : sequence of Here
        By rank.
    rank : int
        This one.

    Attributes
    ----------
    names : list of str
        The ranks' names, as ``"rank 2 on node-b"``.
    """

    def __init__(self, places: Sequence[Here], rank: int) -> None:
        self.places, self._rank = list(places), rank
        self.names = [f"rank {index} on {place.host}" for index, place in enumerate(places)]
        here = places[rank]
        # A process in another container cannot be seen from here, so it is not watched.
        self._watched = [
            index
            for index, place in enumerate(places)
            if index != rank and place.host == here.host and status(place.process)[1] == place.started
        ]
        self._stopped, self._gone = dict.fromkeys(self._watched, 0), dict.fromkeys(self._watched, 0)

    def check(self) -> None:
        """Check that all ranks run the same programs.

        Raises
        ------
        InputError
            If they do not.
        """
        first = self.places[0]
        for place, name in zip(self.places, self.names):
            for program, version in place.versions.items():
                if version != first.versions[program]:
                    raise InputError(
                        f"{name} has {program} {version}, {self.names[0]} has {first.versions[program]}; install the "
                        "same everywhere"
                    )

    def lost(self) -> str | None:
        """What has happened to another rank on this host, or None; called four times a second.

        A process that has ended with an exit status has reported its error itself, or ends because of another rank:
        for a moment it does not count as lost, so that the launcher can end all ranks.
        """
        found = [self._look(index) for index in self._watched]
        return next((what for what in found if what is not None), None)

    def _look(self, index: int) -> str | None:
        """Look once at a rank: what has happened to it, or None."""
        state, started, ended = status(self.places[index].process)
        name = f"{self.names[index]} (pid {self.places[index].process})"
        self._stopped[index] = self._stopped[index] + 1 if state == "T" else 0
        if self._stopped[index] >= STOPPED_LOOKS:
            return f"{name} was stopped by a signal (SIGSTOP or SIGTSTP) and did not go on"
        if started == self.places[index].started and state not in ("Z", "X"):
            return None
        self._gone[index] += 1
        if state == "Z" and ended & 127:
            full = ", as where /dev/shm is full" if ended & 127 == signal.SIGBUS else ""
            return f"{name} was killed by {_signal(ended & 127)}{full}"
        if self._gone[index] >= GONE_LOOKS:
            return f"{name} has died" + (f" with status {ended >> 8}" if state == "Z" else "")
        return None

    def speaks(self) -> bool:
        """Whether this rank is the one that reports a lost one: the first on its host that lives.

        A rank before it that has just ended may have reported it, and ended for that reason: it counts as living for
        as many looks as :meth:`lost` waits.
        """
        return not any(self._may_speak(index) for index in self._watched if index < self._rank)

    def _may_speak(self, index: int) -> bool:
        state, started, _ = status(self.places[index].process)
        if started == self.places[index].started and state not in ("Z", "X"):
            return state != "T"
        return self._gone[index] < GONE_LOOKS

    def threads(self, asked: int | None) -> int:
        """OpenMP threads of this rank: all ranks on a host together do not exceed the CPUs that they may use."""
        return split(self._sharing, asked, self.places[self._rank].usable)

    def room(self, threads: int) -> bool:
        """Whether all ranks that may run on this one's CPUs have one for each of so many threads."""
        return self._sharing * threads <= self.places[self._rank].usable

    @property
    def _sharing(self) -> int:
        """How many ranks may run on this one's CPUs."""
        here = self.places[self._rank]
        return sum((place.host, place.cpus) == (here.host, here.cpus) for place in self.places)

    def bound(self) -> str | None:
        """A warning if the launcher binds ranks to fewer CPUs than there are for them; else None."""
        for place, name in zip(self.places, self.names):
            ranks = sum(each.host == place.host for each in self.places)
            if place.cpus.strip("0") in ("1", "2", "4", "8") and place.machine >= 2 * ranks:
                return (
                    f"{name} is bound to one of {place.machine} CPUs: its threads share it; start with mpiexec "
                    "--bind-to none, or srun --cpus-per-task"
                )
        return None

    def on_hosts(self) -> str:
        """How many ranks are on each host, as ``"2 on node-a, 2 on node-b"``."""
        hosts = [place.host for place in self.places]
        return ", ".join(f"{hosts.count(host)} on {host}" for host in dict.fromkeys(hosts))
