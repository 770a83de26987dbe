"""Every convolution variant of the CUDA backend against the literal twin, on the emulated device and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_devices import BACKEND, DEVICES, DTYPES, running_on
from hypothesis import given
from hypothesis import strategies as st
from quick import examples
from strategies import SEEDS, ConvCase, conv_cases

import pyconv
from pyconv.errors import InputError
from pyconv.shapes import ConvGeometry, conv_geometry

VARIANTS = pyconv.algorithms("cuda")
ORDERS = ("natural", "reversed", "shuffled")


def close(actual: np.ndarray, expected: np.ndarray, terms: int) -> None:
    """Check equality up to the rounding of a sum of `terms` products of unit variance, in `actual`'s precision."""
    assert actual.shape == expected.shape
    scale = np.sqrt(terms) * (40 if actual.dtype == np.float32 else 200)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=scale * np.finfo(actual.dtype).eps)


def check(g: ConvGeometry, algorithm: str, dtype: str, rng: np.random.Generator) -> None:
    """Check all three operations of one variant on NumPy arrays against the twin in float64."""
    shapes = (g.input_shape, g.weight_shape, (g.k,), g.output_shape)
    x, weight, bias, grad = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    twin, how = pyconv.reference, {"algorithm": algorithm}
    try:
        y = BACKEND.conv2d(x, weight, bias, g, activation="relu", **how)
        close(y, twin.conv2d(*wide[:3], g, activation="relu"), g.kh * g.kw * g.c)
        y = BACKEND.conv2d(x, weight, None, g, **how)
        close(y, twin.conv2d(*wide[:2], None, g), g.kh * g.kw * g.c)
        gx = BACKEND.conv2d_input_grad(grad, weight, g, **how)
        close(gx, twin.conv2d_input_grad(wide[3], wide[1], g), g.kh * g.kw * g.k)
    except InputError as refusal:
        assert "shared memory" in str(refusal) and repr(algorithm) in str(refusal)
    gw = BACKEND.conv2d_weight_grad(x, grad, g, **how)
    close(gw, twin.conv2d_weight_grad(wide[0], wide[3], g), g.n * g.oh * g.ow)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("algorithm", VARIANTS)
@examples(12)
@given(case=conv_cases(), seed=SEEDS, dtype=DTYPES, order=st.sampled_from(ORDERS))
def test_any_shape_equals_the_twin(
    device: str, algorithm: str, case: ConvCase, seed: int, dtype: str, order: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCONV_CUDA_SPECIALISE", "0")  # one compilation for all shapes
        with running_on(device, order=order, seed=seed):
            check(case.geometry, algorithm, dtype, np.random.default_rng(seed))


@pytest.mark.covering("algorithm")
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("algorithm", VARIANTS)
def test_more_channels_than_a_tile_holds(
    device: str, algorithm: str, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tile is written several times, in each order of threads; without a barrier, others would still read it."""
    monkeypatch.setenv("PYCONV_CUDA_SPECIALISE", "0")
    g = conv_geometry((1, 9, 10, 40), (3, 3, 40, 8), padding=1)
    for order in ORDERS:
        with running_on(device, order=order):
            check(g, algorithm, "float32", rng)
