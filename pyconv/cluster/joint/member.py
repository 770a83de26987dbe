"""Member: the part of one rank in a network that all ranks compute together."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np

from ...errors import DivergedError, InputError
from ...parallel import InProcess, Job
from .. import rounds as r
from ..finite import finite
from ..shards import Shard
from ..tracing import TapeRecorder
from ..world import World


class Member(InProcess):
    """The engine of one process, on a rank of several that compute each step together.

    Every rank has all images, does the same steps, and updates its own copy of the parameters. Subclasses say what of a
    step is shared out.

    Parameters
    ----------
    model : object
        The network, or what stands for it: `loss_and_gradient`, `correct` and the parameters are used.
    x : (N, H, W, C) ndarray
        All images.
    labels : (N,) int64 ndarray
    job : Job
    world : World
    whole : Sequential
        The network.

    Raises
    ------
    InputError
        If the job cannot be split.

    Attributes
    ----------
    world : World
    whole : Sequential
        The network.
    """

    def __init__(self, model: Any, x: np.ndarray, labels: np.ndarray, job: Job, world: World, whole: Any) -> None:
        check(job, x)
        super().__init__(model, x, labels, dataclasses.replace(job, trace=None))
        self.world, self.whole = world, whole
        self.recorder = TapeRecorder(world.tape, lambda lane: self._step)
        self._waited, self._since = 0, world.waited_ns

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Within it, all ranks compute a step."""
        return contextlib.nullcontext()

    def begin(self) -> None:
        """Begin an epoch, or go on with it: from here on waits count."""
        self._since = self.world.waited_ns

    def end(self) -> None:
        """Steps are over: waits do not count any more."""
        self._waited = self.waited_ns
        self._since = self.world.waited_ns

    @property
    def waited_ns(self) -> int:
        """How long this rank has waited within epochs."""
        return self._waited + self.world.waited_ns - self._since

    def header(self, rounds: r.Rounds, step: int) -> np.ndarray:
        """The header of this rank before a step."""
        made = rounds.header(r.BOUNDARY, step)
        made[r.WAIT] = self.waited_ns
        return made

    def collect(self, everything: bool) -> None:
        """Bring what rank 0 lacks of the parameters, and on request of the optimizer's state; all ranks call it."""

    def own_is_finite(self) -> bool:
        """Whether what this rank has computed of the gradient is finite."""
        return finite(self._gradient)

    def _update(self) -> None:
        """Do a step; a rank whose gradient is not finite says so when all meet before the next one."""
        if not self.own_is_finite():
            epoch, step = self._step // self.steps_per_epoch + 1, self._step + 1
            raise DivergedError(f"the gradient is not finite in epoch {epoch}, step {step}")
        super()._update()

    def take_waited(self) -> float:
        """Seconds of all exchanges since the last call."""
        return 0.0

    def exchange(self) -> None:
        """Begin on all ranks with rank 0's parameters and state; all ranks call it."""
        step = np.array([self._step], np.int64)
        vectors = [step, self.whole.flat, self.whole.flat_buffers, *self._optimizer_state.values()]
        if self.world.rank:
            self.world.swap([], [(0, each) for each in vectors])
            self._step = int(step[0])
        else:
            self.world.swap([(rank, each) for rank in range(1, self.world.size) for each in vectors], [])

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.Engine`."""
        found, waited = super().statistics(), self.take_waited()
        return {**found, "compute_s": max(found["compute_s"] - waited, 0.0), "communication_s": waited}


def check(job: Job, x: Any) -> None:
    """Check that a job can be computed by all ranks together.

    Raises
    ------
    InputError
        If it cannot; the message says what to change.
    """
    if job.workers != 1:
        raise InputError(f"split {job.split} is one worker on all ranks, not {job.workers}: leave workers out")
    if job.micro_batches > 1:
        raise InputError(f"split {job.split} and micro-batches do not go together: leave one of them out")
    if isinstance(x, Shard):
        raise InputError(f"split {job.split} needs all images on all ranks: take shard off")
    if job.backend == "cuda":
        raise InputError("backend cuda is not there over MPI: take multicore, or train on one machine (--cluster off)")
