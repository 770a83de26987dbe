"""Candidates that do a whole training step of a pyconv network."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from pyconv import nn, optim

from .images import normalised

#: After so many steps of training, the share of zeros is as in most of the training.
TRAINED = {"fer": 100, "5-50-100-10": 800}
#: The settings of ``python -m pyconv.train``.
SGD = {"lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4}


def batch_for(model: nn.Sequential, batch: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Random images and labels that fit the network."""
    x = rng.standard_normal((batch, *model.input_shape), dtype=np.float32)
    return x, rng.integers(0, model.output_shape[0], batch)


def batches_of(x: np.ndarray, labels: np.ndarray, batch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of images (see :func:`~harness.images.images_for`), normalised and in a random order."""
    x = normalised(x)
    order = np.random.default_rng(0).permutation(len(x))
    parts = [order[begin : begin + batch] for begin in range(0, len(x), batch)]
    return [(x[part], labels[part]) for part in parts]


def in_turn(step: Callable[[Any, Any], float], batches: list[tuple[Any, Any]]) -> Callable[[], float]:
    """A function that does one step on the next batch."""
    following = itertools.cycle(batches)
    return lambda: step(*next(following))


def trainer(model: nn.Sequential) -> Callable[[np.ndarray, np.ndarray], float]:
    """A function of images and labels that does one step of :data:`SGD`: forward, backward, update."""
    optimizer = optim.SGD(**SGD)
    state = optimizer.init(model.flat.size, model.flat.dtype)
    gradient = np.empty_like(model.flat)
    done = 0

    def step(x: np.ndarray, labels: np.ndarray) -> float:
        nonlocal done
        loss, _ = model.loss_and_gradient(x, labels, out=gradient, step=done)
        done += 1
        optimizer.update(model.flat, gradient, state, done)
        return loss

    return step


def trained(model: nn.Sequential, batches: list[tuple[np.ndarray, np.ndarray]], steps: int) -> Callable[[], float]:
    """Train a network for so many steps; returns a function that does one more step, on the next batch."""
    step = in_turn(trainer(model), batches)
    for _ in range(steps):
        step()
    return step


def train_step(model: nn.Sequential, x: np.ndarray, labels: np.ndarray) -> Callable[[], float]:
    """A function that does one step, always on the same batch."""
    return in_turn(trainer(model), [(x, labels)])


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
