"""A pass in inference that is recorded and repeated in one call: the bits of the layer-by-layer pass."""

from __future__ import annotations

import copy
import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from test_nn_branches import BRANCHES

import pyconv
from pyconv import nn
from pyconv.backends import get
from pyconv.nn.activation import ReLUStep
from pyconv.nn.executor import Executor

if pyconv.backends()["serial"] is not None:
    pytest.skip("the compiled module is missing", allow_module_level=True)

from pyconv import _cpu

CHAINS = {
    "convolutions": [
        nn.Conv2D(12, 3, padding="same", activation="relu"),
        nn.Conv2D(33, 3, padding=1),
        nn.MaxPool2D(2),
        nn.Conv2D(8, 5, padding=2, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dense(40, activation="relu"),
        nn.Dropout(0.5),
        nn.Dense(5, bias=False),
    ],
    "normalised": [
        nn.ZeroPad2D(((1, 0), (2, 1))),
        nn.Conv2D(6, 3, bias=False),
        nn.BatchNorm(),
        nn.ReLU(),
        nn.MaxPool2D(3, stride=2, padding=1),
        nn.SeparableConv2D(9, 3, padding="same", activation="relu"),
        nn.AvgPool2D(2),
        nn.BatchNorm(),
        nn.GlobalAvgPool2D(),
    ],
    "activations": [
        nn.Conv2D(5, 3, groups=1),
        nn.LeakyReLU(0.2),
        nn.Conv2D(10, 3, groups=5, dilation=2),
        nn.ReLU6(),
        nn.ReLU(),
        nn.MaxPool2D(2),
        nn.Sigmoid(),
        nn.Flatten(),
        nn.Tanh(),
        nn.Dense(3),
        nn.Clip(-0.5, 0.5),
    ],
    "vectors": [nn.Flatten(), nn.Dropout(0.2), nn.Dense(65, activation="relu"), nn.Dense(130), nn.ReLU(), nn.Dense(4)],
    "nothing": [nn.Dropout(0.2), nn.Flatten()],
    "first-is-relu": [nn.ReLU(), nn.Conv2D(3, 2)],
    **{
        f"branches-{name}": [nn.Conv2D(4, 2), *middle, *([] if name in ("dense", "vectors") else [nn.Flatten()])]
        for name, middle in BRANCHES.items()
    },
}
SHAPE = (12, 11, 5)


@pytest.fixture(autouse=True)
def threads_for_tiny_arrays() -> Iterator[None]:
    _cpu._set_cycles_per_thread(4)
    yield
    _cpu._set_cycles_per_thread(None)


def made(name: str, dtype: str = "float32") -> nn.Sequential:
    """A network, its running statistics not those of the beginning."""
    shape = (7, 4, 4) if name.startswith("branches") else SHAPE
    model = nn.Sequential(CHAINS[name], shape, seed=5, dtype=dtype)
    model.backend = "multicore"
    rng = np.random.default_rng(1)
    for key, array in model.buffers.items():
        array[...] = rng.random(array.shape) + (0.5 if "var" in key else -0.5)
    return model


def images(model: nn.Sequential, rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.standard_normal((n, *model.input_shape)).astype(model.dtype)


def layer_by_layer(model: nn.Sequential, x: np.ndarray, threads: int = 1) -> np.ndarray:
    """The result as operations give it that are called one after the other."""
    executor = Executor(model._graph, model.dtype, model.seed)
    batch = executor.prepared(len(x), get("multicore"), threads, model.algorithm, training=False, owned=False)
    found: np.ndarray = executor.forward(batch, x).copy()
    executor.forget(batch)
    return found


def programme_of(model: nn.Sequential, n: int) -> Any:
    """What was recorded for batches of `n`."""
    (found,) = [batch.programme for (each, training, _), batch in model._here._executor._passes.items() if each == n]
    return found


@pytest.mark.parametrize("isa", _cpu.isas())
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.covering("name", "dtype isa", "threads")
def test_the_bits_are_those_of_layer_by_layer(
    name: str, dtype: str, threads: int, isa: str, rng: np.random.Generator
) -> None:
    before = _cpu.isa()
    _cpu.set_isa(isa)
    try:
        model = made(name, dtype)
        model.threads = threads
        for n in (*range(1, 10), 24):
            for _ in range(3):  # the first is recorded, the others repeat it
                x = images(model, rng, n)
                np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    finally:
        _cpu.set_isa(before)


@pytest.mark.parametrize("name", ["lenet", "fer", "5-50-100-10", "resnet18", "squeezenet", "mini-xception"])
def test_named_networks(name: str, rng: np.random.Generator) -> None:
    model = (
        nn.build(name)
        if name in ("lenet", "fer", "5-50-100-10")
        else nn.build(name, input_shape=(40, 42, 3), classes=5)
    )
    for n, threads in ((1, 1), (3, 2)):
        model.threads = threads
        for _ in range(2):
            x = images(model, rng, n)
            np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
        assert len(programme_of(model, n)._parts) == 1  # one call


def test_a_dense_layer_that_skips_zeros(rng: np.random.Generator) -> None:
    model = nn.Sequential([nn.Dense(40, activation="relu"), nn.Dense(3)], (100,), seed=2)
    for share in (0.0, 0.1, 0.9, 1.0, 0.1):
        x = images(model, rng, 20) * (rng.random((20, 100)) < share).astype("f")
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    model.parameters["0.weight"][7, 5] = np.nan  # behind a zero of every example
    x[:, 7] = 0
    found = model.forward(x)
    np.testing.assert_array_equal(found, layer_by_layer(model, x))
    assert np.isnan(found).all()


def test_what_is_not_finite(rng: np.random.Generator) -> None:
    model = made("convolutions")
    for value in (np.nan, np.inf, -np.inf, 1e38):
        x = images(model, rng, 2)
        x[0, 3, 3, 1] = value
        for _ in range(2):
            np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))


