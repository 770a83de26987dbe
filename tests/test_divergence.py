"""NaN or infinity in a network's parameters shows in the next loss, on every backend, with zeros skipped or not."""

from __future__ import annotations

import math

import numpy as np
import pytest

import pyconv
from pyconv import nn, optim
from pyconv.errors import DivergedError
from pyconv.parallel.together import Together

BACKENDS = ("reference", "serial", "multicore")


@pytest.mark.parametrize("value", (np.nan, np.inf))
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broken_weight_shows_in_the_next_loss(backend: str, value: float, rng: np.random.Generator) -> None:
    """Also where a dense layer's input is zero for every image, and the product skips zeros."""
    model = nn.Sequential([nn.Flatten(), nn.ReLU(), nn.Dense(64, activation="relu"), nn.Dense(3)], (16, 16, 1))
    model.backend = backend
    x, labels = rng.standard_normal((64, 16, 16, 1), np.float32), rng.integers(0, 3, 64)
    x[rng.random(x.shape) < 0.5] = 0
    x[:, 3, 3] = 0
    assert math.isfinite(model.loss_and_gradient(x, labels)[0])
    model.parameters["2.weight"][3 * 16 + 3, 5] = value
    assert not math.isfinite(model.loss_and_gradient(x, labels)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_diverging_run_ends_at_the_same_step_everywhere(backend: str, rng: np.random.Generator) -> None:
    layers = [nn.Flatten(), nn.Dense(64, activation="relu"), nn.Dense(3)]
    model = nn.Sequential(layers, (8, 8, 1))
    x, labels = rng.standard_normal((256, 8, 8, 1), np.float32), np.arange(256) % 3
    x[rng.random(x.shape) < 0.6] = 0  # so that they are skipped
    x[:, 2, 2] = 0
    model.parameters["1.weight"][2 * 8 + 2] = np.float32(3e38)  # the decay doubles the weights of a dead input
    with pytest.raises(DivergedError, match="at step 2"):
        pyconv.fit(
            model, x, labels, batch_size=64, optimizer=optim.SGD(3.0, weight_decay=1.0), backend=backend, epochs=3,
            progress="off",
        )  # fmt: skip


def test_a_run_of_several_workers_that_diverges_is_told_the_usual_rate(
    rng: np.random.Generator, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers notice the gradient that is not finite; the run adds advice about the learning rate."""
    x, labels = rng.standard_normal((64, 8, 8, 1), np.float32), np.arange(64) % 3
    model = nn.Sequential([nn.Flatten(), nn.Dense(32, activation="relu"), nn.Dense(3)], (8, 8, 1))
    said = r"^training diverged: .* not finite .* in epoch \d, step \d+, and again .*, with learning rate .*; take lr 0"
    with pytest.raises(DivergedError, match=said):
        pyconv.fit(model, x, labels, optimizer={"name": "sgd", "lr": 1e20}, workers=2, epochs=3, progress="off")
    warnings = [record.getMessage() for record in caplog.records if "not finite" in record.getMessage()]
    assert len(warnings) == 1, "however many workers meet it"


def test_what_befalls_many_workers_is_said_once() -> None:
    group = Together()
    assert group.take(16) is None and not group.due(1e9)
    group.add(5, "(pid 7) failed", 10.0)
    assert not group.due(10.5) and group.due(12.0)
    assert group.take(16) == "worker 5 (pid 7) failed; a new process takes its place"
    for index in (2, 3, 2):
        group.add(index, f"(pid {index}) failed", 20.0)
    assert group.take(16) == "2 of 16 workers failed, first worker 2 (pid 2) failed; 3 new processes take their places"
    assert not group.due(1e9)
