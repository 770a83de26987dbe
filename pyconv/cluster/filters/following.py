"""The part of another rank than 0 in a network split by filters: it does what rank 0 says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ...backends import get
from ...errors import InputError, RunError
from ...nn import Sequential
from ...parallel import InProcess, Job
from .. import rounds as r
from ..shards import Shard
from ..world import World
from .parts import Parameters


class Member(InProcess):
    """The engine of one process, on a rank of several that compute each step together.

    Parameters
    ----------
    model : Sequential
    x : (N, H, W, C) ndarray
        All images.
    labels : (N,) int64 ndarray
    job : Job
    world : World
    threads : int
        OpenMP threads of this rank.

    Raises
    ------
    InputError
        If the job cannot be split by filters.
    """

    def __init__(
        self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, world: World, threads: int
    ) -> None:
        from .backend import Group, split_by_filters  # pyconv can be imported without the compiled modules

        check(job, x)
        self.world, self.group = world, Group(world)
        ops = split_by_filters(get(job.backend), self.group)
        super().__init__(model, x, labels, job)
        model.backend, model.threads = ops, threads  # type: ignore[assignment]
        self.parameters = Parameters(model, world.size)

    def collect(self, everything: bool) -> None:
        """Bring all parameters, and on request the optimizer's state, to rank 0; all ranks call it."""
        state = list(self._optimizer_state.values()) if everything else []
        self.parameters.bring(self.world, [self._model.flat, *state])

    def exchange(self) -> None:
        """Begin on all ranks with rank 0's parameters and state; all ranks call it."""
        step = np.array([self._step], np.int64)
        vectors = [step, self._model.flat, self._model.flat_buffers, *self._optimizer_state.values()]
        if self.world.rank:
            self.world.swap([], [(0, each) for each in vectors])
            self._step = int(step[0])
        else:
            self.world.swap([(rank, each) for rank in range(1, self.world.size) for each in vectors], [])


def check(job: Job, x: Any) -> None:
    """Check that a job can be split by filters.

    Raises
    ------
    InputError
        If it cannot; the message says what to change.
    """
    if job.workers != 1:
        raise InputError(f"split filters is one worker on all ranks, not {job.workers}: leave workers out")
    if job.clip_norm is not None:
        raise InputError("clip_norm needs the whole gradient, which no rank has with split filters: leave it out")
    if isinstance(x, Shard):
        raise InputError("split filters needs all images on all ranks: take shard off")
    if job.backend == "cuda":
        raise InputError("backend cuda is not there over MPI: take multicore, or train on one machine (--cluster off)")


def follow(rounds: r.Rounds, member: Member, model: Sequential) -> list[dict[str, Any]]:
    """Do as rank 0 says, to the end of the run.

    Parameters
    ----------
    rounds : Rounds
    member : Member
        This rank's.
    model : Sequential
        Holds the result at the end, as at rank 0.

    Returns
    -------
    list of dict
        The history, as rank 0 has it.
    """
    while True:
        verdict = rounds.ask(rounds.header(r.REST))
        if verdict.action == r.BEGIN:
            steps, step = member.epoch(verdict.epoch, verdict.step), verdict.step
            while rounds.ask(rounds.header(r.BOUNDARY, step)).action == r.GO:
                with member.group.together():
                    next(steps)
                step += 1
            steps.close()
        elif verdict.action == r.COLLECT:
            member.collect(bool(verdict.what))
        elif verdict.action == r.LOAD:
            member.exchange()
        elif verdict.action == r.FINISH:
            member.world.swap([], [(0, model.flat), (0, model.flat_buffers)])
            member.close()
            history: list[dict[str, Any]] = json.loads(verdict.text)
            return history
        else:
            raise RunError(f"this rank is told {verdict.action} while it is at rest")
