"""Engine: the interface of what runs the steps of an epoch; its job and its reports; and the engine of one process.

:mod:`pyconv.loop` asks an engine for an epoch and receives one report for each step. It does not know whether one
process computes the steps (:class:`InProcess`) or several that meet in a parameter server.

Everything random is a function of (seed, epoch, step, example), never of what ran before. So an engine's state consists
of numbers only, and a run that is stopped after any report continues to the same bits.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ..backends import get
from ..datasets.augmentation import settings
from ..errors import CheckpointError, InputError, PyconvError, RunError, shown
from ..optim import Optimizer
from ..optim.clipping import clip
from ..threads import counted, split, usable_cpus
from ..values import function, integer, mapping, real
from .batches import gathered
from .micro import MicroOrder
from .recorder import Recorder
from .rules import Rule, rule_for
from .sampler import EpochOrder
from .stages import Stages
from .weighing import Weighing

if TYPE_CHECKING:
    from ..nn import Sequential

Schedule = Callable[[int, int], float]


def constant(step: int, total: int) -> float:
    """The schedule that does not change the learning rate."""
    return 1.0


@dataclass(frozen=True)
class Job:
    """What an engine shall do: all settings of the steps, without the model and the data.

    It is small and can be pickled: every worker process receives it.

    Attributes
    ----------
    optimizer : Optimizer
        Turns a gradient into a change of the parameters; it holds no state itself.
    batch_size : int
        Images in one worker's mini-batch; a global step takes `workers` times as many.
    epochs : int
        Epochs of the whole run; with the steps of an epoch they give the schedule its total.
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
        OpenMP threads of each worker; None divides the usable CPUs evenly.
    workers : int
        Training processes.
    update : str or Rule
        How their gradients or parameters meet.
    options : mapping
        The rule's options, such as ``{"staleness": 4}``.
    on_worker_failure : {"restart", "drop", "abort"}
        What to do when a worker dies.
    trace : str or None
        File for the timeline of the workers.
    clip_norm : float or None
        Largest norm of a gradient, over all parameters; under a rule that averages gradients, of their mean.
    weighing : Weighing or None
        Weights of images and classes in the loss, and label smoothing; None is the plain mean.
    overlap : bool
        On the ranks of a cluster: send gradients and parameters while steps are computed.
    wire : {"exact", "float16"}
        How they travel then.
    micro_batches : int
        Parts of a mini-batch whose gradients are computed one after the other, and added.
    stages : Stages or None
        How the network's layers are cut into stages; None: they are not.
    split : {"filters", "rows"} or None
        On the ranks of a cluster: what of each layer they share out, so that they compute every step together.
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
    weighing: Weighing | None = None
    clip_norm: float | None = None
    overlap: bool = True
    wire: str = "exact"
    micro_batches: int = 1
    stages: Stages | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.optimizer, Optimizer):
            raise InputError(f"optimizer must be one of pyconv.optim's, not {shown(self.optimizer)}")
        for name, least in (("batch_size", 1), ("epochs", 0), ("seed", 0), ("workers", 1), ("micro_batches", 1)):
            object.__setattr__(self, name, integer(getattr(self, name), name, minimum=least))
        if self.threads_per_worker is not None:
            threads = integer(self.threads_per_worker, "threads_per_worker", minimum=1)
            object.__setattr__(self, "threads_per_worker", threads)
        function(self.schedule, "schedule", "pyconv.optim.schedule('cosine')")
        object.__setattr__(self, "options", mapping(self.options, "options", "{'staleness': 4}"))
        object.__setattr__(self, "augment", settings(self.augment))
        if self.weighing is not None and not isinstance(self.weighing, Weighing):
            raise InputError(f"weighing must be a Weighing, not {shown(self.weighing)}")

    def weights(self, labels: np.ndarray, order: EpochOrder, step: int, worker: int = 0) -> dict[str, Any]:
        """The weights of a worker's mini-batch, as keyword arguments of ``loss_and_gradient``.

        Parameters
        ----------
        labels : (N,) int64 ndarray
            The training images' labels.
        order : EpochOrder
        step : int
            In the epoch, from 0.
        worker : int

        Returns
        -------
        dict
            Empty if all images have the same weight.
        """
        return {} if self.weighing is None else self.weighing.of(labels, order, step, worker)

    @functools.cached_property
    def rule(self) -> Rule:
        """The update rule, with its options.

        Raises
        ------
        UnknownNameError, InputError
            If the rule or one of its options is unknown or impossible.
        """
        return rule_for(self.update, self.options)

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
        InputError
            If `step` or `steps_per_epoch` is no integer of at least 1.
        RunError
            If the schedule fails, or gives no finite number of at least 0.
        """
        step = integer(step, "step", minimum=1)
        total = self.epochs * integer(steps_per_epoch, "steps_per_epoch", minimum=1)
        try:
            factor = self.schedule(step, total)
        except PyconvError:
            raise
        except Exception as error:  # the user's own function
            words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            raise RunError(f"the schedule fails when it is called as schedule(step, total): {words}") from error
        try:
            factor = real(factor, f"what the schedule gives for step {step}", minimum=0)
            return real(self.optimizer.lr * factor, f"the learning rate of step {step}", minimum=0)
        except InputError as error:  # the run has begun, so it is no InputError any more
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
        Wall-clock seconds since the last report (or since the epoch was begun).
    correct : int
        Those of the images whose largest logit was their label's, before the update.
    """

    step: int
    images: int
    loss: float
    seconds: float
    correct: int


