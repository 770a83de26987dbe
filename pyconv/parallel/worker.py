"""The worker process: runs the programs of its lanes until the parent tells it to stop or is gone."""

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
from ..optim.clipping import clip
from . import _atomics as atomics
from . import communicator as c
from . import store as s
from .batches import gathered
from .engine import Job, epoch_order
from .lane import Lane
from .logs import send_logs
from .memory import Segment, SharedArray
from .micro import MicroOrder, add_gradient, mean_loss
from .program import Program, Work, drive, program
from .recorder import Recorder
from .room import why_not_started
from .sampler import EpochOrder
from .sending import EXIT_UNREADABLE, unpacked
from .trace import SharedRecorder
from .trained import Trained

if TYPE_CHECKING:
    from ..nn import Sequential
    from .rules import Rule

HEARTBEAT_S = 0.2
EXIT_FAILED = 1  # the worker has left a message
# When these signals go to the whole process group, as with Ctrl-C, the parent alone reacts to them.
PARENTS_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_log = runlog.logger("pyconv.parallel")


#: Errors whose one line is enough: no traceback is logged.
SAID = (RunError, BackendUnavailable)


class NotFinite(RunError):
    """A mini-batch's loss or gradient is NaN or infinite."""


@dataclass
class Setup:
    """What a worker process is given when it starts; it is pickled.

    A user's own objects are packed separately: if the worker cannot read them, it can say so."""

    index: int
    parent: int  # process id of the parent
    plan: s.Plan
    segment: Segment
    x: np.ndarray  # a SharedArray, or Rows of one
    labels: SharedArray
    told: dict[str, bytes]  # the job, the rule and the model, packed
    threads: int
    spin: float
    log: Connection
    last_words: Segment  # the interpreter writes its stacks here when a signal kills it
    log_level: int


def describe_model(model: Sequential) -> dict[str, Any]:
    """What a worker needs to make the same network, without the parameters that it finds in shared memory."""
    return {
        "layers": model.layers,
        "input_shape": model.input_shape,
        "seed": model.seed,
        "dtype": model.dtype.name,
        "algorithm": model.algorithm,
        "normalization": model.normalization,
        "frozen": model.frozen,
        "rest": model.trained.rest.gather(model.flat),
    }


def make_model(description: dict[str, Any], backend: str, threads: int) -> Sequential:
    """The network of a description that :func:`describe_model` made."""
    from ..nn import Sequential

    made = Sequential(description["layers"], description["input_shape"], description["seed"], description["dtype"])
    made.normalization, made.algorithm = description["normalization"], description["algorithm"]
    made.backend, made.threads = backend, threads
    made.frozen = description["frozen"]
    made.trained.rest.scatter(description["rest"], made.flat)
    return made


