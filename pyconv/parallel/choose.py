"""Which engine runs a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError, unknown_name
from ..shapes import integer
from .engine import Engine, InProcess, Job

if TYPE_CHECKING:
    from ..nn import Sequential

UPDATES = ("sync", "async", "ssp", "hogwild", "local", "easgd")
ON_FAILURE = ("restart", "drop", "abort")


def worker_count(workers: int | str) -> int:
    """`workers` as a number; "auto" chooses it for this machine.

    In one process every operation runs on all cores, so one worker leaves none idle.

    Raises
    ------
    InputError
        If it is neither a positive integer nor "auto".
    """
    return 1 if workers == "auto" else integer(workers, "workers", minimum=1)


def engine_for(model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> Engine:
    """The engine that runs `job` on `model` and the data: in this process for one worker.

    Raises
    ------
    UnknownNameError
        If the update rule or the reaction to a failure is not known.
    InputError
        If the job cannot be run here; the message says what to change.
    """
    if job.update not in UPDATES:
        raise unknown_name("update rule", job.update, UPDATES)
    if job.on_worker_failure not in ON_FAILURE:
        raise unknown_name("reaction to a worker's failure", job.on_worker_failure, ON_FAILURE)
    if job.workers != 1:
        raise InputError(
            f"workers={job.workers}: this build of pyconv trains in one process only; use workers=1, "
            "which runs every operation on all cores"
        )
    return InProcess(model, x, labels, job)