def epoch_order(labels: np.ndarray, job: Job, epoch: int, least: int) -> EpochOrder:
    """The mini-batches of an epoch of the job, for a network that needs at least `least` examples at a time."""
    if job.micro_batches > 1:
        return MicroOrder(
            labels, seed=job.seed, epoch=epoch, workers=job.workers, batch_size=job.batch_size, parts=job.micro_batches,
            least=least,
        )  # fmt: skip
    return EpochOrder(labels, seed=job.seed, epoch=epoch, workers=job.workers, batch_size=job.batch_size, least=least)


def check_state(state: Mapping[str, np.ndarray], vectors: Sequence[str], size: int, dtype: np.dtype) -> int:
    """Check the state of an engine of one worker.

    Parameters
    ----------
    state : mapping of str to ndarray
    vectors : sequence of str
        Names of the optimizer's state vectors.
    size : int
        Parameters of the network.
    dtype : dtype

    Returns
    -------
    int
        Steps done.

    Raises
    ------
    CheckpointError
        If it is another engine's, optimizer's or network's.
    """
    names = {"step", *(f"optimizer.{name}" for name in vectors)}
    if set(state) != names:
        raise CheckpointError(
            f"the checkpoint holds the state {shown(sorted(state))}, this run has {sorted(names)}: "
            "it is another optimizer's or another engine's"
        )
    step = state["step"]
    if step.shape or step.dtype.kind not in "iu" or step < 0:
        raise CheckpointError(f"the checkpoint's step is {shown(step)}, no number of steps: it is damaged")
    for name in vectors:
        saved = state[f"optimizer.{name}"]
        if saved.shape != (size,) or saved.dtype != dtype:
            raise CheckpointError(
                f"the checkpoint's optimizer state {name} has {saved.shape} {saved.dtype}, "
                f"the model needs {(size,)} {dtype}: it is another model's"
            )
    return int(step)


def check_workers_state(state: Mapping[str, np.ndarray], mine: Mapping[str, np.ndarray], workers: int) -> None:
    """Check that an engine of several workers, whose state is `mine`, can go on from `state`.

    Raises
    ------
    CheckpointError
        If the state is another run's.
    """
    if set(state) != set(mine):
        raise CheckpointError(
            f"the checkpoint holds the state {shown(sorted(state))}, this run has {sorted(mine)}: "
            "it is another optimizer's, another update rule's or another number of workers'"
        )
    if int(state["workers"]) != workers:
        raise CheckpointError(
            f"the checkpoint is of {int(state['workers'])} workers, this run has {workers}; continue with as many"
        )
    for name in mine:
        if name != "finished" and (state[name].shape, state[name].dtype) != (mine[name].shape, mine[name].dtype):
            raise CheckpointError(
                f"the checkpoint's {name} has {state[name].shape} {state[name].dtype}, this run needs "
                f"{mine[name].shape} {mine[name].dtype}: it is another model's, or of another amount of data"
            )


