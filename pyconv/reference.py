"""The backend ``reference``: every operation's equation, literally, in NumPy; the other backends are tested against it.

Written to be read beside the equations, not to be fast: the sums over the kernel's rows ``i`` and columns
``j`` are Python loops, and the sum over channels is a matrix product. Functions have the backend signature
(see :mod:`pyconv.backends`); ``algorithm`` and ``threads`` are accepted and mean nothing here.

Source: Chavan and Kulkarni, *Parallelization of Deep Convolutional Neural Network*, section 2, Algorithm 1
(forward, backward) and section 3B, Algorithm 2 (convolution).

Long sums are computed in float64, for float32 numbers too, and rounded once. Subnormal numbers are kept, except when a
network computes with this backend: in training they are zero on every backend.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .arithmetic import quiet
from .shapes import ConvGeometry, PoolGeometry

algorithms = ("literal",)

Array = NDArray[np.floating]

#: As many products are added up in the arrays' own precision; longer sums are made of such parts, in float64.
SUMMED = 1024


def _result(value: Array, out: Array | None) -> Array:
    """`value`, written to `out` when the caller gave one."""
    if out is None:
        return np.ascontiguousarray(value)
    out[...] = value
    return out


def _wide(array: Array) -> np.dtype:
    """The dtype of long sums: float64, or the array's own if that is wider."""
    return np.result_type(array, np.float64)


def _product(a: Array, b: Array) -> Array:
    """``a b``; parts of long sums are added up in float64."""
    total = np.zeros((a.shape[0], b.shape[1]), _wide(a))
    for start in range(0, a.shape[1], SUMMED):
        total += a[:, start : start + SUMMED] @ b[start : start + SUMMED]
    return total.astype(a.dtype)


def _padded(x: Array, g: ConvGeometry | PoolGeometry, value: float = 0.0) -> Array:
    return np.pad(x, ((0, 0), (g.pt, g.pb), (g.pl, g.pr), (0, 0)), constant_values=value)


def _tap(g: ConvGeometry | PoolGeometry, i: int, j: int) -> tuple[slice, slice, slice, slice]:
    """The padded pixels that kernel position ``(i, j)`` meets: one for every output pixel."""
    dh, dw = getattr(g, "dh", 1), getattr(g, "dw", 1)
    rows = slice(i * dh, i * dh + (g.oh - 1) * g.sh + 1, g.sh)
    columns = slice(j * dw, j * dw + (g.ow - 1) * g.sw + 1, g.sw)
    return slice(None), rows, columns, slice(None)


def _groups(g: ConvGeometry) -> list[tuple[slice, slice]]:
    """For each group, its input channels and its filters."""
    c, k = g.c // g.groups, g.k // g.groups
    return [(slice(q * c, (q + 1) * c), slice(q * k, (q + 1) * k)) for q in range(g.groups)]


@quiet
def conv2d(x, weight, bias, g: ConvGeometry, *, activation=None, algorithm="auto", threads=1, out=None):
    """``y[n, r, s, k] = b[k] + sum over i, j, c of x[n, r sh + i dh - pt, s sw + j dw - pl, c] w[i, j, c, k]``."""
    padded = _padded(x, g)
    y = np.zeros(g.output_shape, _wide(x))
    for channels, filters in _groups(g):
        for i in range(g.kh):
            for j in range(g.kw):
                y[..., filters] += padded[_tap(g, i, j)][..., channels] @ weight[i, j][:, filters]
    if bias is not None:
        y += bias
    if activation == "relu":
        y = np.maximum(y, 0)
    return _result(y.astype(x.dtype), out)


@quiet
def conv2d_input_grad(grad_out, weight, g: ConvGeometry, *, algorithm="auto", threads=1, out=None):
    """Each output pixel hands its error back to the input pixels it was computed from, times the filter."""
    padded = np.zeros((g.n, g.h + g.pt + g.pb, g.w + g.pl + g.pr, g.c), _wide(grad_out))
    for channels, filters in _groups(g):
        for i in range(g.kh):
            for j in range(g.kw):
                padded[_tap(g, i, j)][..., channels] += grad_out[..., filters] @ weight[i, j][:, filters].T
    return _result(padded[:, g.pt : g.pt + g.h, g.pl : g.pl + g.w].astype(grad_out.dtype), out)