def test_examples_in_other_forms(rng: np.random.Generator) -> None:
    model = made("convolutions")
    model.normalization = nn.Normalization(100.0, 40.0)
    for x in (
        rng.integers(0, 255, (3, *SHAPE), dtype=np.uint8),
        80 * images(model, rng, 3).astype("float64"),
        80 * images(model, rng, 6)[::2],
        80 * images(model, rng, 3),
    ):
        expected = layer_by_layer(model, model.normalization.apply(x, np.empty(x.shape, "f")))
        for _ in range(2):
            before = x.copy()
            np.testing.assert_array_equal(model.forward(x), expected)
            np.testing.assert_array_equal(x, before)


def test_results_are_new_arrays_and_examples_are_not_kept(rng: np.random.Generator) -> None:
    for name in ("convolutions", "nothing", "first-is-relu", "branches-all-the-input"):
        model = made(name)
        results, kept = [], []
        for _ in range(3):
            x = images(model, rng, 2)
            kept.append(weakref.ref(x))
            results.append((model.forward(x), layer_by_layer(model, x)))
            assert results[-1][0].flags.owndata and not np.may_share_memory(results[-1][0], x)
            del x
        gc.collect()
        assert all(each() is None for each in kept), name
        for found, expected in results:
            np.testing.assert_array_equal(found, expected)


@dataclass(frozen=True)
class Odd(nn.Layer):
    """A layer from elsewhere: its step computes with NumPy."""

    def step(self, index: Any, input_shape: Any, following: Any) -> Any:
        return OddStep(index)


class OddStep(ReLUStep):
    """Inherits that its parent is recorded, and does more than its parent."""

    over = False
    moves = False

    def forward(self, x: np.ndarray, run: Any) -> np.ndarray:
        if self.moves:
            return np.maximum(x, 0) + 1
        out = run.result(self.index, x.shape)
        np.maximum(x, 0, out=out)
        out += 1
        return out


