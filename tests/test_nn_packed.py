"""Filters that are kept as they were prepared: used while nobody can write to the parameters, and only then."""

from __future__ import annotations

import copy
import ctypes
import gc
import itertools
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from test_cpu import CONVOLUTIONS, DTYPES, poisoned
from test_cpu import problem as conv_problem
from test_nn_programme import images, layer_by_layer, programme_of
from test_winograd import PROBLEMS as TILED
from test_winograd import problem as tiled_problem
from test_winograd_1d import PROBLEMS as ROWS
from test_winograd_1d import problem as row_problem

import pyconv
from pyconv import nn, optim

if pyconv.backends()["serial"] is not None:
    pytest.skip("the compiled module is missing", allow_module_level=True)

from pyconv import _cpu, _programme

FORWARD = 0
KERNELS = [line["name"] for line in _cpu.table() if FORWARD in line["operations"]]
#: Fewer pixels beside more filters than in the other tests: what Winograd transforms by panels.
WIDE = {
    "few tiles": (1, 5, 7, 70, 230, {"padding": 1}),
    "tiles of several images": (5, 9, 8, 130, 150, {"padding": 1}),
    "groups": (1, 6, 5, 140, 260, {"padding": 1, "groups": 2}),
}


@pytest.fixture(autouse=True)
def threads_for_tiny_arrays() -> Iterator[None]:
    _cpu._set_cycles_per_thread(4)
    yield
    _cpu._set_cycles_per_thread(None)


# ---- kernels: what is kept gives the same bits ---------------------------------------------------------------------


def check(problem: tuple, kernel: str, guarded: bool) -> int:
    """Compare runs that keep filters with the operation, by one kernel; returns how many bytes were kept."""
    g, x, w, b, _ = problem
    _cpu._set_guarded(guarded)
    kept = 0
    try:
        for weights, threads in (("first", 1), ("second", 3)):
            try:
                expected = _cpu.conv2d(x, w, b, g, activation="relu", algorithm=kernel)
            except ValueError:
                return 0
            made, y = _programme.Programme(x), poisoned(g.output_shape, x.dtype)
            made.conv2d(x, w, b, g, activation="relu", algorithm=kernel, out=y)
            made.finish(y)
            for run in range(4):
                found = poisoned(g.output_shape, x.dtype)
                made.run(x, threads, found, weights)
                np.testing.assert_array_equal(found, expected)
                assert made.preparations == (run > 0 and made.kept_bytes > 0)
            other = x[:, ::-1].copy()
            other[0, 0, 0, 0] = np.inf
            made.run(other, threads, found, weights)
            np.testing.assert_array_equal(found, _cpu.conv2d(other, w, b, g, activation="relu", algorithm=kernel))
            if made.kept_bytes and not guarded:  # the guard's own sums read the filters
                w *= -1  # nobody says so
                made.run(x, threads, found, weights)
                np.testing.assert_array_equal(found, expected)
                made.run(x, threads, found, None)
                np.testing.assert_array_equal(found, _cpu.conv2d(x, w, b, g, activation="relu", algorithm=kernel))
                w *= -1
            kept = made.kept_bytes
    finally:
        _cpu._set_guarded(None)
    return kept


@pytest.mark.covering("kernel isa", "kernel dtype", "guarded")
@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kernel", KERNELS)
def test_kept_filters_give_the_same_bits(kernel: str, dtype: str, guarded: bool, isa: str) -> None:
    for cases, problem in ((CONVOLUTIONS, conv_problem), (TILED, tiled_problem), (ROWS, row_problem)):
        for name in cases:
            check(problem(name, dtype, seed=7), kernel, guarded)


