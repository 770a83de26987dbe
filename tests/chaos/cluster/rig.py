"""The nodes of the campaign, and a run on them."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from harness.nodes import Nodes

from .plan import NETWORK, SPLITS, Plan

MOST = 4  # nodes
PATIENCE_S = 90.0  # seconds for a run without a fault
ROOM = "24m"  # of each node's own disk
HERE = Path(__file__).parent


class Rig:
    """Nodes, each with a small disk of its own at `disk`; a context manager.

    Parameters
    ----------
    pythons : dict of str to Path
        Interpreters by the MPI beside them.
    """

    def __init__(self, pythons: dict[str, Path]) -> None:
        self.pythons = pythons
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Rig:
        try:
            self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pyconv-chaos-")))
            self.disk = self.folder / "disk"
            self.disk.mkdir()
            rng = np.random.default_rng(5)
            x, y = rng.integers(0, 256, (420, 12, 12, 1)).astype(np.uint8), np.arange(420) % 7
            np.savez(self.folder / "d.npz", x=x, y=y)
            (self.folder / "net.toml").write_text(NETWORK)
            self.nodes = self._stack.enter_context(Nodes(MOST, "1gbit"))
            for node in range(MOST):
                subprocess.run(self.nodes.on(node, ["mount", "-t", "tmpfs", "none", str(self.disk)]), check=True)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def see(self, node: int, path: Path) -> Path:
        """A path of a node's own, as this process sees it."""
        return self.nodes.root(node) / path.relative_to("/")

    def fresh(self) -> None:
        """Empty all disks, and give all links."""
        for node in range(MOST):
            self.nodes.link(node, up=True)
            words = f"umount {self.disk}; mount -t tmpfs -o size={ROOM} none {self.disk}; rm -f /dev/shm/pyconv-filled"
            subprocess.run(self.nodes.on(node, ["sh", "-c", words]), check=True)

    def common(self, split: str, out: Path) -> list[str]:
        """The flags of a training, without those of how its work is divided."""
        data, network = str(self.folder / "d.npz"), str(self.folder / "net.toml")
        flags = ["--progress", "plain", "--data", data, "--model", network, "--shift", "1", "--out", str(out)]
        return [*flags, "--epochs", str(SPLITS[split].epochs)]

    def flags(self, plan: Plan, out: Path) -> list[str]:
        """The flags of a plan's training."""
        often = ["--checkpoint-every", "0.3", "--resume", "auto"]
        return [*self.common(plan.split, out), *often, *SPLITS[plan.split].flags(plan.split, plan.ranks)]

    def start(self, plan: Plan, words: list[str]) -> Running:
        """Start ranks that run `words`, as the plan lays them out."""
        python = self.pythons[plan.mpi]
        return Running(self, self.nodes.mpiexec(python, words, plan.nodes, plan.each), plan)

    def restarted(self, plan: Plan, most: int) -> Running:
        """Start the ranks of a plan through ``python -m pyconv.cluster``, which starts them again so often."""
        python = self.pythons[plan.mpi]
        launcher = shlex.join(self.nodes.launcher(python, plan.nodes, plan.each))
        own = ["-n", str(plan.ranks), "--restarts", str(most), "--mpiexec", launcher]
        flags = [*self.common(plan.split, self.disk / "run"), "--checkpoint-every", "0.3"]
        flags += SPLITS[plan.split].flags(plan.split, plan.ranks)
        return Running(self, self.nodes.on(0, [str(python), "-m", "pyconv.cluster", *own, "--", *flags]), plan)

    def alone(self, words: list[str]) -> None:
        """Train in one process, which has to end well."""
        done = subprocess.run(
            [sys.executable, *words], cwd=self.folder, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr


class Running:
    """A run on nodes.

    Attributes
    ----------
    process : Popen
        Of the launcher.
    """

    def __init__(self, rig: Rig, words: list[str], plan: Plan) -> None:
        self._rig, self._plan = rig, plan
        self._out, self._err = rig.folder / "out.txt", rig.folder / "err.txt"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = psutil.Popen(
                words, stdout=out, stderr=err, stdin=subprocess.DEVNULL, cwd=rig.folder, env=environment()
            )

    @property
    def out(self) -> str:
        """What it has written to standard output."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """The same, to standard error."""
        return self._err.read_text()

    @property
    def said(self) -> list[str]:
        """The lines of pyconv's on standard error that are no tracebacks."""
        return [line[line.index("pyconv: ") :] for line in self.err.splitlines() if "pyconv: " in line]

    def ranks(self) -> dict[int, psutil.Process]:
        """The processes of pyconv, by rank."""
        found = {}
        for node in range(self._plan.nodes):
            for number in self._rig.nodes.processes(node):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(number)
                    environment = process.environ()
                    rank = environment.get("PMI_RANK", environment.get("OMPI_COMM_WORLD_RANK"))
                    if rank is not None and "python" in process.name():
                        found[int(rank)] = process
        return found

    def until(self, what: str) -> None:
        """Wait until standard output has that in it."""
        end = time.monotonic() + PATIENCE_S
        while what not in self.out:
            assert self.process.poll() is None, f"it ended too soon: {self.out} {self.err}"
            assert time.monotonic() < end, f"{what!r} does not come: {self.out} {self.err}"
            time.sleep(0.02)

    def gone(self, ranks: list[psutil.Process], seconds: float) -> float | None:
        """Seconds from now until the last of the ranks has gone; None if one is still there after `seconds`."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            if not any(alive(rank) for rank in ranks):
                return time.monotonic() - began
            time.sleep(0.02)
        return None

    def left(self) -> dict[int, str]:
        """What is on the run's nodes beside the nodes' own processes: names by process."""
        found = {}
        for node in range(self._plan.nodes):
            for number in self._rig.nodes.processes(node):
                with contextlib.suppress(psutil.Error):
                    process = psutil.Process(number)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found[number] = f"node{node + 1}: {' '.join(process.cmdline())[:80]}"
        return found

    def end(self) -> None:
        """Kill what is still there."""
        for number in self.left():
            with contextlib.suppress(psutil.Error):
                psutil.Process(number).kill()
        with contextlib.suppress(psutil.NoSuchProcess):
            self.process.kill()
        self.process.wait()


def alive(process: psutil.Process) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def environment() -> dict[str, str]:
    """The environment of a process that finds this package, and the installed or checked-out pyconv."""
    root = HERE.parents[2]
    paths = [str(root / "tests"), str(root / "bench"), str(root), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": "1"}


def shared_memory(rig: Rig) -> set[str]:
    """Names in every node's /dev/shm."""
    places = {node: rig.see(node, Path("/dev/shm")) for node in range(MOST)}
    return {f"node{node + 1}: {each.name}" for node, place in places.items() for each in place.iterdir()}
