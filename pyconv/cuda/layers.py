"""Pooling, ReLU, normalisation, dropout, softmax: all kernels but the convolutions and the activations, launched."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..shapes import PoolGeometry
from . import device as door
from .array import DeviceArray, empty
from .problem import BLOCK, REAL, blocks, cut, keep


def program(file: str, dtype: Any) -> Any:
    """A file of kernels, compiled once for each dtype."""
    char = np.dtype(dtype).char
    return keep((file, char), lambda: door.current().compile(file, {"REAL": REAL[char]}))


def _pool(pg: PoolGeometry) -> np.ndarray:
    """The struct ``Pool`` of pooling.cu."""
    return np.array([pg.n, pg.h, pg.w, pg.c, pg.kh, pg.kw, pg.sh, pg.sw, pg.pt, pg.pl, pg.oh, pg.ow], np.int32)


def max_pool(x: DeviceArray, pg: PoolGeometry, y: DeviceArray, indices: DeviceArray | None) -> None:
    """The largest pixel of each window, and where it was."""
    program("pooling.cu", x.dtype).launch("max_pool", blocks(y.size), (BLOCK,), x, y, indices, _pool(pg))


def max_pool_grad(dy: DeviceArray, indices: DeviceArray, pg: PoolGeometry, dx: DeviceArray) -> None:
    """Each window's error goes to the pixel that was its largest."""
    program("pooling.cu", dy.dtype).launch("max_pool_grad", blocks(dx.size), (BLOCK,), dy, indices, dx, _pool(pg))


def avg_pool(x: DeviceArray, pg: PoolGeometry, y: DeviceArray) -> None:
    """The mean of each window."""
    program("pooling.cu", x.dtype).launch("avg_pool", blocks(y.size), (BLOCK,), x, y, _pool(pg))


def avg_pool_grad(dy: DeviceArray, pg: PoolGeometry, dx: DeviceArray) -> None:
    """Each window's error, divided equally among its pixels."""
    program("pooling.cu", dy.dtype).launch("avg_pool_grad", blocks(dx.size), (BLOCK,), dy, dx, _pool(pg))


def _each(kernel: str, result: DeviceArray, *args: Any) -> None:
    """Run a kernel of elementwise.cu with one thread for each number of `result`."""
    if result.size:
        program("elementwise.cu", result.dtype).launch(kernel, blocks(result.size), (BLOCK,), *args)


def relu(x: DeviceArray, y: DeviceArray) -> None:
    """``max(x, 0)``."""
    _each("relu", y, x, y, np.int64(y.size))


def relu_grad(dy: DeviceArray, y: DeviceArray, dx: DeviceArray) -> None:
    """The error where the result was positive."""
    _each("relu_grad", dx, dy, y, dx, np.int64(dx.size))


def scale_shift(x: DeviceArray, scale: DeviceArray, shift: DeviceArray, y: DeviceArray) -> None:
    """``scale x + shift`` for each channel."""
    _each("scale_shift", y, x, scale, shift, y, np.int64(y.size), np.int32(y.shape[-1]))


def scale(x: DeviceArray, factor: float, y: DeviceArray) -> None:
    """``factor x``."""
    _each("scale", y, x, y, np.int64(y.size), y.dtype.type(factor))


def multiply(a: DeviceArray, x: DeviceArray, y: DeviceArray) -> None:
    """``a x``, number by number."""
    _each("multiply", y, a, x, y, np.int64(y.size))


def add(a: DeviceArray, x: DeviceArray, y: DeviceArray) -> None:
    """``a + x``, number by number."""
    _each("add", y, a, x, y, np.int64(y.size))


def copy_channels(x: DeviceArray, first: int, y: DeviceArray, start: int, channels: int) -> None:
    """Copy channels of `x` from `first` on to the channels of `y` from `start` on."""
    size = y.size // y.shape[-1] * channels
    if size:
        program("elementwise.cu", y.dtype).launch(
            "copy_channels", blocks(size), (BLOCK,), x, y, np.int64(size), np.int32(channels), np.int32(x.shape[-1]),
            np.int32(first), np.int32(y.shape[-1]), np.int32(start),
        )  # fmt: skip


def normalise(x: DeviceArray, mean: DeviceArray, inverse: DeviceArray, y: DeviceArray) -> None:
    """``(x - mean) inverse`` for each channel; `x` may be of bytes."""
    kernel = "normalise_bytes" if x.dtype == np.uint8 else "normalise"
    _each(kernel, y, x, mean, inverse, y, np.int64(y.size), np.int32(len(mean)))


_LANES, _ROWS = 32, 8


