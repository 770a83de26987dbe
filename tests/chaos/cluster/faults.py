"""The faults: what each does to a run, and what must come of it."""

from __future__ import annotations

import dataclasses
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil

from .plan import Plan
from .rig import Rig, Running

Ranks = dict[int, psutil.Process]

STRIKE = signal.SIGUSR1  # tells a rank whose program has the fault planted that it is time


def _to_rank(number: int) -> Callable[[Rig, Plan, Running, Ranks], None]:
    return lambda rig, plan, run, ranks: ranks[plan.victim].send_signal(number)


def _to_launcher(number: int) -> Callable[[Rig, Plan, Running, Ranks], None]:
    return lambda rig, plan, run, ranks: run.process.send_signal(number)


def _link(rig: Rig, plan: Plan, run: Running, ranks: Ranks) -> None:
    rig.nodes.link(plan.node, up=False)


def _fill(rig: Rig, node: int, path: Path) -> None:
    words = ["sh", "-c", f"cat /dev/zero > {path} 2>/dev/null || true"]
    subprocess.run(rig.nodes.on(node, words), check=True)


def _disk(rig: Rig, plan: Plan, run: Running, ranks: Ranks) -> None:
    _fill(rig, 0, rig.disk / "filled")


def _other_disk(rig: Rig, plan: Plan, run: Running, ranks: Ranks) -> None:
    _fill(rig, plan.nodes - 1, rig.disk / "filled")


def _memory(rig: Rig, plan: Plan, run: Running, ranks: Ranks) -> None:
    _fill(rig, plan.node, Path("/dev/shm/pyconv-filled"))


@dataclasses.dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes
    ----------
    strike : callable
        ``strike(rig, plan, run, ranks)``.
    says : str
        A pattern of the one line that names the cause. ``{rank}`` is the victim's name.
    planted : bool
        Whether it is in the rank's program (:mod:`.planted`).
    silent : bool
        Whether the launcher may be the one that names it: it may end all ranks before another one notices.
    harmless : bool
        Whether the run has to go on to its end.
    mostly : bool
        Whether it may do so: Open MPI's ranks on one node die of SIGBUS where their shared memory has no room.
    """

    strike: Callable[[Rig, Plan, Running, Ranks], None]
    says: str = ""
    planted: bool = False
    silent: bool = False
    harmless: bool = False
    mostly: bool = False


FAULTS = {
    "exception": Fault(_to_rank(STRIKE), r"{rank}: failed: ValueError: planted", planted=True),
    "SIGKILL": Fault(_to_rank(signal.SIGKILL), r"{rank} .*(was killed by SIGKILL|has died)", silent=True),
    "SIGSTOP": Fault(_to_rank(signal.SIGSTOP), r"{rank} .*was stopped by a signal"),
    "link": Fault(_link, r"rank \d on node\d cannot be reached"),
    "disk": Fault(_disk, r".*No space left"),
    "NaN": Fault(_to_rank(STRIKE), r"({rank}: )?.*(diverged|not finite)", planted=True),
    "Ctrl-C": Fault(_to_launcher(signal.SIGINT), r"interrupted by SIG", silent=True),
    "SIGTERM": Fault(_to_launcher(signal.SIGTERM), r"interrupted by SIG", silent=True),
    "disk of another node": Fault(_other_disk, harmless=True),
    "shared memory": Fault(_memory, r"rank \d on {node} .*(was killed by SIGBUS|has died)", silent=True, mostly=True),
}


def words(plan: Plan, rig: Rig) -> list[str]:
    """What the ranks of a plan run."""
    flags = rig.flags(plan, rig.disk / "run")
    if FAULTS[plan.fault].planted:
        return ["-m", "chaos.cluster.planted", plan.fault, str(plan.victim), *flags]
    return ["-m", "pyconv.train", *flags]


def named(plan: Plan, line: str) -> bool:
    """Whether a line names the cause."""
    rank = rf"rank {plan.victim} on node{plan.node + 1}"
    pattern = FAULTS[plan.fault].says.replace("{rank}", rank).replace("{node}", f"node{plan.node + 1}")
    return re.match(rf"pyconv: (error: )?{pattern}", line) is not None
