"""Convolution with fewer multiplications along rows against the literal twin in float64: every width of kernel, sizes
off every tile, and its error.
"""

import sys

import numpy as np
import pytest
from test_winograd import DTYPES, TOLERANCE, assert_refused, poisoned, relative_error, totals_beside_guarded_pages

from pyconv import reference
from pyconv.shapes import conv_geometry

_cpu = pytest.importorskip("pyconv._cpu", reason="the compiled module is not built")

ALGORITHM = "winograd_1d"
VECTOR_BYTES = {"baseline": 16, "avx2": 32, "avx512vl": 32, "avx512": 64}

# images, height, width, channels, filters, kernel, and the rest as keyword arguments
PROBLEMS = {
    "first layer": (2, 12, 24, 1, 32, (5, 5), {"padding": 2}),
    "one tile": (1, 5, 8, 16, 16, (5, 5), {}),
    "one pixel more": (1, 5, 9, 17, 17, (5, 5), {}),
    "one pixel fewer": (1, 5, 7, 18, 31, (5, 5), {}),
    "one result": (1, 3, 5, 16, 16, (3, 5), {}),
    "width 3": (2, 7, 25, 3, 33, (3, 3), {"padding": 1}),
    "width 4": (2, 9, 17, 20, 48, (4, 4), {}),
    "width 6": (3, 8, 22, 16, 20, (2, 6), {"padding": (1, 2)}),
    "width 7": (2, 10, 13, 24, 17, (7, 7), {"padding": 3}),
    "width 8": (2, 9, 21, 17, 20, (3, 8), {"padding": 2}),
    "width 9": (1, 10, 19, 2, 35, (9, 9), {"padding": 4}),
    "width 10": (2, 4, 31, 18, 50, (2, 10), {"padding": (0, 3)}),
    "width 11": (1, 12, 14, 33, 16, (11, 11), {"padding": 5}),
    "width 17": (1, 3, 23, 16, 17, (1, 17), {}),
    "flat": (2, 4, 31, 16, 40, (1, 5), {}),
    "tall": (1, 40, 6, 2, 16, (9, 3), {"padding": (4, 1)}),
    "odd channels": (2, 9, 10, 19, 40, (5, 5), {"padding": 2}),
    "five vectors of filters": (1, 6, 14, 16, 80, (3, 5), {}),
    "asymmetric": (2, 8, 9, 17, 18, (5, 4), {"padding": ((0, 2), (3, 1))}),
    "much padding": (1, 4, 5, 16, 20, (3, 3), {"padding": 5}),
    "more padding than image": (1, 1, 2, 17, 20, (3, 5), {"padding": ((3, 5), (0, 6))}),
    "many images": (65, 4, 4, 16, 32, (3, 3), {"padding": 1}),
    "several blocks of rows": (2, 60, 62, 4, 18, (5, 5), {"padding": 2}),
    "blocks of rows and channels": (1, 33, 20, 40, 50, (5, 5), {"padding": 2}),
    "wide rows of few pairs": (2, 17, 300, 1, 20, (3, 3), {"padding": 1}),
    "two blocks of few pairs": (2, 9, 23, 3, 50, (3, 3), {"padding": 1}),
    "blocks of channels and filters": (1, 6, 9, 70, 150, (5, 5), {}),
    "gray image": (1, 37, 131, 1, 1, (7, 7), {"padding": 3}),
    "gray images, few filters": (3, 20, 70, 1, 3, (5, 5), {"padding": (2, 1)}),
    "coloured image": (2, 13, 66, 3, 3, (3, 3), {"padding": 1}),
    "one row": (1, 1, 300, 2, 1, (1, 13), {"padding": (0, 6)}),
    "narrow": (2, 31, 5, 1, 2, (6, 4), {"padding": ((5, 0), (0, 3))}),
    "wide kernel": (1, 9, 40, 2, 1, (5, 9), {"padding": 4}),
    "padding beside few pixels": (1, 2, 3, 1, 1, (2, 3), {"padding": 9}),
    "many rows of few pixels": (1, 90, 33, 1, 1, (11, 11), {"padding": 5}),
}


def problem(name, dtype, seed=0):
    """Geometry of a named convolution, images, filters, bias and errors of the results, of unit variance."""
    n, h, w, c, k, (kh, kw), rest = PROBLEMS[name]
    g = conv_geometry((n, h, w, c), (kh, kw, c, k), **rest)
    rng = np.random.default_rng([seed, *name.encode()])
    draw = lambda shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    return g, draw(g.input_shape), draw(g.weight_shape), draw(k), draw(g.output_shape)


