"""A rank's part in a network that is split by filters and units."""

from __future__ import annotations

import contextlib

import numpy as np

from ...backends import get
from ...errors import InputError
from ...nn import Sequential
from ...parallel import Job
from ..joint import Member
from ..world import World
from .parts import Parameters


class FilterMember(Member):
    """A rank with some of the filters and units.

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

        if job.clip_norm is not None:
            raise InputError("clip_norm needs the whole gradient, which no rank has with split filters: leave it out")
        self._group = Group(world)
        ops = split_by_filters(get(job.backend), self._group)
        super().__init__(model, x, labels, job, world, model)
        model.backend, model.threads = ops, threads  # type: ignore[assignment]
        self._parameters = Parameters(model, world.size)

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Within it, all ranks do the same operations in the same order."""
        return self._group.together()

    def collect(self, everything: bool) -> None:
        """Bring all ranks' filters, and on request the optimizer's state for them, to rank 0; all ranks call it."""
        state = list(self._optimizer_state.values()) if everything else []
        self._parameters.bring(self.world, [self._model.flat, *state])

    def take_waited(self) -> float:
        """Seconds of all exchanges since the last call."""
        waited, self._group.waited_s = self._group.waited_s, 0.0
        return waited
