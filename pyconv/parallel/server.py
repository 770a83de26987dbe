"""The engine of several workers: processes that meet in a parameter server in shared memory."""

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
from ..errors import CheckpointError
from . import _atomics as atomics
from . import store as s
from .engine import Job, StepReport, epoch_order
from .guard import check_main_guard
from .kernels import undo_vectors
from .logs import WorkerLog
from .memory import Segment, share
from .progress import Progress
from .room import check_room
from .rules import Rule, rule_for
from .sending import packed
from .supervisor import Supervisor
from .trace import RING, Timeline
from .worker import Setup, describe_model

if TYPE_CHECKING:
    from ..nn import Sequential

_log = runlog.logger("pyconv.parallel")

POLL_S = 0.05  # between two looks at the progress of the workers
GRACE_S = 2.0  # for workers to leave before they are killed
SPIN_S = 100e-6  # in a wait, before sleeping, where every worker has a CPU of its own


class ParameterServer:
    """Trains with ``job.workers`` processes under the update rule ``job.update``; an Engine.

    Parameters
    ----------
    model : Sequential
        Holds the result whenever the engine is at rest.
    x : (N, H, W, C) uint8, float32 or float64 array
        Images; copied to shared memory, unless :func:`~pyconv.parallel.share` has put them there.
    labels : (N,) int64 array
        Classes.
    job : Job

    Raises
    ------
    UnknownNameError, InputError
        If the rule or an option is not known, or the job cannot be sent to other processes.
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
        self._rule: Rule = rule_for(job.update, job.options)
        self.steps_per_epoch = -(-len(x) // (job.batch_size * job.workers))
        self._before = (model.backend, model.threads)
        state = job.optimizer.state_names
        plan = s.Plan(
            parameters=model.flat.size,
            buffers=model.flat_buffers.size,
            dtype=model.dtype.name,
            lanes=job.workers,
            units=self.steps_per_epoch * job.workers,
            state=tuple(state),
            replicas=self._rule.replicas,
            replica_state=self._rule.replica_state,
            undo=undo_vectors(self._rule, len(state)),
            events=RING if job.trace is not None else 0,
        )
        self._x = share(x, "the training images")
        self._labels = share(labels, "the training labels")
        self._store = store = s.Store(plan)
        store.centre[...] = model.flat
        store.buffers[...] = model.flat_buffers
        if store.replicas is not None:
            store.replicas[...] = model.flat
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
        # Whoever forgets to close the engine still leaves no process behind.
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
            If a gradient is not finite, and neither is it when it is repeated.
        """
        self._supervisor.check()
        store = self._store
        if epoch != self._epoch:
            self._new_epoch(epoch, first_step)
        self._progress.rewind(first_step)
        self._order()
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

        The histogram's k-th number counts the pushes of gradients to which k pushes of others had come before
        since their parameters were pulled; the last one counts all beyond.
        """
        words = np.stack([self._store.worker(index) for index in range(self._job.workers)])
        now = words[:, [s.DATA_NS, s.COMPUTE_NS, s.UPDATE_NS, s.WAIT_NS]]
        data, compute, update, wait = (now - self._seen).mean(axis=0) / 1e9
        self._seen = now
        restarts = self._supervisor.restarts - self._restarts_seen
        self._restarts_seen += restarts
        histogram = self._progress.take_staleness()
        pushes = histogram.sum()
        return {
            "compute_s": float(data + compute),
            "communication_s": float(update + wait),
            "wait_s": float(wait),
            "staleness_mean": float((histogram * np.arange(len(histogram))).sum() / pushes) if pushes else 0.0,
            "staleness_max": int(np.flatnonzero(histogram).max(initial=0)),
            "staleness_histogram": np.trim_zeros(histogram, "b").tolist(),
            "restarts": restarts,
        }

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.engine.Engine`; to be asked for between epochs or after one was closed."""
        store = self._store
        state = {
            "workers": np.array(self._job.workers),
            "epoch": np.array(self._epoch),
            "sequence": np.array(store.head(s.SEQUENCE)),
            "clock": store.column(s.CLOCK).copy(),
            "turn": store.column(s.TURN).copy(),
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
        if set(state) != set(mine):
            raise CheckpointError(
                f"the checkpoint holds the state {sorted(state)}, this run has {sorted(mine)}: "
                "it is another optimizer's, another update rule's or another number of workers'"
            )
        if int(state["workers"]) != self._job.workers:
            raise CheckpointError(
                f"the checkpoint is of {int(state['workers'])} workers, this run has {self._job.workers}; "
                "continue with as many"
            )
        for name in mine:
            if name != "finished" and (state[name].shape, state[name].dtype) != (mine[name].shape, mine[name].dtype):
                raise CheckpointError(
                    f"the checkpoint's {name} has {state[name].shape} {state[name].dtype}, this run needs "
                    f"{mine[name].shape} {mine[name].dtype}: it is another model's, or of another amount of data"
                )
        self._epoch = int(state["epoch"])
        store.set_head(s.SEQUENCE, int(state["sequence"]))
        store.set_head(s.EPOCH, max(self._epoch, 0))
        store.set_head(s.UNITS, store.plan.units)
        self._progress.load_state(state)
        for lane in range(self._job.workers):
            store.set(lane, s.CLOCK, int(state["clock"][lane]))
            store.set(lane, s.TURN, int(state["turn"][lane]))
            store.set(lane, s.PULLED, int(state["sequence"]))
            store.set(lane, s.ARRIVED, 0)
        store.buffers[...] = state["buffers"]
        store.centre[...] = state.get("centre", self._model.flat)
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

    @property
    def effective_batch(self) -> int:
        """Images behind one step of the shared parameters."""
        together = self._rule.lockstep and not self._rule.replicas
        return self._job.batch_size * (self._job.workers if together else 1)

    def close(self) -> None:
        """See :class:`~pyconv.parallel.engine.Engine`."""
        atexit.unregister(self._close)
        self._close()
        self._model.backend, self._model.threads = self._before

    def record(self) -> dict[str, np.ndarray]:
        """Who did each mini-batch of the last epoch, in which order: what :func:`~pyconv.parallel.replay` repeats.

        Returns
        -------
        dict
            ``unit`` (mini-batch), ``lane`` (worker), ``push`` (its number in the order of pushes, from 1 on
            over the run) and ``pulled`` (the push up to which its parameters had been pulled), each ``(n,)``
            int64, in order of push.
        """
        store = self._store
        units = np.flatnonzero(store.unit_push > 0)
        units = units[np.argsort(store.unit_push[units], kind="stable")]
        return {
            "unit": units,
            "lane": store.unit_lane[units],
            "push": store.unit_push[units],
            "pulled": store.unit_pulled[units],
        }

    def worker_pids(self) -> list[int]:
        """Process ids of the workers, for a user who wants to look at them."""
        return self._supervisor.pids()

    # ---- epochs -----------------------------------------------------------------------------------

    def _new_epoch(self, epoch: int, first_step: int) -> None:
        """Put the clocks to the beginning of an epoch; all lanes are at rest."""
        store = self._store
        self._counts = self._counts_of(epoch)
        self._progress.reset(first_step)
        store.set_head(s.EPOCH, epoch)
        store.set_head(s.UNITS, store.plan.units)
        store.set_head(s.HINT, 0)
        store.set_head(s.GATE, store.head(s.GATE) & 1)
        for lane in range(store.plan.lanes):
            store.set(lane, s.CLOCK, s.OPS * first_step if self._rule.lockstep else store.get(lane, s.TURN))
        self._epoch = epoch

    def _order(self) -> None:
        """Let the lanes go on with the epoch from where they are."""
        store = self._store
        for lane in range(store.plan.lanes):
            if store.get(lane, s.OWNER) >= 0:
                store.set(lane, s.ARRIVED, 0)
        store.set_head(s.GATE, 0)
        store.set_head(s.COMMAND, store.head(s.COMMAND) + 1)
        store.wake()

    def _at_rest(self) -> bool:
        return self._store.reached(s.DONE, self._store.head(s.COMMAND))

    def _rest(self) -> None:
        """Bring all lanes to where they can go on later, and the model to what they have come to."""
        store = self._store
        store.close_gate()
        while self._supervisor.failure is None and not self._at_rest():
            event = store.head(s.PARENT_EVENT)
            atomics.sleep_on(store.words, s.PARENT_EVENT, event, POLL_S)
        if self._timeline is not None:
            self._timeline.drain()
        if self._supervisor.failure is None:
            self._progress.look()
            self._rule.result(store, self._model.flat)
            if store.plan.buffers:
                lanes = [self._lane_buffers(lane) for lane in range(store.plan.lanes)]
                self._model.flat_buffers[...] = np.mean(lanes, axis=0)

    def _lane_buffers(self, lane: int) -> np.ndarray:
        return self._store.buffers[self._store.get(lane, s.TURN) % 2, lane]

    def _counts_of(self, epoch: int) -> list[int]:
        order = epoch_order(self._labels, self._job, epoch, self._model.least_batch)
        spans = [order.span(step, lane) for step in range(order.steps) for lane in range(order.workers)]
        return [last - first for first, last in spans]

    def _count(self, unit: int) -> int:
        return self._counts[unit]

    def _where(self, unit: int) -> str:
        """A mini-batch in words, counted as people do."""
        step = unit // self._job.workers
        return f"epoch {self._epoch + 1}, step {self._epoch * self.steps_per_epoch + step + 1}"

    def _mark(self, lane: int, text: str) -> None:
        if self._timeline is not None:
            self._timeline.instant(lane, text)

    # ---- workers ----------------------------------------------------------------------------------

    def _common_setup(self) -> dict[str, Any]:
        from ..backends import get
        from ..threads import usable_cpus

        # What "auto" is, is decided once, here.
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
    """End the workers and close the files; the memory goes with the last reference to it."""
    supervisor.end(GRACE_S)
    if timeline is not None:
        timeline.close()