@pytest.mark.parametrize("guarded", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", WIDE)
def test_filters_that_winograd_transforms_in_panels(
    name: str, dtype: str, guarded: bool, isa: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TILED, name, WIDE[name])
    kept = [check(tiled_problem(name, dtype), f"tiles_{m}x{m}_few", guarded) for m in (2, 3, 4)]
    assert any(kept)  # at which sizes depends on the lanes


# ---- networks: every way to write is seen --------------------------------------------------------------------------


def network(dtype: str = "float32", **rest: object) -> nn.Sequential:
    model = nn.Sequential(
        [
            nn.Conv2D(40, 5, padding=2, activation="relu"),
            nn.BatchNorm(),
            nn.Conv2D(130, 3, padding=1, activation="relu"),
            nn.MaxPool2D(2),
            nn.Conv2D(100, 3, padding=1),
            nn.SeparableConv2D(9, 3, padding=1, activation="relu"),
            nn.Flatten(),
            nn.Dense(12, activation="relu"),
            nn.Dense(3),
        ],
        (7, 6, 2),
        seed=3,
        dtype=dtype,
    )
    model.backend = "multicore"
    for name, value in rest.items():
        setattr(model, name, value)
    return model


def preparations(model: nn.Sequential, n: int = 1) -> int:
    gc.collect()  # what an exception or a generator still held
    return programme_of(model, n)._parts[0].preparations


def keep(model: nn.Sequential, x: np.ndarray) -> None:
    """Let filters be kept."""
    for _ in range(4):
        expected = layer_by_layer(model, x)
        np.testing.assert_array_equal(model.forward(x), expected)
    assert preparations(model, len(x)) >= 1 and programme_of(model, len(x))._parts[0].kept_bytes > 10_000


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_filters_are_prepared_once(dtype: str, threads: int, rng: np.random.Generator) -> None:
    model = network(dtype, threads=threads)
    for n in (1, 2, 3):
        for run in range(5):
            x = images(model, rng, n)
            np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
            assert preparations(model, n) == (run >= 2)  # recorded, seen again, kept
    for model.threads in (2, 1, 3):
        x = images(model, rng, 1)
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    assert preparations(model) == 1
    model.predict(images(model, rng, 7), batch_size=1)
    model.predict_proba(images(model, rng, 2), batch_size=1)
    assert preparations(model) == 1


def test_large_batches_and_large_filters_are_not_kept(rng: np.random.Generator) -> None:
    model = network()
    for _ in range(4):
        x = images(model, rng, 4096 // 9 + 1)  # of the smallest images
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    assert programme_of(model, len(x))._parts[0].kept_bytes == 0
    large = nn.Sequential([nn.Conv2D(700, 3, padding=1), nn.Conv2D(1200, 3, padding=1)], (4, 4, 3))
    for _ in range(4):
        x = images(large, rng, 1)
        np.testing.assert_array_equal(large.forward(x), layer_by_layer(large, x))
    assert 0 < programme_of(large, 1)._parts[0].kept_bytes <= 16 << 20


def through_flat(model: nn.Sequential) -> None:
    model.flat[...] *= 1.5


def through_one(model: nn.Sequential) -> None:
    model.parameters["2.weight"][1, 1] += 0.5


def through_each(model: nn.Sequential) -> None:
    for view in model.parameters.values():
        view -= 0.1


def through_a_view_of_a_view(model: nn.Sequential) -> None:
    first = model.parameters["0.weight"]
    second = first[1:, 2]
    del first
    third = second.T
    del second
    third += 1


def through_a_buffer(model: nn.Sequential) -> None:
    memory = memoryview(model.parameters["4.weight"])
    np.frombuffer(memory, model.dtype)[::2] = 0.25


def through_ctypes(model: nn.Sequential) -> None:
    numbers = np.ctypeslib.as_ctypes(model.flat)
    for at in range(100):
        numbers[at] = 0.5


def through_an_address(model: nn.Sequential) -> None:
    flat = model.flat
    zeros = np.full(50, 0.75, model.dtype)
    ctypes.memmove(flat.ctypes.data, zeros.ctypes.data, zeros.nbytes)


def by_hand(model: nn.Sequential) -> None:
    x = np.random.default_rng(0).standard_normal((4, *model.input_shape)).astype(model.dtype)
    _, gradient = model.loss_and_gradient(x, [0, 1, 2, 0])
    optimizer = optim.Adam(1e-2)
    optimizer.update(model.flat, gradient, optimizer.init(gradient.size, gradient.dtype), 1)


def by_fit(model: nn.Sequential) -> None:
    x = np.random.default_rng(0).standard_normal((9, *model.input_shape)).astype(model.dtype)
    pyconv.fit(
        model,
        x,
        np.arange(9) % 3,
        epochs=2,
        batch_size=4,
        optimizer=optim.SGD(0.02),
        validation=(x[:1], [1]),
        progress="off",
    )


def by_statistics(model: nn.Sequential) -> None:
    model.buffers["1.running_var"][...] = 3
    model.flat_buffers[:40] = 0.5


def by_training_passes(model: nn.Sequential) -> None:
    x = np.random.default_rng(0).standard_normal((4, *model.input_shape)).astype(model.dtype)
    model.forward(x, training=True)


def by_attaching(model: nn.Sequential) -> None:
    model.attach(model.flat * 2)


def by_attaching_a_lent_vector(model: nn.Sequential) -> None:
    own = model.flat
    model.attach(own.copy())
    own *= 2
    model.attach(own)


WAYS: list[Callable[[nn.Sequential], None]] = [
    through_flat, through_one, through_each, through_a_view_of_a_view, through_a_buffer, through_ctypes,
    through_an_address, by_hand, by_fit, by_statistics, by_training_passes, by_attaching, by_attaching_a_lent_vector,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_what_is_written_is_seen_in_the_next_pass(
    way: Callable[[nn.Sequential], None], dtype: str, rng: np.random.Generator
) -> None:
    model = network(dtype)
    x = images(model, rng, 1)
    keep(model, x)
    before, repeated = model.forward(x), False  # some ways write the same twice
    for _ in range(2):
        way(model)
        expected = layer_by_layer(model, x)
        np.testing.assert_array_equal(model.forward(x), expected)
        assert not np.array_equal(expected, before) or repeated
        repeated, before = True, expected
        for _ in range(3):
            np.testing.assert_array_equal(model.forward(x), expected)


@pytest.mark.parametrize("way", [each for each in WAYS if each is not by_attaching], ids=lambda way: way.__name__)
def test_filters_are_kept_again_afterwards(way: Callable[[nn.Sequential], None], rng: np.random.Generator) -> None:
    model = network()
    x = images(model, rng, 1)
    keep(model, x)
    way(model)
    gc.collect()
    keep(model, x)
    before = preparations(model)
    for _ in range(3):
        model.forward(x)
    assert preparations(model) == before


HELD: dict[str, Callable[[nn.Sequential], object]] = {
    "flat": lambda model: model.flat,
    "a parameter": lambda model: model.parameters["2.weight"],
    "all parameters": lambda model: model.parameters,
    "a view": lambda model: model.parameters["2.weight"][1, 1, ::2].T[:5],
    "a memoryview": lambda model: memoryview(model.flat)[3:],
    "an array of ctypes": lambda model: np.ctypeslib.as_ctypes(model.flat),
}


@pytest.mark.parametrize("what", HELD)
def test_while_an_array_is_held_nothing_is_kept(what: str, rng: np.random.Generator) -> None:
    model = network()
    x = images(model, rng, 1)
    keep(model, x)
    held = HELD[what](model)
    before = preparations(model)
    for factor in (2, 0.25, 3):
        array = held["2.weight"] if what == "all parameters" else held
        np.asarray(array)[...] *= factor
        for _ in range(3):
            np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    assert preparations(model) == before
    array = held = None
    keep(model, x)
    assert preparations(model) == before + 1


def test_the_same_array_is_lent_as_long_as_somebody_has_it() -> None:
    model = network()
    flat, parameters = model.flat, model.parameters
    assert model.flat is flat
    assert all(np.shares_memory(view, flat) for view in parameters.values())
    assert list(model.parameters) == list(parameters)
    assert all(view is parameters[name] for name, view in model.parameters.items())
    assert flat.flags.writeable and flat.flags.c_contiguous and flat.flags.aligned


def test_steps_cannot_write_to_parameters() -> None:
    model = network()
    (first, *_) = model.steps
    arrays = [value for value in vars(first).values() if isinstance(value, np.ndarray)]
    assert arrays
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1


@pytest.mark.parametrize("how", ["load", "load_weights", "checkpoint", "frozen", "new head"])
def test_values_from_files_and_settings(how: str, rng: np.random.Generator, tmp_path: Path) -> None:
    model, other = network(), network()
    other.flat[...] = rng.standard_normal(other.flat.shape) * 0.1
    x = images(model, rng, 1)
    keep(model, x)
    expected = layer_by_layer(other, x)
    if how == "load":
        other.save(tmp_path / "m.safetensors")
        model = nn.load(tmp_path / "m.safetensors")
        model.backend = "multicore"
    elif how == "checkpoint":
        for name, view in other.parameters.items():
            model.parameters[name][...] = view
    elif how == "load_weights":
        torch_names(other, tmp_path / "w.safetensors")
        model.load_weights(tmp_path / "w.safetensors")
    elif how == "frozen":
        model.frozen = "Conv2D"
        model.flat[...] = other.flat
    else:
        model.flat[...] = other.flat
        model = model.with_new_head(3)
        expected = layer_by_layer(model, x)
    np.testing.assert_array_equal(model.forward(x), expected)
    keep(model, x)
    np.testing.assert_array_equal(model.forward(x), expected)


def torch_names(model: nn.Sequential, path: Path) -> None:
    """Save the values as PyTorch would."""
    from safetensors.numpy import save_file

    tensors = {}
    for name, array in {**model.parameters, **model.buffers}.items():
        layer, _, kind = name.rpartition(".")
        if array.ndim == 4:
            array = array.transpose(3, 2, 0, 1)
        elif kind == "weight" and array.ndim == 2 and layer == "7":
            array = array.reshape(3, 3, 9, -1).transpose(3, 2, 0, 1).reshape(array.shape[1], -1)
        elif kind == "weight":
            array = array.T
        kind = {
            "gamma": "weight",
            "beta": "bias",
            "depthwise": "depthwise.weight",
            "pointwise": "pointwise.weight",
        }.get(kind, kind)
        if layer == "5" and kind == "bias":
            kind = "pointwise.bias"
        tensors[f"{layer}.{kind}"] = np.ascontiguousarray(array)
    save_file(tensors, path)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m, 5))])
