"""Every convolution variant of the CUDA backend against the literal twin, on the emulated device and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_devices import BACKEND, DEVICES, running_on
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, ConvCase, conv_cases

import pyconv
from pyconv.errors import InputError
from pyconv.shapes import ConvGeometry

VARIANTS = pyconv.algorithms("cuda")
ORDERS = ("natural", "reversed", "shuffled")


def close(actual: np.ndarray, expected: np.ndarray, terms: int) -> None:
    """Equal up to the rounding of a sum of `terms` products of unit variance, in `actual`'s precision."""
    assert actual.shape == expected.shape
    scale = np.sqrt(terms) * (40 if actual.dtype == np.float32 else 200)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=scale * np.finfo(actual.dtype).eps)


def check(g: ConvGeometry, algorithm: str, dtype: str, rng: np.random.Generator) -> None:
    """All three operations of one variant, in NumPy arrays, against the twin in float64."""
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
@settings(max_examples=12)
@given(case=conv_cases(), seed=SEEDS, dtype=DTYPES, order=st.sampled_from(ORDERS))
def test_any_shape_equals_the_twin(
    device: str, algorithm: str, case: ConvCase, seed: int, dtype: str, order: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCONV_CUDA_SPECIALISE", "0")  # one compilation for all shapes
        with running_on(device, order=order, seed=seed):
            check(case.geometry, algorithm, dtype, np.random.default_rng(seed))
