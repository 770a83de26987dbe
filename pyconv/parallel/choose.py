"""Which engine runs a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..backends import get
from ..errors import InputError
from ..threads import split
from ..values import choice, integer
from .engine import Engine, InProcess, Job
from .room import check_room
from .rules import RULES, rule_for
from .sampler import check_shares

if TYPE_CHECKING:
    from ..nn import Sequential

UPDATES = tuple(RULES)
ON_FAILURE = ("restart", "drop", "abort")


def worker_count(workers: int | str) -> int | None:
    """Check a number of workers.

    Parameters
    ----------
    workers : int or "auto"

    Returns
    -------
    int or None
        None for "auto": :func:`advised_workers` then chooses.

    Raises
    ------
    InputError
        If it is neither a positive integer nor "auto".
    """
    return None if isinstance(workers, str) and workers == "auto" else integer(workers, "workers", minimum=1)


def advised_workers(model: Sequential, images: int, job: Job, *, shared: bool = False) -> tuple[int, str]:
    """How many workers train fastest here, by the cost model's measurement of this machine and network, and why.

    Never more than there are CPUs that the process may use; a GPU is kept busy by one.

    Parameters
    ----------
    model : Sequential
        Timed at its gradient for about a second; its parameters stay as they are.
    images : int
        In an epoch.
    job : Job
        Its batch size, update rule, backend and threads count.
    shared : bool
        Whether the batch is that of all workers together, and each takes its share of it.

    Returns
    -------
    workers : int
    reason : str
        For the log.
    """
    from ..costmodel import advise
    from ..costmodel.advice import why_no_room
    from ..threads import usable_cpus

    backend = get(job.backend)
    if backend.name == "cuda":
        return 1, "one process keeps a GPU busy"
    threads = job.threads_per_worker
    if threads is not None:
        threads = backend.threads(integer(threads, "threads_per_worker", minimum=1))
    cpus = usable_cpus()
    if cpus // (threads or 1) < 2:
        return 1, why_no_room(cpus, threads or 1)
    rule = rule_for(job.update, job.options).name
    advice = advise(
        model,
        job.batch_size,
        rule if rule in RULES else "sync",  # a rule of the user's own is taken to meet as often
        images=images,
        backend=backend.name,
        cpus=min(cpus, images * (threads or 1)),  # each worker needs an image
        threads=threads,
        shared=shared,
    )
    return advice.workers, advice.reason


def engine_for(model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> Engine:
    """The engine that runs a job: in this process for one worker, else a parameter server.

    Parameters
    ----------
    model : Sequential
        Trained in place.
    x : (N, ...) ndarray of uint8, float32 or float64
        Images, C-contiguous, checked.
    labels : (N,) ndarray of int64
        Checked.
    job : Job

    Returns
    -------
    Engine
        To be closed.

    Raises
    ------
    UnknownNameError
        If the update rule, one of its options or the reaction to a failure is not known.
    InputError
        If the job cannot be run here; the message says what to change.
    SharedMemoryError
        If ``/dev/shm`` is too small for the workers.
    """
    rule_for(job.update, job.options)
    choice(job.on_worker_failure, "reaction to a worker's failure", ON_FAILURE)
    check_shares(len(x), job.batch_size, job.workers, model.least_batch)
    if job.workers == 1:
        if get(job.backend).name == "cuda":
            from .on_gpu import OnGPU

            return OnGPU(model, x, labels, job)
        check_room(0, 0, get(job.backend).threads(split(1, job.threads_per_worker)))
        return InProcess(model, x, labels, job)
    if job.workers > len(x):
        raise InputError(f"workers={job.workers}: there are only {len(x)} images to share out")
    try:
        from .server import ParameterServer
    except ImportError as error:
        raise InputError(
            f"workers={job.workers} needs the compiled modules ({error}); build them with `pip install -e .`, "
            "or use workers=1"
        ) from None
    return ParameterServer(model, x, labels, job)