def test_copies_keep_filters_of_their_own(
    copied: Callable[[nn.Sequential], nn.Sequential], rng: np.random.Generator
) -> None:
    model = network()
    x = images(model, rng, 1)
    keep(model, x)
    twin = copied(model)
    keep(twin, x)
    expected = model.forward(x)
    np.testing.assert_array_equal(twin.forward(x), expected)
    twin.flat[...] *= 2
    np.testing.assert_array_equal(twin.forward(x), layer_by_layer(twin, x))
    np.testing.assert_array_equal(model.forward(x), expected)
    assert not np.array_equal(twin.forward(x), expected) and preparations(model) == 1


def test_shared_vectors_are_never_kept(rng: np.random.Generator) -> None:
    """As workers use them: memory to which other processes write, and two networks with one vector."""
    model, other = network(), network()
    x = images(model, rng, 1)
    shared = model.flat.copy()
    model.attach(shared)
    assert model.flat is shared
    del shared
    address = model.flat.ctypes.data
    for value in range(4):
        ctypes.memset(address + 400, 60 + value, 3)  # nobody holds the array, or asks for it
        np.testing.assert_array_equal(model.forward(x), layer_by_layer(model, x))
    other.attach(model.flat)
    third = network()
    keep(third, x)
    third_user = network()
    third_user.attach(third.flat)
    for factor in (2, 3):
        third_user.parameters["2.weight"][...] *= factor
        for each in (third, third_user):
            for _ in range(3):
                np.testing.assert_array_equal(each.forward(x), layer_by_layer(each, x))
    assert preparations(third) == 1 and preparations(third_user) == preparations(model) == 0


def test_training_and_predicting_take_turns(rng: np.random.Generator) -> None:
    model = network()
    x, labels = images(model, rng, 4), np.arange(4) % 3
    optimizer = optim.SGD(0.05, momentum=0.9)
    state = optimizer.init(model.flat.size, model.dtype)
    for step, passes in enumerate(itertools.islice(itertools.cycle([1, 4, 2]), 9), 1):
        _, gradient = model.loss_and_gradient(x, labels)
        optimizer.update(model.flat, gradient, state, step)
        for _ in range(passes):
            np.testing.assert_array_equal(model.forward(x[:1]), layer_by_layer(model, x[:1]))
    assert preparations(model) == 6  # a single pass is not worth it
