"""Subnormal numbers are zero in kernels and in training, and nowhere else in the process."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import pyconv
from pyconv import optim
from pyconv.arithmetic import own, quiet
from pyconv.errors import InputError
from pyconv.optim import _fused
from pyconv.optim.base import Optimizer
from pyconv.shapes import conv_geometry

DTYPES = ("float32", "float64")
TINY = np.float32(1e-40)


def keeps_subnormals() -> bool:
    """Whether this thread computes with them, as operands and as results."""
    return bool(np.float32(1e-20) * np.float32(1e-20) == TINY) and bool(np.array([TINY, TINY]).sum() > 0)


def test_kernels_take_subnormal_numbers_for_zero_and_leave_the_thread_as_it_was() -> None:
    x, w = np.full((2, 12, 12, 8), TINY), np.full((3, 3, 8, 16), np.float32(1e3))
    g = conv_geometry(x.shape, w.shape, padding=1)
    dy = np.full(g.output_shape, TINY)
    assert keeps_subnormals()
    for threads in (1, 2):
        for algorithm in ("naive", "direct", "winograd_2x2", "winograd_4x4", "winograd_1d", "auto"):
            how = {"backend": "multicore", "threads": threads, "algorithm": algorithm, "padding": 1}
            assert not pyconv.conv2d(x, w, **how).any()
            assert not pyconv.conv2d_input_grad(dy, w, x.shape, **how).any()
            assert not pyconv.conv2d_weight_grad(x, dy * np.float32(1e30) * 0 + 1, 3, **how).any()
            assert keeps_subnormals()
    flat = x.reshape(2, -1)
    assert not pyconv.dense(flat, np.ones((flat.shape[1], 5), np.float32)).any()
    assert not pyconv.avg_pool2d(x, 3).any()
    assert keeps_subnormals()
    assert pyconv.conv2d(x, w, padding=1, backend="reference").all()


def test_kernels_leave_other_threads_alone() -> None:
    x, w = np.ones((8, 32, 32, 16), np.float32), np.ones((3, 3, 16, 32), np.float32)
    found: list[bool] = []

    def look() -> None:
        found.extend(keeps_subnormals() for _ in range(200))

    other = threading.Thread(target=look)
    other.start()
    while other.is_alive():
        pyconv.conv2d(x, w, threads=2)
    other.join()
    assert all(found)


def test_own_arithmetic_ends_with_an_error_too() -> None:
    @own
    def fail() -> None:
        assert not keeps_subnormals()
        raise InputError("on purpose")

    with np.errstate(all="raise"), pytest.raises(InputError):
        fail()
    assert keeps_subnormals()
    nested = own(own(keeps_subnormals))
    assert not nested()
    assert keeps_subnormals()
    assert quiet(keeps_subnormals)()


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_fading_moments_become_zero(name: str) -> None:
    """If a parameter's gradient has become zero, its moments shrink to zero, and not for ever."""
    optimizer = optim.by_name(name, **({"momentum": 0.9} if name == "sgd" else {}))
    flat, state = np.ones(8, np.float32), optimizer.init(8)
    for vector in state.values():
        vector[...] = 1.5e-38
    for step in range(1, 11):
        optimizer.update(flat, np.zeros(8, np.float32), state, step)
        assert keeps_subnormals()
    tiny = np.finfo(np.float32).tiny
    assert all(((vector == 0) | (np.abs(vector) >= tiny)).all() for vector in state.values())
    assert np.isfinite(flat).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_compiled_updates_have_numpys_bits_on_tiny_numbers(dtype: str, rng: np.random.Generator) -> None:
    optimizer = optim.SGD(0.05, momentum=0.9, weight_decay=0.01)
    p, g, v = (np.finfo(dtype).tiny * rng.standard_normal((3, 999))).astype(dtype) * 3
    twin = p.copy(), g, v.copy()
    optimizer.update(p, g, {"momentum": v}, 1)
    own(Optimizer._update_vectors)(optimizer, list(twin), (optimizer.lr,))
    assert _fused is not None
    np.testing.assert_array_equal(p, twin[0])
    np.testing.assert_array_equal(v, twin[2])
    assert not ((v != 0) & (np.abs(v) < np.finfo(dtype).tiny)).any()


def test_workers_step_with_the_same_bits_on_tiny_numbers() -> None:
    """Two workers' slices, NumPy's blocks and a whole vector give the same bits."""
    rng = np.random.default_rng(4)
    for name in optim.OPTIMIZERS:
        optimizer = optim.by_name(name)
        gradient = (np.float32(3e-38) * rng.standard_normal(1000)).astype(np.float32)
        whole, halves = np.ones(1000, np.float32), np.ones(1000, np.float32)
        state, parts = optimizer.init(1000), optimizer.init(1000)
        for step in range(1, 4):
            optimizer.update(whole, gradient, state, step)
            for part in (slice(0, 432), slice(432, None)):
                optimizer.update(halves[part], gradient[part], {k: v[part] for k, v in parts.items()}, step)
        np.testing.assert_array_equal(whole, halves)
        for key, vector in state.items():
            np.testing.assert_array_equal(vector, parts[key])
