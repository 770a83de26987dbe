"""Predicts the time of an epoch under an update rule: computation and communication."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence

from .. import nn
from ..backends import get as get_backend
from ..errors import InputError
from ..parallel import Rule, rule_for
from ..threads import split as shared_threads
from ..values import flag, integer
from .calibration import Calibration, calibrate, calibration_of
from .checks import network, not_negative, plain, positive
from .equations import shuffle_time
from .network import estimated_seconds, workload
from .network import measure as measured
from .over_ranks import Way, predicted
from .prediction_result import Prediction
from .ranks import at_ranks
from .rig import Rig
from .rules import between_meetings, cost
from .waiting import expected_lead


@functools.cache
def this_machine() -> Calibration:
    """The calibration of this machine, measured once a process."""
    return calibrate()


@plain
def predict(
    model: nn.Sequential, batch: int = 64, workers: int = 1, update: str | Rule = "sync", *, images: int = 28709,
    threads: int | None = None, backend: str = "auto", calibration: Calibration | None = None, measure: bool = True,
    gradient_s: float | None = None, update_s: float | None = None, spread: float | None = None,
    every: float | None = None, ranks: int | None = None, split: str = "data", overlap: bool = True,
    stages: int | None = None, micro_batches: int | None = None, schedule: str = "1f1b",
    cut: Sequence[int] | None = None, shared_cpus: int | None = None, cluster: bool = False,
) -> Prediction:  # fmt: skip
    """Predict an epoch of training: data-parallel on one machine, or split over the ranks of a cluster.

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
    ranks : int, optional
        Ranks of a cluster, between which messages take the calibration's x_s and x_b (or t_s and t_b, if exchanges were
        not measured). Then `workers` are those of each rank. By default there is one machine, without ranks.
    split : {"data", "rows", "filters", "pipeline"}
        What the ranks divide: the images, as ``fit`` does by default; rows or filters (``fit(split=…)``); or the layers
        (``fit(pipeline_stages=…)``).
    overlap : bool
        Whether messages travel while the images' ranks compute, where the rule allows it.
    stages, micro_batches : int, optional
        Of each pipeline; by default one of all ranks, and the most that divide the batch, up to 4 for each stage.
    schedule : {"1f1b", "gpipe"}
        Of a pipeline.
    cut : sequence of int, optional
        The first layer of each stage but the first; by default as in training (:func:`.cut`).
    shared_cpus : int, optional
        CPUs that all ranks share; by default each rank has its own.
    cluster : bool
        Whether this is one of the ranks of a cluster, which all call this alike. Then `ranks` are these, all measure at
        once, and all get the same.

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
    communication on one machine, :mod:`.splits` for what ranks send and when.

    Examples
    --------
    >>> from pyconv import costmodel, nn
    >>> model = nn.Sequential([nn.Conv2D(8, 5, padding="same"), nn.Flatten(), nn.Dense(10)], (32, 32, 1))
    >>> known = costmodel.Fit(1e-9, 1e-9, 1e-9, "s", 1)
    >>> machine = costmodel.Calibration({"serial": {"direct": known}}, {}, known, known, known, known, 1, {})
    >>> how = {"images": 6400, "gradient_s": 0.02, "backend": "serial", "calibration": machine}
    >>> two = costmodel.predict(model, 64, ranks=2, **how)
    >>> two.setting, round(two.speedup, 1)
    ('images over 2 ranks × 1 thread', 2.0)
    """
    network(model)
    batch, workers = integer(batch, "batch", minimum=1), integer(workers, "workers", minimum=1)
    images = integer(images, "images", minimum=1)
    if gradient_s is not None:
        positive(gradient_s=gradient_s)
    not_negative(**{k: v for k, v in {"update_s": update_s, "spread": spread}.items() if v is not None})
    measure = flag(measure, "measure")
    if flag(cluster, "cluster") or ranks is not None:
        way = Way(ranks or 1, split, workers, overlap, stages, micro_batches, schedule, cut, every, shared_cpus)
        rule = rule_for(update)
        asked = {"batch": batch, "images": images, "update": rule.name, **dataclasses.asdict(way)}
        with at_ranks(ranks, cluster, backend, threads, calibration, asked) as place:
            rig = Rig(
                model, place.calibration, backend=backend, threads=place.threads, measure=measure,
                session=place.session, gradient_s=gradient_s, update_s=update_s, spread=spread,
            )  # fmt: skip
            return predicted(rig, batch, rule, dataclasses.replace(way, ranks=place.ranks).checked(rule, batch), images)
    if split != "data" or stages is not None or micro_batches is not None or cut is not None:
        raise InputError("split, stages, micro_batches and cut are for ranks: say how many, or cluster=True")
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
    return shared_threads(workers, threads, cpus)


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
