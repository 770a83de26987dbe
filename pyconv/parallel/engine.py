"""The engine: what runs the steps of an epoch, behind one protocol.

:mod:`pyconv.loop` asks an engine for an epoch and receives one report per step; it neither knows nor cares
whether one process computes them (:class:`InProcess`) or many that meet in a parameter server.

Everything random is a function of (seed, epoch, step, example), never of what ran before, so the state of an
engine is numbers only, and a run that is stopped after any report continues to the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..backends import get
from ..datasets import augment
from ..errors import CheckpointError, InputError, RunError, shown
from ..threads import counted, split, usable_cpus
from ..values import real
from .sampler import EpochOrder

if TYPE_CHECKING:
    from ..nn import Sequential
    from ..optim import Optimizer
    from .rules import Rule

Schedule = Callable[[int, int], float]


def constant(step: int, total: int) -> float:
    """The schedule that leaves the learning rate as it is."""
    return 1.0


@dataclass(frozen=True)
class Job:
    """What an engine is asked to do: everything about the steps but the model and the data.

    It is small and can be pickled, so that a worker process receives it whole.

    Attributes
    ----------
    optimizer : Optimizer
        Turns a gradient into a change of the parameters; it holds no state itself.
    batch_size : int
        Images in one worker's mini-batch; all workers together take `workers` times as many in a global step.
    epochs : int
        Epochs that the run will have when it is done: with the steps of an epoch, the schedule's horizon.
    seed : int
        Seed of the order of the data and of augmentation. (Dropout follows the model's own seed.)
    schedule : callable
        ``schedule(step, total)``: the factor of the learning rate at the global `step`, from 1 on, of `total`;
        see :func:`pyconv.optim.schedule`.
    augment : mapping, optional
        Keyword arguments of :func:`pyconv.datasets.augment`, as ``{"flip": True, "shift": 2}``; None changes no image.
    backend : str
        Where operations run.
    threads_per_worker : int or None
        OpenMP threads of each worker; None shares the usable CPUs out evenly.
    workers : int
        Training processes.
    update : str or Rule
        How their gradients or parameters meet.
    options : mapping
        The rule's own, as ``{"staleness": 4}``.
    on_worker_failure : {"restart", "drop", "abort"}
        What to do when a worker dies.
    trace : str or None
        File for the timeline of the workers.
    """

    optimizer: Optimizer
    batch_size: int
    epochs: int
    seed: int = 0
    schedule: Schedule = constant
    augment: Mapping[str, Any] | None = None
    backend: str = "auto"
    threads_per_worker: int | None = None
    workers: int = 1
    update: str | Rule = "sync"
    options: Mapping[str, Any] = field(default_factory=dict)
    on_worker_failure: str = "restart"
    trace: str | None = None

    def learning_rate(self, step: int, steps_per_epoch: int) -> float:
        """The learning rate of a global step, after the schedule.

        Parameters
        ----------
        step : int
            From 1 on.
        steps_per_epoch : int
            Global steps in an epoch.

        Returns
        -------
        float

        Raises
        ------
        RunError
            If the schedule gives no finite number of at least 0.
        """
        factor = self.schedule(step, self.epochs * steps_per_epoch)
        try:
            factor = real(factor, f"what the schedule gives for step {step}", minimum=0)
            return real(self.optimizer.lr * factor, f"the learning rate of step {step}", minimum=0)
        except InputError as error:  # the run has begun
            raise RunError(str(error)) from None


@dataclass(frozen=True)
class StepReport:
    """What one global step did.

    Attributes
    ----------
    step : int
        Global steps done since the beginning of the run, this one included.
    images : int
        Images in this step, over all workers.
    loss : float
        Mean loss over those images, before the update.
    seconds : float
        Wall-clock seconds since the report before it (or since the epoch was asked for).
    correct : int
        Of the images, those whose largest logit was their label's, before the update.
    """

    step: int
    images: int
    loss: float
    seconds: float
    correct: int


def epoch_order(labels: np.ndarray, job: Job, epoch: int, least: int) -> EpochOrder:
    """The mini-batches of an epoch of the job, for a network that needs `least` examples in each."""
    return EpochOrder(labels, seed=job.seed, epoch=epoch, workers=job.workers, batch_size=job.batch_size, least=least)


class Engine(Protocol):
    """Runs the steps of a training run on a model's parameters.

    Making an engine checks the job and takes the memory; processes start with the first epoch, so that a run that
    is refused for another reason has started none.

    Between steps, that is before :meth:`epoch` is iterated, after it is exhausted and after it was closed, the
    model that the engine was made for holds the current parameters and running statistics, and :meth:`state` is
    whole. While it is suspended between two reports neither is promised: the loop closes the iterator before
    it writes a checkpoint and asks for the rest of the epoch afterwards.
    """

    steps_per_epoch: int
    """Global steps in an epoch, a short last one included."""

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """Run an epoch or the rest of one.

        With ``first_step`` equal to :attr:`steps_per_epoch` there is nothing to run and nothing is yielded.
        The generator may be closed after any report; it then stops at that step's boundary: no step is half
        done or run ahead, or what was run ahead is part of :meth:`state`.

        Parameters
        ----------
        epoch : int
            From 0.
        first_step : int
            Steps of the epoch that are done already.

        Yields
        ------
        StepReport
            After each global step.
        """
        ...

    def statistics(self) -> dict[str, Any]:
        """Figures since the last call, for a line of metrics.

        Returns
        -------
        dict of str to object
            At least ``compute_s`` and ``communication_s`` (seconds, mean over workers), ``staleness_mean`` and
            ``staleness_max`` (steps), ``restarts``. All but the mean staleness add up or are maxima.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """All that a later engine needs besides the model's parameters and buffers.

        Returns
        -------
        dict of str to ndarray
            By name; the caller's own once the engine runs on or is closed.
        """
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Take up a state; the model's parameters are already in place.

        Parameters
        ----------
        state : mapping of str to ndarray
            As :meth:`state` gave it.

        Raises
        ------
        CheckpointError
            If the state is not one of this engine with this optimizer and model.
        """
        ...

    def describe(self) -> str:
        """For the start of a run: backend, processes and threads against the usable CPUs.

        Returns
        -------
        str
            More lines for advice.
        """
        ...

    def close(self) -> None:
        """Free processes, memory and files; the model keeps the last parameters. May be called twice."""
        ...


class InProcess(Engine):
    """The engine of one worker: Algorithm 1 of the paper, mini-batch SGD, in the calling process.

    Parameters
    ----------
    model : Sequential
        Trained in place.
    x : (N, H, W, C) uint8, float32 or float64 array
        Images as they come: the model normalises.
    labels : (N,) int64 array
        Classes.
    job : Job
        With ``workers=1``.
    """

    def __init__(self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> None:
        if job.trace is not None:
            raise InputError("trace records worker processes: it needs workers of 2 or more")
        if job.options:
            raise InputError(f"{next(iter(job.options))} belongs to several workers: it needs workers of 2 or more")
        self._model, self._x, self._labels, self._job = model, x, labels, job
        self._before = (model.backend, model.threads)
        model.backend, model.threads = job.backend, split(1, job.threads_per_worker)
        self.steps_per_epoch = -(-len(x) // job.batch_size)
        self._step = 0
        self._gradient = np.empty_like(model.flat)
        self._optimizer_state = job.optimizer.init(model.flat.size, model.flat.dtype)
        self._compute_s = 0.0

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        job = self._job
        order = epoch_order(self._labels, job, epoch, self._model.least_batch)
        last = time.perf_counter()
        for step in range(first_step, order.steps):
            loss = self._one_step(epoch, order.batch(step, 0))
            now = time.perf_counter()
            self._compute_s += now - last
            yield StepReport(self._step, order.count(step), loss, now - last, self._model.correct)
            last = time.perf_counter()

    def _one_step(self, epoch: int, indices: np.ndarray) -> float:
        job, model = self._job, self._model
        images = self._x[indices]
        if job.augment:
            images = augment(images, **job.augment, seed=job.seed, epoch=epoch, indices=indices)
        loss, gradient = model.loss_and_gradient(images, self._labels[indices], out=self._gradient, step=self._step)
        self._step += 1
        rate = job.learning_rate(self._step, self.steps_per_epoch)
        job.optimizer.update(model.flat, gradient, self._optimizer_state, self._step, lr=rate)
        return float(loss)

    def statistics(self) -> dict[str, Any]:
        compute_s, self._compute_s = self._compute_s, 0.0
        return {
            "compute_s": compute_s,
            "communication_s": 0.0,
            "staleness_mean": 0.0,
            "staleness_max": 0,
            "restarts": 0,
        }

    def state(self) -> dict[str, np.ndarray]:
        return {"step": np.array(self._step), **{f"optimizer.{k}": v for k, v in self._optimizer_state.items()}}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        names = {"step", *(f"optimizer.{name}" for name in self._optimizer_state)}
        if set(state) != names:
            raise CheckpointError(
                f"the checkpoint holds the state {sorted(state)}, this run has {sorted(names)}: "
                "it is another optimizer's or another engine's"
            )
        step = state["step"]
        if step.shape or step.dtype.kind not in "iu" or step < 0:
            raise CheckpointError(f"the checkpoint's step is {shown(step)}, no number of steps: it is damaged")
        for name, mine in self._optimizer_state.items():
            saved = state[f"optimizer.{name}"]
            if saved.shape != mine.shape or saved.dtype != mine.dtype:
                raise CheckpointError(
                    f"the checkpoint's optimizer state {name} has {saved.shape} {saved.dtype}, "
                    f"the model needs {mine.shape} {mine.dtype}: it is another model's"
                )
            mine[...] = saved
        self._step = int(step)

    def describe(self) -> str:
        backend = get(self._model.backend)
        threads = backend.threads(self._model.threads)
        isa = getattr(backend, "isa", None)
        name = backend.name if isa is None else f"{backend.name} ({isa()})"
        return f"backend {name}, 1 worker of {counted(threads, 'thread')} on {counted(usable_cpus(), 'usable CPU')}"

    def close(self) -> None:
        self._model.backend, self._model.threads = self._before
