"""How many threads: what the process may use, what the user asked for, and what is safe after a fork.

Everything that starts threads or workers asks here, so that workers times threads never exceeds what the
scheduler will give.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from pathlib import Path

from . import runlog
from .errors import InputError, shown
from .limits import CGROUPS, OWN_CGROUPS, cgroup_folders
from .values import integer

VARIABLE = "PYCONV_NUM_THREADS"
OPENMPS = "OMP_NUM_THREADS"

MOST = max(1024, os.cpu_count() or 1)
"""More threads than this are a slip: starting them would exhaust the system's, not make anything faster."""

SPINS = "300"
"""How often a thread of OpenMP's looks for its next work before it sleeps: :func:`load_openmp`."""

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")
"""Variables by which a user decides that."""

_log = runlog.logger("pyconv")
_importing_process = os.getpid()
_warned_of_fork = False


def load_openmp() -> None:
    """Load OpenMP's library, with threads that wait for each other for microseconds before they sleep.

    GNU OpenMP's spin for milliseconds otherwise: beside another busy program they then take the CPU from the thread
    that they wait for, and two threads are slower than one. The library reads the variable once, when it is loaded; it
    is set for that moment only, so that child processes and other libraries find what the user has set. Where another
    package has loaded the library already, or the user has decided, nothing changes. Decision 18 has the measurements.
    """
    if any(name in os.environ for name in WAITING):
        return
    os.environ["GOMP_SPINCOUNT"] = SPINS
    try:
        with contextlib.suppress(ImportError):  # not built: who needs it says so
            importlib.import_module("pyconv._naive")
    finally:
        del os.environ["GOMP_SPINCOUNT"]


def affinity() -> int:
    """CPUs that the scheduler may place this process on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_quota(root: Path = CGROUPS, self_cgroup: Path = OWN_CGROUPS) -> float | None:
    """CPUs' worth of time that the control group grants, or None where there is no limit.

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
    """`number` with its noun, in the plural where it is one: "1 thread", "2 threads"."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def usable_cpus() -> int:
    """CPUs that this process may really use: affinity, cut down to the control group's quota."""
    quota = cgroup_quota()
    cpus = affinity()
    return cpus if quota is None else max(1, min(cpus, math.ceil(quota)))


def openmps_limit() -> int | None:
    """Threads that `OMP_NUM_THREADS` grants (of a list, as for nested regions, the first), or None: no limit.

    What is no positive integer is no limit, as in OpenMP.
    """
    try:
        count = int(os.environ.get(OPENMPS, "").partition(",")[0])
    except ValueError:
        return None
    return count if count > 0 else None


# Read once, as OpenMP's own library does: while workers start, the variable holds what is meant for them.
_openmps_limit = openmps_limit()


def default() -> int:
    """Threads of an operation when the caller does not say.

    `PYCONV_NUM_THREADS`; or every usable CPU, but not more than `OMP_NUM_THREADS`, which people and schedulers set.
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
    """A number of threads that the user asks for, checked."""
    return integer(count, name, minimum=1, maximum=MOST)


def resolve(requested: int | None) -> int:
    """Threads to run on: `requested`, or the default; one in a forked child.

    GNU OpenMP hangs in a child forked from a process that has already run a parallel region, so a child that
    inherited this module computes on one thread and says so once. Workers are spawned and do not inherit it.
    """
    count = default() if requested is None else asked_for(requested, "threads")
    if count > 1 and os.getpid() != _importing_process:
        global _warned_of_fork
        if not _warned_of_fork:
            _warned_of_fork = True
            _log.warning("this process was forked after pyconv was imported: operations run on one thread here")
        return 1
    return count


def split(workers: int, threads_per_worker: int | None = None, cpus: int | None = None) -> int:
    """Threads of each of `workers` processes so that together they do not exceed the usable CPUs.

    An explicit `threads_per_worker` is honoured as it is: the user has asked for it. Else the variables that
    :func:`default` reads say how many each process may have at most.
    """
    if threads_per_worker is not None:
        return asked_for(threads_per_worker, "threads_per_worker")
    if workers == 1 and cpus is None:
        return default()
    share = max(1, (usable_cpus() if cpus is None else cpus) // max(1, workers))
    limit = default() if VARIABLE in os.environ else _openmps_limit
    return share if limit is None else min(share, limit)
