"""ParameterServer: the engine of several workers, processes that meet in shared memory."""

from __future__ import annotations

import atexit
import dataclasses
import logging
import os
import time
import weakref
from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import runlog
from . import _atomics as atomics
from . import communicator as c
from . import parent
from . import store as s
from .engine import Job, StepReport, check_workers_state, epoch_order
from .guard import check_main_guard
from .kernels import undo_vectors
from .logs import WorkerLog
from .memory import Segment, share, share_images
from .progress import Progress, in_figures
from .replay import record_of
from .room import check_memory, check_room
from .rules import Rule
from .sending import packed
from .supervisor import Supervisor
from .trace import RING, Timeline
from .worker import Setup, describe_model

if TYPE_CHECKING:
    from ..nn import Sequential

_log = runlog.logger("pyconv.parallel")

POLL_S = 0.05  # between two looks at the workers' progress
GRACE_S = 2.0  # that workers have to leave before they are killed
SPIN_S = 100e-6  # to spin in a wait before sleeping, if every worker has a CPU of its own


class ParameterServer:
    """Trains with ``job.workers`` processes under the update rule ``job.update``; an Engine.

    Parameters
    ----------
    model : Sequential
        Holds the result whenever no epoch is running.
    x : (N, H, W, C) uint8, float32 or float64 array
        Images; copied to shared memory, unless they are there already (:func:`~pyconv.parallel.share`) or are a map of
        a file, which the workers map too.
    labels : (N,) int64 array
        Classes.
    job : Job

    Raises
    ------
    UnknownNameError, InputError
        If the rule or an option is unknown, or the job cannot be sent to other processes.
    SharedMemoryError
        If ``/dev/shm`` is too small or too full.

    Notes
    -----
    docs/explanation/parameter-server.md has the protocol and what is done about each kind of failure.
    """

    def __init__(self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> None:
        from ..threads import split

        check_main_guard()
        self._threads = split(job.workers, job.threads_per_worker)
        check_room(job.workers, self._threads, split(1))
        self._model, self._job = model, job
        self._rule: Rule = job.rule
        self.steps_per_epoch = -(-len(x) // (job.batch_size * job.workers))
        self._before = (model.backend, model.threads)
        state = job.optimizer.state_names
        plan = s.Plan(
            parameters=model.trained.count,
            buffers=model.flat_buffers.size,
            dtype=model.dtype.name,
            lanes=job.workers,
            units=self.steps_per_epoch * job.workers,
            state=tuple(state),
            replicas=self._rule.replicas,
            replica_state=self._rule.replica_state,
            undo=undo_vectors(self._rule, len(state)),
            events=RING if job.trace is not None else 0,
            clip=(job.clip_norm or 0.0) if self._rule.clips_mean else 0.0,
        )
        self._x = share_images(x, "the training images")
        self._labels = share(labels, "the training labels")
        self._store = store = s.Store(plan)
        model.trained.gather(model.flat, store.centre)
        store.buffers[...] = model.flat_buffers
        if store.replicas is not None:
            store.replicas[...] = store.centre
        check_memory(job.workers, model.flat.nbytes)
        self._progress = Progress(store, self._rule.lockstep, self._count)
        self._epoch = -1
        self._counts: list[int] = []
        self._seen = np.zeros((job.workers, 4), np.int64)
        self._restarts_seen = 0
        self._supervisor = Supervisor(
            store,
            self._rule,
            job.optimizer,
            job.on_worker_failure,
            self._tell_worker,
            self._threads,
            self._where,
            self._mark,
        )
        self._setup = self._common_setup()
        self._timeline = Timeline(job.trace, store) if job.trace is not None else None
        # If the caller forgets to close the engine, this still ends its processes.
        self._close = weakref.finalize(self, _end, self._supervisor, self._timeline)
        atexit.register(self._close)
        model.backend, model.threads = job.backend, split(1, None)
        try:
            self._supervisor.start()
        except BaseException:
            self.close()
            raise

    # ---- the engine -------------------------------------------------------------------------------

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """See :class:`~pyconv.parallel.engine.Engine`.

        Raises
        ------
        WorkerError
            If workers have failed and the run cannot go on.
        DivergedError
            If a gradient is not finite, and again not when its mini-batch is repeated.
        """
        self._supervisor.check()
        store = self._store
        if epoch != self._epoch:
            self._new_epoch(epoch, first_step)
        self._progress.rewind(first_step)
        parent.order(store)
        last = time.perf_counter()
        try:
            while True:
                event = store.head(s.PARENT_EVENT)
                self._supervisor.check()
                for images, loss, correct in self._progress.reports():
                    now = time.perf_counter()
                    step = epoch * self.steps_per_epoch + self._progress.reported
                    yield StepReport(step, images, loss, now - last, correct)
                    last = now
                if self._progress.reported == self.steps_per_epoch and self._at_rest():
                    return
                if self._timeline is not None:
                    self._timeline.drain()
                atomics.sleep_on(store.words, s.PARENT_EVENT, event, POLL_S)
        finally:
            self._rest()

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.engine.Engine`; with the workers' ``wait_s`` and the
        ``staleness_histogram`` too.

        The histogram's k-th number counts pushes whose staleness was k: k pushes of others came between the pull of the
        parameters and this push. The last number counts all larger ones.
        """
        words = np.stack([self._store.worker(index) for index in range(self._job.workers)])
        now = words[:, [s.DATA_NS, s.COMPUTE_NS, s.UPDATE_NS, s.WAIT_NS]]
        data, compute, update, wait = (now - self._seen).mean(axis=0) / 1e9
        self._seen = now
        restarts = self._supervisor.restarts - self._restarts_seen
        self._restarts_seen += restarts
        return {
            "compute_s": float(data + compute),
            "communication_s": float(update + wait),
            "wait_s": float(wait),
            **in_figures(self._progress.take_staleness()),
            "restarts": restarts,
        }

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.engine.Engine`; call it between epochs, or after one was closed."""
        store = self._store
        state = {
            "workers": np.array(self._job.workers),
            "epoch": np.array(self._epoch),
            "sequence": np.array(store.head(s.SEQUENCE)),
            "clock": store.column(c.CLOCK).copy(),
            "turn": store.column(c.TURN).copy(),
            "buffers": np.stack([self._lane_buffers(lane) for lane in range(self._job.workers)]),
            **self._progress.state(),
            **{f"optimizer.{name}": vector.copy() for name, vector in store.state.items()},
            **{f"worker_optimizer.{name}": vectors.copy() for name, vectors in store.replica_state.items()},
        }
        if store.replicas is not None:
            state["centre"] = store.centre.copy()
            state["replicas"] = store.replicas.copy()
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See :class:`~pyconv.parallel.engine.Engine`."""
        store = self._store
        mine = self.state()
        check_workers_state(state, mine, self._job.workers)
        self._epoch = int(state["epoch"])
        store.set_head(s.SEQUENCE, int(state["sequence"]))
        store.set_head(s.EPOCH, max(self._epoch, 0))
        store.set_head(s.UNITS, store.plan.units)
        self._progress.load_state(state)
        for lane in range(self._job.workers):
            store.set(lane, c.CLOCK, int(state["clock"][lane]))
            store.set(lane, c.TURN, int(state["turn"][lane]))
            store.set(lane, c.PULLED, int(state["sequence"]))
            store.set(lane, c.ARRIVED, 0)
        store.buffers[...] = state["buffers"]
        centre = state.get("centre")
        store.centre[...] = self._model.trained.gather(self._model.flat) if centre is None else centre
        for name, vector in store.state.items():
            vector[...] = state[f"optimizer.{name}"]
        for name, vectors in store.replica_state.items():
            vectors[...] = state[f"worker_optimizer.{name}"]
        if store.replicas is not None:
            store.replicas[...] = state["replicas"]
        if self._epoch >= 0:
            self._counts = self._counts_of(self._epoch)

    def describe(self) -> str:
        """One line for the start of a run: rule, backend, processes and threads against the usable CPUs."""
        from ..backends import get
        from ..threads import counted, usable_cpus

        cpus, job = usable_cpus(), self._job
        line = (
            f"backend {get(self._model.backend).name}, {job.workers} workers × {counted(self._threads, 'thread')} "
            f"on {counted(cpus, 'usable CPU')}, update {self._rule.describe()}"
        )
        if job.workers * self._threads > cpus:
            line += "; that is more than there are CPUs"
        return line

    def close(self) -> None:
        """See :class:`~pyconv.parallel.engine.Engine`."""
        atexit.unregister(self._close)
        self._close()
        self._model.backend, self._model.threads = self._before

    def record(self) -> dict[str, np.ndarray]:
        """Which lane did each mini-batch of the last epoch, and in which order; :func:`~pyconv.parallel.replay` repeats
        it.

        Returns
        -------
        dict
            ``unit`` (mini-batch), ``lane`` (worker), ``push`` (its number in the order of pushes, from 1 on
            over the run) and ``pulled`` (the last push before its parameters were pulled), each ``(n,)`` int64, in the
            order of pushes.
        """
        return record_of(self._store)

    def worker_pids(self) -> list[int]:
        """Process ids of the workers, for a user who wants to look at them."""
        return self._supervisor.pids()

    # ---- epochs -----------------------------------------------------------------------------------

    def _new_epoch(self, epoch: int, first_step: int) -> None:
        self._counts = self._counts_of(epoch)
        self._progress.reset(first_step)
        parent.new_epoch(self._store, self._rule, epoch, first_step)
        self._epoch = epoch

    def _at_rest(self) -> bool:
        return parent.at_rest(self._store)

    def _rest(self) -> None:
        """Stop all lanes where they can go on later, and give the model the parameters that were reached."""
        store = self._store
        store.close_gate()
        while self._supervisor.failure is None and not self._at_rest():
            event = store.head(s.PARENT_EVENT)
            atomics.sleep_on(store.words, s.PARENT_EVENT, event, POLL_S)
        if self._timeline is not None:
            self._timeline.drain()
        if self._supervisor.failure is None:
            self._progress.look()
            self._result()

    def _result(self) -> None:
        """Bring what the lanes have come to to the model; what is frozen stays as it is, to the bit."""
        store, model = self._store, self._model
        if model.trained.whole:
            self._rule.result(store, model.flat)
        else:
            found = np.empty_like(store.centre)
            self._rule.result(store, found)
            model.trained.scatter(found, model.flat)
        if store.plan.buffers:
            spans = model.trained_buffers
            lanes = [spans.gather(self._lane_buffers(lane)) for lane in range(store.plan.lanes)]
            spans.scatter(np.mean(lanes, axis=0), model.flat_buffers)

    def _lane_buffers(self, lane: int) -> np.ndarray:
        return self._store.running(lane, self._store.get(lane, c.TURN))

    def _counts_of(self, epoch: int) -> list[int]:
        order = epoch_order(self._labels, self._job, epoch, self._model.least_batch)
        spans = [order.span(step, lane) for step in range(order.steps) for lane in range(order.workers)]
        return [last - first for first, last in spans]

    def _count(self, unit: int) -> int:
        return self._counts[unit]

    def _where(self, unit: int) -> str:
        """A mini-batch in words, counted from 1."""
        step = unit // self._job.workers
        return f"epoch {self._epoch + 1}, step {self._epoch * self.steps_per_epoch + step + 1}"

    def _mark(self, lane: int, text: str) -> None:
        if self._timeline is not None:
            self._timeline.instant(lane, text)

    # ---- workers ----------------------------------------------------------------------------------

    def _common_setup(self) -> dict[str, Any]:
        from ..backends import get
        from ..threads import usable_cpus

        # The backend "auto" is decided once, here, for all workers.
        job = dataclasses.replace(self._job, backend=get(self._job.backend).name)
        told = {"rule": self._rule, "model": describe_model(self._model), "job": job}  # the job holds the rule too
        return {
            "parent": os.getpid(),
            "plan": self._store.plan,
            "told": {name: packed(value, name) for name, value in told.items()},
            "threads": self._threads,
            "spin": SPIN_S if job.workers * self._threads <= usable_cpus() else 0.0,
            "log_level": logging.getLogger("pyconv").getEffectiveLevel(),
        }

    def _tell_worker(self, index: int, log: WorkerLog, last_words: Segment) -> Setup:
        return Setup(
            index=index,
            segment=self._store.segment,
            x=self._x,
            labels=self._labels,
            log=log.sender,
            last_words=last_words,
            **self._setup,
        )


def _end(supervisor: Supervisor, timeline: Timeline | None) -> None:
    """End the workers and close the files; the memory is freed with the last reference to it."""
    supervisor.end(GRACE_S)
    if timeline is not None:
        timeline.close()
