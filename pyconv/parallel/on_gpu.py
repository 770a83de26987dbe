"""The engine of one worker on a GPU: parameters and optimizer state stay in its memory for a whole epoch."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import get
from .batches import gathered
from .engine import InProcess, Job, StepReport, epoch_order
from .sampler import EpochOrder

if TYPE_CHECKING:
    from ..nn import Sequential


class OnGPU(InProcess):
    """As :class:`InProcess`, but on the GPU: a step copies its batch there and its losses back, and nothing else.

    While the GPU computes a step, the host prepares the next batch, and its copy to the GPU runs too. Between epochs
    the model and the optimizer's state are in main memory, as every engine promises.
    """

    def __init__(self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job) -> None:
        super().__init__(model, x, labels, job)
        from ..nn.on_device import OptimizerOnDevice

        self._network = model.on_device()
        self._stepper = OptimizerOnDevice(job.optimizer, self._network)

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        job, model, network = self._job, self._model, self._network
        order = epoch_order(self._labels, job, epoch, model.least_batch)
        if first_step >= order.steps:
            return
        last = time.perf_counter()
        network.push(model.flat, model.flat_buffers)
        self._stepper.push(self._optimizer_state)
        how = (get(model.backend), model.algorithm, model.normalization)
        staged = self._staged(epoch, order, first_step)
        try:
            for step in range(first_step, order.steps):
                running = staged
                losses = network.begin(staged, *how, self._step, 0)
                if job.clip_norm is not None:
                    network.clip(job.clip_norm)
                self._step += 1
                self._stepper.update(self._step, job.learning_rate(self._step, self.steps_per_epoch))
                if step + 1 < order.steps:
                    staged = self._staged(epoch, order, step + 1)
                loss = running.loss(losses)
                correct = network.correct(self._labels[order.batch(step, 0)])
                now = time.perf_counter()
                self._compute_s += now - last
                yield StepReport(self._step, order.count(step), loss, now - last, correct)
                last = time.perf_counter()
        except GeneratorExit:
            self._pull()
            raise
        self._pull()  # not after an error, when the GPU may be lost

    def _staged(self, epoch: int, order: EpochOrder, step: int) -> Any:
        """The batch of a step; its copy to the GPU has been started."""
        from ..nn.weighting import weighting

        images, labels = gathered(
            self._x, self._labels, order, step, seed=self._job.seed, epoch=epoch, augmented=self._job.augment
        )
        counts = self._job.weights(self._labels, order, step)
        return self._network.stage(images, labels, weighting(labels, self._model.output_shape[-1], **counts))

    def _pull(self) -> None:
        self._network.pull(self._model.flat, self._model.flat_buffers)
        self._stepper.pull(self._optimizer_state)

    def describe(self) -> str:
        from .. import cuda

        device = cuda.current()
        return f"backend cuda ({device.name}), 1 worker, parameters in the GPU's memory"
