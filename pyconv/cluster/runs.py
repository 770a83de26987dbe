"""A run's part on each rank: which engine leads it at rank 0, and what the others follow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends import get
from ..nn import Sequential
from ..parallel import Engine, Job
from ..threads import counted
from . import joint, pipeline
from .by_rows import RowMember
from .engine import Leader
from .filters import FilterMember
from .following import Follower
from .hosts import Hosts
from .rounds import Rounds
from .spread import Spread
from .world import World


def leader(
    rounds: Rounds, world: World, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, threads: int,
    interrupted: Callable[[int], None], hosts: Hosts, library: str,
) -> Engine:  # fmt: skip
    """The engine of rank 0; see :meth:`.session.Session.engine`. `world` is the run's, `library` its MPI."""
    where = f"{counted(world.size, 'rank')} ({hosts.on_hosts()})"
    if job.stages is not None:
        stage = pipeline.Stage(model, x, labels, job, world, threads)
        return pipeline.Leader(rounds, world, model, stage, job, interrupted, f"{where}, {library}", threads)
    if job.split is not None:
        described = (
            f"backend {get(job.backend).name}, {job.split} split over {where}, each on {counted(threads, 'thread')}, "
            f"{library}"
        )
        return joint.JointLeader(rounds, _member(model, x, labels, job, world, threads), interrupted, described)
    counts = sorted({len(Spread(1, job.workers, world.size).lanes_of(rank)) for rank in range(world.size)})
    each = " or ".join(map(str, counts))

    def describe(job: Job) -> str:
        return (
            f"backend {job.backend}, {where} of {each} workers, in turn on {counted(threads, 'thread')}, "
            f"update {job.rule.describe()}, {library}"
        )

    return Leader(rounds, world, model, x, labels, job, threads, interrupted, describe)


def follow(
    rounds: Rounds, world: World, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, threads: int
) -> list[dict[str, Any]]:
    """Another rank's part; see :meth:`.session.Session.follow`. `world` is the run's."""
    if job.stages is not None:
        stage = pipeline.Stage(model, x, labels, job, world, threads)
        return pipeline.follow(rounds, world, model, stage)
    if job.split is not None:
        return joint.follow(rounds, _member(model, x, labels, job, world, threads))
    return Follower(rounds, world, model, x, labels, job, threads).follow()


def _member(model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, world: World, threads: int) -> Any:
    """This rank's part of a network that all ranks compute together."""
    kind: Any = FilterMember if job.split == "filters" else RowMember
    return kind(model, x, labels, job, world, threads)
