"""The backend ``cuda``: the operations of :mod:`pyconv.reference`, with the same signatures, on the GPU.

Arrays may be NumPy's, which are copied to the device and back, or on the device already (a :class:`DeviceArray`, or
anything with ``__cuda_array_interface__``), which are not copied. If any argument is on the device, so is the result.
`threads` means nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import DtypeError, ShapeError
from ..shapes import ConvGeometry, PoolGeometry
from . import activations, layers, problem
from .array import DeviceArray, adopt, empty, on_device, to_device, zeros
from .choice import TABLE, pick
from .first_layer import FirstLayer
from .problem import Problem

algorithms = tuple(TABLE)

_FUSED = FirstLayer()
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def admit(value: Any, name: str, ndim: int) -> Any:
    """`value` as an array that operations here take: on the device as it is, else a C-contiguous NumPy array."""
    if on_device(value):
        array: Any = adopt(value, name)
    else:
        array = np.asarray(value)
    if array.dtype not in _FLOATS or not array.dtype.isnative:
        raise DtypeError(f"{name} has dtype {array.dtype}; convert it to float32 or float64 first")
    if array.ndim != ndim:
        raise ShapeError(f"{name} must have {ndim} dimensions, not {array.ndim}: got shape {array.shape}")
    return array if isinstance(array, DeviceArray) else np.require(array, requirements=["C", "A"])


def permute(array: Any, axes: tuple[int, ...]) -> Any:
    """`array` with its axes reordered, contiguous."""
    if isinstance(array, DeviceArray):
        return problem.permute(array, axes)
    return np.ascontiguousarray(array.transpose(axes))


class _Call:
    """One operation: takes its arrays to the device, and its results back."""

    def __init__(self, *arrays: Any, out: Any = None) -> None:
        given = [array for array in (*arrays, out) if array is not None]
        self.stays = any(isinstance(array, DeviceArray) for array in given)
        self._after: list[tuple[DeviceArray, np.ndarray]] = []

    def __call__(self, array: Any) -> Any:
        """`array` on the device; None stays None."""
        if array is None or isinstance(array, DeviceArray):
            return array
        return to_device(array)

    def result(self, shape: tuple[int, ...], dtype: Any, out: Any = None) -> DeviceArray:
        """Where to write a result: in `out` if that is on the device."""
        if isinstance(out, DeviceArray):
            if out.shape != tuple(shape):
                raise ShapeError(f"out must have shape {tuple(shape)}, not {out.shape}")
            return out
        return empty(shape, dtype)

    def give(self, array: DeviceArray, out: Any = None) -> Any:
        """The result where the caller expects it: on the device, or in main memory."""
        if isinstance(out, np.ndarray):
            if out.flags.c_contiguous:
                return array.get(out)
            out[...] = array.get()
            return out
        return array if self.stays else array.get()


def conv2d(x, weight, bias, g: ConvGeometry, *, activation=None, algorithm="auto", threads=1, out=None):
    """Convolution with bias and ReLU."""
    call = _Call(x, weight, bias, out=out)
    p, y = Problem.forward(g), call.result(g.output_shape, x.dtype, out)
    pick(algorithm, p).convolve(p, call(x), call(weight), call(bias), y, activation == "relu")
    return call.give(y, out)


def conv2d_input_grad(grad_out, weight, g: ConvGeometry, *, algorithm="auto", threads=1, out=None):
    """Gradient of the images."""
    call = _Call(grad_out, weight, out=out)
    dx = call.result(g.input_shape, grad_out.dtype, out)
    pick(algorithm, Problem.input_grad(g)).input_grad(g, call(grad_out), call(weight), dx)
    return call.give(dx, out)


def conv2d_weight_grad(x, grad_out, g: ConvGeometry, *, algorithm="auto", threads=1, out=None):
    """Gradient of the filters."""
    call = _Call(x, grad_out, out=out)
    p, dw = Problem.forward(g), call.result(g.weight_shape, x.dtype, out)
    # With one or three channels the product of matrices has few rows, but it still reads the images less often.
    variant = TABLE["implicit_gemm"] if algorithm == "auto" else pick(algorithm, p)
    variant.weight_grad(p, call(x), call(grad_out), dw)
    return call.give(dw, out)


def fuses_pool(g: ConvGeometry, pg: PoolGeometry) -> bool:
    """Whether :func:`conv2d_pool` does this convolution and pooling in one kernel."""
    return FirstLayer.fuses(g, pg)


def conv2d_pool(
    x, weight, bias, g: ConvGeometry, pg: PoolGeometry, *, activation=None, algorithm="auto", threads=1, out=None,
    indices=None,
):  # fmt: skip
    """Convolution, bias, ReLU and max pooling, in one kernel if :func:`fuses_pool`, else one after the other."""
    if not (algorithm in ("auto", "first_layer") and fuses_pool(g, pg)):
        full = conv2d(
            to_device(x) if isinstance(x, np.ndarray) else x,
            weight,
            bias,
            g,
            activation=activation,
            algorithm=algorithm,
        )
        call = _Call(x, weight, bias, out=out)
        where = _where(call, indices, pg)
        y = call.result(pg.output_shape, x.dtype, out)
        layers.max_pool(full, pg, y, where)
    else:
        call = _Call(x, weight, bias, out=out)
        where = _where(call, indices, pg)
        y = call.result(pg.output_shape, x.dtype, out)
        _FUSED.convolve_pool(
            Problem.forward(g), (pg.kh, pg.kw), call(x), call(weight), call(bias), y, where, activation == "relu"
        )
    if where is not None and isinstance(indices, np.ndarray):
        indices[...] = where.get()
    return call.give(y, out)


def _where(call: _Call, indices: Any, pg: PoolGeometry) -> DeviceArray | None:
    """The array for the positions of the maxima, or None."""
    if indices is None:
        return None
    if indices.dtype != np.int32:  # the kernel would write past the end of an array of smaller numbers
        raise DtypeError(f"indices must be int32, not {indices.dtype}")
    if indices.shape != pg.output_shape:
        raise ShapeError(f"indices must have the result's shape {pg.output_shape}, not {indices.shape}")
    return call.result(pg.output_shape, np.int32, indices)


def conv2d_pool_weight_grad(
    x, grad_out, indices, y, g: ConvGeometry, pg: PoolGeometry, *, activation=None, threads=1, out=None
):
    """Gradients of filters and bias from the errors of :func:`conv2d_pool`'s result `y`.

    None unless :func:`fuses_pool`. `grad_out` may be overwritten.
    """
    if not fuses_pool(g, pg):
        return None
    if activation == "relu":
        grad_out = relu_grad(grad_out, y, out=grad_out if isinstance(grad_out, DeviceArray) else None)
    call = _Call(x, grad_out, out=out)
    dw = call.result(g.weight_shape, x.dtype, out)
    _FUSED.pooled_weight_grad(Problem.forward(g), (pg.kh, pg.kw), call(x), call(grad_out), call(indices), dw)
    return call.give(dw, out), bias_grad(grad_out)


def max_pool2d(x, pg: PoolGeometry, *, threads=1, out=None, indices=None):
    """The largest pixel of each window."""
    call = _Call(x, out=out)
    y, where = call.result(pg.output_shape, x.dtype, out), _where(call, indices, pg)
    layers.max_pool(call(x), pg, y, where)
    if where is not None and isinstance(indices, np.ndarray):
        indices[...] = where.get()
    return call.give(y, out)


def max_pool2d_input_grad(grad_out, indices, pg: PoolGeometry, *, threads=1, out=None):
    """Each window's error goes to its largest pixel."""
    call = _Call(grad_out, out=out)
    dx = call.result(pg.input_shape, grad_out.dtype, out)
    layers.max_pool_grad(call(grad_out), call(indices), pg, dx)
    return call.give(dx, out)


