"""Processes that a rank starts beside itself: one that looks after it, and one that outlives it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

#: A launcher that waits for its daemons on all hosts when it ends, and their links' time-outs, which take minutes.
WAITS = "prterun"  # Open MPI's
WAIT_S = 3.0  # it has for the daemons that it can reach


def begin_sentinel(connections: Sequence[int]) -> subprocess.Popen[bytes] | None:
    """Start this process's :mod:`.sentinel`, or none where no process can be started.

    Parameters
    ----------
    connections : sequence of int
        Descriptors of the connections to other hosts.
    """
    words = [sys.executable, "-I", "-S", str(Path(__file__).with_name("sentinel.py")), str(os.getpid())]
    with contextlib.suppress(OSError):
        return subprocess.Popen(
            [*words, *map(str, connections)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=connections, env={}, cwd="/",
        )  # fmt: skip
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
