"""The engine of rank 0: it leads the stages through epochs, and computes one of them itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from typing import Any

import numpy as np

from ...backends import get
from ...errors import CheckpointError, shown
from ...nn import Sequential
from ...parallel import Job, StepReport
from ...parallel.engine import check_state
from ...parallel.micro import mean_loss
from ...threads import counted
from .. import rounds as r
from ..world import World
from .following import ALIVE, BYTES, SCHEDULE, header
from .schedule import bubble
from .stage import Stage
from .transfer import Whole, collect, load

FIGURES = [r.COMPUTE, r.UPDATE, r.WAIT, SCHEDULE]


class Leader:
    """Trains a network whose stages are on all ranks; an Engine, at rank 0. The others :func:`~.following.follow`.

    Parameters
    ----------
    rounds : Rounds
    world : World
    model : Sequential
        Holds the result whenever the engine is at rest.
    stage : Stage
        Rank 0's.
    job : Job
    interrupted : callable
        ``interrupted(number)``: another rank has received that signal.
    where : str
        The ranks and their MPI, in words.
    threads : int
        OpenMP threads of this rank.
    """

    def __init__(
        self, rounds: r.Rounds, world: World, model: Sequential, stage: Stage, job: Job,
        interrupted: Callable[[int], None], where: str, threads: int,
    ) -> None:  # fmt: skip
        self._rounds, self._world, self._model, self._stage = rounds, world, model, stage
        self._job, self._interrupted, self._where, self._threads = job, interrupted, where, threads
        self.steps_per_epoch = stage.steps
        self._times = np.zeros((world.size, len(FIGURES)), np.int64)
        self._seen = self._times.copy()
        self._most = {"micro_batches_alive_max": 0, "stage_bytes_max": 0}
        self._before = (model.backend, model.threads)
        model.backend, model.threads = job.backend, threads

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """See :class:`~pyconv.parallel.Engine`."""
        stage, steps = self._stage, self.steps_per_epoch
        self._command(r.BEGIN, epoch=epoch, step=first_step)
        stage.begin(epoch)
        last, closed = time.perf_counter(), False
        for step in range(first_step, steps + 1):
            headers = self._headers((r.BOUNDARY, step))
            if step > first_step:
                now = time.perf_counter()
                try:
                    yield self._report(headers, step - 1, now - last)
                except GeneratorExit:
                    if self._rounds.ended:
                        raise
                    closed = True
                last = now
            if closed or step == steps:
                self._rounds.tell(r.CLOSE)
                break
            self._rounds.tell(r.GO)
            stage.step(step)
        self._rest()

    def _report(self, headers: np.ndarray, step: int, seconds: float) -> StepReport:
        counts, stages = self._stage.counts(step), len(self._stage.spans)
        lasts = headers[stages - 1 :: stages, r.HEAD : r.HEAD + 2]
        losses = np.ascontiguousarray(lasts[:, 0]).view(np.float64).tolist()
        return StepReport(self._stage.done, sum(counts), mean_loss(losses, counts), seconds, int(lasts[:, 1].sum()))

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.Engine`; `bubble_mean` is the share of the schedules without computation.

        `bubble_ideal_mean` is what it would be with equal stages, and messages that take no time.
        """
        since = (self._times - self._seen).astype(np.float64) / 1e9
        self._seen = self._times.copy()
        compute, update, wait, _ = since.mean(axis=0)
        schedule = since[:, -1].max()  # the first stage is the last to end a step
        return {
            "compute_s": float(compute),
            "communication_s": float(update + wait),
            "wait_s": float(wait),
            "bubble_ideal_mean": bubble(len(self._stage.spans), self._job.micro_batches),
            "bubble_mean": max(1 - float(compute / schedule), 0.0) if schedule else 0.0,
            **self._most,
            "staleness_mean": 0.0,
            "staleness_max": 0,
            "restarts": 0,
        }

    @property
    def waited_s(self) -> float:
        """Seconds for which ranks have waited for neighbours so far; their mean."""
        return float(self._times[:, 2].mean()) / 1e9

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.Engine`; with one replica, as the engine of one process gives it."""
        whole = self._collect(everything=True)
        several = {"buffers": whole.buffers} if self._job.workers > 1 else {}
        return {
            "step": np.array(self._stage.done),
            **several,
            **{f"optimizer.{name}": vector for name, vector in whole.state.items()},
        }

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See :class:`~pyconv.parallel.Engine`; that of any number of stages will do."""
        model, rest = self._model, dict(state)
        if self._job.workers > 1:
            wanted = (self._job.workers, model.flat_buffers.size)
            found = rest.pop("buffers", None)
            if found is None or found.shape != wanted or found.dtype != model.dtype:
                has = "none" if found is None else f"{found.shape} {found.dtype}"
                raise CheckpointError(
                    f"the checkpoint's running statistics of replicas are {has}, this run needs {shown(wanted)} "
                    f"{model.dtype}: it is another run's"
                )
        check_state(rest, tuple(self._stage.state), model.flat.size, model.dtype)
        self._command(r.LOAD)
        load(self._stage, self._world, model, state)

    def describe(self) -> str:
        """See :class:`~pyconv.parallel.Engine`."""
        job, stages = self._job, self._job.stages
        assert stages is not None
        count, layers = stages.count, len(self._model.layers)
        ends = [stages.layers(stage, layers) for stage in range(count)]
        cut = ", ".join(f"{first}-{last - 1}" if last - first > 1 else f"{first}" for first, last in ends)
        replicas = f", {counted(job.workers, 'replica')}" if job.workers > 1 else ""
        return (
            f"backend {get(job.backend).name}, {counted(count, 'stage')} of layers {cut}{replicas}, each on "
            f"{counted(self._threads, 'thread')}, on {self._where}\n"
            f"          micro-batches a step: {job.micro_batches}, by {stages.schedule}: with "
            f"equal stages each would wait for {100 * bubble(count, job.micro_batches):.0f} % of a step"
        )

    def close(self) -> None:
        """See :class:`~pyconv.parallel.Engine`; the session ends the other ranks' part."""
        self._model.backend, self._model.threads = self._before

    # ---- rounds -----------------------------------------------------------------------------------

    def _headers(self, place: tuple[int, int]) -> np.ndarray:
        """Every rank's header, when all have come to `place`; a tell() must follow."""
        headers = self._rounds.collect(header(self._rounds, self._stage, place))
        for signal in headers[1:, r.SIGNAL]:
            if signal:
                self._interrupted(int(signal))
        self._times = headers[:, FIGURES]
        for name, word in zip(self._most, (ALIVE, BYTES)):
            self._most[name] = max(self._most[name], int(headers[:, word].max()))
        return headers

    def _command(self, action: int, **words: Any) -> None:
        """Tell the other ranks, which are at rest, what to do next."""
        self._headers((r.REST, 0))
        self._rounds.tell(action, **words)

    def _rest(self) -> None:
        """Bring the model to what the stages have come to."""
        model, whole = self._model, self._collect(everything=False)
        model.flat[...] = whole.flat
        if self._job.workers == 1:
            model.flat_buffers[...] = whole.buffers[0]
        elif whole.buffers.size:
            spans = model.trained_buffers
            spans.scatter(np.mean([spans.gather(each) for each in whole.buffers], axis=0), model.flat_buffers)

    def _collect(self, everything: bool) -> Whole:
        self._command(r.COLLECT, what=int(everything))
        whole = collect(self._stage, self._world, everything)
        assert whole is not None
        return whole
