"""Predicts the time of an epoch under an update rule: computation and communication."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

from .. import nn
from ..backends import get as get_backend
from ..parallel import Rule, rule_for
from ..threads import counted, split
from ..values import flag, integer
from .calibration import Calibration, calibrate, calibration_of
from .checks import network, not_negative, plain, positive
from .equations import shuffle_time
from .network import estimated_seconds, workload
from .network import measure as measured
from .rules import between_meetings, cost


@dataclass(frozen=True)
class Prediction:
    """The predicted times of an epoch.

    Attributes
    ----------
    workers, threads, update, batch, images
        The setting: processes, threads in each, update rule, images of a worker's step and of the epoch.
    gradient_s : float
        Seconds of one gradient of one worker, while all workers compute.
    step_s : float
        Seconds of one step of one worker, with everything in it.
    compute_s, communication_s : float
        A worker's seconds in the epoch for gradients, and for updating, sending, reading and waiting.
    epoch_s : float
        Seconds of the epoch.
    speedup : float
        Over one worker with the same batch and `base_threads` threads.
    base_threads : int
        Threads of that one worker: as many as each of these workers has. In an :class:`Advice` it is all threads that
        one worker would have, so that its predictions compare with each other.
    shuffle_s : float
        Seconds in which the workers bring the epoch's examples into their order; part of `communication_s`.
    """

    workers: int
    threads: int
    update: str
    batch: int
    images: int
    gradient_s: float
    step_s: float
    compute_s: float
    communication_s: float
    epoch_s: float
    speedup: float
    base_threads: int
    shuffle_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Images a second over all workers."""
        return self.images / self.epoch_s

    def __str__(self) -> str:
        return (
            f"{counted(self.workers, 'worker')} × {counted(self.threads, 'thread')}, {self.update}: "
            f"{self.epoch_s:.3g} s an epoch ({self.images_per_s:.0f} images/s; compute {self.compute_s:.3g} s, "
            f"communication {self.communication_s:.3g} s), {self.speedup:.2f} times one worker with "
            f"{counted(self.base_threads, 'thread')}"
        )

    def over(self, alone: Prediction) -> Prediction:
        """The same prediction, with its speed-up relative to `alone`, the one worker that it could replace.

        Parameters
        ----------
        alone : Prediction
            A prediction for one worker.

        Returns
        -------
        Prediction
        """
        return dataclasses.replace(self, speedup=alone.epoch_s / self.epoch_s, base_threads=alone.threads)


@functools.cache
def this_machine() -> Calibration:
    """The calibration of this machine, measured once a process."""
    return calibrate()


