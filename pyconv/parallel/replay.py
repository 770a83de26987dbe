"""Repeats the pushes of an asynchronous run in one process, in the order in which they happened."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..optim.clipping import clip
from .batches import gathered
from .engine import Job, epoch_order
from .kernels import kernels
from .sampler import EpochOrder
from .trained import Trained

if TYPE_CHECKING:
    from ..nn import Sequential
    from ..optim import Optimizer

Record = Mapping[str, np.ndarray]


def record_of(store: Any) -> dict[str, np.ndarray]:
    """The pushes of an epoch, from a table of mini-batches; see :meth:`~.server.ParameterServer.record`.

    Parameters
    ----------
    store : Store
        Or what else has ``unit_push``, ``unit_lane`` and ``unit_pulled``.

    Returns
    -------
    dict of str to ndarray
    """
    units = np.flatnonzero(store.unit_push > 0)
    units = units[np.argsort(store.unit_push[units], kind="stable")]
    return {
        "unit": units,
        "lane": store.unit_lane[units],
        "push": store.unit_push[units],
        "pulled": store.unit_pulled[units],
    }


def replay_pushes(
    record: Record,
    parameters: np.ndarray,
    state: dict[str, np.ndarray] | Sequence[dict[str, np.ndarray]],
    optimizer: Optimizer,
    gradient: Callable[[int, np.ndarray], np.ndarray],
    rate: Callable[[int, int], float],
    turns: Counter[int] | None = None,
) -> None:
    """Do the pushes of a record in their order; the result has the same bits as the workers' run.

    Parameters
    ----------
    record : dict of ndarray
        What ``ParameterServer.record()`` returned: ``unit``, ``lane``, ``push`` and ``pulled``, each ``(n,)``.
    parameters : (n,) ndarray
        Parameters before the first push; updated in place.
    state : dict of str to (n,) ndarray, or sequence of such dicts
        The optimizer's state before the first push, updated in place; a sequence if each lane has its own.
    optimizer : Optimizer
    gradient : callable
        ``gradient(unit, parameters)``: the gradient of a mini-batch at given parameters.
    rate : callable
        ``rate(unit, staleness)``: the learning rate of the mini-batch's push.
    turns : Counter of int, optional
        Mini-batches that each lane did before the record; updated in place.
    """
    first = int(record["push"][0]) - 1
    still = Counter(record["pulled"].tolist())
    if min(still, default=first) < first:
        raise InputError("the record begins in the middle: parameters were pulled before its first push")
    versions = {first: parameters.copy()}
    columns = zip(*(record[name].tolist() for name in ("unit", "lane", "push", "pulled")), strict=True)
    turns = Counter[int]() if turns is None else turns
    for unit, lane, push, pulled in columns:
        slot = gradient(unit, versions[pulled])
        turns[lane] += 1
        own, step = (state, push) if isinstance(state, dict) else (state[lane], turns[lane])
        optimizer.update(parameters, slot, own, step, lr=rate(unit, push - 1 - pulled))
        still[pulled] -= 1
        if still[push] > 0:
            versions[push] = parameters.copy()
        versions = {version: values for version, values in versions.items() if still[version] > 0}


def replay(
    model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, records: Sequence[Record], first_epoch: int = 0
) -> None:
    """Repeat an ``async`` or ``ssp`` run in this process, to the same bits.

    Parameters
    ----------
    model : Sequential
        The model before the run; trained in place. (Running statistics, which training does not read, are not
        repeated.)
    x, labels : ndarray
        The run's data.
    job : Job
        The run's.
    records : sequence of dict
        One ``ParameterServer.record()`` for each epoch, in order.
    first_epoch : int
        Number of the first record's epoch.

    Raises
    ------
    InputError
        If the rule does not keep an order of pushes that can be repeated.
    """
    rule = job.rule
    pushes = any(each.kernel.push and not each.kernel.racy for each in kernels(rule))
    if rule.lockstep or not rule.replicas or not pushes:
        raise InputError(f"update {rule.name!r} cannot be replayed: only async and ssp keep an order of pushes")
    lanes = range(job.workers if rule.replica_state else 1)
    trained = Trained(model)
    centre = model.trained.gather(model.flat)
    states = [job.optimizer.init(centre.size, centre.dtype) for _ in lanes]
    state = states if rule.replica_state else states[0]
    turns = Counter[int]()
    slot, buffers = np.empty_like(centre), model.flat_buffers.copy()
    own = model.flat
    for epoch, record in enumerate(records, first_epoch):
        order = epoch_order(labels, job, epoch, model.least_batch)

        def gradient(unit: int, at: np.ndarray, epoch: int = epoch, order: EpochOrder = order) -> np.ndarray:
            step, place = divmod(unit, job.workers)
            images, chosen = gathered(x, labels, order, step, place, seed=job.seed, epoch=epoch, augmented=job.augment)
            trained.attach(at, buffers)
            first = order.span(step, place)[0]
            counts = job.weights(labels, order, step, place)
            at_step = epoch * order.steps + step
            room = trained.room(slot)
            model.loss_and_gradient(images, chosen, out=room, step=at_step, first=first, **counts)
            trained.take(room, slot)
            if job.clip_norm is not None:
                clip(slot, job.clip_norm)
            return slot

        def rate(unit: int, staleness: int, epoch: int = epoch, order: EpochOrder = order) -> float:
            lr = job.learning_rate(epoch * order.steps + unit // job.workers + 1, order.steps)
            return rule.learning_rate(lr, staleness)

        replay_pushes(record, centre, state, job.optimizer, gradient, rate, turns)
    model.trained.scatter(centre, own)
    model.attach(own, buffers)
