"""Sums over millions of numbers keep their digits: means of windows, gradients of weights and biases, dense layers."""

from __future__ import annotations

import numpy as np
import pytest

import pyconv
from pyconv import _cpu, reference
from pyconv.shapes import conv_geometry, pool_geometry

COMPILED = ("serial", "multicore")
BACKENDS = ("reference", *COMPILED)
DTYPES = ("float32", "float64")


#: With shorter vectors each running sum is longer and loses more: these bounds are for vectors of 16 numbers.
LANES = {"avx512": 16, "avx2": 8}.get(_cpu.isa(), 4)


def ulps(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest difference, in units of the last place of the expected numbers."""
    exact = np.asarray(exact, np.longdouble)
    return float((np.abs(found - exact) / np.spacing(np.abs(exact).astype(found.dtype))).max())


@pytest.mark.parametrize("backend", COMPILED)
def test_ones_average_to_one_however_many(backend: str) -> None:
    x = np.ones((1, 5000, 5000, 1), np.float32)
    assert pyconv.avg_pool2d(x, 5000, backend=backend).item() == 1
    x[...] = 0.1
    assert pyconv.avg_pool2d(x, 5000, backend=backend).item() == np.float32(0.1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("backend", "height", "width", "channels"),
    [("serial", 700, 900, 2), ("serial", 30, 20, 131), ("multicore", 2500, 40, 1), ("reference", 60, 50, 3)],
)
def test_the_mean_of_a_large_window(
    backend: str, height: int, width: int, channels: int, dtype: str, rng: np.random.Generator
) -> None:
    for x in (rng.random((2, height, width, channels)), rng.standard_normal((2, height, width, channels)) + 0.1):
        wide = x.astype(dtype).astype(np.longdouble)
        exact = wide.mean(axis=(1, 2), keepdims=True)
        found = pyconv.avg_pool2d(x.astype(dtype), (height, width), backend=backend)
        if dtype == "float32" or backend in COMPILED:
            assert ulps(found, exact) <= 4
        else:  # the literal sum of float64 numbers, one after the other
            assert (np.abs(found - exact) <= height * width * np.spacing(float(np.abs(wide).mean()))).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_gradient_of_windows_that_overlap(backend: str, dtype: str, rng: np.random.Generator) -> None:
    shape, size = (1, 60, 50, 3), 25
    pg = pool_geometry(shape, size, stride=1, padding=12)
    dy = rng.random(pg.output_shape).astype(dtype)
    wide = reference.avg_pool2d_input_grad(dy.astype(np.longdouble), pg)
    found = pyconv.avg_pool2d_input_grad(dy, shape, size, stride=1, padding=12, backend=backend)
    assert ulps(found, wide) <= (4 if backend != "reference" or dtype == "float32" else 40)


def test_infinite_windows_stay_infinite() -> None:
    for dtype in DTYPES:
        x = np.ones((1, 4, 4, 1), dtype)
        x[0, 1, 1] = np.inf
        assert pyconv.avg_pool2d(x, 4).item() == np.inf
        x[0, 2, 2] = -np.inf
        assert np.isnan(pyconv.avg_pool2d(x, 4).item())


@pytest.mark.parametrize("algorithm", ("naive", "direct", "auto", "reference"))
@pytest.mark.parametrize("channels", (1, 8))
def test_sums_over_millions_of_pixels(algorithm: str, channels: int) -> None:
    """The worst case for a running sum: numbers of equal size, which become small compared with the sum."""
    x, dy = np.full((1, 2000, 1000, channels), np.float32(0.1)), np.ones((1, 2000, 1000, 2), np.float32)
    where = {"backend": "reference"} if algorithm == "reference" else {"backend": "serial", "algorithm": algorithm}
    found = pyconv.conv2d_weight_grad(x, dy, 1, **where)
    np.testing.assert_allclose(found, 2e6 * float(np.float32(0.1)), rtol=3e-5)


@pytest.mark.parametrize("channels", (1, 2, 8, 32))
def test_depthwise_sums_over_millions_of_pixels(channels: int) -> None:
    x = np.full((1, 1000, 1000, channels), np.float32(0.1))
    found = pyconv.conv2d_weight_grad(x, np.ones_like(x), 3, padding=1, groups=channels, backend="serial")
    lanes = min(LANES, 8) if channels <= 8 else LANES  # a Zen 4 takes half a vector for so few channels
    np.testing.assert_allclose(found[1, 1], 1e6 * float(np.float32(0.1)), rtol=3e-5 * 16 / lanes)


def test_pooled_sums_over_millions_of_pixels() -> None:
    x = np.full((8, 512, 512, 1), np.float32(0.1))
    g = conv_geometry(x.shape, (5, 5, 1, 32), padding=2)
    pg = pool_geometry(g.output_shape, 2)
    dy, places = np.full(pg.output_shape, np.float32(0.1)), np.full(pg.output_shape, 3, np.uint8)
    found = _cpu.conv2d_pool_weight_grad(x, dy, places, np.ones_like(dy), g, pg, activation="relu")
    if found is None:
        pytest.skip("this processor's kernels do not do that in one")
    pixels = dy[..., 0].size
    np.testing.assert_allclose(found[0][2, 2], pixels * float(np.float32(0.1)) ** 2, rtol=3e-5)
    np.testing.assert_allclose(found[1], pixels * float(np.float32(0.1)), rtol=3e-5)


def test_sums_over_a_kernel_of_millions() -> None:
    x, weight = np.full((1, 1500, 1000, 1), np.float32(0.1)), np.ones((1500, 1000, 1, 1), np.float32)
    for algorithm in ("naive", "direct"):
        found = pyconv.conv2d(x, weight, backend="serial", algorithm=algorithm)
        np.testing.assert_allclose(found, 1.5e6 * float(np.float32(0.1)), rtol=1e-3 * 16 / LANES)


@pytest.mark.parametrize("channels", (1, 8))
def test_biases_and_dense_layers_over_millions(channels: int) -> None:
    tenth = float(np.float32(0.1))
    x = np.full((2_000_000, channels), np.float32(0.1))
    ones = np.ones((len(x), 3), np.float32)
    assert ulps(reference.bias_grad(x), np.full(channels, tenth * len(x))) <= 1
    np.testing.assert_allclose(reference.dense_weight_grad(x, ones), tenth * len(x), rtol=1e-4)
    np.testing.assert_allclose(reference.dense(x.T.copy(), ones, None), tenth * len(x), rtol=1e-4)
    assert ulps(_cpu.bias_grad(x), np.full(channels, tenth * len(x))) <= 1
    np.testing.assert_allclose(_cpu.dense_weight_grad(x, ones), tenth * len(x), rtol=1e-4)
    np.testing.assert_allclose(_cpu.dense(x.T.copy(), ones, None), tenth * len(x), rtol=1e-4)
