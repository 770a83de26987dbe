"""The worker process: it runs the programs of its lanes until it is told to stop, and never outlives its parent."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import runlog
from ..arithmetic import quiet
from ..descriptors import open_standard
from ..errors import BackendUnavailable, RunError
from . import _atomics as atomics
from . import store as s
from .engine import Job, epoch_order
from .lane import Lane
from .logs import send_logs
from .memory import Segment, SharedArray
from .program import Program, Work, drive, program
from .room import why_not_started
from .sampler import EpochOrder
from .sending import EXIT_UNREADABLE, unpacked
from .trace import Recorder

if TYPE_CHECKING:
    from ..nn import Sequential
    from .rules import Rule

HEARTBEAT_S = 0.2
EXIT_FAILED = 1  # it has left a message
# The parent alone decides what these mean when they go to the whole group, as Ctrl-C does.
PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = runlog.logger("pyconv.parallel")


#: Errors whose one line says all there is to say.
SAID = (RunError, BackendUnavailable)


class NotFinite(RunError):
    """A mini-batch's loss or gradient is NaN or infinite."""


@dataclass
class Setup:
    """All that a worker process is told; it is pickled into the starting process.

    What may be of a user's own is packed apart: if the worker cannot read it, it can say so."""

    index: int
    parent: int  # process id
    plan: s.Plan
    segment: Segment
    x: SharedArray
    labels: SharedArray
    told: dict[str, bytes]  # the job, the rule and the model, to be unpacked
    threads: int
    spin: float
    log: Connection
    last_words: Segment  # where the interpreter writes its stacks when a signal kills it
    log_level: int


def describe_model(model: Sequential) -> dict[str, Any]:
    """What a worker needs to make the same network, without its parameters."""
    return {
        "layers": model.layers,
        "input_shape": model.input_shape,
        "seed": model.seed,
        "dtype": model.dtype.name,
        "algorithm": model.algorithm,
        "normalization": model.normalization,
    }


def make_model(description: dict[str, Any], backend: str, threads: int) -> Sequential:
    """The network of a description."""
    from ..nn import Sequential

    made = Sequential(description["layers"], description["input_shape"], description["seed"], description["dtype"])
    made.normalization, made.algorithm = description["normalization"], description["algorithm"]
    made.backend, made.threads = backend, threads
    return made


class Trainer:
    """Computes the gradients of mini-batches.

    Parameters
    ----------
    model : Sequential
    x, labels : ndarray
        The whole data, in shared memory.
    job : Job
    store : Store
    words : (WORKER,) int64 ndarray
        The process's words.
    recorder : Recorder
        Of the timeline.
    """

    def __init__(
        self,
        model: Sequential,
        x: np.ndarray,
        labels: np.ndarray,
        job: Job,
        rule: Rule,
        store: s.Store,
        words: np.ndarray,
        recorder: Recorder,
    ) -> None:
        self._model, self._x, self._labels, self._job, self._rule = model, x, labels, job, rule
        self._store, self._words, self._recorder = store, words, recorder
        self._order: EpochOrder | None = None
        self._epoch = -1

    def order(self) -> EpochOrder:
        """The order of the epoch that is ordered."""
        epoch = self._store.head(s.EPOCH)
        if self._order is None or epoch != self._epoch:
            self._order = epoch_order(self._labels, self._job, epoch, self._model.least_batch)
            self._epoch = epoch
        return self._order

    def counts(self, step: int) -> list[int]:
        """Images of each lane in a step."""
        order = self.order()
        spans = [order.span(step, lane) for lane in range(order.workers)]
        return [last - first for first, last in spans]

    def rate(self, step: int) -> float:
        """Learning rate of a global step, counted from 0."""
        return self._job.learning_rate(step + 1, self.order().steps)

    def compute(self, lane: Lane, at: np.ndarray, buffers: np.ndarray) -> float:
        """See :class:`~pyconv.parallel.program.Work`."""
        words, job = self._words, self._job
        began = time.monotonic_ns()
        words[s.STARTED] = began
        order = self.order()
        unit = lane.step * lane.workers + lane.index if self._rule.lockstep else self._store.get(lane.index, s.UNIT)
        words[s.FAILED_UNIT] = unit
        place = unit % lane.workers
        indices = order.batch(lane.step, place)
        images = self._x[indices]
        if job.augment:
            from ..datasets import augment

            images = augment(images, **job.augment, seed=job.seed, epoch=lane.epoch, indices=indices)
        labels = self._labels[indices]
        ready = time.monotonic_ns()
        self._recorder.add(lane.index, "data", began, ready)
        slot = self._store.gradients[lane.index]
        self._model.attach(at, buffers)
        loss, _ = self._recorder.watch(lane.index, self._model)(
            images,
            labels,
            out=slot,
            step=lane.epoch * lane.steps + lane.step,
            first=order.span(lane.step, place)[0],
        )
        self._store.unit_correct[unit] = self._model.correct
        done = time.monotonic_ns()
        words[s.DATA_NS] += ready - began
        words[s.COMPUTE_NS] += done - ready
        words[s.LAST_NS] = done - began
        words[s.BATCHES] += 1
        words[s.STARTED] = 0
        if not (np.isfinite(loss) and atomics.finite(slot)):
            raise NotFinite(f"the gradient is not finite (loss {loss:.6g})")
        return float(loss)

    def note(self, lane: int, what: str, began: int) -> None:
        """See :class:`~pyconv.parallel.program.Work`."""
        now = time.monotonic_ns()
        self._words[s.UPDATE_NS] += now - began
        self._recorder.add(lane, what, began, now)

    def waited(self, lane: int, began: int) -> None:
        """See :func:`~pyconv.parallel.program.drive`."""
        now = time.monotonic_ns()
        self._words[s.WAIT_NS] += now - began
        self._recorder.add(lane, "wait", began, now)