class Trainer:
    """Computes the gradients of a worker's mini-batches.

    Parameters
    ----------
    model : Sequential
    x, labels : ndarray
        The whole data, in shared memory.
    job : Job
    store : Store
    words : (WORKER,) int64 ndarray
        The process's own words in the store.
    recorder : Recorder
        For the timeline.
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
        self._trained = Trained(model)
        self._sum = np.zeros(model.trained.count if job.micro_batches > 1 else 0, model.dtype)

    def order(self) -> EpochOrder:
        """The order of the current epoch's examples."""
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
        unit = lane.step * lane.workers + lane.index if self._rule.lockstep else self._store.get(lane.index, c.UNIT)
        words[s.FAILED_UNIT] = unit
        place = unit % lane.workers
        if isinstance(order, MicroOrder):
            return self._accumulate(lane, order, unit, began, at, buffers)
        images, labels = gathered(
            self._x, self._labels, order, lane.step, place, seed=job.seed, epoch=lane.epoch, augmented=job.augment
        )
        ready = time.monotonic_ns()
        self._recorder.add(lane.index, "data", began, ready)
        slot = self._store.gradients[lane.index]
        self._trained.attach(at, buffers)
        loss, gradient = self._recorder.watch(lane.index, self._model)(
            images,
            labels,
            out=self._trained.room(slot),
            step=lane.epoch * lane.steps + lane.step,
            first=order.span(lane.step, place)[0],
            **job.weights(self._labels, order, lane.step, place),
        )
        self._trained.take(gradient, slot)
        return self._computed(lane, unit, loss, self._model.correct, began, ready)

    def _accumulate(
        self, lane: Lane, order: MicroOrder, unit: int, began: int, at: np.ndarray, buffers: np.ndarray
    ) -> float:
        """As :meth:`compute`, micro-batch by micro-batch; the time for their images counts as computation."""
        job, slot, total = self._job, self._store.gradients[lane.index], self._sum
        self._trained.attach(at, buffers)
        losses, correct, parts = [], 0, order.micro(lane.step, unit % lane.workers)
        for each in parts:
            asked = time.monotonic_ns()
            images, labels = gathered(
                self._x, self._labels, order.fine, lane.step, each.share, seed=job.seed, epoch=lane.epoch,
                augmented=job.augment,
            )  # fmt: skip
            self._recorder.add(lane.index, "data", asked, time.monotonic_ns())
            loss, gradient = self._recorder.watch(lane.index, self._model)(
                images,
                labels,
                out=self._trained.room(slot),
                step=lane.epoch * lane.steps + lane.step,
                first=each.first,
                **job.weights(self._labels, order.fine, lane.step, each.share),
            )
            self._trained.take(gradient, slot)
            add_gradient(total, slot, each.weight, each is parts[0])
            losses.append(float(loss))
            correct += self._model.correct
        slot[...] = total
        return self._computed(lane, unit, mean_loss(losses, [each.images for each in parts]), correct, began, began)

    def _computed(self, lane: Lane, unit: int, loss: float, correct: int, began: int, ready: int) -> float:
        """Note a mini-batch whose gradient is complete."""
        words, job, slot = self._words, self._job, self._store.gradients[lane.index]
        self._store.unit_correct[unit] = correct
        done = time.monotonic_ns()
        words[s.DATA_NS] += ready - began
        words[s.COMPUTE_NS] += done - ready
        words[s.LAST_NS] = done - began
        words[s.BATCHES] += 1
        words[s.STARTED] = 0
        if not (np.isfinite(loss) and atomics.finite(slot)):
            raise NotFinite(f"the gradient is not finite (loss {loss:.6g})")
        if job.clip_norm is not None and not self._rule.clips_mean:
            clip(slot, job.clip_norm)
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
    """The worker cannot read what it was sent."""


class _Stopped(BaseException):
    """The parent has told the worker to stop."""


def main(setup: Setup) -> None:
    """Run as worker `setup.index`; the target of the process."""
    open_standard()
    for number in PARENTS_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, PARENTS_SIGNALS)
    atomics.die_with_parent()
    if os.getppid() != setup.parent:  # the parent died before the kernel was asked to end this process with it
        os._exit(EXIT_FAILED)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        faulthandler.enable(setup.last_words)  # the parent logs it with the worker's number
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
        # One line is enough for these errors, unless a user's function caused one. If something cannot be read, the
        # parent reports it, once for all workers.
        if not isinstance(error, SAID) or (error.__cause__ is not None and not isinstance(error, Unreadable)):
            _log.error("%s", traceback.format_exc().rstrip())
        words[s.HEARTBEAT] = time.monotonic_ns()
        _leave(EXIT_UNREADABLE if isinstance(error, Unreadable) else EXIT_FAILED)
    _leave(0)


def _one_line(error: BaseException) -> str:
    lines = traceback.format_exception_only(error)
    return lines[-1].strip()


def _leave(status: int) -> None:
    """Exit at once: the kernel cleans up everything, and threads of libraries might not end."""
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
    recorder = SharedRecorder(store)
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
    """Programs of this worker's lanes that have work to do and are not running yet."""
    if store.head(s.STOP):
        raise _Stopped
    order = store.head(s.COMMAND)
    mine = np.flatnonzero((store.column(c.OWNER) == worker) & (store.column(c.DONE) < order)).tolist()
    return {lane: program(store, work, lane) for lane in mine if lane not in running}


def _beat(words: np.ndarray, parent: int) -> None:
    """Show that the process runs, however long a step takes, and leave if the parent is gone."""

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
