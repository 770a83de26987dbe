"""A whole training step of a pyconv network, as a candidate."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyconv import nn, optim


def batch_for(model: nn.Sequential, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels that fit the network."""
    x = rng.standard_normal((batch, *model.input_shape), dtype=np.float32)
    return x, rng.integers(0, model.output_shape[0], batch)


def train_step(model: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """A function that does one step of SGD with momentum: forward, backward, update."""
    optimizer = optim.SGD(lr=0.01, momentum=0.9)
    state = optimizer.init(model.flat.size, model.flat.dtype)
    gradient = np.empty_like(model.flat)
    done = 0

    def step() -> float:
        nonlocal done
        loss, _ = model.loss_and_gradient(x, labels, out=gradient, step=done)
        done += 1
        optimizer.update(model.flat, gradient, state, done)
        return loss

    return step


def gpu_step(model: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """A training step in the GPU's memory as :func:`pyconv.fit` does it: the next batch is copied beside the step."""
    from pyconv.backends import get
    from pyconv.nn.on_device import OptimizerOnDevice

    network = model.on_device()
    network.push(model.flat, model.flat_buffers)
    optimizer = optim.SGD(lr=0.01, momentum=0.9)
    stepper = OptimizerOnDevice(optimizer, network)
    how = (get(model.backend), model.algorithm, model.normalization)
    staged, done = network.stage(x, labels), 0

    def step() -> float:
        nonlocal staged, done
        losses = network.begin(staged, *how, done, 0)
        done += 1
        stepper.update(done, optimizer.lr)
        staged = network.stage(x, labels)
        return float(losses.get().mean(dtype=np.float64))

    return step
