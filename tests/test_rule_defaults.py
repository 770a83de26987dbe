"""Every rule trains with its defaults, whatever the number of workers: the short form of bench_rule_defaults.py."""

from __future__ import annotations

import functools

import numpy as np
import pytest

import pyconv
from pyconv import nn
from pyconv.parallel import RULES

pytestmark = pytest.mark.timeout(300)

IMAGES, SIDE, CLASSES, EPOCHS = 2560, 10, 4, 3


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy bars in four directions: horizontal, vertical and both diagonals."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % CLASSES
    shapes = np.stack([np.zeros((5, 5)), np.zeros((5, 5)), np.eye(5), np.eye(5)[::-1]])
    shapes[0][2], shapes[1][:, 2] = 1, 1
    x = rng.normal(100, 20, (count, SIDE, SIDE, 1))
    for image, label in zip(x, y, strict=True):
        top, left = rng.integers(0, SIDE - 4, 2)
        image[top : top + 5, left : left + 5, 0] += 120 * shapes[label]
    return np.clip(x, 0, 255).astype(np.uint8), y


@functools.cache
def accuracy(update: str, workers: int) -> float:
    """Validation accuracy at the end of a run with the defaults."""
    layers = [nn.Conv2D(8, 5, padding="same", activation="relu"), nn.MaxPool2D(2), nn.Flatten(),
              nn.Dense(24, activation="relu"), nn.Dense(CLASSES)]  # fmt: skip
    model = nn.Sequential(layers, input_shape=(SIDE, SIDE, 1), seed=2)
    how = {"workers": workers, "update": update, "threads_per_worker": 1, "progress": "off"}
    history = pyconv.fit(model, *images(IMAGES, 0), validation=images(800, 1), epochs=EPOCHS, **how)
    assert history[-1]["images"] == IMAGES
    return history[-1]["val_accuracy"]


@pytest.mark.covering("update", most=1)
@pytest.mark.parametrize("workers", [2, 4, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize("update", RULES)
def test_as_many_epochs_bring_as_much_as_with_one_worker(update: str, workers: int) -> None:
    one = accuracy("sync", 1)
    assert one > 0.9
    assert accuracy(update, workers) > one - 0.05
