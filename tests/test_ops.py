"""Every operation in every backend, against the literal twin and against independent libraries."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from strategies import DTYPES, SEEDS, ConvCase, conv_cases, pool_cases

import pyconv
from pyconv.errors import DtypeError, InputError, ShapeError, UnknownNameError

RUNNABLE = [name for name, reason in pyconv.backends().items() if reason is None]
COMPILED = [name for name in RUNNABLE if name != "reference"]
BACKENDS = st.sampled_from(RUNNABLE)


def close(actual: np.ndarray, expected: np.ndarray, terms: int) -> None:
    """Equal up to the rounding of a sum of `terms` products of unit variance, in `actual`'s precision."""
    assert actual.shape == expected.shape
    assert actual.flags.c_contiguous
    scale = np.sqrt(terms) * (40 if actual.dtype == np.float32 else 200)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=scale * np.finfo(actual.dtype).eps)


@given(case=conv_cases(), seed=SEEDS, dtype=DTYPES, backend=BACKENDS, threads=st.integers(1, 3), data=st.data())
def test_convolution_equals_the_float64_twin(
    case: ConvCase, seed: int, dtype: str, backend: str, threads: int, data: st.DataObject
) -> None:
    algorithm = data.draw(
        st.sampled_from(["auto", *(a for a in pyconv.algorithms(backend) if not a.startswith("winograd"))])
    )
    x, weight, bias, grad_out = case.arrays(seed, dtype)
    g, how = case.geometry, {**case.arguments, "backend": backend, "algorithm": algorithm, "threads": threads}
    twin = {**case.arguments, "backend": "reference"}
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad_out)]
    taps = g.kh * g.kw

    y = pyconv.conv2d(x, weight, bias, activation="relu", **how)
    assert y.dtype == x.dtype
    close(y, pyconv.conv2d(wide[0], wide[1], wide[2], activation="relu", **twin), taps * g.c)
    close(pyconv.conv2d(x, weight, **how), pyconv.conv2d(wide[0], wide[1], **twin), taps * g.c)
    close(
        pyconv.conv2d_input_grad(grad_out, weight, g.input_shape, **how),
        pyconv.conv2d_input_grad(wide[3], wide[1], g.input_shape, **twin),
        taps * g.k,
    )
    close(
        pyconv.conv2d_weight_grad(x, grad_out, (g.kh, g.kw), **how),
        pyconv.conv2d_weight_grad(wide[0], wide[3], (g.kh, g.kw), **twin),
        g.n * g.oh * g.ow,
    )


