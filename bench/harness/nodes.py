"""Nodes: machines that are pretended on this one, with links of a limited rate between them.

Each node is a set of Linux namespaces: its own network, host name and /dev/shm, so that MPI cannot take the short way
through shared memory. It needs root. The CPUs are shared: a node with one busy thread needs a core.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pyconv

TOOLS = ("ip", "tc", "nsenter", "unshare")
#: What a link sends at once: whole segments, as a network card cuts them up by itself. With less the kernel does so for
#: each packet, and takes more CPU than the networks that are trained.
BURST = "128kb"
NET = "10.78.0."


def unavailable() -> str | None:
    """Why there can be no nodes here, or None."""
    if os.geteuid() != 0:
        return "needs root, to make network namespaces"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"needs {', '.join(missing)} (iproute2, util-linux)"
    name = f"pyconv-try-{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"ip netns add: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=True)
    return None


def environment(**more: str) -> dict[str, str]:
    """The environment of a process on a node: it finds pyconv and the benchmarks, and has one thread."""
    bench = Path(__file__).parents[1]
    paths = [str(bench), str(Path(pyconv.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **more}


class Nodes:
    """So many nodes; a context manager.

    Parameters
    ----------
    count : int
    rate : str
        Of each node's link to the common switch, in each direction, in tc's words: ``"1gbit"``.
    """

    def __init__(self, count: int, rate: str) -> None:
        self._count, self._rate = count, rate
        self._name = f"pyconv-{os.getpid()}"
        self._switch = f"pcs{os.getpid()}"
        self._stack = contextlib.ExitStack()
        self._holders: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Nodes:
        try:
            self._make()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def address(self, node: int) -> str:
        """The address of a node, counted from 0."""
        return f"{NET}{node + 1}"

    def on(self, node: int, words: Sequence[str]) -> list[str]:
        """The command that runs `words` on a node."""
        ways = ["--net", "--uts", "--ipc", "--mount"]
        return ["nsenter", "--target", str(self._holders[node].pid), *ways, "--", *words]

    def mpiexec(self, python: Path, words: Sequence[str], nodes: int | None = None, each: int = 1) -> list[str]:
        """The command that runs `words` as `each` ranks on each of so many nodes, by default one on each node.

        The launcher is the MPICH's or Open MPI's beside the interpreter.
        """
        nodes = nodes or self._count
        return self.on(0, [*self.launcher(python, nodes, each), "-n", str(nodes * each), str(python), *words])

    def launcher(self, python: Path, nodes: int, each: int) -> list[str]:
        """MPI's launcher, which runs on the first node, and its flags for `each` ranks on each of so many nodes."""
        shell, hosts = str(self._shell), [self.address(node) for node in range(nodes)]
        launcher = str(python.parent / "mpiexec")
        if (python.parent / "mpichversion").exists():
            return [launcher, "-launcher", "rsh", "-launcher-exec", shell, "-hosts", ",".join(hosts), "-ppn", str(each)]
        how = ["--allow-run-as-root", "--bind-to", "none", "--prtemca", "plm_ssh_agent", shell]
        return [launcher, *how, "--host", ",".join(f"{host}:{each}" for host in hosts)]

    def link(self, node: int, up: bool) -> None:
        """Take a node's link away, as if its cable were pulled, or give it back."""
        _run("ip", "link", "set", self._outer(node), "up" if up else "down")

    def root(self, node: int) -> Path:
        """The folder that is a node's root."""
        return Path(f"/proc/{self._holders[node].pid}/root")

    def processes(self, node: int) -> list[int]:
        """The processes on a node."""
        holder, found = self._holders[node].pid, []
        own = Path(f"/proc/{holder}/ns/net").readlink()
        for each in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (each / "ns" / "net").readlink() == own and int(each.name) != holder:
                    found.append(int(each.name))
        return found

    def _outer(self, node: int) -> str:
        """The name of the switch's end of a node's link."""
        return f"pc{os.getpid()}x{node}"

    def _make(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="pyconv-nodes-")))
        _run("ip", "link", "add", self._switch, "type", "bridge")
        self._stack.callback(_try, "ip", "link", "del", self._switch)
        _run("ip", "link", "set", self._switch, "up")
        for node in range(self._count):
            self._node(node)
        # A remote shell, for launchers: options, a node's address, a command.
        cases = "\n".join(
            f'{self.address(node)}) set -- {shlex.join(self.on(node, ["sh", "-c"]))} "$*" ;;'
            for node in range(self._count)
        )
        self._shell = folder / "shell"
        self._shell.write_text(
            '#!/bin/sh\nwhile [ "${1#-}" != "$1" ]; do shift; done\nnode=$1; shift\n'
            f'case $node in\n{cases}\nesac\nexec "$@"\n'
        )
        self._shell.chmod(0o700)

    def _node(self, node: int) -> None:
        name, outer = f"{self._name}-{node}", self._outer(node)
        _run("ip", "netns", "add", name)
        self._stack.callback(_try, "ip", "netns", "del", name)
        _run("ip", "link", "add", outer, "type", "veth", "peer", "name", "eth0", "netns", name)
        self._stack.callback(_try, "ip", "link", "del", outer)
        _run("ip", "link", "set", outer, "master", self._switch, "up")
        within = ("ip", "-n", name)
        _run(*within, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        _run(*within, "link", "set", "lo", "up")
        _run(*within, "link", "set", "eth0", "up")
        limit = ("root", "tbf", "rate", self._rate, "burst", BURST, "latency", "50ms")
        _run("tc", "qdisc", "replace", "dev", outer, *limit)
        _run("ip", "netns", "exec", name, "tc", "qdisc", "replace", "dev", "eth0", *limit)
        begin = (
            f"hostname node{node + 1} && mount -t tmpfs -o size=2g none /dev/shm && echo ready && exec sleep infinity"
        )
        words = ["ip", "netns", "exec", name, "unshare", "--uts", "--ipc", "--mount", "sh", "-c", begin]
        holder = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        self._stack.callback(_end, holder)
        self._holders.append(holder)
        assert holder.stdout is not None and holder.stdout.readline() == "ready\n", f"node {node} does not begin"


def _run(*words: str) -> None:
    subprocess.run(words, check=True)


def _try(*words: str) -> None:
    subprocess.run(words, capture_output=True)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()
