"""Chooses the engine that runs a job: one process, one process with a GPU, or several workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..backends import get
from ..errors import InputError
from ..threads import split
from ..values import choice, integer
from .accumulating import Accumulating, check_micro
from .engine import Engine, InProcess, Job
from .room import check_room
from .rules import RULES
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
        None for "auto": :func:`pyconv.costmodel.advised_workers` then chooses.

    Raises
    ------
    InputError
        If it is neither a positive integer nor "auto".
    """
    return None if isinstance(workers, str) and workers == "auto" else integer(workers, "workers", minimum=1)


def engine_for(model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> Engine:
    """The engine of a job: in this process for one worker, else a parameter server.

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
        The caller closes it.

    Raises
    ------
    UnknownNameError
        If the update rule, one of its options or the reaction to a failure is unknown.
    InputError
        If the job cannot be run here; the message says what to change.
    SharedMemoryError
        If ``/dev/shm`` is too small for the workers.
    """
    _ = job.rule  # raises an error if the rule or an option is wrong
    choice(job.on_worker_failure, "reaction to a worker's failure", ON_FAILURE)
    if job.micro_batches > 1:
        check_micro(job, len(x), model.least_batch)
    else:
        check_shares(len(x), job.batch_size, job.workers, model.least_batch)
    if job.workers == 1:
        if get(job.backend).name == "cuda":
            from .on_gpu import OnGPU

            return OnGPU(model, x, labels, job)
        check_room(0, 0, get(job.backend).threads(split(1, job.threads_per_worker)))
        return InProcess(model, x, labels, job) if job.micro_batches == 1 else Accumulating(model, x, labels, job)
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