class Unreadable(RunError):
    """What the worker is told cannot be read."""


class _Stopped(BaseException):
    """The parent has said stop."""


def main(setup: Setup) -> None:
    """Run as worker `setup.index`; the target of the process."""
    open_standard()
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)
    atomics.die_with_parent()
    if os.getppid() != setup.parent:  # it died before the kernel was asked
        os._exit(EXIT_FAILED)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        faulthandler.enable(setup.last_words)  # the parent logs it, with the worker's number
    send_logs(setup.index, setup.log, setup.log_level)
    store = s.Store(setup.plan, setup.segment)
    words = store.worker(setup.index)
    words[s.PID] = os.getpid()
    try:
        _live(setup, store, words)
    except _Stopped:
        words[s.STATE] = s.EXITED
    except BaseException as error:
        words[s.STATE] = s.NOT_FINITE if isinstance(error, NotFinite) else s.ERROR
        text = str(error).strip().splitlines()
        store.leave_message(setup.index, text[0] if isinstance(error, SAID) and text else _one_line(error))
        if not isinstance(error, SAID):  # those say in one line all there is to say
            _log.error("%s", traceback.format_exc().rstrip())
        words[s.HEARTBEAT] = time.monotonic_ns()
        _leave(EXIT_UNREADABLE if isinstance(error, Unreadable) else EXIT_FAILED)
    _leave(0)


def _one_line(error: BaseException) -> str:
    lines = traceback.format_exception_only(error)
    return lines[-1].strip()


def _leave(status: int) -> None:
    """Exit at once: there is nothing to tidy up that the kernel does not, and threads of libraries may not end."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)


@quiet
def _live(setup: Setup, store: s.Store, words: np.ndarray) -> None:
    from threadpoolctl import threadpool_limits

    _beat(words, setup.parent)
    job, rule, described = (_told(setup, name) for name in ("job", "rule", "model"))
    if job.backend == "cuda":
        from .. import cuda

        cuda.join(setup.index, job.workers)
    model = make_model(described, job.backend, setup.threads)
    threadpool_limits(setup.threads)
    recorder = Recorder(store)
    trainer = Trainer(model, setup.x, setup.labels, job, rule, store, words, recorder)
    work = Work(rule, job.optimizer, trainer.rate, trainer.counts, trainer.compute, trainer.note)
    words[s.STATE] = s.READY
    store.wake_parent()
    while True:
        seen = store.head(s.EVENT)
        programs = _added(store, work, setup.index, set())
        if programs:
            drive(
                programs,
                spin=setup.spin,
                look=lambda running=programs: _added(store, work, setup.index, set(running)),  # type: ignore[misc]
                waited=trainer.waited,
            )
        else:
            atomics.sleep_on(store.words, s.EVENT, seen, 0.5)


def _told(setup: Setup, name: str) -> Any:
    try:
        return unpacked(setup.told[name])
    except Exception as error:
        raise Unreadable(f"the {name} cannot be read there: {_one_line(error)}") from error


def _added(store: s.Store, work: Work, worker: int, running: set[int]) -> dict[int, Program]:
    """Programs of this worker's lanes that have something to do and do not run yet."""
    if store.head(s.STOP):
        raise _Stopped
    order = store.head(s.COMMAND)
    mine = np.flatnonzero((store.column(s.OWNER) == worker) & (store.column(s.DONE) < order)).tolist()
    return {lane: program(store, work, lane) for lane in mine if lane not in running}


def _beat(words: np.ndarray, parent: int) -> None:
    """Show that the process runs, however long a step takes; and leave if the parent has gone."""

    def beat() -> None:
        while True:
            words[s.HEARTBEAT] = time.monotonic_ns()
            if os.getppid() != parent:
                os._exit(EXIT_FAILED)
            time.sleep(HEARTBEAT_S)

    words[s.HEARTBEAT] = time.monotonic_ns()
    try:
        threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    except RuntimeError as error:
        raise RunError(why_not_started(error)) from None
