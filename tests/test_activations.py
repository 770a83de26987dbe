"""Activations other than ReLU and zeros around images, as operations of every backend."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from cuda_devices import BACKEND, DEVICES, running_on

from pyconv import backends, nn
from pyconv.backends import get
from pyconv.errors import InputError

HERE = [
    pytest.param(name, marks=[] if reason is None else pytest.mark.skip(reason=reason))
    for name, reason in backends().items()
    if name != "cuda"
]
in_both_dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

#: By the name in the backends: two parameters, SciPy's or NumPy's function, and its slope.
KINDS = {
    "leaky_relu": (0.3, 0.0, lambda x: np.where(x > 0, x, 0.3 * x), lambda x: np.where(x > 0, 1, 0.3)),
    "clip": (-1.0, 2.0, lambda x: np.clip(x, -1, 2), lambda x: (x > -1) & (x < 2)),
    "sigmoid": (0.0, 0.0, scipy.special.expit, lambda x: scipy.special.expit(x) * scipy.special.expit(-x)),
    "tanh": (0.0, 0.0, np.tanh, lambda x: 1 / np.cosh(x) ** 2),
}


def check(ops, rng: np.random.Generator, kind: str, dtype: str, threads: int = 1) -> None:
    first, second, function, slope = KINDS[kind]
    tolerance = 4 * np.finfo(dtype).eps
    for size in (1, 17, 10007):
        x, grad = (rng.normal(0, 3, (1, size)).astype(dtype) for _ in range(2))
        x[0, 0] = 0
        wide = x.astype(np.float64)
        y = ops.activate(x, kind, first, second, threads=threads)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, function(wide), rtol=tolerance, atol=tolerance)
        found = ops.activate_grad(grad, y, kind, first, second, threads=threads)
        np.testing.assert_allclose(found, grad * slope(wide), rtol=tolerance, atol=10 * tolerance)
        again = x.copy()
        assert ops.activate(again, kind, first, second, threads=threads, out=again) is again
        np.testing.assert_array_equal(again, y)
    ends = np.array([[np.nan, np.inf, -np.inf, 1e30, -1e30]], dtype)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(ops.activate(ends, kind, first, second), function(ends), rtol=1e-6)


@pytest.mark.parametrize("backend", HERE)
@pytest.mark.parametrize("kind", KINDS)
@in_both_dtypes
def test_activations(rng: np.random.Generator, backend: str, kind: str, dtype: str) -> None:
    check(get(backend), rng, kind, dtype, threads=2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", KINDS)
@in_both_dtypes
def test_activations_on_the_device(rng: np.random.Generator, device: str, kind: str, dtype: str) -> None:
    with running_on(device):
        check(BACKEND, rng, kind, dtype)


def check_zeros(ops, rng: np.random.Generator, dtype: str) -> None:
    for padding in (((1, 2), (0, 3)), ((0, 0), (0, 0))):
        x = rng.normal(size=(2, 3, 5, 3)).astype(dtype)
        y = ops.pad2d(x, padding)
        np.testing.assert_array_equal(y, np.pad(x, ((0, 0), *padding, (0, 0))))
        np.testing.assert_array_equal(ops.crop2d(y + 1, padding), x + 1)
        out = np.full_like(y, np.nan)
        np.testing.assert_array_equal(ops.pad2d(x, padding, out=out), y)


@pytest.mark.parametrize("backend", HERE)
@in_both_dtypes
def test_zeros_around_images(rng: np.random.Generator, backend: str, dtype: str) -> None:
    check_zeros(get(backend), rng, dtype)


@pytest.mark.parametrize("device", DEVICES)
@in_both_dtypes
def test_zeros_around_images_on_the_device(rng: np.random.Generator, device: str, dtype: str) -> None:
    with running_on(device):
        check_zeros(BACKEND, rng, dtype)


def test_settings_and_shapes() -> None:
    with pytest.raises(InputError, match="slope"):
        nn.LeakyReLU(-0.1)
    with pytest.raises(InputError, match="low must be below high"):
        nn.Clip(1, 1)
    with pytest.raises(InputError, match="high must be a finite number"):
        nn.Clip(0, float("inf"))
    with pytest.raises(InputError, match="padding must be integers"):
        nn.ZeroPad2D("same")
    with pytest.raises(InputError, match="depth_multiplier"):
        nn.SeparableConv2D(4, 3, depth_multiplier=0)
    layer = nn.SeparableConv2D(5, 3, stride=2, padding="same", depth_multiplier=2)
    assert layer.output_shape((7, 6, 4)) == (4, 3, 5)
    shapes = {name: parameter.shape for name, parameter in layer.parameters((7, 6, 4)).items()}
    assert shapes == {"depthwise": (3, 3, 1, 8), "pointwise": (1, 1, 8, 5), "bias": (5,)}
    assert nn.GlobalAvgPool2D().output_shape((7, 6, 4)) == (4,)
    assert nn.ZeroPad2D((1, 2)).output_shape((7, 6, 4)) == (9, 10, 4)
    assert nn.Clip(high=2).config() == {"type": "Clip", "high": 2.0}
