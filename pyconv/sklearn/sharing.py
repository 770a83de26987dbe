"""Decides how many workers and threads a fit may use when joblib runs several jobs at once."""

from __future__ import annotations

import threading
from typing import Any

import joblib
from joblib.parallel import get_active_backend

from .. import threads
from ..errors import InputError
from ..parallel.guard import is_daemonic
from ..values import integer


def workers_and_threads(n_jobs: Any) -> tuple[int, int | None]:
    """How many workers to train with, and the threads of each; None: the CPUs are divided among the workers.

    If joblib runs several jobs, each of them takes one worker. In a process of its own, which cannot start others, it
    uses as many threads as ``OMP_NUM_THREADS`` says, where joblib writes each process's share of the CPUs. In a thread,
    beside an unknown number of others, it uses one. A daemonic process may not start workers either.

    Parameters
    ----------
    n_jobs : int or None
        As in scikit-learn: None is 1, unless ``joblib.parallel_config`` says otherwise; -1 is every CPU.

    Raises
    ------
    InputError
        If it is no integer, or 0.
    """
    if n_jobs is not None and integer(n_jobs, "n_jobs", minimum=-(2**31), maximum=threads.MOST) == 0:
        raise InputError("n_jobs must be a number of workers, or negative to count from all CPUs, not 0")
    if nested() or is_daemonic():
        return 1, threads_here()
    if n_jobs is not None and n_jobs < 0:  # joblib ignores quotas of control groups, and OMP_NUM_THREADS
        return max(threads.default() + 1 + n_jobs, 1), None
    return joblib.effective_n_jobs(n_jobs), None


def threads_here() -> int | None:
    """Threads of an operation in this thread: one in a thread of joblib's, else as many as there are CPUs."""
    return 1 if in_a_thread() else None


def nested() -> bool:
    """Whether this is one of several jobs that joblib runs."""
    backend, _ = get_active_backend()
    return bool(backend.nesting_level)


def in_a_thread() -> bool:
    """Whether this is such a job in a thread, beside others in this process."""
    return nested() and threading.current_thread() is not threading.main_thread()