def possible(g, operation, dtype, isa):
    """Whether the algorithm can do a pass: filters fill a vector, or so few pairs are summed that lanes hold tiles."""
    vector = VECTOR_BYTES[isa] // np.dtype(dtype).itemsize
    read, written = (g.k, g.c) if operation == "input_grad" else (g.c, g.k)
    pieces = -(-(g.kw - 1) // 4)
    return written >= vector or (operation != "weight_grad" and g.kh * pieces * read <= 128)


def errors(g, x, w, b, dy, dtype, isa):
    """Relative errors of the passes that are possible, from the twin in float64."""
    wide = [a.astype("float64") for a in (x, w, b, dy)]
    found = []
    if possible(g, "forward", dtype, isa):
        y = _cpu.conv2d(x, w, b, g, algorithm=ALGORITHM, out=poisoned(g.output_shape, dtype))
        found.append(relative_error(y, reference.conv2d(wide[0], wide[1], wide[2], g)))
    if possible(g, "weight_grad", dtype, isa):
        gw = _cpu.conv2d_weight_grad(x, dy, g, algorithm=ALGORITHM, out=poisoned(g.weight_shape, dtype))
        found.append(relative_error(gw, reference.conv2d_weight_grad(wide[0], wide[3], g)))
    if possible(g, "input_grad", dtype, isa):
        gx = _cpu.conv2d_input_grad(dy, w, g, algorithm=ALGORITHM, out=poisoned(g.input_shape, dtype))
        found.append(relative_error(gx, reference.conv2d_input_grad(wide[3], wide[1], g)))
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PROBLEMS)
def test_matches_the_twin(name, dtype, isa):
    assert max(errors(*problem(name, dtype), dtype, isa)) < TOLERANCE[dtype]


