"""Advice: how many workers and threads, and when parallelism does not pay."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from .. import nn
from ..backends import get as get_backend
from ..threads import counted, usable_cpus
from ..values import integer
from .calibration import Calibration, calibrate
from .network import measure
from .prediction import Prediction, predict

#: A gain that is not worth the memory, the start and the other learning rate of more workers.
WORTH = 1.1


@dataclass(frozen=True)
class Advice:
    """What to run, and why.

    Attributes
    ----------
    workers, threads : int
        Processes, and threads in each.
    update : str
        Update rule.
    reason : str
        One line for the user.
    considered : tuple of Prediction
        Everything that was compared, fastest first; speed-ups are over the one worker among them.
    """

    workers: int
    threads: int
    update: str
    reason: str
    considered: tuple[Prediction, ...]

    def __str__(self) -> str:
        return f"{counted(self.workers, 'worker')} × {counted(self.threads, 'thread')}: {self.reason}"


def advise(
    model: nn.Sequential, batch: int = 64, update: str = "sync", *, images: int = 28709, backend: str = "auto",
    cpus: int | None = None, threads: int | None = None, shared: bool = False,
    calibration: Calibration | None = None, seconds: float = 0.5,
) -> Advice:  # fmt: skip
    """Say how many workers and threads train `model` fastest here.

    Parameters
    ----------
    model, batch, update, images, backend
        As in :func:`predict`.
    cpus : int, optional
        CPUs to use at most; by default all that the process may use.
    threads : int, optional
        Of each worker, where that is decided and only the number of workers is not; where the backend has threads.
    shared : bool
        Whether `batch` is that of all workers together, of which each takes its share, as training does where no batch
        size is given.
    calibration : Calibration, optional
        Constants of the machine; by default those of the backend, measured once a process. ``workers="auto"`` of
        :func:`pyconv.fit` takes the same, and so comes to the same number.
    seconds : float
        To measure the network's gradient for, with each number of threads and each batch that is considered.

    Returns
    -------
    Advice
        One worker, unless several are predicted to be at least 10 % faster: they need more memory and another learning
        rate.
    """
    calibration = _here(get_backend(backend).name, usable_cpus()) if calibration is None else calibration
    cpus = calibration.cpus if cpus is None else min(integer(cpus, "cpus", minimum=1), calibration.cpus)
    each = 1 if get_backend(backend).threads(2) == 1 else threads
    if each is None:
        choices = [(workers, cpus // workers) for workers in range(1, cpus + 1) if cpus % workers == 0]
    else:
        each = integer(each, "threads", minimum=1)
        choices = [(workers, each) for workers in range(1, max(1, cpus // each) + 1)]
    batches = {workers: max(batch // workers, 1) if shared else batch for workers, _ in choices}
    steps = {
        (size, count): measure(model, size, backend=backend, threads=count, seconds=seconds)
        for size, count in dict.fromkeys((batches[workers], count) for workers, count in choices)
    }
    how: dict[str, Any] = {"images": images, "backend": backend, "calibration": calibration}
    predicted = [
        predict(
            model, batches[workers], workers, update, threads=count, gradient_s=step.gradient_s,
            update_s=step.update_s, spread=step.spread, **how,
        )
        for workers, count in choices
        for step in [steps[batches[workers], count]]
    ]  # fmt: skip
    alone = next(prediction for prediction in predicted if prediction.workers == 1)
    considered = sorted((one.over(alone) for one in predicted), key=lambda prediction: prediction.epoch_s)
    best = considered[0]
    if best.workers == 1 or best.speedup < WORTH:
        reason = _why_alone(alone, considered, cpus)
        return Advice(1, alone.threads, update, reason, tuple(considered))
    one = f"one worker with {counted(alone.threads, 'thread')}"
    reason = f"{best.speedup:.2f} times as fast as {one} ({best.epoch_s:.3g} s an epoch)"
    return Advice(best.workers, best.threads, update, reason, tuple(considered))


@functools.cache
def _here(backend: str, cpus: int) -> Calibration:
    """The constants of this machine for a backend, with so many CPUs to use."""
    return calibrate(backend, seconds=0.01)


def why_no_room(cpus: int, threads: int) -> str:
    """Why two workers of so many threads each would take turns on the CPUs, for the user."""
    if cpus == 1:
        return "there is one CPU: workers would take turns on it"
    return f"there are {cpus} CPUs: two workers of {counted(threads, 'thread')} each would take turns on them"


def _why_alone(alone: Prediction, considered: list[Prediction], cpus: int) -> str:
    other = next((prediction for prediction in considered if prediction.workers > 1), None)
    if other is None:
        return why_no_room(cpus, alone.threads)
    share = 100 * other.communication_s / other.epoch_s
    return (
        f"more workers do not pay: {other.workers} of them would be {other.speedup:.2f} times as fast "
        f"({share:.0f} % of their time would go into communication)"
    )
