"""Images of wide range: a result of "auto" depends on its own window only, in its size as in whether it is finite.

What transforms spread is summed again (`_kernels/guard/`). The error is compared with the sum of magnitudes of the
result's own products.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS

from pyconv import conv2d, reference
from pyconv.shapes import ConvGeometry, conv_geometry

_cpu = pytest.importorskip("pyconv._cpu", reason="the compiled module is not built")

#: A result may be off by so much of the sum of its window's magnitudes.
BOUND = {"float32": 1e-5, "float64": 84 * 2.0**-52}
LEAST = {"float32": 2.0**-126, "float64": 2.0**-1022}  # smaller numbers are zero
TRANSFORMS = ("winograd_2x2", "winograd_3x3", "winograd_4x4", "winograd_1d")
FORWARD, INPUT_GRAD = range(2)


def sensor(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """12 bits, with dead and hot pixels."""
    image = rng.integers(1, 4096, shape).astype(float)
    image[rng.random(shape) < 0.02] = 0
    image[rng.random(shape) < 0.005] = 65535
    return image


def dark_sensor(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Some counts per pixel, and hot pixels of 12 bits."""
    return np.where(rng.random(shape) < 0.003, 4095, rng.poisson(2, shape)).astype(float)


def masked(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Ordinary numbers, some pixels of which are marked by 1e9 in all channels."""
    marks = rng.random((*shape[:3], 1)) < rng.choice([0.003, 0.1])
    return np.where(marks, 1e9, rng.standard_normal(shape))


def half(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One side is black."""
    return rng.standard_normal(shape) * (np.arange(shape[2]) < rng.integers(1, shape[2] + 1))[:, None]


def spike(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """One pixel, on ordinary numbers or on zeros."""
    image = rng.standard_normal(shape) * rng.integers(0, 2)
    image[tuple(rng.integers(size) for size in shape)] = rng.choice([1e20, -1e9, 1e4, 1e-20])
    return image


def decades(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sizes of twelve decades."""
    return rng.choice([-1, 1], shape) * 10.0 ** rng.uniform(-6, 6, shape)


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """As behind a ReLU that lets little through."""
    return np.maximum(rng.standard_normal(shape) - rng.choice([0, 1, 2.5]), 0)


def tiny(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Too small to be squared, and subnormal numbers among them."""
    return rng.standard_normal(shape) * 10.0 ** -rng.integers(15, 41, (*shape[:3], 1)).astype(float)


def huge(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Too large to be squared."""
    return rng.standard_normal(shape) * 1e25 ** rng.integers(0, 2, (*shape[:3], 1))


IMAGES = (sensor, dark_sensor, masked, half, spike, decades, sparse, tiny, huge)


@st.composite
def geometries(draw: st.DrawFn) -> ConvGeometry:
    """Convolutions that transforms can do, on images that tiles do not divide."""
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (3, 3), (5, 5), (1, 4), (2, 7), (3, 11)]))
    groups = draw(st.sampled_from([1, 1, 1, 3])) if kernel == (3, 3) else 1
    c, k = (groups * draw(st.sampled_from([1, 2, 3, 5, 8, 16, 17, 33, 40])) for _ in range(2))
    size = [draw(st.integers(max(length, 3), 21)) for length in kernel]
    padding = tuple((draw(st.integers(0, length - 1)), draw(st.integers(0, length - 1))) for length in kernel)
    shape = (draw(st.integers(1, 3)), *size, c)
    return conv_geometry(shape, (*kernel, c // groups, k), padding=padding, groups=groups)


@pytest.fixture
def all_guarded() -> Iterator[None]:
    """Transforms that are asked for by name are looked at, as those that "auto" chooses."""
    _cpu._set_guarded(True)
    yield
    _cpu._set_guarded(None)


def run(
    what: int, g: ConvGeometry, image: np.ndarray, weight: np.ndarray, algorithm: str, threads: int = 1
) -> np.ndarray:
    operation = (_cpu.conv2d, _cpu.conv2d_input_grad)[what]
    arguments = (image, weight, None, g) if what == FORWARD else (image, weight, g)
    out = np.full((g.output_shape, g.input_shape)[what], np.nan, image.dtype)
    return operation(*arguments, algorithm=algorithm, threads=threads, out=out)


def twin(what: int, g: ConvGeometry, image: np.ndarray, weight: np.ndarray) -> np.ndarray:
    if what == FORWARD:
        return reference.conv2d(image, weight, None, g)
    return reference.conv2d_input_grad(image, weight, g)


def assert_its_own(value: np.ndarray, what: int, g: ConvGeometry, image: np.ndarray, weight: np.ndarray) -> None:
    """Within the bound, and infinite or NaN exactly where the equation is."""
    dtype = str(value.dtype)
    wide = np.where(np.abs(image) < LEAST[dtype], 0, image).astype(np.longdouble), weight.astype(np.longdouble)
    with np.errstate(invalid="ignore"):
        exact, sums = twin(what, g, *wide), twin(what, g, *map(np.abs, wide))
    finite = np.isfinite(exact)
    np.testing.assert_array_equal(value[~finite], exact[~finite].astype(dtype))
    products = g.kh * g.kw * max(g.c, g.k)
    with np.errstate(invalid="ignore"):
        error = np.where(finite, np.abs(value - exact), 0)
        allowed = np.where(finite, BOUND[dtype] * sums, 0) + 2 * products * LEAST[dtype]
    worst = np.unravel_index(np.argmax(error - allowed), error.shape)
    assert (error <= allowed).all(), (worst, value[worst], exact[worst], sums[worst], g)


def operands(rng: np.random.Generator, what: int, g: ConvGeometry, kind, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    image = kind(rng, (g.input_shape, g.output_shape)[what])
    with np.errstate(over="ignore", under="ignore"):
        return image.astype(dtype), rng.standard_normal(g.weight_shape).astype(dtype)


@pytest.mark.usefixtures("all_guarded")
@pytest.mark.parametrize("algorithm", ("auto", *TRANSFORMS))
@given(
    g=geometries(), kind=st.sampled_from(IMAGES), what=st.sampled_from([FORWARD, INPUT_GRAD]), dtype=DTYPES, seed=SEEDS
)  # fmt: skip
def test_an_error_is_small_beside_its_own_window(algorithm, g, kind, what, dtype, seed):
    image, weight = operands(np.random.default_rng(seed), what, g, kind, dtype)
    try:
        value = run(what, g, image, weight, algorithm)
    except ValueError:  # the algorithm does not do this geometry
        return
    assert_its_own(value, what, g, image, weight)


@pytest.mark.usefixtures("all_guarded")
@pytest.mark.parametrize("algorithm", ("auto", *TRANSFORMS))
@given(
    g=geometries(), kind=st.sampled_from(IMAGES), what=st.sampled_from([FORWARD, INPUT_GRAD]), dtype=DTYPES, seed=SEEDS,
    bad=st.lists(st.sampled_from([np.inf, -np.inf, np.nan]), min_size=1, max_size=3),
)  # fmt: skip
def test_what_is_not_finite_reaches_its_windows_only(algorithm, g, kind, what, dtype, seed, bad):
    rng = np.random.default_rng(seed)
    image, weight = operands(rng, what, g, kind, dtype)
    for value in bad:
        image[tuple(rng.integers(size) for size in image.shape)] = value
    try:
        value = run(what, g, image, weight, algorithm)
    except ValueError:
        return
    assert_its_own(value, what, g, image, weight)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_infinity_of_a_small_image():
    """One pixel in 12 × 12 × 16: 288 results see it."""
    rng = np.random.default_rng(0)
    x, weight = rng.random((1, 12, 12, 16), np.float32), rng.random((3, 3, 16, 32), np.float32) + 0.1
    usual = conv2d(x, weight, padding=1, algorithm="direct")
    x[0, 5, 6, 3] = np.inf
    y = conv2d(x, weight, padding=1)
    assert np.isposinf(y[0, 4:7, 5:8]).all()
    assert np.isposinf(y).sum() == 288
    seen = np.isinf(y)
    np.testing.assert_allclose(y[~seen], usual[~seen], rtol=1e-5)


def test_a_large_pixel_leaves_zeros_alone():
    weight = np.random.default_rng(0).random((3, 3, 16, 32), np.float32)
    x = np.zeros((1, 12, 12, 16), np.float32)
    x[0, 5, 6, 3] = 1e20
    y = conv2d(x, weight, padding=1)
    seen = np.zeros(y.shape, bool)
    seen[0, 4:7, 5:8] = True
    assert (y[~seen] == 0).all()
    np.testing.assert_allclose(y[0, 4:7, 5:8], 1e20 * weight[::-1, ::-1, 3], rtol=1e-6)


@pytest.mark.usefixtures("all_guarded")
@pytest.mark.covering("algorithm what isa", "dtype")
@pytest.mark.parametrize("dtype", ("float32", "float64"))
@pytest.mark.parametrize("what", (FORWARD, INPUT_GRAD))
@pytest.mark.parametrize("algorithm", TRANSFORMS)
def test_every_instruction_set_and_any_threads(algorithm, what, dtype, isa, rng):
    """The same bits on any number of threads, within the bound, with the bias and the ReLU of what is summed again."""
    _cpu._set_cycles_per_thread(1)
    try:
        for shape, weight_shape in (((2, 13, 14, 24), (3, 3, 24, 40)), ((3, 9, 17, 6), (3, 3, 6, 21))):
            g = conv_geometry(shape, weight_shape, padding=1)
            for kind in IMAGES:
                image, weight = operands(rng, what, g, kind, dtype)
                found = [run(what, g, image, weight, algorithm, threads) for threads in (1, 2, 5)]
                assert found[0].tobytes() == found[1].tobytes() == found[2].tobytes()
                assert_its_own(found[0], what, g, image, weight)
    finally:
        _cpu._set_cycles_per_thread(None)


@pytest.mark.usefixtures("all_guarded")
@pytest.mark.parametrize("algorithm", TRANSFORMS)
def test_bias_and_relu_are_applied_to_what_is_summed_again(algorithm, rng):
    g = conv_geometry((2, 13, 14, 24), (3, 3, 24, 40), padding=1)
    image, weight = operands(rng, FORWARD, g, masked, "float32")
    image[0, :5, :6] = 0
    bias = rng.standard_normal(40).astype(np.float32)
    y = _cpu.conv2d(image, weight, bias, g, activation="relu", algorithm=algorithm)
    wide = [array.astype(float) for array in (image, weight, bias)]
    sums = reference.conv2d(*map(np.abs, wide), g)
    assert (np.abs(y - np.maximum(reference.conv2d(*wide, g), 0)) <= 1e-5 * sums).all()
    np.testing.assert_array_equal(y[0, :4, :5], np.broadcast_to(np.maximum(bias, 0), (4, 5, 40)))


@pytest.mark.usefixtures("all_guarded")
@pytest.mark.parametrize("algorithm", TRANSFORMS)
def test_a_batch_gives_what_its_images_give(algorithm, rng):
    """Which results are summed again follows from an image alone."""
    g, one = (conv_geometry((n, 13, 14, 24), (3, 3, 24, 40), padding=1) for n in (5, 1))
    image, weight = operands(rng, FORWARD, g, masked, "float32")
    whole = run(FORWARD, g, image, weight, algorithm)
    for i in range(5):
        alone = run(FORWARD, one, image[i : i + 1], weight, algorithm)
        np.testing.assert_allclose(whole[i : i + 1], alone, rtol=1e-5, atol=1e-3)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
def test_an_infinity_in_the_filters_gradient(rng):
    """The sums that see it are infinite or NaN, as the equation is; the others are right."""
    g = conv_geometry((8, 12, 12, 32), (3, 3, 32, 32), padding=1)
    x, dy = (rng.standard_normal(shape).astype(np.float32) for shape in (g.input_shape, g.output_shape))
    chosen = next(line["kernel"] for line in _cpu.candidates(2, g, x.dtype) if line["runs"])
    assert chosen.startswith("tiles"), "transforms are looked at"
    x[3, 0, 5, 7] = np.inf
    found = _cpu.conv2d_weight_grad(x, dy, g)
    exact = reference.conv2d_weight_grad(x.astype(float), dy.astype(float), g)
    finite = np.isfinite(exact)
    assert not finite.all()
    np.testing.assert_array_equal(found[~finite], exact[~finite].astype(np.float32))
    np.testing.assert_allclose(found[finite], exact[finite], rtol=1e-4, atol=1e-3)


@pytest.mark.usefixtures("all_guarded")
@pytest.mark.parametrize("algorithm", ("auto", *TRANSFORMS))
@given(g=geometries(), kinds=st.tuples(*[st.sampled_from(IMAGES)] * 2), dtype=DTYPES, seed=SEEDS)
def test_an_error_of_the_filters_gradient(algorithm, g, kinds, dtype, seed):
    """It is small beside the norms of the channel and of the filter's errors; others do not count."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        x, dy = kinds[0](rng, g.input_shape).astype(dtype), kinds[1](rng, g.output_shape).astype(dtype)
    if float(np.abs(x).max()) * float(np.abs(dy).max()) > 1e32:
        return  # sums of the products are not finite in float32
    try:
        value = _cpu.conv2d_weight_grad(x, dy, g, algorithm=algorithm)
    except ValueError:
        return
    wide = [np.where(np.abs(a) < LEAST[dtype], 0, a).astype(np.longdouble) for a in (x, dy)]
    exact = reference.conv2d_weight_grad(*wide, g)
    of_channels, of_filters = (np.sqrt((a**2).sum(axis=(0, 1, 2))).reshape(g.groups, -1) for a in wide)
    allowed = BOUND[dtype] * (of_channels[:, :, None] * of_filters[:, None]).swapaxes(0, 1).reshape(g.weight_shape[2:])
    assert (np.abs(value - exact) <= allowed + 2 * g.n * g.oh * g.ow * LEAST[dtype]).all()