@quiet
def conv2d_weight_grad(x, grad_out, g: ConvGeometry, *, algorithm="auto", threads=1, out=None):
    """``dw[i, j, c, k] = sum over n, r, s of x[n, r sh + i dh - pt, s sw + j dw - pl, c] dy[n, r, s, k]``."""
    padded = _padded(x, g)
    grad = np.zeros(g.weight_shape, x.dtype)
    for channels, filters in _groups(g):
        errors = grad_out[..., filters].reshape(-1, g.k // g.groups)
        for i in range(g.kh):
            for j in range(g.kw):
                pixels = padded[_tap(g, i, j)][..., channels].reshape(-1, g.c // g.groups)
                grad[i, j][:, filters] = _product(pixels.T, errors)
    return _result(grad, out)


@quiet
def max_pool2d(x, pg: PoolGeometry, *, threads=1, out=None, indices=None):
    """The largest pixel of each window; NaN counts as larger than any number, the first of equals wins."""
    padded = _padded(x, pg, -np.inf)
    inside = _padded(np.ones((1, pg.h, pg.w, 1)), pg) > 0
    best = np.empty(pg.output_shape, x.dtype)
    where = np.full(pg.output_shape, -1, np.int32)
    rows, columns = np.arange(pg.oh)[:, None, None], np.arange(pg.ow)[:, None]
    for i in range(pg.kh):
        for j in range(pg.kw):
            value = padded[_tap(pg, i, j)]
            better = (where < 0) | (value > best) | (np.isnan(value) & ~np.isnan(best))
            better = better & inside[_tap(pg, i, j)]
            position = (rows * pg.sh + i - pg.pt) * pg.w + columns * pg.sw + j - pg.pl
            best = np.where(better, value, best)
            where = np.where(better, position.astype(np.int32), where)
    if indices is not None:
        indices[...] = where
    return _result(best, out)


@quiet
def max_pool2d_input_grad(grad_out, indices, pg: PoolGeometry, *, threads=1, out=None):
    """Each window's error goes to the pixel that was its maximum."""
    grad = np.zeros((pg.n, pg.h * pg.w, pg.c), grad_out.dtype)
    images, channels = np.arange(pg.n)[:, None, None], np.arange(pg.c)
    np.add.at(grad, (images, indices.reshape(pg.n, -1, pg.c), channels), grad_out.reshape(pg.n, -1, pg.c))
    return _result(grad.reshape(pg.input_shape), out)


def _window_sizes(pg: PoolGeometry) -> Array:
    """Pixels of each window that lie inside the image, ``(OH, OW, 1)``."""
    ones = _padded(np.ones((1, pg.h, pg.w, 1)), pg)
    return sum(ones[_tap(pg, i, j)] for i in range(pg.kh) for j in range(pg.kw))[0]  # type: ignore[index]


@quiet
def avg_pool2d(x, pg: PoolGeometry, *, threads=1, out=None):
    """The mean of each window's pixels inside the image."""
    padded = _padded(x, pg)
    total = np.zeros(pg.output_shape, _wide(x))
    for i in range(pg.kh):
        for j in range(pg.kw):
            total += padded[_tap(pg, i, j)]
    return _result((total / _window_sizes(pg)).astype(x.dtype), out)


@quiet
def avg_pool2d_input_grad(grad_out, pg: PoolGeometry, *, threads=1, out=None):
    """Each window's error, divided equally among its pixels inside the image."""
    share = grad_out / _window_sizes(pg)
    padded = np.zeros((pg.n, pg.h + pg.pt + pg.pb, pg.w + pg.pl + pg.pr, pg.c), _wide(grad_out))
    for i in range(pg.kh):
        for j in range(pg.kw):
            padded[_tap(pg, i, j)] += share
    return _result(padded[:, pg.pt : pg.pt + pg.h, pg.pl : pg.pl + pg.w].astype(grad_out.dtype), out)


@quiet
def correlate2d(image, kernel, before, size, boundary="fill", fillvalue=0):
    """``y[m, n] = sum over i, j of x[m + i - top, n + j - left] k[i, j]``, x continued beyond its edges.

    For one image and one kernel. `before` is ``(top, left)``, how many pixels the first window reaches beyond the
    image; `size` is the result's. :func:`pyconv.convolve2d` is this with the kernel turned by 180 degrees.
    """
    y = np.zeros(size, np.result_type(image, kernel))
    for m, n in np.ndindex(size):
        for i, j in np.ndindex(kernel.shape):
            r = _inside(m + i - before[0], image.shape[0], boundary)
            s = _inside(n + j - before[1], image.shape[1], boundary)
            y[m, n] += kernel[i, j] * (fillvalue if r is None or s is None else image[r, s])
    return y


def _inside(position: int, size: int, boundary: str) -> int | None:
    """The pixel of an axis of `size` that is used for position `position`, or None for the fill value."""
    if boundary in ("fill", "constant"):
        return position if 0 <= position < size else None
    if boundary == "wrap":
        return position % size
    if boundary == "nearest":
        return min(max(position, 0), size - 1)
    if boundary in ("symm", "reflect"):  # a b c c b a a b c …
        place = position % (2 * size)
        return min(place, 2 * size - 1 - place)
    place = position % max(2 * size - 2, 1)  # "mirror": a b c b a b c …
    return min(place, 2 * size - 2 - place)


@quiet
def relu(x, *, threads=1, out=None):
    """``max(x, 0)``; NaN stays NaN."""
    return _result(np.maximum(x, 0), out)


@quiet
def relu_grad(grad_out, y, *, threads=1, out=None):
    """The error where the unit was active, else zero; `y` is the result of :func:`relu`."""
    return _result(np.where(y > 0, grad_out, grad_out.dtype.type(0)), out)


_ACTIVATIONS = {
    "leaky_relu": lambda x, first, second: np.where(x > 0, x, x * first),
    "clip": lambda x, first, second: np.minimum(np.maximum(x, first), second),
    "sigmoid": lambda x, first, second: 1 / (1 + np.exp(-x)),
    "tanh": lambda x, first, second: np.tanh(x),
}

_SLOPES = {
    "leaky_relu": lambda y, first, second: np.where(y > 0, 1, first),
    "clip": lambda y, first, second: (first < y) & (y < second),
    "sigmoid": lambda y, first, second: y * (1 - y),
    "tanh": lambda y, first, second: 1 - y * y,
}


@quiet
def activate(x, kind, first=0.0, second=0.0, *, threads=1, out=None):
    """The activation `kind` of each number; its two parameters have the precision of `x`; NaN stays NaN."""
    return _result(_ACTIVATIONS[kind](x, x.dtype.type(first), x.dtype.type(second)), out)


@quiet
def activate_grad(grad_out, y, kind, first=0.0, second=0.0, *, threads=1, out=None):
    """The error times the slope, which follows from `y`, the result of :func:`activate`."""
    slope = _SLOPES[kind](y, y.dtype.type(first), y.dtype.type(second)).astype(y.dtype)
    # With a slope of 0 the gradient is 0 whatever the error is, NaN included, as in relu_grad.
    return _result(np.where((kind == "clip") & (slope == 0), slope, grad_out * slope), out)


def pad2d(x, padding, *, threads=1, out=None):
    """Images with zeros around them: ``((top, bottom), (left, right))`` pixels."""
    return _result(np.pad(x, ((0, 0), *padding, (0, 0))), out)


def crop2d(x, padding, *, threads=1, out=None):
    """Images without so many pixels around them: the gradient of :func:`pad2d`."""
    (top, bottom), (left, right) = padding
    return _result(np.ascontiguousarray(x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]), out)


@quiet
def bias_grad(grad_out, *, threads=1):
    """Sum of the errors over images and pixels, one number a channel."""
    return grad_out.reshape(-1, grad_out.shape[-1]).sum(axis=0, dtype=_wide(grad_out)).astype(grad_out.dtype)


@quiet
def dense(x, weight, bias, *, activation=None, threads=1, out=None):
    """``y = x w + b``."""
    y = _product(x, weight)
    if bias is not None:
        y += bias
    if activation == "relu":
        y = np.maximum(y, 0)
    return _result(y, out)


@quiet
def dense_input_grad(grad_out, weight, *, threads=1, out=None):
    """``dx = dy wᵀ``."""
    return _result(_product(grad_out, weight.T), out)


@quiet
def dense_weight_grad(x, grad_out, *, threads=1, out=None):
    """``dw = xᵀ dy``."""
    return _result(_product(x.T, grad_out), out)


@quiet
def softmax_cross_entropy(logits, labels, *, threads=1):
    """Loss ``-log softmax(z)[label]`` of each example and its gradient ``softmax(z) - onehot(label)``."""
    shifted = logits - logits.max(axis=1, keepdims=True)  # the same softmax, without overflow
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    losses = np.log(total[:, 0]) - shifted[rows, labels]
    grad = exponentials / total
    grad[rows, labels] -= 1
    return losses, grad


@quiet
def batch_norm(x, gamma, beta, eps, *, threads=1, out=None):
    """``y = gamma (x - mean) / sqrt(variance + eps) + beta``, statistics over all but the last axis."""
    wide = x.reshape(-1, x.shape[-1]).astype(np.float64)
    mean = wide.mean(axis=0)
    inv_std = 1 / np.sqrt(wide.var(axis=0) + eps)
    y = gamma * ((x - mean) * inv_std) + beta
    return _result(y.astype(x.dtype), out), mean.astype(x.dtype), inv_std.astype(x.dtype)


@quiet
def batch_norm_grad(x, grad_out, gamma, mean, inv_std, *, threads=1, out=None):
    """Gradients for the input, gamma and beta (Ioffe and Szegedy 2015, section 3)."""
    channels = x.shape[-1]
    normal = ((x - mean) * inv_std).reshape(-1, channels).astype(np.float64)
    errors = grad_out.reshape(-1, channels).astype(np.float64)
    gbeta, ggamma = errors.sum(axis=0), (errors * normal).sum(axis=0)
    gx = gamma * inv_std * (errors - gbeta / len(errors) - normal * (ggamma / len(errors)))
    return _result(gx.reshape(x.shape).astype(x.dtype), out), ggamma.astype(x.dtype), gbeta.astype(x.dtype)


@quiet
def scale_shift(x, scale, shift, *, threads=1, out=None):
    """``y = scale x + shift``, one pair of numbers a channel."""
    return _result(x * scale + shift, out)