def avg_pool2d(x, pg: PoolGeometry, *, threads=1, out=None):
    """The mean of each window's pixels inside the image."""
    call = _Call(x, out=out)
    y = call.result(pg.output_shape, x.dtype, out)
    layers.avg_pool(call(x), pg, y)
    return call.give(y, out)


def avg_pool2d_input_grad(grad_out, pg: PoolGeometry, *, threads=1, out=None):
    """Each window's error, divided equally among its pixels inside the image."""
    call = _Call(grad_out, out=out)
    dx = call.result(pg.input_shape, grad_out.dtype, out)
    layers.avg_pool_grad(call(grad_out), pg, dx)
    return call.give(dx, out)


def _elementwise(kernel: Callable[..., None], *arrays: Any, out: Any) -> Any:
    call = _Call(*arrays, out=out)
    result = call.result(arrays[0].shape, arrays[0].dtype, out)
    kernel(*map(call, arrays), result)
    return call.give(result, out)


def relu(x, *, threads=1, out=None):
    """``max(x, 0)``; NaN stays NaN."""
    return _elementwise(layers.relu, x, out=out)


def relu_grad(grad_out, y, *, threads=1, out=None):
    """The error where `y` is positive."""
    return _elementwise(layers.relu_grad, grad_out, y, out=out)


