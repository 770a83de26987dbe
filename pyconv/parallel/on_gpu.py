"""The engine of one worker that trains on a GPU: parameters and optimiser's state stay there for a whole epoch."""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import get
from ..datasets import augment
from .engine import InProcess, Job, StepReport, epoch_order
from .sampler import EpochOrder

if TYPE_CHECKING:
    from ..nn import Sequential


class OnGPU(InProcess):
    """As :class:`InProcess`, on the device: a step copies the batch there and its losses back, nothing else.

    The next batch is made ready on the host, and copied beside the computation, while the device is busy with a step.
    Between epochs the model and the optimiser's state are in main memory, as every engine promises.
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
                losses = network.begin(staged, *how, self._step, 0)
                self._step += 1
                self._stepper.update(self._step, job.learning_rate(self._step, self.steps_per_epoch))
                if step + 1 < order.steps:
                    staged = self._staged(epoch, order, step + 1)
                loss = float(losses.get().mean(dtype=np.float64))
                correct = network.correct(self._labels[order.batch(step, 0)])
                now = time.perf_counter()
                self._compute_s += now - last
                yield StepReport(self._step, order.count(step), loss, now - last, correct)
                last = time.perf_counter()
        except GeneratorExit:
            self._pull()
            raise
        self._pull()  # not after an error: the device may be lost

    def _staged(self, epoch: int, order: EpochOrder, step: int) -> Any:
        """The batch of a step, on its way to the device."""
        indices = order.batch(step, 0)
        images = self._x[indices]
        if self._job.augment:
            images = augment(images, **self._job.augment, seed=self._job.seed, epoch=epoch, indices=indices)
        return self._network.stage(images, self._labels[indices])

    def _pull(self) -> None:
        self._network.pull(self._model.flat, self._model.flat_buffers)
        self._stepper.pull(self._optimizer_state)

    def describe(self) -> str:
        from .. import cuda

        device = cuda.current()
        return f"backend cuda ({device.name}), 1 worker, parameters in the GPU's memory"
