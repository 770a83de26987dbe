"""Advises how many workers and threads to use, and says when parallelism does not pay."""

from __future__ import annotations

import functools
from typing import Any

from .. import nn
from ..backends import get as get_backend
from ..parallel import Job, Rule, rule_for
from ..threads import counted, usable_cpus
from ..values import flag, integer
from .advice_ranks import over_ranks
from .advised import WORTH, Advice
from .calibration import Calibration, calibrate, calibration_of
from .checks import network, not_negative
from .network import Measured, measure
from .prediction import Prediction, predict

#: Images of a step of all workers together if the user gives none, as in the training loop.
BATCH = 64


def advise(
    model: nn.Sequential, batch: int | None = None, update: str | Rule = "sync", *, images: int = 28709,
    backend: str = "auto", cpus: int | None = None, threads: int | None = None, shared: bool = False,
    calibration: Calibration | None = None, seconds: float = 0.5, ranks: int | None = None,
    shared_cpus: int | None = None, cluster: bool = False, measure: bool = True,
) -> Advice:  # fmt: skip
    """Say how many workers and threads train `model` fastest here; or which split does so on the ranks of a cluster.

    ``workers="auto"`` of :func:`pyconv.fit` and of the command asks this function: the answer is the same for the same
    network, update rule and number of images.

    Parameters
    ----------
    model
        As in :func:`predict`.
    batch : int, optional
        Images of one worker's step. By default as in training: 64 images, divided among the workers.
    update, images, backend
        As in :func:`predict`.
    cpus : int, optional
        CPUs to use at most; by default all that the process may use.
    threads : int, optional
        Threads of each worker, if they are fixed and only the number of workers is open; for backends with threads.
    shared : bool
        Whether `batch` is the batch of all workers together, of which each takes its share.
    calibration : Calibration, optional
        Constants of the machine; by default those of the backend, measured once a process.
    seconds : float
        How long to measure the network's gradient for each number of threads and each batch that is compared. Results
        are kept: the process's later calls use them.
    ranks, shared_cpus, cluster
        As in :func:`predict`: with them, the advice is for ranks. Compared are images, rows, filters, and pipelines of
        as many stages as divide the ranks.
    measure : bool
        On ranks, as in :func:`predict`.

    Returns
    -------
    Advice
        One worker, unless several are predicted to be at least 10 % faster: they need more memory and another learning
        rate. On ranks, the split whose images a second are the most, or one rank alone, on the same condition.
    """
    rule = rule_for(update)
    network(model)
    images, shared = integer(images, "images", minimum=1), flag(shared, "shared")
    if batch is None:
        batch, shared = min(BATCH, images), True
    batch = integer(batch, "batch", minimum=1)
    not_negative(seconds=seconds)
    if flag(cluster, "cluster") or ranks is not None:
        return over_ranks(
            model, batch, rule, images=images, backend=backend, threads=threads, shared=shared, seconds=seconds,
            calibration=calibration, ranks=ranks, shared_cpus=shared_cpus, cluster=cluster,
            measure=flag(measure, "measure"),
        )  # fmt: skip
    here = calibration is None
    calibration = _here(get_backend(backend).name, usable_cpus()) if here else calibration_of(calibration)
    cpus = calibration.cpus if cpus is None else min(integer(cpus, "cpus", minimum=1), calibration.cpus)
    each = 1 if get_backend(backend).threads(2) == 1 else threads
    if each is None:
        choices = [(workers, cpus // workers) for workers in range(1, cpus + 1) if cpus % workers == 0]
    else:
        each = integer(each, "threads", minimum=1)
        choices = [(workers, each) for workers in range(1, max(1, cpus // each) + 1)]
    batches = {workers: max(batch // workers, 1) if shared else batch for workers, _ in choices}
    steps = {
        (size, count): _measured(model, size, backend, count, seconds)
        for size, count in dict.fromkeys((batches[workers], count) for workers, count in choices)
    }
    how: dict[str, Any] = {"images": images, "backend": backend, "calibration": calibration}
    predicted = [
        predict(
            model, batches[workers], workers, rule, threads=count, gradient_s=step.gradient_s,
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
        return Advice(1, alone.threads, rule.name, reason, tuple(considered))
    one = f"one worker with {counted(alone.threads, 'thread')}"
    reason = f"{best.speedup:.2f} times as fast as {one} ({best.epoch_s:.3g} s an epoch)"
    return Advice(best.workers, best.threads, rule.name, reason, tuple(considered))


def advised_workers(model: nn.Sequential, images: int, job: Job, *, shared: bool = False) -> tuple[int, str]:
    """How many workers train fastest here, and why, from the cost model's measurement of this machine and network.

    At most one for each CPU that the process may use; one worker is enough for a GPU.

    Parameters
    ----------
    model : Sequential
        Its gradient is timed for about a second; its parameters do not change.
    images : int
        In an epoch.
    job : Job
        Its batch size, update rule, backend and threads are used.
    shared : bool
        Whether the batch is that of all workers together, of which each takes its share.

    Returns
    -------
    workers : int
    reason : str
        For the log.
    """
    backend = get_backend(job.backend)
    if backend.name == "cuda":
        return 1, "one process keeps a GPU busy"
    threads = job.threads_per_worker
    if threads is not None:
        threads = backend.threads(integer(threads, "threads_per_worker", minimum=1))
    cpus = usable_cpus()
    if cpus // (threads or 1) < 2:
        return 1, why_no_room(cpus, threads or 1)
    advice = advise(
        model,
        job.batch_size,
        job.rule,
        images=images,
        backend=backend.name,
        cpus=min(cpus, images * (threads or 1)),  # each worker needs an image
        threads=threads,
        shared=shared,
    )
    return advice.workers, advice.reason


def _measured(model: nn.Sequential, batch: int, backend: str, threads: int, seconds: float) -> Measured:
    """The times of a network's steps here, measured once a process, so that the same question has the same answer."""
    key = (repr(model.config()), batch, get_backend(backend).name, threads, seconds, usable_cpus(), measure)
    if key not in _known:
        _known[key] = measure(model, batch, backend=backend, threads=threads, seconds=seconds)
    return _known[key]


_known: dict[tuple[object, ...], Measured] = {}


@functools.cache
def _here(backend: str, cpus: int) -> Calibration:
    """The constants of this machine for a backend, with `cpus` CPUs."""
    return calibrate(backend, seconds=0.01)


def why_no_room(cpus: int, threads: int) -> str:
    """Why two workers of `threads` threads each would take turns on the CPUs, for the user."""
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
