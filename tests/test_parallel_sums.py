"""Sums over workers: they follow the workers' order, give the same bits, and leave out workers that do not count."""

from __future__ import annotations

import numpy as np
import pytest

from pyconv.parallel.sums import in_order

atomics = pytest.importorskip("pyconv.parallel._atomics", reason="the compiled module is not built")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 7, 1024, 1025, 5000])
def test_a_sum_is_made_in_the_order_of_the_workers(rng: np.random.Generator, dtype: str, size: int) -> None:
    vectors, weights = rng.standard_normal((5, size)).astype(dtype), rng.random(5)
    out, expected = np.full(size, np.nan, dtype), np.zeros(size)
    in_order(vectors, weights, out)
    for vector, weight in zip(vectors, weights, strict=True):
        expected += vector.astype(np.float64) * weight
    np.testing.assert_allclose(out, expected, rtol=0, atol=8 * np.finfo(dtype).eps)
    again = np.full(size, np.nan, dtype)
    in_order(vectors, weights, again)
    assert again.tobytes() == out.tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nobody", [0, 1, 2])
def test_what_is_in_the_place_of_one_who_does_not_count_is_not_read(dtype: str, nobody: int) -> None:
    vectors, weights = np.ones((3, 2000), dtype), np.array([0.5, 0.5, 0.5])
    vectors[nobody], weights[nobody] = np.nan, 0
    out = np.full(2000, np.nan, dtype)
    in_order(vectors, weights, out)
    np.testing.assert_array_equal(out, 1.0)
    in_order(vectors, np.zeros(3), out)
    np.testing.assert_array_equal(out, 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_number_that_is_not_finite_is_seen_wherever_it_is(dtype: str, bad: float) -> None:
    for size in (1, 15, 16, 17, 100):
        vector = np.full(size, 3e38, dtype)
        assert atomics.finite(vector)
        for place in {0, size // 2, size - 1}:
            spoilt = vector.copy()
            spoilt[place] = bad
            assert not atomics.finite(spoilt)