class Engine(Protocol):
    """Runs the steps of a training run on a model's parameters.

    When an engine is made, it checks the job and allocates memory. Processes start with the first epoch, so that a run
    that is refused for another reason has started none.

    Before :meth:`epoch` is iterated, after it is exhausted and after it was closed, the model of the engine holds the
    current parameters and running statistics, and :meth:`state` is complete. While the iterator waits between two
    reports, neither is promised: so the loop closes the iterator before it writes a checkpoint, and asks for the rest
    of the epoch afterwards.
    """

    steps_per_epoch: int
    """Global steps in an epoch, with the last one, which may be short."""

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """Run an epoch or the rest of one.

        If ``first_step`` equals :attr:`steps_per_epoch`, nothing runs and nothing is yielded. The generator may be
        closed after any report. It then stops at the boundary of that step: no step is half done, and if more steps
        were already run, they are part of :meth:`state`.

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
            ``staleness_max`` (steps), ``restarts``. Sums or maxima over time, except the mean staleness.
        """
        ...

    def state(self) -> dict[str, np.ndarray]:
        """All that a later engine needs besides the model's parameters and buffers.

        Returns
        -------
        dict of str to ndarray
            By name; copies, once the engine runs on or is closed.
        """
        ...

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from a state; the model's parameters are already in place.

        Parameters
        ----------
        state : mapping of str to ndarray
            As returned by :meth:`state`.

        Raises
        ------
        CheckpointError
            If the state is not that of such an engine with this optimizer and model.
        """
        ...

    def describe(self) -> str:
        """A line for the start of a run: backend, processes and threads, and the usable CPUs.

        Returns
        -------
        str
            Further lines hold advice.
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
        Images as they are; the model normalises them.
    labels : (N,) int64 array
        Classes.
    job : Job
        With ``workers=1``.
    """

    def __init__(self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> None:
        if job.trace is not None:
            raise InputError("trace records worker processes: it needs workers of 2 or more")
        if job.options:
            raise InputError(
                f"{next(iter(job.options))} is for several workers: leave it out, or take workers of 2 or more"
            )
        self._model, self._x, self._labels, self._job = model, x, labels, job
        self._before = (model.backend, model.threads)
        model.backend, model.threads = job.backend, split(1, job.threads_per_worker)
        self.steps_per_epoch = -(-len(x) // job.batch_size)
        self._step = 0
        self._gradient = np.empty_like(model.flat)
        self._optimizer_state = job.optimizer.init(model.flat.size, model.flat.dtype)
        self._compute_s = 0.0
        self.recorder = Recorder()

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        job, model = self._job, self._model
        order = epoch_order(self._labels, job, epoch, model.least_batch)
        self._plan_updates()
        recorder, compute = self.recorder, self.recorder.watch(0, model)
        last = time.perf_counter()
        for step in range(first_step, order.steps):
            began = time.monotonic_ns()
            images, labels = gathered(
                self._x, self._labels, order, step, seed=job.seed, epoch=epoch, augmented=job.augment
            )
            recorder.add(0, "data", began, time.monotonic_ns())
            counts = job.weights(self._labels, order, step)
            loss, _ = compute(images, labels, out=self._gradient, step=self._step, **counts)
            began = time.monotonic_ns()
            self._update()
            recorder.add(0, "update", began, time.monotonic_ns())
            now = time.perf_counter()
            self._compute_s += now - last
            yield StepReport(self._step, order.count(step), float(loss), now - last, model.correct)
            last = time.perf_counter()

    def _update(self) -> None:
        """Do a step with the gradient that has been computed."""
        job, model = self._job, self._model
        if job.clip_norm is not None:
            clip(self._gradient, job.clip_norm)
        self._step += 1
        rate = job.learning_rate(self._step, self.steps_per_epoch)
        if model.flat is not self._flat or model.trained is not self._trained:  # a callback has changed them
            self._plan_updates()
        for update in self._updates:
            update(self._step, rate)

    def _plan_updates(self) -> None:
        """One update for each stretch of the parameters that is trained."""
        self._flat, self._trained, gradient = self._model.flat, self._model.trained, self._gradient
        self._updates = []
        for start, end in self._trained.spans:
            state = {name: vector[start:end] for name, vector in self._optimizer_state.items()}
            self._updates.append(self._job.optimizer.planned(self._flat[start:end], gradient[start:end], state))

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
        self._step = check_state(state, tuple(self._optimizer_state), self._gradient.size, self._gradient.dtype)
        for name, mine in self._optimizer_state.items():
            mine[...] = state[f"optimizer.{name}"]

    def describe(self) -> str:
        backend = get(self._model.backend)
        threads = backend.threads(self._model.threads)
        instructions = backend.instruction_set()
        name = backend.name if instructions is None else f"{backend.name} ({instructions})"
        return f"backend {name}, 1 worker of {counted(threads, 'thread')} on {counted(usable_cpus(), 'usable CPU')}"

    def close(self) -> None:
        self._model.backend, self._model.threads = self._before