@given(case=conv_cases(max_channels=4, max_filters=12), seed=SEEDS)
def test_convolution_equals_pytorch(case: ConvCase, seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the independent check is left out")
    x, weight, bias, grad_out = case.arrays(seed, "float64")
    g = case.geometry
    tx = torch.tensor(x.transpose(0, 3, 1, 2)).requires_grad_()
    tw = torch.tensor(weight.transpose(3, 2, 0, 1).copy()).requires_grad_()
    padded = torch.nn.functional.pad(tx, (g.pl, g.pr, g.pt, g.pb))
    ty = torch.nn.functional.conv2d(
        padded, tw, torch.tensor(bias), stride=(g.sh, g.sw), dilation=(g.dh, g.dw), groups=g.groups
    )
    ty.backward(torch.tensor(grad_out.transpose(0, 3, 1, 2)))
    how = {**case.arguments, "layout": "NCHW", "backend": "auto"}
    nchw = {"x": x.transpose(0, 3, 1, 2), "weight": weight.transpose(3, 2, 0, 1)}
    close(pyconv.conv2d(nchw["x"], nchw["weight"], bias, **how), ty.detach().numpy(), g.kh * g.kw * g.c)
    grad_nchw = grad_out.transpose(0, 3, 1, 2)
    gx = pyconv.conv2d_input_grad(grad_nchw, nchw["weight"], nchw["x"].shape, **how)
    close(gx, tx.grad.numpy(), g.kh * g.kw * g.k)
    gw = pyconv.conv2d_weight_grad(nchw["x"], grad_nchw, (g.kh, g.kw), **how)
    close(gw, tw.grad.numpy(), g.n * g.oh * g.ow)


def test_convolution_equals_scipy(rng: np.random.Generator, backend: str) -> None:
    image, kernel = rng.standard_normal((37, 53)), rng.standard_normal((7, 4))
    y = pyconv.conv2d(image[None, :, :, None], kernel[:, :, None, None], backend=backend)
    close(y[0, :, :, 0], scipy.signal.correlate2d(image, kernel, mode="valid"), kernel.size)


def test_nchw_is_nhwc_with_its_axes_in_another_order(rng: np.random.Generator, backend: str) -> None:
    x, weight = rng.standard_normal((2, 7, 9, 4)), rng.standard_normal((3, 2, 2, 6))  # all sizes differ
    how = {"stride": (2, 1), "padding": ((1, 0), (2, 1)), "groups": 2, "backend": backend}
    y = pyconv.conv2d(x, weight, **how)
    grad = rng.standard_normal(y.shape)
    gx = pyconv.conv2d_input_grad(grad, weight, x.shape, **how)
    gw = pyconv.conv2d_weight_grad(x, grad, (3, 2), **how)
    images, filters = (0, 3, 1, 2), (3, 2, 0, 1)
    nx, ng, nw = x.transpose(images), grad.transpose(images), weight.transpose(filters)
    how["layout"] = "NCHW"
    np.testing.assert_array_equal(pyconv.conv2d(nx, nw, **how), y.transpose(images))
    np.testing.assert_array_equal(pyconv.conv2d_input_grad(ng, nw, nx.shape, **how), gx.transpose(images))
    np.testing.assert_array_equal(pyconv.conv2d_weight_grad(nx, ng, (3, 2), **how), gw.transpose(filters))
    pooling = {"stride": (1, 2), "padding": ((1, 0), (0, 0)), "backend": backend}
    for pool in (pyconv.max_pool2d, pyconv.avg_pool2d):
        expected = pool(x, (3, 2), **pooling).transpose(images)
        np.testing.assert_array_equal(pool(nx, (3, 2), layout="NCHW", **pooling), expected)


@given(case=pool_cases(), seed=SEEDS, dtype=DTYPES, backend=BACKENDS, threads=st.integers(1, 3))
def test_pooling_equals_the_twin(case: tuple, seed: int, dtype: str, backend: str, threads: int) -> None:
    pg, arguments = case
    rng = np.random.default_rng(seed)
    # Small integers make ties, so that which of equal pixels wins is tested too.
    x = rng.integers(-3, 4, pg.input_shape).astype(dtype)
    grad_out = rng.standard_normal(pg.output_shape).astype(dtype)
    how, twin = {**arguments, "backend": backend, "threads": threads}, {**arguments, "backend": "reference"}
    np.testing.assert_array_equal(pyconv.max_pool2d(x, **how), pyconv.max_pool2d(x, **twin))
    close(pyconv.avg_pool2d(x, **how), pyconv.avg_pool2d(x, **twin), 16)
    close(pyconv.max_pool2d_input_grad(grad_out, x, **how), pyconv.max_pool2d_input_grad(grad_out, x, **twin), 16)
    shape = pg.input_shape
    actual = pyconv.avg_pool2d_input_grad(grad_out, shape, **how)
    close(actual, pyconv.avg_pool2d_input_grad(grad_out, shape, **twin), 16)


@given(seed=SEEDS, size=st.integers(2, 4), stride=st.integers(1, 4), pad=st.integers(0, 2))
def test_pooling_equals_pytorch(seed: int, size: int, stride: int, pad: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: the independent check is left out")
    pad = min(pad, size // 2)
    x = np.random.default_rng(seed).standard_normal((2, 5, 12, 12))
    tx = torch.tensor(x).requires_grad_()
    pairs = (
        (torch.nn.functional.max_pool2d(tx, size, stride, pad), pyconv.max_pool2d),
        (torch.nn.functional.avg_pool2d(tx, size, stride, pad, count_include_pad=False), pyconv.avg_pool2d),
    )
    for expected, pool in pairs:
        close(pool(x, size, stride=stride, padding=pad, layout="NCHW"), expected.detach().numpy(), size * size)


def test_nan_wins_a_maximum(backend: str) -> None:
    x = np.array([[1.0, np.nan], [5.0, 2.0]], np.float32).reshape(1, 2, 2, 1)
    assert np.isnan(pyconv.max_pool2d(x, 2, backend=backend)).all()
    grad = pyconv.max_pool2d_input_grad(np.ones((1, 1, 1, 1), np.float32), x, 2, backend=backend)
    np.testing.assert_array_equal(grad[0, :, :, 0], [[0, 1], [0, 0]])
    np.testing.assert_array_equal(pyconv.relu(x, backend=backend)[0, :, :, 0], [[1, np.nan], [5, 2]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 40), (64, 130, 7), (33, 9, 257)])
def test_dense_equals_numpy(rng: np.random.Generator, backend: str, dtype: str, shape: tuple) -> None:
    n, inputs, units = shape
    x, weight = rng.standard_normal((n, inputs)).astype(dtype), rng.standard_normal((inputs, units)).astype(dtype)
    bias, grad = rng.standard_normal(units).astype(dtype), rng.standard_normal((n, units)).astype(dtype)
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    close(pyconv.dense(x, weight, bias, backend=backend), wide[0] @ wide[1] + wide[2], inputs)
    active = pyconv.dense(x, weight, bias, activation="relu", backend=backend)
    close(active, np.maximum(wide[0] @ wide[1] + wide[2], 0), inputs)
    close(pyconv.dense_input_grad(grad, weight, backend=backend), wide[3] @ wide[1].T, units)
    close(pyconv.dense_weight_grad(x, grad, backend=backend), wide[0].T @ wide[3], n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_relu_and_its_gradient(rng: np.random.Generator, backend: str, dtype: str) -> None:
    x, grad = rng.standard_normal((2, 3, 129)).astype(dtype), rng.standard_normal((2, 3, 129)).astype(dtype)
    y = pyconv.relu(x, backend=backend)
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    np.testing.assert_array_equal(pyconv.relu_grad(grad, y, backend=backend), np.where(x > 0, grad, 0))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_softmax_cross_entropy_equals_scipy(rng: np.random.Generator, backend: str, dtype: str) -> None:
    logits = (rng.standard_normal((37, 11)) * 30).astype(dtype)
    labels = rng.integers(0, 11, 37)
    loss, gradient = pyconv.softmax_cross_entropy(logits, labels, backend=backend)
    wide = logits.astype(np.float64)
    expected = -scipy.special.log_softmax(wide, axis=1)[np.arange(37), labels].mean()
    assert loss == pytest.approx(expected, rel=1e-5 if dtype == "float32" else 1e-12)
    softmax = scipy.special.softmax(wide, axis=1)
    softmax[np.arange(37), labels] -= 1
    np.testing.assert_allclose(gradient, softmax / 37, atol=1e-7 if dtype == "float32" else 1e-15)


def test_softmax_cross_entropy_does_not_overflow(backend: str) -> None:
    logits = np.array([[1e30, -1e30, 0.0]], np.float32)
    loss, gradient = pyconv.softmax_cross_entropy(logits, [0], backend=backend)
    assert loss == 0
    assert np.isfinite(gradient).all()


@given(case=conv_cases(max_filters=140), seed=SEEDS, dtype=DTYPES, data=st.data())
def test_results_do_not_depend_on_the_number_of_threads(
    case: ConvCase, seed: int, dtype: str, data: st.DataObject
) -> None:
    if "multicore" not in RUNNABLE:
        pytest.skip(f"multicore: {pyconv.backends()['multicore']}")
    algorithm = data.draw(st.sampled_from([a for a in pyconv.algorithms("multicore") if not a.startswith("winograd")]))
    x, weight, bias, grad_out = case.arrays(seed, dtype)
    g, how = case.geometry, {**case.arguments, "algorithm": algorithm}

    def results(**where: object) -> list[np.ndarray]:
        return [
            pyconv.conv2d(x, weight, bias, **how, **where),
            pyconv.conv2d_input_grad(grad_out, weight, g.input_shape, **how, **where),
            pyconv.conv2d_weight_grad(x, grad_out, (g.kh, g.kw), **how, **where),
        ]

    serial = results(backend="serial")
    for threads in (1, 2, 3):
        for one, other in zip(serial, results(backend="multicore", threads=threads), strict=True):
            np.testing.assert_array_equal(one, other)


def test_read_only_and_strided_arrays_simply_work(rng: np.random.Generator, backend: str) -> None:
    x = rng.standard_normal((2, 9, 18, 3)).astype(np.float32)
    weight = rng.standard_normal((3, 3, 3, 5)).astype(np.float32)
    expected = pyconv.conv2d(np.ascontiguousarray(x[:, :, ::2]), weight, backend=backend)
    x.flags.writeable = weight.flags.writeable = False
    np.testing.assert_array_equal(pyconv.conv2d(x[:, :, ::2], weight, backend=backend), expected)
    np.testing.assert_array_equal(pyconv.conv2d(np.asfortranarray(x[:, :, ::2]), weight, backend=backend), expected)


X, W = np.zeros((2, 8, 8, 4), np.float32), np.zeros((3, 3, 4, 6), np.float32)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: pyconv.conv2d(X[0], W), ShapeError, "x must have 4 dimensions, not 3"),
        (lambda: pyconv.conv2d(X, W[0]), ShapeError, "weight must have 4 dimensions, not 3"),
        (lambda: pyconv.conv2d(X, W[:, :, :3]), ShapeError, "3 input channels"),
        (lambda: pyconv.conv2d(X[:0], W), ShapeError, "size 0"),
        (lambda: pyconv.conv2d(X[:, :2], W), ShapeError, "no pixels"),
        (lambda: pyconv.conv2d(X, W, stride=-1), InputError, "stride must be at least 1, not -1"),
        (lambda: pyconv.conv2d(X, W, stride=0), InputError, "stride must be at least 1"),
        (lambda: pyconv.conv2d(X, W, stride=1.5), InputError, "stride must be an integer, not 1.5"),
        (lambda: pyconv.conv2d(X, W, stride=(1, 2, 3)), InputError, "stride must be an integer or"),
        (lambda: pyconv.conv2d(X, W, padding=-1), InputError, "padding must be at least 0"),
        (lambda: pyconv.conv2d(X, W, padding="full"), InputError, "'same', 'valid'"),
        (lambda: pyconv.conv2d(X, W, padding=((1, 1), (1, 1), (1, 1))), InputError, "padding must be"),
        (lambda: pyconv.conv2d(X, W, dilation=4), ShapeError, "reach of 9"),
        (lambda: pyconv.conv2d(X, W, groups=3), ShapeError, "groups=3 must divide"),
        (lambda: pyconv.conv2d(X, W, groups=True), InputError, "groups must be an integer"),
        (lambda: pyconv.conv2d(X, W, np.zeros(5, np.float32)), ShapeError, "bias has shape (5,)"),
        (lambda: pyconv.conv2d(X.astype(int), W), DtypeError, "int64"),
        (lambda: pyconv.conv2d(X.astype(np.float16), W), DtypeError, "float16"),
        (lambda: pyconv.conv2d(X.astype(">f4"), W), DtypeError, ">f4"),
        (lambda: pyconv.conv2d(X.astype(complex), W), DtypeError, "complex128"),
        (lambda: pyconv.conv2d(X.astype(object), W), DtypeError, "object"),
        (lambda: pyconv.conv2d(X.astype(np.float64), W), DtypeError, "x is float64, weight is float32"),
        (lambda: pyconv.conv2d(X, W, activation="tanh"), UnknownNameError, "known: relu"),
        (lambda: pyconv.conv2d(X, W, layout="NHCW"), UnknownNameError, "known: NHWC, NCHW"),
        (lambda: pyconv.conv2d(X, W, backend="multicor"), UnknownNameError, "did you mean 'multicore'"),
        (lambda: pyconv.conv2d(X, W, backend="reference", algorithm="fft"), UnknownNameError, "known: auto, literal"),
        pytest.param(
            *(lambda: pyconv.conv2d(X, W, backend="multicore", threads=0), InputError, "threads must be at least 1"),
            marks=pytest.mark.skipif("multicore" not in RUNNABLE, reason="pyconv was built without OpenMP"),
        ),
        (lambda: pyconv.conv2d_input_grad(X, W, (2, 8, 8, 4)), ShapeError, "grad_out has shape"),
        (lambda: pyconv.conv2d_input_grad(X, W, (8, 8, 4)), ShapeError, "4 dimensions, not 3"),
        (lambda: pyconv.conv2d_weight_grad(X, X, 3), ShapeError, "grad_out has shape"),
        (lambda: pyconv.max_pool2d(X, 0), InputError, "pool_size must be at least 1"),
        (lambda: pyconv.max_pool2d(X, 9), ShapeError, "no pixels"),
        (lambda: pyconv.max_pool2d(X, 2, padding=2), ShapeError, "wholly in the padding"),
        (lambda: pyconv.dense(X[0, 0], W[0, 0, :3]), ShapeError, "x has 4 inputs, but weight expects 3"),
        (lambda: pyconv.softmax_cross_entropy(X[0, 0], [0] * 7), ShapeError, "labels must have shape (8,)"),
        (lambda: pyconv.softmax_cross_entropy(X[0, 0], [0] * 7 + [4]), InputError, "label 4 at position 7"),
        (lambda: pyconv.softmax_cross_entropy(X[0, 0], [0.0] * 8), DtypeError, "labels must be integers"),
        (lambda: pyconv.softmax_cross_entropy(X[0, 0, :0], np.zeros(0, int)), ShapeError, "no examples"),
        (lambda: pyconv.softmax_cross_entropy(X[0, 0], [[0], [1, 2]]), InputError, "labels cannot be read as an array"),
        (lambda: pyconv.conv2d([[1.0], [1.0, 2.0]], W), InputError, "x cannot be read as an array"),
        (lambda: pyconv.relu([[1.0], [1.0, 2.0]]), InputError, "x cannot be read as an array"),
        (lambda: pyconv.conv2d_input_grad(X, W, 8), ShapeError, "input_shape must be four integers"),
    ],
)
def test_wrong_arguments_get_one_clear_line(call, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
