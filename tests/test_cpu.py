"""The compiled backend against the literal twin: every operation, algorithm, precision and instruction set."""

import numpy as np
import pytest

from pyconv import reference
from pyconv.errors import ShapeError
from pyconv.shapes import conv_geometry, pool_geometry

_cpu = pytest.importorskip("pyconv._cpu", reason="the compiled module is not built")
_dense = pytest.importorskip("pyconv._dense", reason="the compiled module is not built")

DTYPES = ("float32", "float64")
CONVOLVERS = ("naive", "direct", "auto")
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}

# images, height, width, channels, filters, kernel height and width, and the rest as keyword arguments
CONVOLUTIONS = {
    "first layer": (3, 12, 12, 1, 32, 5, 5, {"padding": 2}),
    "50 filters": (2, 9, 9, 1, 50, 5, 5, {}),
    "colour": (2, 11, 13, 3, 32, 3, 3, {"padding": 1}),
    "one tile": (1, 3, 14, 16, 32, 3, 3, {"padding": 1}),
    "one pixel more": (1, 3, 15, 17, 33, 3, 3, {"padding": 1}),
    "one pixel fewer": (1, 3, 13, 15, 31, 3, 3, {"padding": 1}),
    "odd channels": (2, 7, 6, 17, 40, 3, 3, {"padding": "same"}),
    "one filter": (1, 20, 21, 1, 1, 7, 7, {}),
    "few filters": (2, 8, 8, 6, 5, 3, 3, {}),
    "one gray filter on a wide image": (2, 19, 70, 1, 1, 7, 7, {"padding": 3}),
    "colour to two": (1, 23, 41, 3, 2, 5, 3, {"padding": (2, 3), "dilation": (1, 2)}),
    "a row of taps": (1, 5, 37, 1, 1, 1, 5, {"padding": (0, 2)}),
    "two rows of taps": (2, 6, 33, 2, 1, 3, 1, {"padding": (1, 0)}),
    "taps beyond the image": (2, 4, 5, 9, 24, 9, 9, {"padding": 4}),
    "kernel 1": (3, 7, 7, 20, 36, 1, 1, {}),
    "kernel 1 stride 2": (2, 8, 9, 18, 16, 1, 1, {"stride": 2}),
    "kernel 2": (2, 6, 7, 5, 8, 2, 2, {"padding": "same"}),
    "kernel 4 by 1": (2, 9, 5, 4, 19, 4, 1, {"padding": "same"}),
    "kernel 11 stride 4": (1, 31, 35, 3, 24, 11, 11, {"stride": 4, "padding": 2}),
    "stem": (1, 23, 22, 3, 20, 7, 7, {"stride": 2, "padding": 3}),
    "strides differ": (2, 11, 12, 6, 18, 3, 3, {"stride": (3, 2), "padding": 1}),
    "even stride, dilation, many": (1, 15, 16, 20, 36, 3, 4, {"stride": (1, 2), "dilation": 2, "padding": 3}),
    "stride, dilation, a divisor": (1, 9, 31, 18, 17, 2, 3, {"stride": (2, 4), "dilation": (2, 6), "padding": 5}),
    "even stride, dilation, groups": (2, 9, 17, 8, 12, 2, 2, {"stride": 2, "dilation": 4, "padding": 1, "groups": 4}),
    "columns beside a small image": (3, 5, 4, 18, 33, 3, 7, {"padding": (1, 3)}),
    "columns that never meet the image": (2, 3, 2, 33, 16, 3, 9, {"padding": (1, 6), "stride": (1, 2)}),
    "columns beside a small image, dilation": (2, 6, 5, 40, 24, 2, 4, {"padding": 3, "dilation": 2, "groups": 2}),
    "stride above kernel": (1, 13, 13, 4, 8, 2, 3, {"stride": 5}),
    "dilation": (2, 13, 12, 8, 24, 3, 3, {"dilation": 2, "padding": 2}),
    "dilation and stride": (1, 19, 17, 5, 16, 3, 3, {"dilation": (2, 3), "stride": (2, 3), "padding": 3}),
    "dilation 2 stride 4": (1, 19, 17, 5, 16, 4, 3, {"dilation": 2, "stride": 4, "padding": 1}),
    "asymmetric": (2, 8, 9, 7, 12, 3, 4, {"padding": ((0, 2), (3, 1))}),
    "groups": (2, 8, 8, 24, 40, 3, 3, {"groups": 4, "padding": 1}),
    "groups stride": (1, 9, 8, 6, 9, 3, 3, {"groups": 3, "stride": 2, "padding": 1}),
    "depthwise": (2, 9, 10, 19, 19, 3, 3, {"groups": 19, "padding": 1}),
    "depthwise stride": (1, 9, 10, 33, 33, 3, 3, {"groups": 33, "stride": 2, "padding": 1}),
    "depthwise twice": (1, 7, 8, 9, 18, 3, 3, {"groups": 9, "padding": 1}),
    "depthwise dilation": (1, 12, 11, 16, 16, 5, 3, {"groups": 16, "dilation": 2, "padding": "same"}),
    "tall": (1, 70, 2, 3, 20, 3, 3, {"padding": 1}),
    "wide": (1, 2, 90, 3, 20, 3, 3, {"padding": 1}),
    "one pixel": (1, 1, 1, 1, 1, 1, 1, {}),
    "more padding than image": (1, 2, 3, 2, 4, 3, 3, {"padding": 4}),
    "to one channel": (2, 19, 21, 1, 33, 5, 5, {"padding": 2}),
    "to two channels": (1, 11, 13, 2, 50, 3, 4, {"padding": "same"}),
    "to three channels": (2, 17, 18, 3, 40, 7, 7, {"stride": 2, "padding": 3}),
    "to five channels": (1, 12, 10, 5, 70, 3, 3, {"dilation": 2, "padding": 2}),
    "few from many": (2, 9, 11, 37, 2, 3, 3, {"padding": 1}),
    "depthwise, wide": (2, 8, 21, 35, 35, 5, 5, {"groups": 35, "padding": 2}),
    "depthwise, few channels": (3, 9, 20, 3, 3, 3, 3, {"groups": 3, "padding": 1}),
    "depthwise, few channels, stride": (2, 11, 40, 5, 5, 5, 7, {"groups": 5, "stride": (2, 3), "padding": 2}),
    "depthwise, few channels, large stride": (1, 9, 10, 2, 2, 2, 3, {"groups": 2, "stride": 4}),
    "depthwise, few channels, dilation": (2, 9, 23, 7, 7, 3, 4, {"groups": 7, "dilation": (2, 3), "padding": 4}),
    "depthwise, few channels, both": (1, 13, 19, 3, 3, 4, 3, {"groups": 3, "dilation": 3, "stride": 2, "padding": 5}),
    "depthwise, few channels, one pixel": (2, 1, 1, 3, 3, 3, 3, {"groups": 3, "padding": 2}),
    "depthwise, few channels, many rows": (1, 70, 50, 2, 2, 9, 11, {"groups": 2, "padding": (4, 5)}),
    "few from many in groups": (2, 9, 11, 74, 6, 3, 3, {"padding": 1, "groups": 2}),
    "one to three, dilation": (2, 33, 41, 1, 3, 3, 3, {"dilation": 2, "padding": 2}),
    "two to three, stride": (2, 31, 46, 2, 3, 3, 2, {"stride": (2, 3), "padding": 2}),
    "one to three, kernel 1, stride": (2, 9, 40, 1, 3, 1, 1, {"stride": 2}),
    "one to two, dilation and stride": (2, 61, 65, 1, 3, 5, 5, {"dilation": 3, "stride": (2, 2), "padding": 3}),
    "one to two, dilation of two strides": (1, 43, 45, 1, 2, 3, 5, {"dilation": 4, "stride": 2, "padding": 4}),
    "one to two in groups": (2, 37, 29, 3, 6, 3, 3, {"groups": 3, "padding": 1, "dilation": 2}),
    "one to four, many small images": (70, 9, 6, 1, 4, 7, 1, {"padding": (3, 0)}),
    "one to three, large": (2, 90, 60, 1, 3, 5, 2, {"padding": ((1, 0), (3, 2)), "dilation": (1, 2)}),
    "two to one, the kernel higher than a block": (1, 33, 300, 2, 1, 11, 2, {"dilation": 2, "padding": 4}),
    "five to six, dilation": (2, 67, 63, 5, 6, 3, 3, {"dilation": 3, "padding": 3}),
    "many to three": (2, 9, 12, 37, 3, 3, 3, {"padding": 1}),
    "many to two, dilation and stride": (2, 17, 15, 21, 2, 3, 3, {"dilation": 2, "stride": 2, "padding": 1}),
    "many to three in groups": (2, 9, 11, 40, 6, 3, 3, {"groups": 2}),
    "many to five, kernel 1": (3, 7, 9, 70, 5, 1, 1, {}),
    "many to one, large": (2, 40, 30, 18, 1, 4, 5, {"padding": 2}),
    "a short run to one": (2, 12, 11, 5, 1, 2, 2, {}),
    "kernel 1, narrow images": (5, 6, 5, 12, 33, 1, 1, {}),
    "kernel 1, narrow images, groups": (5, 6, 5, 24, 36, 1, 1, {"groups": 3}),
    "kernel 5 by 1, narrow images": (2, 9, 7, 6, 20, 5, 1, {}),
    "errors narrower than the kernel": (2, 9, 17, 12, 20, 3, 7, {"dilation": (1, 2)}),
    "errors one pixel wide": (2, 10, 10, 15, 17, 10, 10, {"padding": ((4, 4), (0, 0))}),
    "errors narrower than the kernel, stride": (1, 19, 40, 4, 33, 3, 9, {"stride": (2, 3), "dilation": (2, 4)}),
    "kernel wider than the image": (2, 6, 3, 21, 6, 3, 8, {"padding": ((0, 2), (6, 3))}),
    "few from few on a wide image": (1, 4, 130, 9, 6, 3, 5, {"padding": (2, 0)}),
    "groups of four": (2, 9, 11, 16, 16, 3, 5, {"groups": 4, "padding": (1, 2)}),
    "five groups of two to four": (2, 9, 8, 10, 20, 3, 3, {"groups": 5, "padding": ((0, 1), (2, 1))}),
    "six groups, stride, dilation": (2, 13, 9, 12, 24, 3, 3, {"groups": 6, "stride": 2, "dilation": 2, "padding": 2}),
    "six groups of eight to one": (1, 9, 9, 48, 6, 2, 2, {"groups": 6}),
    "seven groups of one to three": (2, 12, 11, 7, 21, 5, 4, {"groups": 7, "stride": (1, 2), "padding": (2, 0)}),
    "five groups, the last image is small": (2, 2, 1, 5, 15, 2, 1, {"groups": 5}),
    "three groups, a row is not seen": (1, 8, 1, 3, 15, 7, 1, {"groups": 3, "stride": (2, 1)}),
    "eight groups, kernel 1": (3, 7, 7, 16, 32, 1, 1, {"groups": 8}),
    "eight groups, stride beyond the kernel": (2, 11, 10, 16, 16, 1, 2, {"groups": 8, "stride": (2, 3)}),
    "four groups, stride beyond the kernel": (2, 13, 17, 80, 24, 2, 3, {"groups": 4, "stride": (3, 5)}),
    "three groups, stride, no padding": (2, 12, 15, 18, 60, 4, 3, {"groups": 3, "stride": 2}),
    "two groups of whole vectors to two": (2, 9, 11, 64, 4, 3, 3, {"groups": 2}),
    "two groups of many to two, not whole vectors": (1, 8, 9, 150, 4, 2, 3, {"groups": 2, "stride": (1, 2)}),
    "one to forty, dilation": (2, 13, 15, 1, 40, 3, 5, {"dilation": (2, 3), "padding": (0, 5)}),
    "three to twenty, dilation beyond the results": (3, 9, 14, 3, 20, 2, 3, {"dilation": (1, 6), "padding": (1, 0)}),
    "two groups, dilation": (2, 12, 17, 8, 40, 3, 3, {"groups": 2, "dilation": 2, "padding": 2}),
    "one column, stride across": (2, 9, 1, 8, 8, 1, 1, {"stride": (1, 2)}),
    "one pixel, stride across": (3, 1, 1, 8, 8, 1, 1, {"stride": (1, 2)}),
    "one column, kernel 3 by 1, stride across": (1, 6, 1, 8, 8, 3, 1, {"stride": (1, 2), "padding": (2, 0)}),
    "one to one, stride above kernel": (1, 60, 50, 1, 1, 2, 2, {"stride": 4}),
    "sixteen": (16, 6, 7, 3, 20, 3, 3, {"padding": 1}),
    "one column of results": (2, 17, 8, 12, 20, 8, 8, {}),
    "two columns of results, padding, stride": (2, 33, 2, 9, 33, 5, 3, {"padding": (2, 1), "stride": (2, 1)}),
    "two columns of results in groups": (1, 30, 4, 24, 12, 3, 2, {"groups": 3, "dilation": 2, "padding": (1, 0)}),
    "two columns of results of three filters": (1, 25, 4, 40, 3, 3, 3, {"padding": ((1, 0), (0, 0))}),
    "eleven filters of a large kernel": (1, 11, 11, 21, 11, 9, 9, {}),
    "kernels as large as their images": (19, 5, 4, 7, 33, 5, 4, {"stride": (2, 1)}),
    "images of one pixel": (37, 1, 1, 40, 9, 1, 1, {}),
    "many images": (17, 4, 4, 8, 16, 3, 3, {"padding": 1}),
}


