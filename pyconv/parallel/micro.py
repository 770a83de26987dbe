"""Micro-batches: a mini-batch whose gradient is the sum of the gradients of its parts, each computed by itself.

A worker's mini-batch of B images is cut into M micro-batches, as M workers with batches of B / M would share it. Their
gradients are added in order, weighted by their images, and the optimizer does one step. A pipeline does the same with
the layers on several ranks, and gives the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..arithmetic import own
from ..errors import InputError
from .batches import gathered
from .engine import InProcess, Job, StepReport
from .sampler import EpochOrder, check_shares

if TYPE_CHECKING:
    from ..nn import Sequential


def check_micro(job: Job, images: int, least: int) -> None:
    """Check that a job's mini-batches can be cut into its micro-batches.

    Parameters
    ----------
    job : Job
    images : int
        Training images.
    least : int
        The fewest images that the network can train on at a time.

    Raises
    ------
    InputError
        If they cannot, or the job's other settings do not go with micro-batches.
    """
    batch, parts = job.batch_size, job.micro_batches
    what = "stages of a pipeline are" if job.stages is not None and job.stages.count > 1 else "micro-batches are"
    if job.rule.name != "sync":
        raise InputError(f"{what} there under update sync only, not under {job.rule.name}")
    if job.backend == "cuda":
        raise InputError(f"{what} not there on backend cuda: take multicore")
    if job.trace is not None:
        raise InputError(f"{what} not there with a timeline (trace): leave it out")
    if batch % parts:
        fitting = [each for each in range(1, batch + 1) if batch % each == 0]
        near = min(fitting, key=lambda each: abs(each - parts))
        raise InputError(f"{parts} micro-batches do not divide a batch of {batch} images: take {near}, say")
    try:
        check_shares(images, batch // parts, job.workers * parts, least)
    except InputError:
        raise InputError(
            f"{parts} micro-batches of a batch of {batch} leave fewer than {least} images in one of an epoch's last "
            f"step or of every step, and this network's BatchNorm needs {least}: take fewer, or another batch size"
        ) from None


def micro_order(labels: np.ndarray, job: Job, epoch: int, least: int) -> EpochOrder:
    """The micro-batches of an epoch: worker w's k-th one is share ``w M + k``, for M micro-batches.

    Parameters
    ----------
    labels : (N,) int64 ndarray
    job : Job
    epoch : int
        From 0.
    least : int
        The fewest images of one.

    Returns
    -------
    EpochOrder
    """
    parts = job.micro_batches
    return EpochOrder(
        labels, seed=job.seed, epoch=epoch, workers=job.workers * parts, batch_size=job.batch_size // parts, least=least
    )  # fmt: skip


@dataclass(frozen=True)
class Micro:
    """A micro-batch of a step.

    Attributes
    ----------
    share : int
        Its number in the :class:`EpochOrder` of all micro-batches.
    first : int
        Position of its first image in the global step.
    images : int
    weight : float
        What its gradient counts in its worker's.
    """

    share: int
    first: int
    images: int
    weight: float


def micro_batches(order: EpochOrder, step: int, worker: int, parts: int) -> list[Micro]:
    """A worker's micro-batches in a step, without empty ones, which a short last step may have.

    Parameters
    ----------
    order : EpochOrder
        From :func:`micro_order`.
    step, worker : int
        From 0.
    parts : int
        Micro-batches of each worker.

    Returns
    -------
    list of Micro
    """
    shares = range(worker * parts, (worker + 1) * parts)
    spans = {share: order.span(step, share) for share in shares}
    whole = sum(last - first for first, last in spans.values())
    return [
        Micro(share, first, last - first, (last - first) / whole)
        for share, (first, last) in spans.items()
        if last > first
    ]


@own
def add_gradient(total: np.ndarray, gradient: np.ndarray, weight: float, begins: bool) -> None:
    """Add a micro-batch's gradient to its step's, or begin the sum.

    Parameters
    ----------
    total : (n,) ndarray
        Written.
    gradient : (n,) ndarray of the same dtype
        Overwritten.
    weight : float
    begins : bool
        Whether it is the first, so that what `total` holds does not count.
    """
    factor = gradient.dtype.type(weight)
    if begins:
        np.multiply(gradient, factor, out=total)
        return
    np.multiply(gradient, factor, out=gradient)
    np.add(total, gradient, out=total)


def mean_loss(losses: Sequence[float], images: Sequence[int]) -> float:
    """The mean loss over the images of some micro-batches."""
    if len(losses) == 1:
        return losses[0]
    return float(np.dot(losses, images)) / max(sum(images), 1)


class Accumulating(InProcess):
    """As :class:`~.engine.InProcess`, with micro-batches: the network that a pipeline splits, unsplit."""

    def __init__(self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> None:
        check_micro(job, len(x), model.least_batch)
        super().__init__(model, x, labels, job)
        self._part = np.empty_like(model.flat)

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        order = micro_order(self._labels, self._job, epoch, self._model.least_batch)
        self._plan_updates()
        last = time.perf_counter()
        for step in range(first_step, order.steps):
            loss, correct = self._compute(order, epoch, step)
            self._update()
            now = time.perf_counter()
            self._compute_s += now - last
            yield StepReport(self._step, order.count(step), loss, now - last, correct)
            last = time.perf_counter()

    def _compute(self, order: EpochOrder, epoch: int, step: int) -> tuple[float, int]:
        """Compute a step's gradient; returns its loss and the number of correct images."""
        job, model = self._job, self._model
        parts = micro_batches(order, step, 0, job.micro_batches)
        losses, correct = [], 0
        for each in parts:
            images, labels = gathered(
                self._x, self._labels, order, step, each.share, seed=job.seed, epoch=epoch, augmented=job.augment
            )
            counts = job.weights(self._labels, order, step, each.share)
            loss, gradient = model.loss_and_gradient(
                images, labels, out=self._part, step=self._step, first=each.first, **counts
            )
            add_gradient(self._gradient, gradient, each.weight, each is parts[0])
            losses.append(loss)
            correct += model.correct
        return mean_loss(losses, [each.images for each in parts]), correct

    def describe(self) -> str:
        return f"{super().describe()}, {self._job.micro_batches} micro-batches a step"
