"""Which engine runs a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..backends import get
from ..errors import InputError, unknown_name
from ..shapes import integer
from .engine import Engine, InProcess, Job
from .rules import RULES, rule_for

if TYPE_CHECKING:
    from ..nn import Sequential

UPDATES = tuple(RULES)
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
    """The engine that runs `job` on `model` and the data: in this process for one worker, else a parameter server.

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
    if job.on_worker_failure not in ON_FAILURE:
        raise unknown_name("reaction to a worker's failure", job.on_worker_failure, ON_FAILURE)
    if job.workers == 1:
        if get(job.backend).name == "cuda":
            from .on_gpu import OnGPU

            return OnGPU(model, x, labels, job)
        return InProcess(model, x, labels, job)
    if job.workers > len(x):
        raise InputError(f"workers={job.workers}: there are only {len(x)} images to share out")
    try:
        from .server import ParameterServer
    except ImportError as error:
        raise InputError(
            f"workers={job.workers} needs the compiled modules ({error}); build them with "
            "`python setup.py build_ext --inplace` or `pip install .`, or use workers=1"
        ) from None
    return ParameterServer(model, x, labels, job)