def _sums(
    mode: int, x: DeviceArray, result: DeviceArray, other: DeviceArray | None, *, dy: DeviceArray | None = None,
    mean: DeviceArray | None = None, inv_std: DeviceArray | None = None, eps: float = 0.0,
) -> None:  # fmt: skip
    """Sums over all but the last axis; see channels.cu for the modes."""
    channels = x.shape[-1]
    rows, columns = x.size // channels, cut(channels, _LANES)
    wanted = cut(4 * door.current().multiprocessors, columns)
    count = max(1, min(wanted, cut(rows, 16 * _ROWS)))
    each = cut(rows, count)
    count = cut(rows, each)
    partial = empty((count, 2, channels), np.float64)
    kernels = program("channels.cu", x.dtype)
    kernels.launch(
        "sums", (count, columns), (_LANES, _ROWS), x, dy, mean, inv_std, partial, np.int64(rows), np.int64(each),
        np.int32(channels), np.int32(mode),
    )  # fmt: skip
    kernels.launch(
        "combine", blocks(channels, 64), (64,), partial, x, result, other, np.int64(rows), np.float64(eps),
        np.int32(count), np.int32(channels), np.int32(mode),
    )  # fmt: skip


def bias_grad(dy: DeviceArray, result: DeviceArray) -> None:
    """Sum over all but the last axis."""
    _sums(0, dy, result, None)


def batch_norm(
    x: DeviceArray, gamma: DeviceArray, beta: DeviceArray, eps: float, y: DeviceArray, mean: DeviceArray,
    inv_std: DeviceArray,
) -> None:  # fmt: skip
    """Normalise with the batch's statistics, which go to `mean` and `inv_std`."""
    _sums(1, x, mean, inv_std, eps=eps)
    program("channels.cu", x.dtype).launch(
        "batch_norm",
        blocks(y.size),
        (BLOCK,),
        x,
        gamma,
        beta,
        mean,
        inv_std,
        y,
        np.int64(y.size),
        np.int32(x.shape[-1]),
    )


def batch_norm_grad(
    x: DeviceArray, dy: DeviceArray, gamma: DeviceArray, mean: DeviceArray, inv_std: DeviceArray, dx: DeviceArray,
    dgamma: DeviceArray, dbeta: DeviceArray,
) -> None:  # fmt: skip
    """The gradients of input, gamma and beta."""
    channels = x.shape[-1]
    _sums(2, x, dbeta, dgamma, dy=dy, mean=mean, inv_std=inv_std)
    program("channels.cu", x.dtype).launch(
        "batch_norm_grad", blocks(dx.size), (BLOCK,), x, dy, gamma, mean, inv_std, dgamma, dbeta, dx, np.int64(dx.size),
        np.int32(channels), x.dtype.type(channels / x.size),
    )  # fmt: skip


def batch_norm_inference(
    x: DeviceArray, gamma: DeviceArray, beta: DeviceArray, running_mean: DeviceArray, running_var: DeviceArray,
    eps: float, y: DeviceArray,
) -> None:  # fmt: skip
    """Normalise with the running statistics."""
    program("channels.cu", x.dtype).launch(
        "batch_norm_inference", blocks(y.size), (BLOCK,), x, gamma, beta, running_mean, running_var, y,
        np.int64(y.size), np.int32(x.shape[-1]), x.dtype.type(eps),
    )  # fmt: skip


def running_statistics(
    running_mean: DeviceArray, running_var: DeviceArray, mean: DeviceArray, inv_std: DeviceArray, eps: float,
    momentum: float, rows: int,
) -> None:  # fmt: skip
    """Move the running statistics towards the batch's."""
    program("channels.cu", mean.dtype).launch(
        "running_statistics", blocks(mean.size, 64), (64,), running_mean, running_var, mean, inv_std, np.float64(eps),
        np.float64(momentum), np.float64(rows / (rows - 1)), np.int32(mean.size),
    )  # fmt: skip


def dropout(
    x: DeviceArray, y: DeviceArray, factor: DeviceArray, *, seed: int, stream: int, step: int, layer: int, first: int,
    threshold: int, scale: float,
) -> None:  # fmt: skip
    """Drop numbers by the same masks as on the CPU; `factor` gets 0 or `scale` for each."""
    size = x.size // x.shape[0]
    counts = cut(size, 16)
    word = np.uint64
    program("dropout.cu", x.dtype).launch(
        "dropout", blocks(counts * x.shape[0]), (BLOCK,), x, y, factor, word(seed), word(stream), word(step),
        word(layer), word(first * counts), np.int64(size), np.int32(x.shape[0]), np.int32(threshold),
        x.dtype.type(scale),
    )  # fmt: skip


def softmax_cross_entropy(
    logits: DeviceArray, labels: DeviceArray, losses: DeviceArray, gradient: DeviceArray, scale: float = 1.0,
    counts: DeviceArray | None = None,
) -> None:  # fmt: skip
    """Each example's loss, and `scale` times its gradient; `counts` gives both their weights: see softmax.cu."""
    program("softmax.cu", logits.dtype).launch(
        "softmax_cross_entropy", (logits.shape[0],), (32,), logits, labels, losses, gradient,
        np.int32(logits.shape[1]), logits.dtype.type(scale), counts,
    )  # fmt: skip