@pytest.mark.parametrize("moves", [False, True])
@pytest.mark.parametrize("place", [0, 1, 2, 4])
def test_a_layer_that_is_not_recorded(
    place: int, moves: bool, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OddStep, "moves", moves)
    layers = [nn.Conv2D(4, 3), nn.ReLU(), nn.Flatten(), nn.Dense(3)]
    layers.insert(place, Odd())
    if place == 1:
        layers = [nn.Flatten(), nn.Dropout(0.1), *layers[1:2], nn.Dense(3)]  # it reads a view of the examples
    model = nn.Sequential(layers, SHAPE)
    for _ in range(4):
        x = images(model, rng, 2)
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))


def test_an_algorithm_in_python_is_not_recorded(rng: np.random.Generator) -> None:
    model = nn.Sequential([nn.Conv2D(2, 3, padding=1), nn.Conv2D(2, 31, padding="same")], (200, 200, 1))
    for algorithm in ("auto", "fft", "direct", "naive", "auto"):
        if algorithm == "naive":
            continue
        model.algorithm = algorithm
        for _ in range(2):
            x = images(model, rng, 1)
            np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))


def test_the_settings_of_the_kernels_may_change(rng: np.random.Generator) -> None:
    model, before = made("convolutions"), _cpu.isa()
    x = images(model, rng, 2)
    try:
        for isa in (*_cpu.isas(), before):
            _cpu.set_isa(isa)
            for model.algorithm in ("auto", "direct"):
                for model.threads in (1, 2):
                    np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    finally:
        _cpu.set_isa(before)


def test_another_vector_of_parameters(rng: np.random.Generator) -> None:
    model = made("normalised")
    x = images(model, rng, 2)
    first = model.forward(x)
    model.attach(model.flat * 2, model.flat_buffers.copy())
    second = model.forward(x)
    np.testing.assert_array_equal(second, layer_by_layer(model, x))
    assert not np.array_equal(first, second)


def test_memory_of_larger_batches_replaces_that_of_smaller_ones(rng: np.random.Generator) -> None:
    model = made("branches-nested")
    for n in (1, 7, 2, 9, 1, 30, 2, 1, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1):
        x = images(model, rng, n)
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))


def test_training_between(rng: np.random.Generator) -> None:
    model = made("normalised", "float64")
    x, labels = images(model, rng, 6), rng.integers(0, 9, 6)
    for _ in range(3):
        _, gradient = model.loss_and_gradient(x, labels)
        model.flat[...] -= 0.1 * gradient
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    model.frozen = ["BatchNorm"]
    np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))


def test_copies_are_networks_of_their_own(rng: np.random.Generator) -> None:
    model = made("convolutions")
    x = images(model, rng, 2)
    expected = model.forward(x)
    twin = copy.deepcopy(model)
    twin.flat[...] *= 2
    assert not np.array_equal(twin.forward(x), expected)
    np.testing.assert_array_equal(model.forward(x), expected)


def test_one_network_for_many_of_pythons_threads(rng: np.random.Generator) -> None:
    model = made("convolutions")
    model.threads = 2
    batches = [images(model, rng, 1 + number % 4) for number in range(8)]
    expected = [layer_by_layer(model, x) for x in batches]
    start = threading.Barrier(8)

    def work(number: int) -> bool:
        start.wait()
        return all(np.array_equal(model.forward(batches[number]), expected[number]) for _ in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


@pytest.mark.parametrize("n", [1, 3])
def test_a_prediction_raises_no_arithmetic_error(n: int) -> None:
    """Whatever NumPy is told outside: in the first pass, in the one call, in steps and in probabilities."""
    model = made("convolutions")
    x = np.full((n, *model.input_shape), 1e-39, np.float32)
    x[:, 0, 0, 0] = np.inf
    with np.errstate(all="raise"):
        for _ in range(3):
            assert np.isnan(model.forward(x)).any()
            assert np.isnan(model.predict_proba(x)).any()
            assert model.predict(x, batch_size=1).shape == (n,)
            assert np.isnan(model.forward(x, training=True)).any()
