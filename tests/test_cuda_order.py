"""Training waits where it must: on a device that does everything at the worst moment, the numbers stay the same."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_devices import NO_EMULATOR, fresh_backend  # noqa: F401 - a fixture
from cuda_on_cpu.device import EmulatedDevice
from cuda_on_cpu.late import LateDevice

import pyconv
from pyconv import cuda, nn, optim

pytestmark = [
    pytest.mark.skipif(NO_EMULATOR is not None, reason=str(NO_EMULATOR)),
    pytest.mark.usefixtures("fresh_backend"),
]

LAYERS = [
    nn.Conv2D(4, 3, activation="relu"),
    nn.MaxPool2D(2),
    nn.Conv2D(6, 3, stride=2, padding=1),
    nn.BatchNorm(),
    nn.ReLU(),
    nn.Flatten(),
    nn.Dense(3),
]


def fitted(device: cuda.Device) -> np.ndarray:
    """Parameters and running statistics after two epochs of four steps; the last batch of an epoch is smaller."""
    model = nn.Sequential(LAYERS, (10, 10, 1), seed=1)
    model.normalization = nn.Normalization(100.0, 60.0)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (30, 10, 10, 1)).astype(np.uint8), np.arange(30) % 3
    settings = {"epochs": 2, "batch_size": 8, "optimizer": optim.Adam(0.01), "progress": "off"}
    with cuda.use(device):
        pyconv.fit(model, x, y, validation=(x, y), backend="cuda", **settings)
    return np.concatenate([model.flat, model.flat_buffers])


@pytest.mark.parametrize("copies", ["early", "late"])
def test_a_run_waits_where_it_must(copies: str) -> None:
    np.testing.assert_array_equal(fitted(LateDevice(copies)), fitted(EmulatedDevice()))


class Hasty(LateDevice):
    """A device that does not wait when it is told to."""

    def synchronise(self) -> None:
        pass


class Forgetful(LateDevice):
    """A network that does not wait for its batch."""

    def __init__(self) -> None:
        super().__init__("late")

    def after(self, ticket: object) -> None:
        pass


@pytest.mark.parametrize("device", [Hasty, Forgetful])
def test_a_forgotten_wait_is_found(device: type[LateDevice]) -> None:
    expected = fitted(EmulatedDevice())
    try:
        actual = fitted(device())
    except pyconv.PyconvError:  # a loss of NaN
        return
    assert not np.array_equal(actual, expected)


@pytest.mark.parametrize("copies", ["early", "late"])
def test_a_gradient_is_fetched_whole(copies: str) -> None:
    """Gradients are copied layer by layer during the backward pass, for batches of several sizes in turn."""
    model = nn.Sequential(LAYERS, (10, 10, 1), seed=1)
    model.backend = "cuda"
    rng = np.random.default_rng(0)
    batches = [(rng.standard_normal((n, 10, 10, 1)).astype("f"), np.arange(n) % 3) for n in (8, 5, 8, 12)]

    def gradients(device: cuda.Device) -> list[np.ndarray]:
        with cuda.use(device):
            return [model.loss_and_gradient(x, y)[1].copy() for x, y in batches]

    for actual, expected in zip(gradients(LateDevice(copies)), gradients(EmulatedDevice())):
        np.testing.assert_array_equal(actual, expected)


def test_a_gradient_that_is_not_waited_for_is_found() -> None:
    class Impatient(LateDevice):
        def after(self, ticket: object) -> None:
            if ticket != "out":
                super().after(ticket)

    model = nn.Sequential(LAYERS, (10, 10, 1), seed=1)
    model.backend = "cuda"
    x, y = np.random.default_rng(0).standard_normal((8, 10, 10, 1)).astype("f"), np.arange(8) % 3
    with cuda.use(EmulatedDevice()):
        expected = model.loss_and_gradient(x, y)[1].copy()
    with cuda.use(Impatient("late")):
        assert not np.array_equal(model.loss_and_gradient(x, y)[1], expected)
