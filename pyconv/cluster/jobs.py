"""Whether a job can be run over MPI."""

from __future__ import annotations

from ..errors import InputError
from ..parallel import Job, check_shares
from ..parallel.accumulating import check_micro
from ..threads import counted


def check(job: Job, ranks: int, images: int, least: int) -> None:
    """Check that a job can be run over MPI.

    Parameters
    ----------
    job : Job
    ranks, images : int
    least : int
        The fewest images that a share may have.

    Raises
    ------
    InputError
        If it cannot; the message says what to change.
    """
    if job.micro_batches > 1:
        check_micro(job, images, least)
    else:
        check_shares(images, job.batch_size, job.workers, least)
    if job.workers > images:
        raise InputError(f"{job.workers} workers on {ranks} ranks: there are only {images} images to share out")
    alone = "or train on one machine (--cluster off)"
    if job.backend == "cuda":
        raise InputError(f"backend cuda is not there over MPI: take multicore, {alone}")
    if job.workers < ranks:
        most = "take at most so many"
        if job.workers == 1:
            most += f", or divide its network with {'' if job.micro_batches > 1 else '--split or '}--pipeline-stages"
        raise InputError(f"a run of {counted(job.workers, 'worker')} cannot be continued on {ranks} ranks: {most}")