@pytest.mark.covering("width pairs", "isa dtype", "columns")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", (1, 23, 60))
@pytest.mark.parametrize("pairs", ((1, 1), (2, 1), (1, 3), (2, 2), (5, 1), (3, 2), (7, 1)))
@pytest.mark.parametrize("width", (3, 4, 5, 6, 7, 11))
def test_few_pairs_of_kernel_row_and_channel(width, pairs, columns, dtype, isa):
    """Each kernel of few pairs by its name: all outputs of a tile, whole tiles and parts, all pairs of a block."""
    rows, channels = pairs
    g = conv_geometry(
        (2, 6 + rows, columns, channels), (rows, width, channels, 37), padding=((0, 0), (width // 2,) * 2)
    )
    rng = np.random.default_rng([width, rows, channels, columns])
    x, w, b, dy = (rng.standard_normal(s) for s in (g.input_shape, g.weight_shape, 37, g.output_shape))
    narrow = [array.astype(dtype) for array in (x, w, b, dy)]
    wide = [array.astype("float64") for array in narrow]
    y = _cpu.conv2d(*narrow[:3], g, algorithm="rows_few", out=poisoned(g.output_shape, dtype))
    assert relative_error(y, reference.conv2d(*wide[:3], g)) < TOLERANCE[dtype]
    lines = _cpu.candidates(2, g, np.dtype(dtype), ALGORITHM)  # of few pairs and many, one is a candidate
    gw = _cpu.conv2d_weight_grad(
        narrow[0], narrow[3], g, algorithm=lines[0]["kernel"], out=poisoned(g.weight_shape, dtype)
    )
    assert relative_error(gw, reference.conv2d_weight_grad(wide[0], wide[3], g)) < TOLERANCE[dtype]


@pytest.mark.covering("size", "dtype", most=2)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", (5, 3, 4, 6, 7, 9, 11), ids=lambda size: f"{size}x{size}")
def test_error_at_512_channels(size, dtype):
    """The bound that is documented: under 2e-5 in float32 for any pixel, at unit variance."""
    g = conv_geometry((1, 13, 14, 512), (size, size, 512, 48), padding=size // 2)
    rng = np.random.default_rng(5)
    x, w, b, dy = (rng.standard_normal(s).astype(dtype) for s in (g.input_shape, g.weight_shape, 48, g.output_shape))
    found = errors(g, x, w, b, dy, dtype, _cpu.isa())
    print(size, dtype, *(f"{error:.1e}" for error in found))
    assert max(found) < TOLERANCE[dtype]


@pytest.mark.parametrize("channels", (1, 17), ids=("few pairs", "many pairs"))
def test_error_over_a_long_row(channels):
    """A weight gradient's sum over thousands of tiles is made in parts."""
    g = conv_geometry((1, 1, 20_000, channels), (1, 5, channels, 33), padding=((0, 0), (2, 2)))
    rng = np.random.default_rng(9)
    x, dy = (rng.standard_normal(s, dtype="float32") for s in (g.input_shape, g.output_shape))
    gw = _cpu.conv2d_weight_grad(x, dy, g, algorithm=ALGORITHM)
    exact = _cpu.conv2d_weight_grad(x.astype("float64"), dy.astype("float64"), g, algorithm="direct")
    error = relative_error(gw, exact)
    print(f"{channels} channels: {error:.1e}")
    assert error < 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("first layer", "odd channels", "gray images, few filters"))
def test_relu_is_applied_after_the_bias_and_keeps_nan(name, dtype, isa):
    g, x, w, b, _ = problem(name, dtype, seed=1)
    x[0, 3, 3, 0] = np.nan
    plain = _cpu.conv2d(x, w, b, g, algorithm=ALGORITHM)
    y = _cpu.conv2d(x, w, b, g, activation="relu", algorithm=ALGORITHM, out=poisoned(g.output_shape, dtype))
    assert np.isnan(y).any() and not np.isnan(y).all()
    np.testing.assert_array_equal(y, np.maximum(plain, 0))
    no_bias = _cpu.conv2d(x, w, None, g, algorithm=ALGORITHM)
    np.testing.assert_allclose(no_bias + b, plain, atol=1e-4)


def test_a_large_result_is_written_past_the_caches(isa):
    g = conv_geometry((3, 158, 160, 1), (5, 5, 1, 32), padding=2)
    rng = np.random.default_rng(8)
    x, w, b = (rng.standard_normal(s, dtype="float32") for s in (g.input_shape, g.weight_shape, 32))
    assert 4 * np.prod(g.output_shape) > 8 << 20
    y = _cpu.conv2d(x, w, b, g, algorithm=ALGORITHM)
    assert relative_error(y, _cpu.conv2d(x, w, b, g, algorithm="direct")) < TOLERANCE["float32"]
    memory = np.full(y.size + 1, np.nan, "float32")  # not aligned to a vector
    again = _cpu.conv2d(x, w, b, g, algorithm=ALGORITHM, out=memory[1:].reshape(y.shape))
    np.testing.assert_array_equal(again, y)


@pytest.mark.parametrize("name", PROBLEMS)
def test_threads_do_not_change_a_bit(name):
    g, x, w, b, dy = problem(name, "float32", seed=2)
    results = []
    _cpu._set_cycles_per_thread(1)  # start threads for the smallest work too
    try:
        for threads in (1, 2, 5):
            how = {"algorithm": ALGORITHM, "threads": threads}
            found = []
            if possible(g, "forward", "float32", _cpu.isa()):
                found.append(_cpu.conv2d(x, w, b, g, **how))
            if possible(g, "weight_grad", "float32", _cpu.isa()):
                found.append(_cpu.conv2d_weight_grad(x, dy, g, **how))
            if possible(g, "input_grad", "float32", _cpu.isa()):
                found.append(_cpu.conv2d_input_grad(dy, w, g, **how))
            results.append([array.tobytes() for array in found])
    finally:
        _cpu._set_cycles_per_thread(None)
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize(
    "weight_shape, rest",
    [
        ((5, 5, 32, 32), {"stride": 2}),
        ((5, 5, 32, 32), {"dilation": (1, 2)}),
        ((5, 5, 16, 32), {"groups": 2}),
        ((3, 2, 32, 32), {}),
        ((3, 1, 32, 32), {}),
    ],
)
def test_other_convolutions_are_refused(weight_shape, rest):
    assert_refused(ALGORITHM, conv_geometry((1, 20, 20, 32), weight_shape, **rest))


def test_many_pairs_of_few_filters_are_refused():
    """A single sum in registers would round too much, and the filters fill no vector."""
    assert_refused(ALGORITHM, conv_geometry((1, 40, 40, 3), (17, 17, 3, 3)))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="protects pages through Linux's C library")
def test_instruction_sets_agree_and_stay_inside_the_arrays():
    cases = [((2, 7, 6, 17), 19, 5, 1), ((1, 5, 9, 16), 16, 3, 1), ((1, 6, 30, 40), 33, 4, 1)]
    cases += [((1, 9, 70, 1), 1, 7, 1), ((2, 5, 33, 3), 2, 4, 1)]  # tiles in the lanes
    totals = totals_beside_guarded_pages(cases, [ALGORITHM])
    first = next(iter(totals.values()))
    assert totals == pytest.approx(dict.fromkeys(totals, first), rel=1e-6)
