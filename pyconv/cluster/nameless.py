"""Takes the names of MPICH's shared memory away once all ranks have it: so nothing is left when ranks are killed.

MPICH removes the names at its end. A rank that is killed does not come to it, nor do those that an abort ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

PREFIX = "/dev/shm/mpich_shm_"


def unname(maps: Path = Path("/proc/self/maps"), prefix: str = PREFIX) -> None:
    """Remove the names of shared memory of MPICH's that this process has mapped.

    All ranks of this host must have mapped it by then. The memory itself lasts as long as a process has it.

    Parameters
    ----------
    maps : Path
        What the process has mapped, as the kernel lists it.
    prefix : str
    """
    with contextlib.suppress(OSError):
        for name in _names(maps.read_text().splitlines(), prefix):
            with contextlib.suppress(OSError):  # another rank has done so
                Path(name).unlink()


def _names(lines: Iterable[str], prefix: str) -> set[str]:
    found = {line[line.index(prefix) :] for line in lines if prefix in line}
    return {name for name in found if not name.endswith(" (deleted)")}