def problem(name, dtype, seed=0):
    """Geometry of a named convolution, images, filters, bias and output errors."""
    n, h, w, c, k, kh, kw, rest = CONVOLUTIONS[name]
    weight_shape = (kh, kw, c // rest.get("groups", 1), k)
    g = conv_geometry((n, h, w, c), weight_shape, **rest)
    rng = np.random.default_rng([seed, *name.encode()])
    draw = lambda shape: rng.standard_normal(shape).astype(dtype)  # noqa: E731
    return g, draw(g.input_shape), draw(weight_shape), draw(k), draw(g.output_shape)


def poisoned(shape, dtype):
    return np.full(shape, np.nan, dtype)


def assert_close(value, expected, dtype):
    """Check equality up to the rounding of sums that are as large as the largest result."""
    assert value.dtype == expected.dtype
    scale = np.abs(expected).max() + 1
    np.testing.assert_allclose(value, expected, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.mark.covering("name algorithm", "name isa", "algorithm dtype isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", CONVOLVERS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_matches_the_twin(name, algorithm, dtype, isa):
    g, x, w, b, dy = problem(name, dtype)
    y = _cpu.conv2d(x, w, b, g, algorithm=algorithm, out=poisoned(g.output_shape, dtype))
    assert_close(y, reference.conv2d(x, w, b, g), dtype)
    y = _cpu.conv2d(x, w, None, g, activation="relu", algorithm=algorithm, out=poisoned(g.output_shape, dtype))
    assert_close(y, reference.conv2d(x, w, None, g, activation="relu"), dtype)
    gx = _cpu.conv2d_input_grad(dy, w, g, algorithm=algorithm, out=poisoned(g.input_shape, dtype))
    assert_close(gx, reference.conv2d_input_grad(dy, w, g), dtype)
    gw = _cpu.conv2d_weight_grad(x, dy, g, algorithm=algorithm, out=poisoned(g.weight_shape, dtype))
    assert_close(gw, reference.conv2d_weight_grad(x, dy, g), dtype)


@pytest.mark.skipif(len(_cpu.isas()) == 1, reason="this processor runs one instruction set only")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_instruction_sets_agree_to_rounding(name, dtype):
    g, x, w, b, dy = problem(name, dtype, seed=4)
    results, before = {}, _cpu.isa()
    try:
        for isa in _cpu.isas():
            _cpu.set_isa(isa)
            results[isa] = (
                _cpu.conv2d(x, w, b, g, algorithm="direct"),
                _cpu.conv2d_input_grad(dy, w, g, algorithm="direct"),
                _cpu.conv2d_weight_grad(x, dy, g, algorithm="direct"),
            )
    finally:
        _cpu.set_isa(before)
    terms = (g.kh * g.kw * g.c, g.kh * g.kw * g.k, g.n * g.oh * g.ow)
    for isa, others in results.items():
        for one, other, count in zip(results["baseline"], others, terms, strict=True):
            # Each set adds in its own order. A sum of `count` products of unit variance grows as its square root, and
            # each addition rounds in proportion to what has been summed: count * eps / 5 in the root mean square.
            limit = (2 * count + 8) * np.finfo(dtype).eps
            np.testing.assert_allclose(other, one, rtol=0, atol=limit, err_msg=isa)


@pytest.mark.covering("name", "algorithm")
@pytest.mark.parametrize("algorithm", CONVOLVERS)
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_threads_do_not_change_a_bit(name, algorithm):
    _cpu._set_cycles_per_thread(1)  # start threads for the smallest work too
    try:
        g, x, w, b, dy = problem(name, "float32", seed=1)
        results = [
            (
                _cpu.conv2d(x, w, b, g, algorithm=algorithm, threads=threads),
                _cpu.conv2d_input_grad(dy, w, g, algorithm=algorithm, threads=threads),
                _cpu.conv2d_weight_grad(x, dy, g, algorithm=algorithm, threads=threads),
            )
            for threads in (1, 2, 3)
        ]
    finally:
        _cpu._set_cycles_per_thread(None)
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_matches_pytorch(name):
    torch = pytest.importorskip("torch")
    g, x, w, b, dy = problem(name, "float64", seed=2)
    padded = np.pad(x, ((0, 0), (g.pt, g.pb), (g.pl, g.pr), (0, 0)))
    tx = torch.tensor(padded.transpose(0, 3, 1, 2), requires_grad=True)
    tw = torch.tensor(np.ascontiguousarray(w.transpose(3, 2, 0, 1)), requires_grad=True)
    ty = torch.nn.functional.conv2d(
        tx, tw, torch.tensor(b), stride=(g.sh, g.sw), dilation=(g.dh, g.dw), groups=g.groups
    )
    ty.backward(torch.tensor(dy.transpose(0, 3, 1, 2)))
    assert_close(_cpu.conv2d(x, w, b, g), ty.detach().numpy().transpose(0, 2, 3, 1), "float64")
    gx = tx.grad.numpy().transpose(0, 2, 3, 1)[:, g.pt : g.pt + g.h, g.pl : g.pl + g.w]
    assert_close(_cpu.conv2d_input_grad(dy, w, g), gx, "float64")
    assert_close(_cpu.conv2d_weight_grad(x, dy, g), tw.grad.numpy().transpose(2, 3, 1, 0), "float64")


@pytest.mark.covering("shape", "isa")
@pytest.mark.parametrize(
    ("shape", "filters", "kernel", "how"),
    [
        ((2, 192, 192, 2), 32, (3, 2), {"padding": 1}),
        ((2, 192, 190, 2), 24, (2, 2), {}),
        ((2, 300, 300, 1), 16, (1, 1), {}),
        ((1, 260, 260, 34), 36, (1, 1), {"groups": 2}),
        ((1, 150, 145, 32), 96, (1, 1), {"groups": 32}),
        ((1, 262, 260, 32), 32, (3, 1), {"groups": 32}),
        ((2, 120, 121, 64), 8, (1, 1), {"groups": 4}),
        ((2, 120, 121, 64), 20, (1, 1), {"groups": 4}),
        ((3, 122, 121, 40), 52, (2, 3), {"groups": 4, "stride": 2, "padding": (1, 0)}),
        ((160, 13, 12, 60), 24, (3, 3), {"groups": 3, "padding": 1}),
    ],
)
def test_arrays_beyond_the_caches(shape, filters, kernel, how, isa):
    """Large results may bypass the caches if they are whole cache lines; large inputs are prefetched."""
    weight_shape = (*kernel, shape[-1] // how.get("groups", 1), filters)
    g = conv_geometry(shape, weight_shape, **how)
    rng = np.random.default_rng(9)
    x, w, b, dy = (rng.standard_normal(s, dtype="float32") for s in (shape, weight_shape, filters, g.output_shape))
    assert max(x.nbytes, dy.nbytes) > 5 << 20
    y = _cpu.conv2d(x, w, b, g, activation="relu", algorithm="direct")
    assert_close(y, _cpu.conv2d(x, w, b, g, activation="relu", algorithm="naive"), "float32")
    gx = _cpu.conv2d_input_grad(dy, w, g, algorithm="direct")
    assert_close(gx, _cpu.conv2d_input_grad(dy, w, g, algorithm="naive"), "float32")
    gw = _cpu.conv2d_weight_grad(x, dy, g, algorithm="direct")
    exact = _cpu.conv2d_weight_grad(*(a.astype("float64") for a in (x, dy)), g, algorithm="naive")
    assert_close(gw, exact.astype("float32"), "float32")
    memory = np.full(y.size + 1, np.nan, "float32")  # not aligned to a vector
    again = _cpu.conv2d(x, w, b, g, activation="relu", algorithm="direct", out=memory[1:].reshape(y.shape))
    np.testing.assert_array_equal(again, y)


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.parametrize(
    "name", ("errors narrower than the kernel", "few from few on a wide image", "five groups of two to four")
)
def test_nan_and_infinity_reach_as_far_as_the_kernel(name, isa):
    g, x, w, _, dy = problem(name, "float32")
    x[0, 2, 1, 0], x[0, 1, 2, -1] = np.nan, np.inf
    dy[0, 1, 1, 0], dy[0, 0, 2, -1] = np.nan, -np.inf
    for value, expected in (
        (_cpu.conv2d(x, w, None, g, algorithm="direct"), reference.conv2d(x, w, None, g)),
        (_cpu.conv2d_input_grad(dy, w, g, algorithm="direct"), reference.conv2d_input_grad(dy, w, g)),
    ):
        assert 0 < np.isfinite(expected).mean() < 1
        np.testing.assert_array_equal(np.isfinite(value), np.isfinite(expected))


@pytest.mark.skipif("avx512" not in _cpu.isas(), reason="this processor has no AVX-512")
def test_half_a_vector_of_filters_takes_half_as_wide_vectors():
    """8 filters fill 8 of 16 lanes: the bits are those of vectors of 8 lanes; with 16 filters they are not."""
    rng, before = np.random.default_rng(3), _cpu.isa()
    try:
        for filters, same in ((8, True), (16, False)):
            g = conv_geometry((2, 9, 11, 5), (3, 3, 5, filters), stride=2)
            x, w = (rng.standard_normal(shape).astype("float32") for shape in (g.input_shape, g.weight_shape))
            results = {}
            for isa, algorithm in (("avx512", "auto"), ("avx512vl", "auto"), ("avx512", "direct")):
                _cpu.set_isa(isa)
                results[isa, algorithm] = _cpu.conv2d(x, w, None, g, algorithm=algorithm).tobytes()
            auto = results["avx512", "auto"]
            assert auto == results["avx512vl" if same else "avx512", "auto" if same else "direct"]
    finally:
        _cpu.set_isa(before)


@pytest.mark.parametrize("name", ("first layer", "odd channels", "groups"))
def test_nan_passes_through_relu_too(name):
    g, x, w, b, _ = problem(name, "float32")
    x[0, 3, 3, 0] = np.nan
    for algorithm in ("naive", "direct"):
        y = _cpu.conv2d(x, w, b, g, activation="relu", algorithm=algorithm)
        expected = reference.conv2d(x, w, b, g, activation="relu")
        np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))


def test_unknown_algorithm_lists_the_known_ones():
    g, x, w, b, _ = problem("one pixel", "float32")
    with pytest.raises(ValueError, match="direct"):
        _cpu.conv2d(x, w, b, g, algorithm="dirct")


POOLS = {
    "2 by 2": ((3, 12, 14, 32), 2, {}),
    "odd": ((2, 13, 11, 17), 2, {}),
    "overlap": ((2, 9, 10, 19), 3, {"stride": 2}),
    "padding": ((1, 9, 9, 5), 3, {"stride": 2, "padding": 1}),
    "gaps": ((1, 11, 12, 3), 2, {"stride": 3}),
    "few channels": ((2, 12, 26, 10), 2, {}),
    "few and odd": ((3, 9, 23, 6), 3, {"stride": 2, "padding": 1}),
    "one channel": ((2, 8, 8, 1), (2, 4), {"stride": (1, 2)}),
    "whole image": ((2, 6, 5, 40), (6, 5), {}),
}


@pytest.mark.parametrize("threads", (1, 3))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", POOLS)
def test_pooling_matches_the_twin(name, dtype, threads, isa):
    shape, size, rest = POOLS[name]
    pg = pool_geometry(shape, size, **rest)
    rng = np.random.default_rng([7, *name.encode()])
    x = rng.integers(-4, 4, shape).astype(dtype)  # equal pixels, so that the first maximum matters
    x[0, 1, 1, 0] = np.nan
    dy = rng.standard_normal(pg.output_shape).astype(dtype)
    where, expected_where = (np.full(pg.output_shape, -7, np.int32) for _ in range(2))
    y = _cpu.max_pool2d(x, pg, threads=threads, out=poisoned(pg.output_shape, dtype), indices=where)
    np.testing.assert_array_equal(y, reference.max_pool2d(x, pg, indices=expected_where))
    np.testing.assert_array_equal(where, expected_where)
    gx = _cpu.max_pool2d_input_grad(dy, where, pg, threads=threads, out=poisoned(shape, dtype))
    assert_close(gx, reference.max_pool2d_input_grad(dy, where, pg), dtype)
    np.testing.assert_array_equal(_cpu.max_pool2d(x, pg, threads=threads), y)
    x[0, 1, 1, 0] = 0
    y = _cpu.avg_pool2d(x, pg, threads=threads, out=poisoned(pg.output_shape, dtype))
    assert_close(y, reference.avg_pool2d(x, pg), dtype)
    gx = _cpu.avg_pool2d_input_grad(dy, pg, threads=threads, out=poisoned(shape, dtype))
    assert_close(gx, reference.avg_pool2d_input_grad(dy, pg), dtype)


@pytest.mark.covering("name pooling", "index dtype isa", "activation index")
@pytest.mark.parametrize("activation", (None, "relu"))
@pytest.mark.parametrize("index", (np.int32, np.uint8))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ("first layer", "many images", "groups", "depthwise", "sixteen"))
@pytest.mark.parametrize("pooling", ((2, {}), (3, {"stride": 2, "padding": 1})))
def test_convolution_with_pooling_matches_the_two_apart(name, pooling, dtype, index, activation, isa):
    size, rest = pooling
    g, x, w, b, _ = problem(name, dtype, seed=3)
    pg = pool_geometry(g.output_shape, size, **rest)
    full = _cpu.conv2d(x, w, b, g, activation=activation)
    where = np.full(pg.output_shape, 77, index)
    expected_where = where.copy()
    expected = _cpu.max_pool2d(full, pg, indices=expected_where)
    for threads in (1, 2):
        y = _cpu.conv2d_pool(
            x, w, b, g, pg, activation=activation, threads=threads, out=poisoned(pg.output_shape, dtype), indices=where
        )
        assert y.tobytes() == expected.tobytes()
        np.testing.assert_array_equal(where, expected_where)
        np.testing.assert_array_equal(_cpu.conv2d_pool(x, w, b, g, pg, activation=activation, threads=threads), y)
        dy = np.random.default_rng(5).standard_normal(y.shape).astype(dtype)
        masked = dy * (y > 0) if activation else dy
        gx, gb = _cpu.conv2d_pool_grad(
            dy, where, y, pg, activation=activation, threads=threads, out=poisoned(full.shape, dtype)
        )
        np.testing.assert_array_equal(gx, _cpu.max_pool2d_input_grad(masked, where, pg))
        assert_close(gb, masked.sum(axis=(0, 1, 2)), dtype)


@pytest.mark.parametrize("algorithm", ("auto", *(name for name in _cpu.algorithms if name.startswith("winograd_"))))
def test_filters_made_once_serve_every_batch_of_pooled_images(algorithm):
    """There are many channels and few pixels: a convolution alone would divide the transformed images instead."""
    g = conv_geometry((32, 12, 12, 64), (3, 3, 64, 160), padding=1)
    assert g.n // _cpu._images_together(g, 4) == 8
    rng = np.random.default_rng(6)
    x, w, b = (rng.standard_normal(shape, dtype="float32") for shape in (g.input_shape, g.weight_shape, 160))
    pg = pool_geometry(g.output_shape, 2)
    expected = _cpu.max_pool2d(_cpu.conv2d(x, w, b, g, algorithm="direct"), pg)
    for threads in (1, 2):
        y = _cpu.conv2d_pool(x, w, b, g, pg, algorithm=algorithm, threads=threads)
        assert_close(y, expected, "float32")


#: Images, filters, padding, pooling: with tails of vectors, several tables for a kernel row, several blocks of rows.
SPARSE = {
    "the paper's": ((40, 28, 28, 1), (5, 5, 1, 50), 0, 2),
    "three channels": ((3, 17, 19, 3), (3, 3, 3, 40), 1, 2),
    "many taps": ((2, 20, 20, 1), (11, 9, 1, 33), 2, (2, 3)),
    "rows left over": ((2, 21, 90, 1), (4, 6, 1, 17), ((2, 1), (0, 3)), (2, 2)),
    "one row": ((2, 20, 20, 1), (6, 6, 1, 33), 2, (1, 2)),
}


@pytest.mark.parametrize("activation", (None, "relu"))
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SPARSE)
def test_weight_gradient_from_pooled_errors(name, dtype, activation, isa):
    shape, filters, padding, size = SPARSE[name]
    rng = np.random.default_rng(11)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (shape, filters, filters[3:]))
    g = conv_geometry(shape, filters, padding=padding)
    pg = pool_geometry(g.output_shape, size)
    where = np.empty(pg.output_shape, np.uint8)
    y = _cpu.conv2d_pool(x, w, b, g, pg, activation=activation, indices=where)
    dy = rng.standard_normal(y.shape).astype(dtype)
    found = [
        _cpu.conv2d_pool_weight_grad(
            x, dy, where, y, g, pg, activation=activation, threads=threads, out=poisoned(filters, dtype)
        )
        for threads in (1, 2, 3)
    ]
    if found[0] is None:  # vectors are too short for the algorithm's tables
        assert isa != "avx512" or dtype == "float64"
        return
    for gw, gb in found:
        assert gw.tobytes() == found[0][0].tobytes()
        assert gb.tobytes() == found[0][1].tobytes()
    full, gb = _cpu.conv2d_pool_grad(dy, where, y, pg, activation=activation)
    assert_close(found[0][0], reference.conv2d_weight_grad(x, full, g), dtype)
    assert_close(found[0][1], gb, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ((1, 1), (5, 3), (3, 4, 5, 33), (70, 20, 20, 7)))
