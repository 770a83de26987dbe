"""What the system grants this process: memory, processes, descriptors and sizes of files.

Limits are read from the process's control group (version 2 or 1) and the groups above it, from the process's own limits
and from ``/proc``. If something cannot be read, it counts as unlimited.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
NO_LIMIT = 1 << 60  # bytes; version 1 writes a number near 2**63 if there is no limit


class Limit(NamedTuple):
    """A limit on something: the most that there may be, and how much of that is left."""

    most: int
    left: int


def cgroup_folders(controller: str, root: Path = CGROUPS, self_cgroup: Path = OWN_CGROUPS) -> list[Path]:
    """The process's control group and those above it, under both versions' mount points."""
    folders = [root, root / controller]
    try:
        lines = self_cgroup.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = root
        elif controller in controllers.split(","):
            mount = root / controller
        else:
            continue
        folder = mount / path.strip("/")
        while folder != mount and mount in folder.parents:
            folders.append(folder)
            folder = folder.parent
    return folders


def memory(root: Path = CGROUPS, self_cgroup: Path = OWN_CGROUPS) -> Limit | None:
    """Bytes of memory that the control groups grant, by the tightest limit; None if there is none.

    The page cache counts as left, because the kernel frees it first, and so does swap that the group may use.
    """
    found = []
    swap = _table(Path("/proc/meminfo")).get("SwapFree", 0) * 1024
    for folder in cgroup_folders("memory", root, self_cgroup):
        most, used = _number(folder / "memory.max"), _number(folder / "memory.current")
        own_swap, prefix = swap, ""
        if most is not None and used is not None:
            swap_most, swap_used = _number(folder / "memory.swap.max"), _number(folder / "memory.swap.current")
            if swap_most is not None:
                own_swap = min(swap, max(0, swap_most - (swap_used or 0)))
        else:
            most, used = _number(folder / "memory.limit_in_bytes"), _number(folder / "memory.usage_in_bytes")
            prefix = "total_"
        if most is None or used is None or most >= NO_LIMIT:
            continue
        pages = _table(folder / "memory.stat")
        files = sum(pages.get(prefix + name, 0) for name in ("inactive_file", "active_file"))
        found.append(Limit(most, max(0, most - used + min(files, used)) + own_swap))
    return min(found, key=lambda limit: limit.left, default=None)


def machine_memory() -> Limit | None:
    """Bytes of memory that the machine has, swap included; None if that cannot be read."""
    table = _table(Path("/proc/meminfo"))
    if "MemTotal" not in table or "MemAvailable" not in table:
        return None
    most, left = (table[name] + table.get(swap, 0) for name, swap in (("MemTotal", "SwapTotal"),
                                                                      ("MemAvailable", "SwapFree")))  # fmt: skip
    return Limit(1024 * most, 1024 * left)


def amount(count: int) -> str:
    """A number of bytes, in words."""
    for power, unit in ((30, "GB"), (20, "MB")):
        if count >= 1 << power:
            return f"{count / (1 << power):,.1f} {unit}"
    return f"{count / 2**10:.1f} kB"


def shortage(needed: int) -> str | None:
    """Why so many more bytes of memory cannot be had.

    Parameters
    ----------
    needed : int
        Bytes beside those that are in use.

    Returns
    -------
    str or None
        The limit, what is left of it, and how to raise it, for a message. None if the bytes can be had.
    """
    found = (
        (memory(), "the control group's limit of {} leaves {}; raise memory.max (--memory for a container)"),
        (machine_memory(), "of the machine's {} of memory {} are left; end other programs"),
    )
    for limit, words in found:
        if limit is not None and needed > limit.left:
            return words.format(amount(limit.most), amount(limit.left))
    return None


def processes(root: Path = CGROUPS, self_cgroup: Path = OWN_CGROUPS) -> Limit | None:
    """Processes and threads that the control groups grant, or None if there is no limit."""
    found = []
    for folder in cgroup_folders("pids", root, self_cgroup):
        most, now = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None and now is not None:
            found.append(Limit(most, max(0, most - now)))
    return min(found, key=lambda limit: limit.left, default=None)


def descriptors(needed: int) -> Limit | None:
    """Descriptors that this process may have open. The limit is first raised for `needed` more, if that is allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        now = len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - as little work as can be, the listing's own is one
    except OSError:
        return None
    if soft == resource.RLIM_INFINITY:
        return None
    if soft - now < needed and (hard == resource.RLIM_INFINITY or hard >= now + needed):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (now + needed, hard))
            soft = now + needed
    return Limit(soft, max(0, soft - now))


def file_size() -> Limit | None:
    """The largest file that this process may write, in bytes, or None if there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else Limit(soft, soft)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max", too
        return None


def _table(path: Path) -> dict[str, int]:
    """The content of a file of lines with a name and a number."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.replace(":", " ").split() for line in lines]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}
