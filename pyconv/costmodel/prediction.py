"""Predicting an epoch: computation, communication and time under each update rule."""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass

from .. import nn
from ..backends import get as get_backend
from ..threads import counted, split
from ..values import integer
from .calibration import Calibration, calibrate
from .checks import not_negative, positive
from .equations import shuffle_time
from .network import estimated_seconds, workload
from .network import measure as measured
from .rules import cost


@dataclass(frozen=True)
class Prediction:
    """An epoch as the cost model sees it.

    Attributes
    ----------
    workers, threads, update, batch, images
        What it is a prediction of: processes, threads in each, update rule, images of a worker's step and of the epoch.
    gradient_s : float
        Seconds of one gradient of one worker, with the CPUs shared among workers.
    step_s : float
        Seconds of one step of one worker, everything included.
    compute_s, communication_s : float
        Seconds of the epoch that a worker computes gradients, and that it updates, sends, reads and waits.
    epoch_s : float
        Seconds of the epoch.
    speedup : float
        Over one worker with the same batch and `base_threads` threads.
    base_threads : int
        Of that one worker: as many as each of these workers has, but in an :class:`Advice` all that one worker would
        have, so that its numbers compare with each other.
    shuffle_s : float
        Seconds of the epoch in which the workers bring its examples into their order; part of `communication_s`.
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
        """The same, with its speed-up over `alone`, the one worker that it is an alternative to.

        Parameters
        ----------
        alone : Prediction
            Of one worker.

        Returns
        -------
        Prediction
        """
        return dataclasses.replace(self, speedup=alone.epoch_s / self.epoch_s, base_threads=alone.threads)


@functools.cache
def this_machine() -> Calibration:
    """The calibration of this machine, measured once a process."""
    return calibrate()


def predict(
    model: nn.Sequential, batch: int = 64, workers: int = 1, update: str = "sync", *, images: int = 28709,
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
    update : str
        Update rule.
    images : int
        Images of the epoch; FER2013's training split by default.
    threads : int, optional
        OpenMP threads of each worker; by default the usable CPUs are shared out.
    backend : str
        Where the workers compute.
    calibration : Calibration, optional
        Constants of the machine; by default measured, once a process.
    measure : bool
        Train a copy of the network for a second, which gives its own t_c (seconds over its FLOPs). Without it the
        gradient's time is estimated from the FLOPs and bytes and the calibration's t_c.
    gradient_s : float, optional
        Seconds of a worker's gradient when it has the CPUs to itself, known already: nothing is measured.
    update_s : float, optional
        Seconds of one update of all parameters, known already. By default measured beside the gradient, else the
        calibration's t_u for each parameter.
    spread : float, optional
        Standard deviation of a step's time over its mean, from worker to worker: what meetings wait for. By
        default what was seen from step to step where the gradient is measured (at most 0.1), else 0.
    every : float, optional
        Steps between meetings, for ``local`` and ``easgd``; by default 1, as in training.

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
    batch, workers = integer(batch, "batch", minimum=1), integer(workers, "workers", minimum=1)
    images = integer(images, "images", minimum=1)
    if gradient_s is not None:
        positive(gradient_s=gradient_s)
    not_negative(**{k: v for k, v in {"update_s": update_s, "spread": spread}.items() if v is not None})
    calibration = this_machine() if calibration is None else calibration
    threads = _threads(backend, workers, threads, calibration.cpus)
    if gradient_s is None and measure:
        found = measured(model, batch, backend=backend, threads=threads)
        gradient_s = found.gradient_s
        update_s = found.update_s if update_s is None else update_s
        spread = found.spread if spread is None else spread
    if gradient_s is None:
        gradient_s = estimated_seconds(model, batch, calibration, backend=backend, threads=threads)
    if update_s is None:
        update_s = calibration.t_u.value * model.flat.size
    how = (model, batch, update, images, threads, calibration, gradient_s, update_s, spread or 0.0, every)
    alone = _predict(1, *how)
    if workers == 1:
        return alone
    made = _predict(workers, *how)
    return made.over(alone)


def _threads(backend: str, workers: int, threads: int | None, cpus: int) -> int:
    """Threads of each worker: as asked for, or an equal share; one where the backend has only one."""
    if get_backend(backend).threads(2) == 1:
        return 1
    return split(workers, threads, cpus)


def _predict(
    workers: int, model: nn.Sequential, batch: int, update: str, images: int, threads: int, calibration: Calibration,
    gradient_s: float, update_s: float, spread: float, every: float | None,
) -> Prediction:  # fmt: skip
    work = workload(model)
    steps = images / (workers * batch)  # a short last step costs its share
    own = cost(
        update, workers=workers, parameters=work.parameters, itemsize=work.itemsize, t_s=calibration.t_s.value,
        t_b=calibration.t_b.value, t_u=update_s / max(1, work.parameters), every=every,
    )  # fmt: skip
    # Workers share caches and memory; those that together ask for more CPUs than there are take turns on them.
    company = min(workers, max(1, calibration.cpus // threads)) - 1
    slower = 1 + company * (calibration.slowdown - 1)
    gradient_s *= slower
    crowding = max(1.0, workers * threads / calibration.cpus)
    gradient_s *= crowding
    # Between two meetings are 1 / meets steps, whose deviations add as squares do.
    waiting = math.sqrt(own.meets) * spread * gradient_s * expected_lead(workers)
    beside = own.busy_s * slower * crowding + waiting
    step_s = max(gradient_s + beside, workers * own.exclusive_s * slower)
    shuffle_s = shuffle_time(workers, images, t_n=calibration.t_n.value, cpus=calibration.cpus)
    compute_s, epoch_s = steps * gradient_s, shuffle_s + steps * step_s
    beside_s = epoch_s - compute_s
    return Prediction(
        workers,
        threads,
        update,
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
    """By how many standard deviations the slowest of `workers` normal times exceeds their mean, on average.

    Exact for 2; for more, Blom's approximation of the largest order statistic, 3 % too high for 3 and closer beyond.
    """
    if workers < 2:
        return 0.0
    if workers == 2:
        return 1 / math.sqrt(math.pi)
    from scipy.special import ndtri

    return float(ndtri((workers - 0.375) / (workers + 0.25)))
