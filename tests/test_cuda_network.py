"""Whole networks on the CUDA backend against the CPU's, and what a training step copies."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_devices import BACKEND, DEVICES, PRECISIONS, running_on
from cuda_on_cpu.null import NullDevice

from pyconv import cuda, nn, optim
from pyconv.nn.on_device import OptimizerOnDevice

on_every_device = pytest.mark.parametrize("device", DEVICES)

SMALL = [
    nn.Conv2D(8, 3, padding="same", activation="relu"),
    nn.MaxPool2D(2),
    nn.Conv2D(6, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm(),
    nn.ReLU(),
    nn.AvgPool2D(2),
    nn.Flatten(),
    nn.Dropout(0.4),
    nn.Dense(9, activation="relu"),
    nn.Dense(5),
]


IMPORTED = [
    nn.ZeroPad2D(((0, 1), (2, 0))),
    nn.SeparableConv2D(6, 3, stride=2, depth_multiplier=2),
    nn.LeakyReLU(0.1),
    nn.Conv2D(8, 1, activation="relu"),
    nn.Tanh(),
    nn.Dropout(0.3),
    nn.ReLU6(),
    nn.Sigmoid(),
    nn.Clip(low=0.4),
    nn.GlobalAvgPool2D(),
    nn.Dense(5),
]


@pytest.fixture(autouse=True)
def _one_compilation_for_all_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")


def pair(layers: list, input_shape: tuple, dtype: str = "float32") -> tuple[nn.Sequential, nn.Sequential]:
    """The same network for the CPU and for the device."""
    models = [nn.Sequential(layers, input_shape, seed=3, dtype=dtype) for _ in range(2)]
    for model in models:
        model.normalization = nn.Normalization(100.0, 50.0)
    models[0].backend, models[1].backend = "reference", BACKEND
    return models[0], models[1]


def batch(rng: np.random.Generator, n: int, shape: tuple, classes: int) -> tuple[np.ndarray, np.ndarray]:
    return rng.integers(0, 256, (n, *shape)).astype(np.uint8), rng.integers(0, classes, n)


def decided(
    rng: np.random.Generator, model: nn.Sequential, n: int, classes: int, **how: int
) -> tuple[np.ndarray, np.ndarray]:
    """A batch in which rounding decides no ReLU and no maximum: a small change of the parameters has a small effect.

    If rounding decides one, both gradients are right and far apart.
    """
    judge = nn.Sequential(model.layers, model.input_shape, seed=model.seed, dtype="float64")
    judge.normalization, judge.backend = model.normalization, "serial"
    for _ in range(50):
        x, labels = batch(rng, n, model.input_shape, classes)
        gradients = []
        for moved in (0, 1, 1, 1, 1, 1, 1):
            judge.flat[...] = model.flat * (1 + 5e-6 * moved * rng.standard_normal(model.flat.size))
            gradients.append(judge.loss_and_gradient(x, labels, **how)[1].copy())
        if max(np.abs(other - gradients[0]).max() for other in gradients) < 1e-4 * np.abs(gradients[0]).max():
            return x, labels
    raise AssertionError("no batch of fifty was decided clearly")


def alike(actual: np.ndarray, expected: np.ndarray, factor: float) -> None:
    size = max(1e-3, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=factor * np.finfo(actual.dtype).eps * size)


@on_every_device
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("layers", [SMALL, IMPORTED], ids=["small", "imported"])
def test_a_small_network_of_every_layer(rng: np.random.Generator, device: str, dtype: str, layers: list) -> None:
    host, there = pair(layers, (12, 10, 2), dtype)
    x, labels = decided(rng, host, 6, 5, step=4, first=2)
    with running_on(device, order="shuffled"):
        loss, gradient = there.loss_and_gradient(x, labels, step=4, first=2)
        expected_loss, expected = host.loss_and_gradient(x, labels, step=4, first=2)
        assert loss == pytest.approx(expected_loss, rel=1e-5 if dtype == "float32" else 1e-12)
        alike(gradient, expected, 2000)
        alike(there.flat_buffers, host.flat_buffers, 200)
        np.testing.assert_array_equal(there.flat, host.flat)
        alike(there.forward(x), host.forward(x), 2000)
        alike(there.forward(x.astype(dtype), training=True), host.forward(x, training=True), 2000)
        assert there.predict(x, batch_size=4).shape == (6,)


@pytest.mark.slow
@on_every_device
def test_a_step_of_fer_equals_the_cpus_and_copies_only_the_batch(rng: np.random.Generator, device: str) -> None:
    host, there = (nn.build("fer") for _ in range(2))
    host.backend, there.backend = "reference", BACKEND
    host.normalization = there.normalization = nn.Normalization(128.0, 64.0)
    optimizer = optim.SGD(0.01, momentum=0.9)
    with running_on(device) as running:
        network = there.on_device()
        network.push(there.flat, there.flat_buffers)
        stepper = OptimizerOnDevice(optimizer, network)
        state = optimizer.init(host.flat.size)
        for step in (1, 2):
            x, labels = decided(rng, host, 2, 7)
            if device == "emulated":
                running.copied_in = running.copied_out = 0
            losses = network.begin(network.stage(x, labels), BACKEND, "auto", there.normalization, step - 1, 0)
            stepper.update(step, 0.01)
            loss = losses.get().mean(dtype=np.float64)
            if device == "emulated" and step == 2:  # in the first step, tables are copied too
                assert running.copied_in == x.nbytes + labels.nbytes
                assert running.copied_out == losses.nbytes
            expected_loss, gradient = host.loss_and_gradient(x, labels, step=step - 1)
            alike(network.gradient.get(), gradient, 200)
            optimizer.update(host.flat, gradient, state, step)
            assert loss == pytest.approx(expected_loss, rel=1e-5)
        network.pull(there.flat, there.flat_buffers)
    alike(there.flat, host.flat, 200)


@on_every_device
def test_a_second_batch_may_be_on_its_way(rng: np.random.Generator, device: str) -> None:
    host, there = pair(SMALL, (12, 10, 2))
    (x, labels), (other, other_labels) = (batch(rng, n, (12, 10, 2), 5) for n in (6, 4))
    with running_on(device):
        network = there.on_device()
        network.push(there.flat, there.flat_buffers)
        how = (BACKEND, "auto", there.normalization)
        first = network.stage(x, labels)
        losses = network.begin(first, *how, 0, 0)
        second = network.stage(other, other_labels)
        assert losses.get().mean() == pytest.approx(host.loss_and_gradient(x, labels)[0], rel=1e-5)
        losses = network.begin(second, *how, 1, 0)
        assert losses.get().mean() == pytest.approx(host.loss_and_gradient(other, other_labels, step=1)[0], rel=1e-5)


def test_the_host_asks_a_device_for_little(rng: np.random.Generator) -> None:
    """Programs, tables and plans are kept after the first step: later steps launch kernels and copy their batch."""
    model = nn.build("fer")
    x, labels = batch(rng, 4, (48, 48, 1), 7)
    with cuda.use(NullDevice()) as device:
        network = model.on_device()
        stepper = OptimizerOnDevice(optim.SGD(0.01, momentum=0.9), network)
        launches = []
        for step in (0, 1):
            device.compilations = device.launches = 0
            network.begin(network.stage(x, labels), BACKEND, "auto", model.normalization, step, 0)
            stepper.update(step + 1, 0.01)
            launches.append(device.launches)
    assert device.compilations == 0
    assert launches[0] == launches[1] <= 75


@on_every_device
def test_branches(rng: np.random.Generator, device: str) -> None:
    layers = [
        nn.Residual([nn.Conv2D(3, 1), nn.ReLU()], shortcut=[nn.Conv2D(3, 3, padding=1)]),
        nn.ReLU(),
        nn.Parallel([[nn.AvgPool2D(2)], [nn.MaxPool2D(2), nn.Dropout(0.3)]], join="concat"),
        nn.Flatten(),
        nn.Dense(4),
    ]
    host, there = pair(layers, (6, 4, 2))
    x, labels = decided(rng, host, 3, 4, step=2)
    with running_on(device, order="shuffled"):
        loss, gradient = there.loss_and_gradient(x, labels, step=2)
        expected_loss, expected = host.loss_and_gradient(x, labels, step=2)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        alike(gradient, expected, 2000)
        alike(there.forward(x), host.forward(x), 2000)


@on_every_device
def test_a_long_gradient_is_clipped_there(rng: np.random.Generator, device: str) -> None:
    _, there = pair([nn.Conv2D(4, 3, activation="relu"), nn.Flatten(), nn.Dense(3)], (7, 5, 1))
    x, labels = batch(rng, 6, (7, 5, 1), 3)
    with running_on(device):
        network = there.on_device()
        network.push(there.flat, there.flat_buffers)
        network.begin(network.stage(x, labels), BACKEND, "auto", there.normalization, 0, 0)
        before = network.gradient.get().copy()
        norm = float(np.linalg.norm(before))
        network.clip(2 * norm)
        np.testing.assert_array_equal(network.gradient.get(), before)
        network.clip(norm / 3)
        np.testing.assert_allclose(network.gradient.get(), before / 3, rtol=1e-5)