@plain
def predict(
    model: nn.Sequential, batch: int = 64, workers: int = 1, update: str | Rule = "sync", *, images: int = 28709,
    threads: int | None = None, backend: str = "auto", calibration: Calibration | None = None, measure: bool = True,
    gradient_s: float | None = None, update_s: float | None = None, spread: float | None = None,
    every: float | None = None,
) -> Prediction:  # fmt: skip
    """Predict an epoch of data-parallel training.

    Parameters
    ----------
    model : Sequential
        The network; its parameters stay as they are.
    batch : int
        Images of one worker's step.
    workers : int
        Training processes.
    update : str or Rule
        The update rule: its name, or one of your own.
    images : int
        Images of the epoch; FER2013's training split by default.
    threads : int, optional
        OpenMP threads of each worker; by default the usable CPUs are divided among the workers.
    backend : str
        Where the workers compute.
    calibration : Calibration, optional
        Constants of the machine; by default measured, once a process.
    measure : bool
        Train a copy of the network for a second, which gives its own t_c (seconds over its FLOPs). Without it the
        gradient's time is estimated from the FLOPs and bytes and the calibration's t_c.
    gradient_s : float, optional
        Seconds of a worker's gradient when it has the CPUs to itself, if known: then nothing is measured.
    update_s : float, optional
        Seconds of one update of all parameters, if known. By default it is measured beside the gradient, else it is the
        calibration's t_u for each parameter.
    spread : float, optional
        Standard deviation of a step's time over its mean, from worker to worker; workers that meet wait because of it.
        By default the spread from step to step if the gradient is measured (at most 0.1), else 0.
    every : float, optional
        Steps between meetings, for rules with the option ``sync_every``; by default that option's own value, as in
        training.

    Returns
    -------
    Prediction

    Raises
    ------
    InputError
        If a number is out of its range.
    UnknownNameError
        If the update rule or backend is not known.
    BackendUnavailable
        If the backend cannot run here.

    Notes
    -----
    Section 4 of the paper for the frame (computation divided, communication added), :mod:`.rules` for each rule's
    communication.
    """
    network(model)
    batch, workers = integer(batch, "batch", minimum=1), integer(workers, "workers", minimum=1)
    images = integer(images, "images", minimum=1)
    if gradient_s is not None:
        positive(gradient_s=gradient_s)
    not_negative(**{k: v for k, v in {"update_s": update_s, "spread": spread}.items() if v is not None})
    measure = flag(measure, "measure")
    calibration = this_machine() if calibration is None else calibration_of(calibration)
    threads = _threads(backend, workers, threads, calibration.cpus)
    if gradient_s is None and measure:
        found = measured(model, batch, backend=backend, threads=threads)
        gradient_s = found.gradient_s
        update_s = found.update_s if update_s is None else update_s
        spread = found.spread if spread is None else spread
    if gradient_s is None:
        gradient_s = estimated_seconds(model, batch, calibration, backend=backend, threads=threads)
    if update_s is None:
        update_s = calibration.t_u.value * model.trained.count
    rule = rule_for(update)
    how = (model, batch, rule, images, threads, calibration, gradient_s, update_s, spread or 0.0, every)
    alone = _predict(1, *how)
    if workers == 1:
        return alone
    made = _predict(workers, *how)
    return made.over(alone)


def _threads(backend: str, workers: int, threads: int | None, cpus: int) -> int:
    """Threads of each worker: as asked for, or an equal share; one if the backend has no threads."""
    if get_backend(backend).threads(2) == 1:
        return 1
    return split(workers, threads, cpus)


def _predict(
    workers: int, model: nn.Sequential, batch: int, rule: Rule, images: int, threads: int, calibration: Calibration,
    gradient_s: float, update_s: float, spread: float, every: float | None,
) -> Prediction:  # fmt: skip
    work = workload(model)
    steps = images / (workers * batch)  # a short last step counts in proportion
    if every is None:  # 0 in the rule's option means once an epoch
        every = max(1.0, between_meetings(rule, steps))
    own = cost(
        rule, workers=workers, parameters=work.parameters, itemsize=work.itemsize, t_s=calibration.t_s.value,
        t_b=calibration.t_b.value, t_u=update_s / max(1, work.parameters), every=every,
    )  # fmt: skip
    # Workers share caches and memory. If they need more CPUs together than there are, they take turns on them.
    company = min(workers, max(1, calibration.cpus // threads)) - 1
    slower = 1 + company * (calibration.slowdown - 1)
    gradient_s *= slower
    crowding = max(1.0, workers * threads / calibration.cpus)
    gradient_s *= crowding
    # There are 1 / meets steps between two meetings; the squares of their deviations add up.
    waiting = math.sqrt(own.meets) * spread * gradient_s * expected_lead(workers)
    beside = own.busy_s * slower * crowding + waiting
    step_s = max(gradient_s + beside, workers * own.exclusive_s * slower)
    shuffle_s = shuffle_time(workers, images, t_n=calibration.t_n.value, cpus=calibration.cpus)
    compute_s, epoch_s = steps * gradient_s, shuffle_s + steps * step_s
    beside_s = epoch_s - compute_s
    return Prediction(
        workers,
        threads,
        rule.name,
        batch,
        images,
        gradient_s,
        step_s,
        compute_s,
        beside_s,
        epoch_s,
        1.0,
        threads,
        shuffle_s,
    )


def expected_lead(workers: int) -> float:
    """How many standard deviations the slowest of `workers` normally distributed times is above the mean, on average.

    Exact for 2; for more, Blom's approximation of the largest order statistic, 3 % too high for 3 and closer beyond.
    """
    if workers < 2:
        return 0.0
    if workers == 2:
        return 1 / math.sqrt(math.pi)
    from scipy.special import ndtri

    return float(ndtri((workers - 0.375) / (workers + 0.25)))
