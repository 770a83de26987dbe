"""convolve2d and correlate2d: SciPy's numbers, the literal twin's, and the arguments that are refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from strategies import SEEDS

import pyconv
from pyconv import reference
from pyconv.errors import DtypeError, InputError, ShapeError, UnknownNameError
from pyconv.shapes import filter_padding

RUNNABLE = [name for name, reason in pyconv.backends().items() if reason is None]
MODES, BOUNDARIES = ("full", "same", "valid"), ("fill", "wrap", "symm")
FUNCTIONS = st.sampled_from(["convolve2d", "correlate2d"])
FLOATS = ("float32", "float64", "complex64", "complex128")
INTEGERS = ("uint8", "int8", "uint16", "int32", "int64", "uint64", "bool")

SIZES = st.tuples(st.integers(1, 37), st.integers(1, 37))
KERNELS = st.tuples(st.integers(1, 9), st.integers(1, 9))


def drawn(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Fresh numbers of any dtype: of unit variance, or over the whole range of narrow integers."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return rng.random(shape) < 0.5
    if kind in "iu":
        limits = np.iinfo(dtype)
        return rng.integers(max(limits.min, -(2**20)), min(limits.max, 2**20), shape, dtype, endpoint=True)
    numbers = rng.standard_normal(shape)
    return (numbers + 1j * rng.standard_normal(shape) if kind == "c" else numbers).astype(dtype)


def close(actual: np.ndarray, expected: np.ndarray, terms: int) -> None:
    """Check equality of dtype, and of numbers up to the rounding of a sum of `terms` products; integers exactly."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if actual.dtype.kind in "iu":
        np.testing.assert_array_equal(actual, expected)
    else:
        atol = 40 * np.sqrt(terms) * np.finfo(actual.dtype).eps * max(1, float(np.abs(expected).max()))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@given(
    name=FUNCTIONS, size=SIZES, kernel=KERNELS, mode=st.sampled_from(MODES), boundary=st.sampled_from(BOUNDARIES),
    dtypes=st.tuples(*[st.sampled_from(FLOATS + INTEGERS)] * 2).filter(lambda pair: pair != ("bool", "bool")),
    fillvalue=st.sampled_from([0, 3, -2, 1.5]), seed=SEEDS, backend=st.sampled_from(RUNNABLE),
    threads=st.integers(1, 3),
)  # fmt: skip
def test_numbers_are_scipys(
    name: str, size: tuple[int, int], kernel: tuple[int, int], mode: str, boundary: str, dtypes: tuple[str, str],
    fillvalue: float, seed: int, backend: str, threads: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    in1, in2 = drawn(rng, size, dtypes[0]), drawn(rng, kernel, dtypes[1])
    if np.result_type(in1, in2).kind in "iu":
        fillvalue = abs(int(fillvalue)) if np.result_type(in1, in2).kind == "u" else int(fillvalue)
    if backend == "cuda" and np.result_type(in1, in2) not in ("float32", "complex64"):
        backend = "auto"
    try:
        expected = getattr(scipy.signal, name)(in1, in2, mode, boundary, fillvalue)
    except ValueError as error:  # neither fits into the other
        assert "'valid' mode" in str(error)
        with pytest.raises(ShapeError):
            getattr(pyconv, name)(in1, in2, mode, boundary, fillvalue)
        return
    if name == "correlate2d" and mode == "valid" and any(i < k for i, k in zip(size, kernel)):
        expected = expected.conj()  # SciPy 1.17.1 against its own correlate
    actual = getattr(pyconv, name)(in1, in2, mode, boundary, fillvalue, backend=backend, threads=threads)
    close(actual, expected, in2.size)


@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
def test_a_larger_kernel_in_mode_valid_is_what_scipys_correlate_defines(name: str, rng: np.random.Generator) -> None:
    in1, in2 = drawn(rng, (3, 2), "complex128"), drawn(rng, (6, 5), "complex128")
    twin = getattr(scipy.signal, name.removesuffix("2d"))(in1, in2, "valid", "direct")
    close(getattr(pyconv, name)(in1, in2, "valid"), twin, in1.size)


@given(
    name=FUNCTIONS, size=SIZES, kernel=KERNELS, data=st.data(), seed=SEEDS,
    mode=st.sampled_from(["reflect", "nearest", "mirror", "wrap", "constant"]),
)  # fmt: skip
def test_boundaries_and_origins_are_ndimages(
    name: str, size: tuple[int, int], kernel: tuple[int, int], data: st.DataObject, seed: int, mode: str
) -> None:
    rng = np.random.default_rng(seed)
    kernel = tuple(min(k, s) for k, s in zip(kernel, size))  # type: ignore[assignment]
    origin = [data.draw(st.integers(-(k // 2), (k - 1) // 2)) for k in kernel]
    image, weights = rng.standard_normal(size), rng.standard_normal(kernel)
    if name == "convolve2d":  # the origins that ndimage allows, as it counts them
        origin = [-move - (k % 2 == 0) for move, k in zip(origin, kernel)]
        expected = scipy.ndimage.convolve(image, weights, mode=mode, cval=2.5, origin=origin)
    else:
        expected = scipy.ndimage.correlate(image, weights, mode=mode, cval=2.5, origin=origin)
    moved = [move + (k % 2 == 0) for move, k in zip(origin, kernel)]
    actual = getattr(pyconv, name)(image, weights, "same", mode, 2.5, origin=moved)
    close(actual, expected, weights.size)


@given(
    name=FUNCTIONS, size=st.tuples(st.integers(1, 6), st.integers(1, 6)), kernel=KERNELS, seed=SEEDS,
    mode=st.sampled_from(MODES), boundary=st.sampled_from(["fill", "wrap", "symm", "nearest", "mirror"]),
)  # fmt: skip
def test_numbers_are_the_literal_twins(
    name: str, size: tuple[int, int], kernel: tuple[int, int], seed: int, mode: str, boundary: str
) -> None:
    """Kernels may be much larger than the image."""
    rng = np.random.default_rng(seed)
    image, weights = rng.standard_normal(size), rng.standard_normal(kernel)
    if mode == "valid" and any(i < k for i, k in zip(size, kernel)):
        mode = "same"
    turned = name == "convolve2d"
    padding = filter_padding(size, kernel, mode, turned=turned)
    shape = tuple(s + sum(pad) - k + 1 for s, pad, k in zip(size, padding, kernel))
    before = (padding[0][0], padding[1][0])
    twin = reference.correlate2d(image, weights[::-1, ::-1] if turned else weights, before, shape, boundary, -0.5)
    close(getattr(pyconv, name)(image, weights, mode, boundary, -0.5), twin, weights.size)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "complex128"])
def test_stacks_are_image_by_image(dtype: str, rng: np.random.Generator) -> None:
    stack, kernel = drawn(rng, (2, 3, 19, 23), dtype), drawn(rng, (4, 5), dtype)
    y = pyconv.convolve2d(stack[:, ::-1, :, ::2], kernel, "same", "wrap")
    assert y.shape == (2, 3, 19, 12)
    for i, j in np.ndindex(2, 3):
        close(y[i, j], scipy.signal.convolve2d(stack[i, 2 - j, :, ::2], kernel, "same", "wrap"), kernel.size)


@pytest.mark.parametrize("dtypes", [("complex64", "bool"), ("bool", "complex128"), ("complex128", "uint8")])
def test_complex_numbers_meet_any_others(dtypes: tuple[str, str], rng: np.random.Generator) -> None:
    image, kernel = drawn(rng, (9, 14), dtypes[0]), drawn(rng, (3, 4), dtypes[1])
    close(pyconv.convolve2d(image, kernel), scipy.signal.convolve2d(image, kernel), kernel.size)


@pytest.mark.parametrize("boundary", BOUNDARIES)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_stays_where_it_is(bad: float, boundary: str, rng: np.random.Generator, isa: str) -> None:
    """In the image it affects the windows that contain it; in the kernel it also meets the zeros beyond the edges."""
    for size, width in (((41, 67), 3), ((41, 67), 12), ((130, 35), 21)):
        image, kernel = drawn(rng, size, "float32"), drawn(rng, (5, width), "float32")
        image[rng.integers(size[0]), rng.integers(size[1])] = bad
        expected = scipy.signal.convolve2d(image, kernel, "same", boundary)
        actual = pyconv.convolve2d(image, kernel, "same", boundary)
        np.testing.assert_array_equal(np.isfinite(actual), np.isfinite(expected))
        image, kernel[2, 1] = drawn(rng, size, "float32"), bad
        expected = scipy.signal.convolve2d(image, kernel, "full", boundary)
        np.testing.assert_array_equal(np.isnan(pyconv.convolve2d(image, kernel, "full", boundary)), np.isnan(expected))


def test_integers_are_exact_up_to_two_to_the_53(rng: np.random.Generator) -> None:
    image = rng.integers(2**40, 2**41, (17, 29))
    kernel = np.array([[3, -1021, 7], [11, 2039, 1]])
    np.testing.assert_array_equal(pyconv.convolve2d(image, kernel), scipy.signal.convolve2d(image, kernel))
    with pytest.raises(InputError, match=r"sums of these integers may reach .* 2\*\*53"):
        pyconv.convolve2d(image * 2, kernel)
    least = np.full((2, 2), np.iinfo(np.int64).min)
    with pytest.raises(InputError, match=r"2\*\*53"):
        pyconv.correlate2d(least, [[1]])


def test_narrow_integers_wrap_around_as_scipys_do() -> None:
    image, kernel = np.full((5, 4), 200, np.uint8), np.full((3, 3), 3, np.uint8)
    np.testing.assert_array_equal(pyconv.convolve2d(image, kernel), scipy.signal.convolve2d(image, kernel))
    np.testing.assert_array_equal(pyconv.convolve2d(image.astype(int), kernel, "valid"), np.full((3, 2), 5400))


IMAGE, KERNEL = np.ones((5, 6)), np.ones((3, 2))


@pytest.mark.parametrize("name", ["convolve2d", "correlate2d"])
@pytest.mark.parametrize("fillvalue", [1j, 2 - 3j, np.complex64(1.5)])
def test_a_complex_number_beyond_the_edge_of_real_images(name: str, fillvalue: complex) -> None:
    image, kernel = np.arange(30.0).reshape(5, 6), (np.arange(9.0) * (1 - 2j)).reshape(3, 3)
    expected = getattr(scipy.signal, name)(image, kernel, "same", "fill", fillvalue)
    np.testing.assert_allclose(getattr(pyconv, name)(image, kernel, "same", "fill", fillvalue), expected)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((IMAGE, KERNEL, "sane"), UnknownNameError, "unknown mode 'sane'; did you mean 'same'"),
        ((IMAGE, KERNEL, "same", "symmetric"), UnknownNameError, "did you mean 'symm'"),
        ((IMAGE, KERNEL, IMAGE), UnknownNameError, "unknown mode"),
        ((IMAGE, KERNEL, "same", ["fill"]), UnknownNameError, "unknown boundary"),
        ((np.ma.masked_equal(IMAGE, 1), KERNEL), InputError, "in1 is a masked array"),
        ((IMAGE[0], KERNEL), ShapeError, "in1 must be an image or a stack"),
        ((IMAGE, IMAGE[0]), ShapeError, "in2 a kernel of two dimensions"),
        ((IMAGE[:0], KERNEL), ShapeError, "in1 is empty"),
        ((IMAGE, np.ones((9, 2)), "valid"), ShapeError, "kernel of .9, 2. must fit into an image of .5, 6."),
        ((np.stack([IMAGE, IMAGE]), np.ones((9, 9)), "valid"), ShapeError, "must fit"),
        ((IMAGE.astype(np.float16), KERNEL), DtypeError, "in1 has dtype float16"),
        ((IMAGE, KERNEL.astype(object)), DtypeError, "in2 has dtype object"),
        ((IMAGE, KERNEL.astype(np.longdouble)), DtypeError, "in2 has dtype float128|in2 has dtype longdouble"),
        ((IMAGE > 0, KERNEL > 0), DtypeError, "both bool"),
        ((IMAGE, KERNEL, "same", "fill", 1j), InputError, "fillvalue 1j is no number of the result's dtype, float64"),
        ((IMAGE, KERNEL, "same", "fill", "1"), InputError, "fillvalue must be a number"),
        ((IMAGE, KERNEL, "same", "fill", [1, 2]), InputError, "fillvalue must be a number"),
        ((IMAGE.astype(np.uint8), KERNEL.astype(np.uint8), "same", "fill", -1), InputError, "dtype, uint8"),
        ((IMAGE.astype(int), KERNEL.astype(int), "same", "fill", 0.5), InputError, "dtype, int64"),
        ((IMAGE.astype(int), KERNEL.astype(int), "same", "fill", np.nan), InputError, "dtype, int64"),
        (([[1.0], [1.0, 2.0]], KERNEL), InputError, "in1 cannot be read as an array"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, error: type, message: str) -> None:
    for function in (pyconv.convolve2d, pyconv.correlate2d):
        with pytest.raises(error, match=message):
            function(*arguments)


@pytest.mark.parametrize(
    ("mode", "origin", "message"), [("full", 1, "in mode 'same' only"), ("same", 2, "off the pixel")]
)
def test_wrong_origins_are_named(mode: str, origin: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        pyconv.convolve2d(IMAGE, KERNEL, mode, origin=origin)


def test_byte_orders_and_lists_are_read(rng: np.random.Generator) -> None:
    image = drawn(rng, (6, 7), "float32")
    expected = scipy.signal.convolve2d(image, [[1.0, 2.0]])
    close(pyconv.convolve2d(image.astype(">f4"), [[1.0, 2.0]]), expected, 2)
    close(pyconv.convolve2d(image.astype(">f4"), np.array([[1, 2]], ">f4")), expected.astype("f4"), 2)