def activate(x, kind, first=0.0, second=0.0, *, threads=1, out=None):
    """The activation `kind` of each number."""
    call = _Call(x, out=out)
    y = call.result(x.shape, x.dtype, out)
    activations.activate(call(x), kind, first, second, y)
    return call.give(y, out)


def activate_grad(grad_out, y, kind, first=0.0, second=0.0, *, threads=1, out=None):
    """The gradient of the activation's input, from its result `y`."""
    call = _Call(grad_out, y, out=out)
    dx = call.result(y.shape, y.dtype, out)
    activations.activate_grad(call(grad_out), call(y), kind, first, second, dx)
    return call.give(dx, out)


def _move(x, sign, padding, out):
    """`x` with `padding` around it, or without it if `sign` is -1."""
    (top, bottom), (left, right) = padding
    n, h, w, c = x.shape
    call = _Call(x, out=out)
    y = call.result((n, h + sign * (top + bottom), w + sign * (left + right), c), x.dtype, out)
    activations.move(call(x), y, sign * top, sign * left)
    return call.give(y, out)


def pad2d(x, padding, *, threads=1, out=None):
    """Images with zeros around them."""
    return _move(x, 1, padding, out)


def crop2d(x, padding, *, threads=1, out=None):
    """Images without so many pixels around them: the gradient of :func:`pad2d`."""
    return _move(x, -1, padding, out)


def multiply(x, factor, *, threads=1, out=None):
    """``x factor``, number by number."""
    return _elementwise(layers.multiply, x, factor, out=out)


def add(x, y, *, threads=1, out=None):
    """``x + y``, number by number."""
    return _elementwise(layers.add, x, y, out=out)


def copy(x, *, out):
    """The numbers of `x` in `out`."""
    call = _Call(x, out=out)
    there = call(x)
    if isinstance(out, DeviceArray):
        out.set(there)
        return out
    return call.give(there, out)


def concatenate(parts, *, threads=1, out):
    """Arrays beside each other along the last axis."""
    call = _Call(*parts, out=out)
    y, start = call.result(out.shape, out.dtype, out), 0
    for part in parts:
        layers.copy_channels(call(part), 0, y, start, part.shape[-1])
        start += part.shape[-1]
    return call.give(y, out)


def channels(x, start, *, threads=1, out):
    """The channels of `x` from `start` on, as many as `out` has."""
    call = _Call(x, out=out)
    y = call.result(out.shape, out.dtype, out)
    layers.copy_channels(call(x), start, y, 0, out.shape[-1])
    return call.give(y, out)


def dropout(x, factor, *, seed, stream, step, layer, first, threshold, scale, threads=1, out=None):
    """Drop numbers by the masks of :func:`pyconv.backends.dropout_mask`; `factor` gets the factor of each number."""
    call = _Call(x, out=out)
    y, factors = call.result(x.shape, x.dtype, out), call.result(x.shape, x.dtype, factor)
    how = {"seed": seed, "stream": stream, "step": step, "layer": layer, "first": first}
    layers.dropout(call(x), y, factors, threshold=threshold, scale=scale, **how)
    if isinstance(factor, np.ndarray):
        factor[...] = factors.get()
    return call.give(y, out)


def scale_shift(x, scale, shift, *, threads=1, out=None):
    """``scale x + shift`` for each channel."""
    return _elementwise(layers.scale_shift, x, scale, shift, out=out)


def bias_grad(grad_out, *, threads=1, out=None):
    """Sum over all but the last axis."""
    call = _Call(grad_out, out=out)
    result = call.result(grad_out.shape[-1:], grad_out.dtype, out)
    layers.bias_grad(call(grad_out), result)
    return call.give(result, out)


def _matrix(rows: int, inputs: int, units: int) -> ConvGeometry:
    """A matrix product as a convolution: each row is an image of one pixel, and the filters are 1×1."""
    return ConvGeometry(rows, 1, 1, inputs, units, 1, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1)


def dense(x, weight, bias, *, activation=None, threads=1, out=None):
    """``x weight + bias``, with ReLU."""
    call, g = _Call(x, weight, bias, out=out), _matrix(x.shape[0], *weight.shape)
    y = call.result((g.n, g.k), x.dtype, out)
    TABLE["implicit_gemm"].convolve(Problem.forward(g), call(x), call(weight), call(bias), y, activation == "relu")
    return call.give(y, out)


