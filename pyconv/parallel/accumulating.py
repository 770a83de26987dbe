"""Accumulating: the engine of one worker whose mini-batches are cut into micro-batches."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from .batches import gathered
from .engine import InProcess, Job, StepReport, epoch_order
from .micro import MicroOrder, add_gradient, mean_loss
from .sampler import check_shares

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


class Accumulating(InProcess):
    """As :class:`~.engine.InProcess`, with micro-batches: the network that a pipeline splits, unsplit."""

    def __init__(self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> None:
        check_micro(job, len(x), model.least_batch)
        super().__init__(model, x, labels, job)
        self._part = np.empty_like(model.flat)

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        order = epoch_order(self._labels, self._job, epoch, self._model.least_batch)
        assert isinstance(order, MicroOrder)
        self._plan_updates()
        last = time.perf_counter()
        for step in range(first_step, order.steps):
            loss, correct = self._compute(order, epoch, step)
            self._update()
            now = time.perf_counter()
            self._compute_s += now - last
            yield StepReport(self._step, order.count(step), loss, now - last, correct)
            last = time.perf_counter()

    def _compute(self, order: MicroOrder, epoch: int, step: int) -> tuple[float, int]:
        """Compute a step's gradient; returns its loss and the number of correct images."""
        job, model = self._job, self._model
        parts = order.micro(step, 0)
        losses, correct = [], 0
        for each in parts:
            images, labels = gathered(
                self._x, self._labels, order.fine, step, each.share, seed=job.seed, epoch=epoch, augmented=job.augment
            )
            counts = job.weights(self._labels, order.fine, step, each.share)
            loss, gradient = model.loss_and_gradient(
                images, labels, out=self._part, step=self._step, first=each.first, **counts
            )
            add_gradient(self._gradient, gradient, each.weight, each is parts[0])
            losses.append(loss)
            correct += model.correct
        return mean_loss(losses, [each.images for each in parts]), correct

    def describe(self) -> str:
        return f"{super().describe()}, {self._job.micro_batches} micro-batches a step"
