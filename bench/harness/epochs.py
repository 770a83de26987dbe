"""Epochs: a candidate that trains whole epochs, to compare numbers of workers and update rules."""

from __future__ import annotations

import numpy as np

from pyconv import nn, optim
from pyconv.parallel import Engine, Job, engine_for

from .verify import relative_error

BATCH = 64
#: Steps this small do not change the mean loss of an epoch, however many workers take them.
LEARNING_RATE, LOSS_TOLERANCE = 1e-8, 5e-3


def data_for(name: str, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels that fit a network."""
    model = nn.build(name)
    rng = np.random.default_rng()
    x = rng.integers(0, 256, (images, *model.input_shape)).astype(np.uint8)
    return x, rng.integers(0, model.output_shape[0], images)


class Epochs:
    """An engine that trains one more epoch at each call; returns the mean loss over the epoch's images.

    `parameters` are the first parameters; by default a fresh network's.
    """

    def __init__(
        self,
        name: str,
        update: str,
        workers: int,
        x: np.ndarray,
        labels: np.ndarray,
        parameters: np.ndarray | None = None,
    ) -> None:
        optimizer = optim.SGD(LEARNING_RATE, momentum=0.9)
        how = {"threads_per_worker": 1, "backend": "serial", "workers": workers, "update": update or "sync"}
        if update == "local":
            how["options"] = {"sync_every": 0}  # one average an epoch, as in Algorithm 4
        model, channels = nn.build(name, seed=0), x.shape[-1]  # normalised, as in training
        if parameters is not None:
            model.flat[...] = parameters
        model.normalization = nn.Normalization([float(x.mean())] * channels, [float(x.std())] * channels)
        self.engine: Engine = engine_for(model, x, labels, Job(optimizer, BATCH, 1000, **how))
        self._images, self._epoch = len(x), 0

    def __call__(self) -> float:
        reports = list(self.engine.epoch(self._epoch))
        assert sum(report.images for report in reports) == self._images, "each image once"
        self._epoch += 1
        return sum(report.loss * report.images for report in reports) / self._images


def same_losses(found: dict[str, float]) -> None:
    """Verify that all candidates have the same loss, since they have the same parameters and images."""
    losses = np.array(list(found.values()))
    relative_error(losses, np.full(len(losses), losses[0]), LOSS_TOLERANCE)
