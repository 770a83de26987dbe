"""Sentinel: a small process beside a rank that has no other on its host; it tells other hosts if the rank is stopped.

    python -I -S sentinel.py PROCESS DESCRIPTOR...

The descriptors are those of the rank's connections (:mod:`.watch`). It ends when its standard input does, that is, when
the rank ends. It imports nothing of pyconv, so that it is small and begins at once.
"""

import contextlib
import os
import select
import socket
import sys
from pathlib import Path

LOOK_S = 0.25
LOOKS = 12  # after so many looks in a row that find the rank stopped, the other hosts are told


def state(process: int) -> str:
    """A process's state, in the kernel's letters; empty if there is none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def main(process: int, descriptors: list[int]) -> None:
    """Look until the rank ends, or is stopped."""
    stopped = 0
    while not select.select([0], [], [], LOOK_S)[0]:
        stopped = stopped + 1 if state(process) == "T" else 0
        if stopped >= LOOKS:
            break
    else:
        return
    for each in descriptors:
        with contextlib.suppress(OSError):
            socket.socket(fileno=os.dup(each)).send(b"S", socket.MSG_DONTWAIT)
    select.select([0], [], [])


if __name__ == "__main__":
    main(int(sys.argv[1]), [int(each) for each in sys.argv[2:]])
