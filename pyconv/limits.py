"""What the system grants this process: memory, processes, descriptors and sizes of files.

Read from the control group (version 2 or 1) and those above it, from the process's own limits and from ``/proc``. What
cannot be read is no limit.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path
from typing import NamedTuple

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
NO_LIMIT = 1 << 60  # bytes; version 1 writes a number near 2**63 where there is none


class Limit(NamedTuple):
    """Of something, how much there may be, and how much of that is left."""

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
    """Bytes of memory that the control group grants, the tightest where several do, or None where none does.

    Pages of files count as left, since the kernel gives them back first, and so does swap that the group may use.
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
    """Bytes of memory that the machine has, swap included, or None where it does not say."""
    table = _table(Path("/proc/meminfo"))
    if "MemTotal" not in table or "MemAvailable" not in table:
        return None
    most, left = (table[name] + table.get(swap, 0) for name, swap in (("MemTotal", "SwapTotal"),
                                                                      ("MemAvailable", "SwapFree")))  # fmt: skip
    return Limit(1024 * most, 1024 * left)


def processes(root: Path = CGROUPS, self_cgroup: Path = OWN_CGROUPS) -> Limit | None:
    """Processes and threads that the control group grants, or None where it sets no limit."""
    found = []
    for folder in cgroup_folders("pids", root, self_cgroup):
        most, now = _number(folder / "pids.max"), _number(folder / "pids.current")
        if most is not None and now is not None:
            found.append(Limit(most, max(0, most - now)))
    return min(found, key=lambda limit: limit.left, default=None)


def descriptors(needed: int) -> Limit | None:
    """Descriptors that this process may have open, after making them as many more as `needed` where it may do so."""
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
    """Bytes that a file of this process may have, or None where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return None if soft == resource.RLIM_INFINITY else Limit(soft, soft)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max", too
        return None


def _table(path: Path) -> dict[str, int]:
    """The numbers of a file of names and numbers."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    words = [line.replace(":", " ").split() for line in lines]
    return {line[0]: int(line[1]) for line in words if len(line) > 1 and line[1].isdigit()}
