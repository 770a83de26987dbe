"""How many threads an operation or a worker runs on, from the CPUs, the user's request and whether it is safe.

All code that starts threads or workers asks here, so that workers times threads never exceeds what the scheduler will
give.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from . import runlog, waiting
from .errors import InputError, shown
from .limits import CGROUPS, OWN_CGROUPS, cgroup_folders
from .values import integer

VARIABLE = "PYCONV_NUM_THREADS"
OPENMPS = "OMP_NUM_THREADS"

MOST = max(1024, os.cpu_count() or 1)
"""The most threads: a larger number is a mistake, and would exhaust the system."""

_log = runlog.logger("pyconv")
_importing_process = os.getpid()
_warned_of_fork = False


def affinity() -> int:
    """CPUs that the scheduler may place this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_quota(root: Path = CGROUPS, self_cgroup: Path = OWN_CGROUPS) -> float | None:
    """The CPU time that the control groups grant, as a number of CPUs, or None if there is no limit.

    Reads version 2 (``cpu.max`` of the process's group and of every group above it) and version 1
    (``cpu.cfs_quota_us`` over ``cpu.cfs_period_us``); the tightest limit counts.
    """
    quotas = []
    for folder in cgroup_folders("cpu", root, self_cgroup):
        try:
            quota, period = (folder / "cpu.max").read_text().split()
        except (OSError, ValueError):
            try:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            except OSError:
                continue
        try:
            share = int(quota) / int(period)
        except (ValueError, ZeroDivisionError):  # "max": no limit here
            continue
        if share > 0:
            quotas.append(share)
    return min(quotas, default=None)


def counted(number: int, thing: str) -> str:
    """`number` with its noun in the singular or plural: "1 thread", "2 threads"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def usable_cpus() -> int:
    """CPUs that this process can use at once: affinity, or the control groups' quota if that is less."""
    quota = cgroup_quota()
    cpus = affinity()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def openmps_limit() -> int | None:
    """The number of threads that `OMP_NUM_THREADS` allows (the first, if it is a list for nested regions), or None.

    As in OpenMP, anything but a positive integer is no limit.
    """
    try:
        count = int(os.environ.get(OPENMPS, "").partition(",")[0])
    except ValueError:
        return None
    return count if count > 0 else None


# Read once, as OpenMP's own library does: while workers are started, the variable holds the workers' value.
_openmps_limit = openmps_limit()


def default() -> int:
    """Threads of an operation if the caller gives no number.

    `PYCONV_NUM_THREADS`; else every usable CPU, but at most `OMP_NUM_THREADS`, which users and schedulers set.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        cpus = usable_cpus()
        return cpus if _openmps_limit is None else min(cpus, _openmps_limit)
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= MOST:
        raise InputError(f"{VARIABLE} must be an integer from 1 to {MOST}, not {shown(text)}")
    return count


def asked_for(count: int, name: str) -> int:
    """The user's number of threads, checked."""
    return integer(count, name, minimum=1, maximum=MOST)


def resolve(requested: int | None) -> int:
    """Threads to run on: `requested`, or the default; one in a forked child.

    GNU OpenMP hangs in a child that was forked from a process which had already run a parallel region. So a child that
    inherited this module computes on one thread, and says so once. Workers are spawned and do not inherit it.
    """
    count = default() if requested is None else asked_for(requested, "threads")
    if count > 1 and os.getpid() != _importing_process:
        global _warned_of_fork
        if not _warned_of_fork:
            _warned_of_fork = True
            _log.warning("this process was forked after pyconv was imported: operations run on one thread here")
        return 1
    waiting.watch(count)
    return count


def split(workers: int, threads_per_worker: int | None = None, cpus: int | None = None) -> int:
    """Threads of each of `workers` processes so that together they do not exceed the usable CPUs.

    A `threads_per_worker` that the user gives is not changed. Otherwise the variables that :func:`default` reads limit
    the threads of each process.
    """
    if threads_per_worker is not None:
        return asked_for(threads_per_worker, "threads_per_worker")
    if workers == 1 and cpus is None:
        return default()
    share = max(1, (usable_cpus() if cpus is None else cpus) // max(1, workers))
    limit = default() if VARIABLE in os.environ else _openmps_limit
    return share if limit is None else min(share, limit)