def dense_input_grad(grad_out, weight, *, threads=1, out=None):
    """``grad_out weightᵀ``."""
    call, g = _Call(grad_out, weight, out=out), _matrix(grad_out.shape[0], *weight.shape)
    dx = call.result((g.n, g.c), grad_out.dtype, out)
    TABLE["implicit_gemm"].input_grad(g, call(grad_out), call(weight), dx)
    return call.give(dx, out)


def dense_weight_grad(x, grad_out, *, threads=1, out=None):
    """``xᵀ grad_out``."""
    call, g = _Call(x, grad_out, out=out), _matrix(x.shape[0], x.shape[1], grad_out.shape[1])
    dw = call.result((g.c, g.k), x.dtype, out)
    TABLE["implicit_gemm"].weight_grad(Problem.forward(g), call(x), call(grad_out), dw)
    return call.give(dw, out)


def softmax_cross_entropy(logits, labels, *, threads=1):
    """Each example's loss and gradient. The losses are always in NumPy arrays: they are few."""
    call = _Call(logits)
    losses, gradient = empty((logits.shape[0],), logits.dtype), empty(logits.shape, logits.dtype)
    layers.softmax_cross_entropy(call(logits), call(labels), losses, gradient)
    return losses.get(), call.give(gradient)


def mean_cross_entropy(logits, labels, *, threads=1, counts=None):
    """Each example's loss, and the gradient of their mean; with `counts`, of a weighted mean: see softmax.cu."""
    call = _Call(logits)
    losses, gradient = empty((logits.shape[0],), logits.dtype), empty(logits.shape, logits.dtype)
    layers.softmax_cross_entropy(call(logits), call(labels), losses, gradient, 1 / logits.shape[0], counts)
    return call.give(losses), call.give(gradient)


def batch_norm(x, gamma, beta, eps, *, threads=1, out=None):
    """`x` normalised by the batch's statistics, and these: mean and 1 / √(variance + eps)."""
    call = _Call(x, gamma, beta, out=out)
    y, mean, inv_std = call.result(x.shape, x.dtype, out), empty(gamma.shape, x.dtype), empty(gamma.shape, x.dtype)
    layers.batch_norm(call(x), call(gamma), call(beta), eps, y, mean, inv_std)
    return call.give(y, out), call.give(mean), call.give(inv_std)


def batch_norm_grad(x, grad_out, gamma, mean, inv_std, *, threads=1, out=None):
    """Gradients of input, gamma and beta."""
    call = _Call(x, grad_out, gamma, out=out)
    dx = call.result(x.shape, x.dtype, out)
    dgamma, dbeta = empty(gamma.shape, x.dtype), empty(gamma.shape, x.dtype)
    layers.batch_norm_grad(call(x), call(grad_out), call(gamma), call(mean), call(inv_std), dx, dgamma, dbeta)
    return call.give(dx, out), call.give(dgamma), call.give(dbeta)


def batch_norm_inference(x, gamma, beta, running_mean, running_var, eps, *, threads=1, out=None):
    """Normalised by the running statistics."""
    call = _Call(x, out=out)
    y = call.result(x.shape, x.dtype, out)
    layers.batch_norm_inference(call(x), call(gamma), call(beta), call(running_mean), call(running_var), eps, y)
    return call.give(y, out)


def batch_norm_inference_grad(grad_out, gamma, running_var, eps, *, threads=1, out=None):
    """The input's gradient of :func:`batch_norm_inference`: the same scale, with nothing added."""
    call = _Call(grad_out, out=out)
    dx, none = call.result(grad_out.shape, grad_out.dtype, out), zeros(gamma.shape, grad_out.dtype)
    layers.batch_norm_inference(call(grad_out), call(gamma), none, none, call(running_var), eps, dx)
    return call.give(dx, out)


def move_running_statistics(running_mean, running_var, mean, inv_std, eps, momentum, numbers):
    """Move the running statistics, in place, towards those of a batch of `numbers` numbers a channel."""
    call = _Call(running_mean, running_var)
    kept = [(host, call(host)) for host in (running_mean, running_var)]
    layers.running_statistics(kept[0][1], kept[1][1], call(mean), call(inv_std), eps, momentum, numbers)
    for host, there in kept:
        if isinstance(host, np.ndarray):
            host[...] = there.get()