def test_elementwise_and_statistics_match_the_twin(shape, dtype, isa):
    rng = np.random.default_rng(shape)
    x, dy = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    gamma, beta = (rng.standard_normal(shape[-1]).astype(dtype) for _ in range(2))
    y = _cpu.relu(x, threads=2, out=poisoned(shape, dtype))
    np.testing.assert_array_equal(y, reference.relu(x))
    np.testing.assert_array_equal(_cpu.relu_grad(dy, y, threads=2), reference.relu_grad(dy, y))
    in_place = dy.copy()
    assert _cpu.relu_grad(in_place, y, out=in_place) is in_place
    np.testing.assert_array_equal(in_place, reference.relu_grad(dy, y))
    assert_close(_cpu.scale_shift(x, gamma, beta, threads=2), reference.scale_shift(x, gamma, beta), dtype)
    g, gb = _cpu.relu_bias_grad(dy, y, threads=2, out=poisoned(shape, dtype))
    np.testing.assert_array_equal(g, reference.relu_grad(dy, y))
    assert_close(gb, g.reshape(-1, shape[-1]).sum(axis=0), dtype)
    assert_close(_cpu.bias_grad(dy, threads=2), dy.reshape(-1, shape[-1]).sum(axis=0), dtype)
    x = x * 3 + 100
    for mine, twin in zip(
        _cpu.batch_norm(x, gamma, beta, 1e-5, threads=2, out=poisoned(shape, dtype)),
        reference.batch_norm(x, gamma, beta, 1e-5),
        strict=True,
    ):
        np.testing.assert_allclose(mine, twin, rtol=2e-4 if dtype == "float32" else 1e-9, atol=1e-4)
    _, mean, inv_std = reference.batch_norm(x, gamma, beta, 1e-5)
    for mine, twin in zip(
        _cpu.batch_norm_grad(x, dy, gamma, mean, inv_std, threads=2, out=poisoned(shape, dtype)),
        reference.batch_norm_grad(x, dy, gamma, mean, inv_std),
        strict=True,
    ):
        np.testing.assert_allclose(mine, twin, rtol=2e-4 if dtype == "float32" else 1e-9, atol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", (1, 2, 7, 8, 16, 24, 31, 33, 48, 63, 64, 65, 100, 127, 128, 300))
def test_batch_norm_of_any_width_on_any_number_of_threads(channels, dtype, isa, rng):
    """Rows are taken side by side where channels are few; here with rows that are no whole number of such lines."""
    shape = (int(rng.integers(8, 80000 // channels)), channels)
    x = (rng.standard_normal(shape) * 3 + 20).astype(dtype)
    dy = rng.standard_normal(shape).astype(dtype)
    gamma, beta = (rng.standard_normal(channels).astype(dtype) for _ in range(2))
    wide, errors = x.astype("float64"), dy.astype("float64")
    mean, inv_std = wide.mean(axis=0), 1 / np.sqrt(wide.var(axis=0) + 1e-5)
    h = (wide - mean) * inv_std
    narrow = mean.astype(dtype), inv_std.astype(dtype)
    expected = [h * gamma + beta, mean, inv_std]
    expected += [gamma * inv_std * (errors - errors.mean(axis=0) - h * (errors * h).mean(axis=0))]
    expected += [(errors * h).sum(axis=0), errors.sum(axis=0)]
    found = []
    _cpu._set_cycles_per_thread(1)  # start threads for the smallest work too
    try:
        for threads in (1, 2, 3):
            made = _cpu.batch_norm(x, gamma, beta, 1e-5, threads=threads, out=poisoned(shape, dtype))
            found.append([*made, *_cpu.batch_norm_grad(x, dy, gamma, *narrow, threads=threads)])
    finally:
        _cpu._set_cycles_per_thread(None)
    in_place = x.copy()
    assert _cpu.batch_norm(in_place, gamma, beta, 1e-5, out=in_place)[0] is in_place
    np.testing.assert_array_equal(in_place, found[0][0])
    for one, two, three, wanted in zip(*found, expected, strict=True):
        assert one.tobytes() == two.tobytes() == three.tobytes()
        scale = max(np.abs(wanted).max(), 1)
        np.testing.assert_allclose(one / scale, wanted / scale, rtol=0, atol=3e-5 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", ((1, 1), (6, 7), (65, 10), (3, 1000)))
def test_softmax_matches_the_twin(shape, dtype, isa):
    rng = np.random.default_rng(shape)
    logits = (10 * rng.standard_normal(shape)).astype(dtype)
    logits[0] += 1000  # would overflow in a careless exponential
    labels = rng.integers(0, shape[1], shape[0])
    losses, grad = _cpu.softmax_cross_entropy(logits, labels, threads=2)
    expected_losses, expected_grad = reference.softmax_cross_entropy(logits, labels)
    assert_close(losses, expected_losses, dtype)
    assert_close(grad, expected_grad, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", (1, 2))
def test_a_dense_sum_over_nothing_is_zero(n, dtype):
    draw = lambda *shape: np.ones(shape, dtype)  # noqa: E731
    assert not _cpu.dense(draw(n, 0), draw(0, 5), None, out=poisoned((n, 5), dtype)).any()
    assert not _cpu.dense_input_grad(draw(n, 0), draw(5, 0), out=poisoned((n, 5), dtype)).any()
    assert not _cpu.dense_weight_grad(draw(0, n), draw(0, 5), out=poisoned((n, 5), dtype)).any()


def test_a_stride_far_beyond_the_image(isa):
    g = conv_geometry((1, 3, 3, 3), (2, 2, 3, 1), stride=(715827883, 2**31 - 1))
    x, dy = np.ones(g.input_shape, np.float32), np.ones(g.output_shape, np.float32)
    np.testing.assert_array_equal(_cpu.conv2d_weight_grad(x, dy, g), reference.conv2d_weight_grad(x, dy, g))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, inputs, units", ((1, 1, 1), (5, 7, 3), (64, 300, 100), (3, 5000, 130), (130, 64, 65)))
def test_dense_matches_the_twin_on_any_number_of_threads(n, inputs, units, dtype):
    rng = np.random.default_rng((n, inputs, units))
    x, w, b, dy = (
        rng.standard_normal(shape).astype(dtype) for shape in ((n, inputs), (inputs, units), (units,), (n, units))
    )
    first = None
    for threads in (1, 2, 3):
        results = (
            _cpu.dense(x, w, b, activation="relu", threads=threads, out=poisoned((n, units), dtype)),
            _cpu.dense(x, w, None, threads=threads),
            _cpu.dense_input_grad(dy, w, threads=threads, out=poisoned(x.shape, dtype)),
            _cpu.dense_weight_grad(x, dy, threads=threads, out=poisoned(w.shape, dtype)),
        )
        first = first or results
        for one, two in zip(first, results, strict=True):
            assert one.tobytes() == two.tobytes()
    assert_close(first[0], np.maximum(x @ w + b, 0), dtype)
    assert_close(first[1], x @ w, dtype)
    assert_close(first[2], dy @ w.T, dtype)
    assert_close(first[3], x.T @ dy, dtype)


#: Examples, inputs and units: with incomplete blocks of each, sums in several pieces, several tiles and parts.
BEHIND_RELU = ((64, 300, 100), (33, 40, 47), (200, 97, 33), (50, 193, 300), (300, 5, 64), (40, 2000, 40))


def behind_relu(n, inputs, units, dtype):
    """Images and errors of which three fifths are zero, whole rows and columns among them; filters and biases."""
    rng = np.random.default_rng((5, n, inputs, units))
    x, w, b, dy = (
        rng.standard_normal(shape).astype(dtype) for shape in ((n, inputs), (inputs, units), (units,), (n, units))
    )
    for array in (x, dy):
        array[rng.random(array.shape) < 0.6] = 0
        array[3] = array[:, 4] = array[-1, -1] = 0
    dy[1] *= -0.0
    return x, w, b, dy


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n, inputs, units", BEHIND_RELU)
def test_dense_layers_behind_a_relu(n, inputs, units, dtype, isa):
    x, w, b, dy = behind_relu(n, inputs, units, dtype)
    found = [
        (
            _cpu.dense(x, w, b, activation="relu", threads=threads, out=poisoned((n, units), dtype)),
            _cpu.dense(x, w, None, threads=threads),
            _cpu.dense_input_grad(dy, w, threads=threads, out=poisoned(x.shape, dtype)),
            _cpu.dense_weight_grad(x, dy, threads=threads, out=poisoned(w.shape, dtype)),
        )
        for threads in (1, 2, 3)
    ]
    expected = np.maximum(x @ w + b, 0), x @ w, dy @ w.T, x.T @ dy
    for results in zip(*found, strict=True):
        assert len({result.tobytes() for result in results}) == 1
    for result, wanted in zip(found[0], expected, strict=True):
        assert_close(result, wanted, dtype)


@pytest.mark.covering("n", "value isa", "dtype isa")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", (np.nan, np.inf, -np.inf))
@pytest.mark.parametrize("n, inputs, units", BEHIND_RELU)
def test_a_skipped_zero_hides_nothing(n, inputs, units, value, dtype, isa):
    """Zero times NaN or infinity is NaN: skipping zeros must not hide a NaN or infinity that meets only zeros."""
    x, w, b, dy = behind_relu(n, inputs, units, dtype)
    w[4, -1] = value  # all of x[:, 4] is zero
    turned = np.where(np.arange(inputs)[:, None] == inputs - 1, value, np.abs(w) < 9)[:, ::-1].astype(dtype)
    images = x.copy()
    images[3, -1] = value  # all of dy[3] is zero
    with np.errstate(invalid="ignore"):
        expected = x @ w + b, dy @ turned.T, images.T @ dy
    results = _cpu.dense(x, w, b), _cpu.dense_input_grad(dy, turned), _cpu.dense_weight_grad(images, dy)
    for found, wanted in zip(results, expected, strict=True):
        assert np.isnan(wanted).any()
        np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(wanted))


def test_zeros_are_skipped(isa):
    """The kernel adds up in another order than BLAS."""
    x, w, b, _ = behind_relu(64, 200, 100, "float32")
    full = np.where(x == 0, np.float32(0.5), x)
    skipped, whole = (_cpu.dense(each, w, b, activation="relu") for each in (x, full))
    try:
        _dense._set_most(-1)  # nothing is skipped
        product, product_of_full = (_cpu.dense(each, w, b, activation="relu") for each in (x, full))
    finally:
        _dense._set_most(None)
    assert np.array_equal(skipped, product) == (isa == "baseline")  # with vectors of four numbers, BLAS does all
    assert np.array_equal(whole, product_of_full)
    assert_close(skipped, np.maximum(x.astype("float64") @ w + b, 0).astype("float32"), "float32")


def test_an_instruction_set_can_be_forced():
    import os
    import subprocess
    import sys

    for name in _cpu.isas():
        command = [sys.executable, "-c", "from pyconv import _cpu; print(_cpu.isa())"]
        run = subprocess.run(
            command, env={**os.environ, "PYCONV_ISA": name}, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == name
    command = [sys.executable, "-c", "from pyconv import _cpu"]
    run = subprocess.run(command, env={**os.environ, "PYCONV_ISA": "mmx"}, capture_output=True, text=True)
    assert run.returncode != 0 and "baseline" in run.stderr


def test_out_has_the_shape_of_the_result():
    g, x, w, b, dy = problem("first layer", "float32")
    pg = pool_geometry(g.output_shape, 2)
    y = _cpu.conv2d(x, w, b, g, activation="relu")
    where = np.zeros(pg.output_shape, np.uint8)
    pooled = _cpu.conv2d_pool(x, w, b, g, pg, activation="relu", indices=where)
    vectors, matrix = y.reshape(len(y), -1), np.ones((y[0].size, 3), np.float32)
    errors = np.ones((len(y), 3), np.float32)
    calls = [
        lambda out: _cpu.conv2d(x, w, b, g, out=out),
        lambda out: _cpu.conv2d(x, w, b, g, algorithm="naive", out=out),
        lambda out: _cpu.conv2d_input_grad(dy, w, g, out=out),
        lambda out: _cpu.conv2d_weight_grad(x, dy, g, out=out),
        lambda out: _cpu.conv2d_pool(x, w, b, g, pg, out=out),
        lambda out: _cpu.conv2d_pool_grad(pooled, where, pooled, pg, out=out)[0],
        lambda out: _cpu.conv2d_pool_weight_grad(x, pooled, where, pooled, g, pg, out=out)[0],
        lambda out: _cpu.max_pool2d(y, pg, out=out),
        lambda out: _cpu.max_pool2d_input_grad(pooled, where, pg, out=out),
        lambda out: _cpu.avg_pool2d(y, pg, out=out),
        lambda out: _cpu.avg_pool2d_input_grad(pooled, pg, out=out),
        lambda out: _cpu.dense(vectors, matrix, None, out=out),
        lambda out: _cpu.dense_input_grad(errors, matrix, out=out),
        lambda out: _cpu.dense_weight_grad(vectors, errors, out=out),
        lambda out: _cpu.relu(y, out=out),
        lambda out: _cpu.relu_grad(y, y, out=out),
        lambda out: _cpu.activate(y, "tanh", out=out),
        lambda out: _cpu.pad2d(x, ((1, 2), (3, 4)), out=out),
        lambda out: _cpu.crop2d(x, ((1, 2), (3, 4)), out=out),
    ]
    for call in calls:
        expected = call(None)
        for shape in ((*expected.shape[:-1], expected.shape[-1] + 1), expected.shape[1:], (expected.size,)):
            with pytest.raises(ShapeError, match="out must have the result's shape"):
                call(np.empty(shape, np.float32))
        out = np.empty_like(expected)
        assert call(out) is out
        np.testing.assert_array_equal(out, expected)
