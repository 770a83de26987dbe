"""Dense layers of a few examples, whose weights are read once: against NumPy in float64, SciPy's BLAS and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import blas
from test_cpu import DTYPES, assert_close, poisoned

_cpu = pytest.importorskip("pyconv._cpu", reason="the compiled module is not built")

#: Examples, inputs and units: fewer units than lanes, incomplete vectors and blocks, one part and several, and rows at
#: the end of the weights that a vector would read past.
FEW = (
    (1, 1, 1), (1, 7, 3), (2, 1, 17), (1, 3, 2), (1, 300, 100), (1, 7200, 100), (3, 400, 120), (4, 84, 10), (7, 97, 33),
    (5, 193, 300), (1, 6001, 7), (6, 41, 1), (1, 90, 1001), (1, 700, 101), (7, 2500, 64), (2, 5, 9),
)  # fmt: skip


def few_examples(n: int, inputs: int, units: int, dtype: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Examples with zeros, weights and biases."""
    rng = np.random.default_rng((7, n, inputs, units))
    x, w, b = (rng.standard_normal(shape).astype(dtype) for shape in ((n, inputs), (inputs, units), (units,)))
    x[rng.random(x.shape) < 0.3] = 0
    return x, w, b


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, inputs, units", FEW)
def test_few_examples(n: int, inputs: int, units: int, dtype: str, isa: str) -> None:
    x, w, b = few_examples(n, inputs, units, dtype)
    found = [
        (
            _cpu.dense(x, w, b, activation="relu", threads=threads, out=poisoned((n, units), dtype)),
            _cpu.dense(x, w, None, threads=threads, out=poisoned((n, units), dtype)),
        )
        for threads in (1, 2, 3)
    ]
    for results in zip(*found, strict=True):
        assert len({result.tobytes() for result in results}) == 1
    activated, plain = found[0]
    assert_close(activated, np.maximum(x.astype("float64") @ w + b, 0).astype(dtype), dtype)
    product = (blas.sgemm if dtype == "float32" else blas.dgemm)(1, w.T, x.T).T
    assert_close(plain, np.ascontiguousarray(product), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, inputs, units", FEW[::3])
def test_few_examples_as_in_pytorch(n: int, inputs: int, units: int, dtype: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, w, b = few_examples(n, inputs, units, dtype)
    expected = torch.nn.functional.linear(*(torch.from_numpy(each) for each in (x, np.ascontiguousarray(w.T), b)))
    assert_close(_cpu.dense(x, w, b), expected.numpy(), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, inputs, units", [(1, 1300, 100), (2, 65, 4), (3, 400, 120), (7, 97, 33)])
def test_threads_share_the_work(n: int, inputs: int, units: int, dtype: str, isa: str) -> None:
    x, w, b = few_examples(n, inputs, units, dtype)
    expected = _cpu.dense(x, w, b)
    try:
        _cpu._set_cycles_per_thread(4)
        for threads in (2, 3):
            assert _cpu.dense(x, w, b, threads=threads).tobytes() == expected.tobytes()
    finally:
        _cpu._set_cycles_per_thread(None)


@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_zero_hides_no_broken_weight(value: float, dtype: str, isa: str) -> None:
    """And a number that is not finite reaches its own unit only, though a vector reads beyond a row."""
    for n, units in ((1, 900), (2, 33), (5, 33)):
        x, w, b = few_examples(n, 300, units, dtype)
        x[:, 4] = 0
        w[4, 3] = value
        w[7, 0] = value  # read with row 6's last vector too
        with np.errstate(invalid="ignore"):
            expected = x @ w + b
        found = _cpu.dense(x, w, b)
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
        np.testing.assert_array_equal(np.isnan(found[:, 3]), True)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_long_sum_keeps_its_digits(dtype: str, isa: str) -> None:
    """Numbers of equal size: the worst case for a running sum."""
    x, w = np.full((2, 1_000_000), 0.1, dtype), np.ones((1_000_000, 3), dtype)
    np.testing.assert_allclose(_cpu.dense(x, w, None), 1e6 * float(x[0, 0]), rtol=2e3 * np.finfo(dtype).eps)
