"""Everything but convolution on the CUDA backend against the literal twin, on the emulated device and on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special
from cuda_devices import BACKEND, DEVICES, DTYPES, PRECISIONS, running_on
from hypothesis import given
from hypothesis import strategies as st
from quick import examples
from strategies import SEEDS, conv_cases, pool_cases

import pyconv.reference as twin
from pyconv import cuda, optim
from pyconv.backends import dropout_mask
from pyconv.cuda import layers, operations, updates
from pyconv.cuda.array import empty, to_device, zeros
from pyconv.errors import InputError, ShapeError
from pyconv.nn.dropout import _STREAM
from pyconv.shapes import conv_geometry, pool_geometry

ORDERS = ("natural", "reversed", "shuffled")
on_every_device = pytest.mark.parametrize("device", DEVICES)
in_both_dtypes = pytest.mark.parametrize("dtype", PRECISIONS)


def near(actual: np.ndarray, expected: np.ndarray, factor: float = 40) -> None:
    """Check equality up to `factor` roundings of numbers of the size of `expected`."""
    assert actual.shape == expected.shape
    scale = factor * np.finfo(actual.dtype).eps * max(1.0, float(np.abs(expected).max(initial=0)))
    np.testing.assert_allclose(actual, expected, rtol=0, atol=scale)


@on_every_device
@examples(25)
@given(case=pool_cases(), seed=SEEDS, dtype=DTYPES, order=st.sampled_from(ORDERS))
def test_pooling(device: str, case: tuple, seed: int, dtype: str, order: str) -> None:
    pg, _ = case
    rng = np.random.default_rng(seed)
    x = rng.integers(-3, 4, pg.input_shape).astype(dtype)  # small integers, so that there are many ties
    grad = rng.standard_normal(pg.output_shape).astype(dtype)
    indices, expected = np.empty(pg.output_shape, np.int32), np.empty(pg.output_shape, np.int32)
    with running_on(device, order=order, seed=seed):
        np.testing.assert_array_equal(
            BACKEND.max_pool2d(x, pg, indices=indices), twin.max_pool2d(x, pg, indices=expected)
        )
        np.testing.assert_array_equal(indices, expected)
        near(BACKEND.max_pool2d_input_grad(grad, indices, pg), twin.max_pool2d_input_grad(grad, indices, pg))
        near(BACKEND.avg_pool2d(x, pg), twin.avg_pool2d(x, pg))
        near(BACKEND.avg_pool2d_input_grad(grad, pg), twin.avg_pool2d_input_grad(grad, pg))


POOLS = {
    "overlap": ((2, 9, 10, 3), 3, {"stride": 2}),
    "padding": ((1, 9, 9, 5), 3, {"stride": 2, "padding": 1}),
    "padding on one side": ((2, 7, 8, 2), 4, {"stride": (1, 2), "padding": ((3, 0), (0, 3))}),
    "gaps": ((1, 11, 12, 3), 2, {"stride": 3}),
    "whole image": ((2, 6, 5, 4), (6, 5), {}),
}


@on_every_device
@in_both_dtypes
@pytest.mark.parametrize("name", POOLS)
def test_pooling_of_every_kind(rng: np.random.Generator, device: str, dtype: str, name: str) -> None:
    shape, size, rest = POOLS[name]
    pg = pool_geometry(shape, size, **rest)
    x, grad = rng.integers(-3, 4, shape).astype(dtype), rng.standard_normal(pg.output_shape).astype(dtype)
    indices = np.empty(pg.output_shape, np.int32)
    with running_on(device, order="shuffled"):
        np.testing.assert_array_equal(BACKEND.max_pool2d(x, pg, indices=indices), twin.max_pool2d(x, pg))
        near(BACKEND.max_pool2d_input_grad(grad, indices, pg), twin.max_pool2d_input_grad(grad, indices, pg))
        near(BACKEND.avg_pool2d(x, pg), twin.avg_pool2d(x, pg))
        near(BACKEND.avg_pool2d_input_grad(grad, pg), twin.avg_pool2d_input_grad(grad, pg))


@on_every_device
@in_both_dtypes
def test_the_mean_of_a_large_window(device: str, dtype: str) -> None:
    x = np.full((1, 900, 1000, 2), 0.1, dtype)  # a running sum in float32 outgrows its terms
    pg = pool_geometry(x.shape, (900, 1000))
    with running_on(device):
        near(BACKEND.avg_pool2d(x, pg), x[:, :1, :1], 0.5)
        x[...] = 1
        assert (BACKEND.avg_pool2d(x, pg) == 1).all()
    overlapping, dy = pool_geometry((1, 90, 90, 1), 60, stride=1), np.full((1, 31, 31, 1), 0.1, dtype)
    wide = twin.avg_pool2d_input_grad(dy.astype(np.longdouble), overlapping)
    with running_on(device):
        found = BACKEND.avg_pool2d_input_grad(dy, overlapping)
    assert (np.abs(found - wide) <= 4 * np.spacing(wide.astype(dtype))).all()


@on_every_device
def test_nan_wins_a_maximum_and_passes_relu(device: str) -> None:
    x = np.array([[1.0, np.nan], [5.0, 2.0]], np.float32).reshape(1, 2, 2, 1)
    pg = pool_geometry(x.shape, 2)
    with running_on(device):
        indices = np.empty(pg.output_shape, np.int32)
        assert np.isnan(BACKEND.max_pool2d(x, pg, indices=indices)).all()
        assert indices.item() == 1
        np.testing.assert_array_equal(BACKEND.relu(x), x)


@on_every_device
@in_both_dtypes
@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (300, 33), (2, 5, 6, 4), (1, 257)])
def test_elementwise_and_channel_sums(rng: np.random.Generator, device: str, dtype: str, shape: tuple) -> None:
    x, grad = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape).astype(dtype)
    scale, shift = (rng.standard_normal(shape[-1]).astype(dtype) for _ in range(2))
    with running_on(device, order="shuffled"):
        y = BACKEND.relu(x)
        np.testing.assert_array_equal(y, np.maximum(x, 0))
        np.testing.assert_array_equal(BACKEND.relu_grad(grad, y), np.where(x > 0, grad, 0))
        near(BACKEND.scale_shift(x, scale, shift), x * scale + shift)
        near(BACKEND.bias_grad(grad), grad.reshape(-1, shape[-1]).astype(np.float64).sum(0))


@on_every_device
@in_both_dtypes
@pytest.mark.parametrize("shape", [(2, 1), (3, 5, 5, 4), (400, 33)])
def test_batch_norm(rng: np.random.Generator, device: str, dtype: str, shape: tuple) -> None:
    channels = shape[-1]
    x = (rng.standard_normal(shape) * 3 + 1000 * rng.standard_normal(channels)).astype(dtype)  # far from zero
    grad = rng.standard_normal(shape).astype(dtype)
    gamma, beta = (rng.standard_normal(channels).astype(dtype) for _ in range(2))
    with running_on(device, order="reversed"):
        y, mean, inv_std = BACKEND.batch_norm(x, gamma, beta, 1e-5)
        expected = twin.batch_norm(x, gamma, beta, 1e-5)
        near(mean, expected[1], 40)
        near(inv_std, expected[2], 400)
        near(y, expected[0], 4000)
        results = BACKEND.batch_norm_grad(x, grad, gamma, expected[1], expected[2])
        for actual, wanted in zip(results, twin.batch_norm_grad(x, grad, gamma, expected[1], expected[2])):
            near(actual, wanted, 400)


@on_every_device
@in_both_dtypes
@pytest.mark.parametrize("shape", [(1, 1, 1), (5, 17, 40), (64, 130, 7), (33, 9, 257), (3, 600, 8)])
def test_dense(rng: np.random.Generator, device: str, dtype: str, shape: tuple) -> None:
    n, inputs, units = shape
    x, weight = rng.standard_normal((n, inputs)).astype(dtype), rng.standard_normal((inputs, units)).astype(dtype)
    bias, grad = rng.standard_normal(units).astype(dtype), rng.standard_normal((n, units)).astype(dtype)
    wide = [array.astype(np.float64) for array in (x, weight, bias, grad)]
    with running_on(device, order="shuffled"):
        near(BACKEND.dense(x, weight, bias), wide[0] @ wide[1] + wide[2])
        near(BACKEND.dense(x, weight, None, activation="relu"), np.maximum(wide[0] @ wide[1], 0))
        near(BACKEND.dense_input_grad(grad, weight), wide[3] @ wide[1].T)
        near(BACKEND.dense_weight_grad(x, grad), wide[0].T @ wide[3])


@on_every_device
@in_both_dtypes
@pytest.mark.parametrize("classes", [1, 7, 32, 100])
def test_softmax_cross_entropy(rng: np.random.Generator, device: str, dtype: str, classes: int) -> None:
    logits = (rng.standard_normal((9, classes)) * 30).astype(dtype)
    labels = rng.integers(0, classes, 9)
    with running_on(device, order="reversed"):
        losses, gradient = BACKEND.softmax_cross_entropy(logits, labels)
    wide = logits.astype(np.float64)
    near(losses, -scipy.special.log_softmax(wide, axis=1)[np.arange(9), labels])
    softmax = scipy.special.softmax(wide, axis=1)
    softmax[np.arange(9), labels] -= 1
    near(gradient, softmax)


@on_every_device
@pytest.mark.parametrize("size", [1, 16, 37])
def test_dropout_draws_the_masks_of_the_cpu(rng: np.random.Generator, device: str, size: int) -> None:
    x = rng.standard_normal((5, size)).astype(np.float32)
    seed, step, layer, first = 2**63 + 11, 9, 4, 77
    with running_on(device, order="shuffled"):
        on_device, y, factor = to_device(x), empty(x.shape, x.dtype), empty(x.shape, x.dtype)
        layers.dropout(
            on_device,
            y,
            factor,
            seed=seed,
            stream=_STREAM,
            step=step,
            layer=layer,
            first=first,
            threshold=20000,
            scale=1.5,
        )
        keep = dropout_mask(seed, step, layer, first, 5, size, 20000, _STREAM)
        np.testing.assert_array_equal(factor.get(), np.float32(1.5) * keep)
        np.testing.assert_array_equal(y.get(), x * (np.float32(1.5) * keep))


OPTIMIZERS = [
    optim.SGD(0.1),
    optim.SGD(0.1, momentum=0.9, weight_decay=0.01),
    optim.SGD(0.1, momentum=0.9, nesterov=True),
    optim.Adagrad(0.1, lr_decay=0.1, weight_decay=0.01),
    optim.Adadelta(0.5, weight_decay=0.01),
    optim.Adam(0.01, weight_decay=0.01),
    optim.AdamW(0.01, weight_decay=0.1),
    optim.AdaMax(0.01, weight_decay=0.01),
]


@on_every_device
@in_both_dtypes
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_optimizers_step_as_on_the_cpu(
    rng: np.random.Generator, device: str, dtype: str, optimizer: optim.Optimizer
) -> None:
    n = 300
    flat, state = rng.standard_normal(n).astype(dtype), optimizer.init(n, dtype)
    with running_on(device):
        there, kept = to_device(flat), {name: zeros((n,), dtype) for name in optimizer.state_names}
        for step in (1, 2, 3):
            gradient = rng.standard_normal(n).astype(dtype)
            optimizer.update(flat, gradient, state, step)
            updates.update(optimizer, there, to_device(gradient), kept, step, optimizer.lr)
        near(there.get(), flat, 20)
        for name in optimizer.state_names:
            near(kept[name].get(), state[name], 20)


def test_an_optimizer_of_ones_own_has_no_kernel() -> None:
    class Mine(optim.SGD):
        pass

    with running_on("emulated"):
        vector = zeros((3,), np.float32)
        with pytest.raises(InputError, match="no kernel"):
            updates.update(Mine(0.1), vector, vector, {}, 1, 0.1)
        with pytest.raises(ShapeError):
            updates.update(optim.SGD(0.1), vector, zeros((4,), np.float32), {}, 1, 0.1)


@on_every_device
@examples(15)
@given(case=conv_cases(max_channels=3), seed=SEEDS, pool=st.tuples(st.integers(1, 3), st.integers(1, 3)),
       order=st.sampled_from(ORDERS))  # fmt: skip
def test_the_fused_first_block(device: str, case: object, seed: int, pool: tuple, order: str) -> None:
    g = case.geometry
    if pool[0] > g.oh or pool[1] > g.ow:
        pool = (1, 1)
    pg = pool_geometry(g.output_shape, pool)
    x, weight, bias, _ = case.arrays(seed, "float32")
    rng = np.random.default_rng(seed)
    indices = np.empty(pg.output_shape, np.int32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYCONV_CUDA_SPECIALISE", "0")
        with running_on(device, order=order, seed=seed):
            y = BACKEND.conv2d_pool(x, weight, bias, g, pg, activation="relu", indices=indices)
            full = twin.conv2d(x.astype(np.float64), weight.astype(np.float64), bias.astype(np.float64), g,
                               activation="relu")  # fmt: skip
            near(y, twin.max_pool2d(full, pg))
            # Only where rounding makes a tie may the index point to another pixel.
            at = full.reshape(g.n, -1, g.k)
            chosen = np.take_along_axis(at, indices.reshape(g.n, -1, g.k).astype(np.int64), axis=1)
            near(y.reshape(chosen.shape), chosen)
            if operations.fuses_pool(g, pg):
                grad = rng.standard_normal(pg.output_shape).astype(np.float32)
                spread = twin.max_pool2d_input_grad((grad * (y > 0)).astype(np.float64), indices, pg)
                dw, db = BACKEND.conv2d_pool_weight_grad(x, grad, indices, y, g, pg, activation="relu")
                near(dw, twin.conv2d_weight_grad(x.astype(np.float64), spread, g))
                near(db, spread.sum(axis=(0, 1, 2)))
            else:
                assert BACKEND.conv2d_pool_weight_grad(x, y, indices, y, g, pg) is None


@on_every_device
def test_the_first_layer_of_fer_is_fused(rng: np.random.Generator, device: str) -> None:
    g = conv_geometry((2, 48, 48, 1), (5, 5, 1, 32), padding="same")
    pg = pool_geometry(g.output_shape, 2)
    x, weight = rng.standard_normal(g.input_shape).astype("f"), rng.standard_normal(g.weight_shape).astype("f")
    with running_on(device) as running:
        assert operations.fuses_pool(g, pg)
        y = BACKEND.conv2d_pool(x, weight, None, g, pg, activation="relu")
        if device == "emulated":
            assert running.launches == [("first_layer", "convolve")]
    near(y, twin.max_pool2d(twin.conv2d(x, weight, None, g, activation="relu"), pg))
    assert "first_layer" in cuda.algorithms
