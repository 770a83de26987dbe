"""Operations on arrays: checked at the door, computed by a backend.

Arrays are NHWC unless ``layout="NCHW"``; filters are ``(kh, kw, C // groups, K)``, or ``(K, C // groups, kh,
kw)`` with NCHW. Read-only and non-contiguous arrays work (they are copied where need be); any dtype but
float32 and float64 is refused. "Convolution" is cross-correlation, as in every CNN.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .backends import Backend
from .backends import get as get_backend
from .errors import DtypeError, InputError, ShapeError, unknown_name
from .shapes import Padding, Pair, PoolGeometry, conv_geometry, integer, pair, pool_geometry

LAYOUTS = ("NHWC", "NCHW")
ACTIVATIONS = (None, "relu")

_TO_NHWC, _TO_NCHW = (0, 2, 3, 1), (0, 3, 1, 2)
_FILTERS_FROM_NCHW, _FILTERS_TO_NCHW = (2, 3, 1, 0), (3, 2, 0, 1)


class _Door:
    """What every operation does with its arguments before and after the backend's work."""

    def __init__(self, backend: str, layout: str, threads: int | None) -> None:
        if layout not in LAYOUTS:
            raise unknown_name("layout", layout, LAYOUTS)
        self.backend: Backend = get_backend(backend)
        self.threads = self.backend.threads(threads)
        self.nchw = layout == "NCHW"

    def images(self, value: Any, name: str) -> Any:
        array = self.backend.admit(value, name, 4)
        return self.backend.permute(array, _TO_NHWC) if self.nchw else array

    def filters(self, value: Any, name: str) -> Any:
        array = self.backend.admit(value, name, 4)
        return self.backend.permute(array, _FILTERS_FROM_NCHW) if self.nchw else array

    def image_shape(self, shape: Any) -> tuple[int, ...]:
        sizes = tuple(shape)
        return tuple(sizes[axis] for axis in _TO_NHWC) if self.nchw and len(sizes) == 4 else sizes

    def images_out(self, array: Any) -> Any:
        return self.backend.permute(array, _TO_NCHW) if self.nchw else array

    def filters_out(self, array: Any) -> Any:
        return self.backend.permute(array, _FILTERS_TO_NCHW) if self.nchw else array


def _same_dtype(**arrays: Any) -> None:
    dtypes = {name: array.dtype for name, array in arrays.items() if array is not None}
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"{name} is {dtype}" for name, dtype in dtypes.items())
        raise DtypeError(f"the arrays must have one dtype: {found}")


def _expect_shape(array: Any, expected: tuple[int, ...], name: str) -> None:
    if tuple(array.shape) != tuple(expected):
        raise ShapeError(f"{name} has shape {tuple(array.shape)} where {tuple(expected)} is expected (NHWC order)")


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    activation: str | None = None,
    layout: str = "NHWC",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = None,
) -> Any:
    """Convolve a batch of images with a bank of filters.

    Parameters
    ----------
    x : array, (N, H, W, C), float32 or float64
        Images.
    weight : array, (kh, kw, C // groups, K), dtype of `x`
        Filters.
    bias : array, (K,), dtype of `x`, optional
        Added to each filter's output.
    stride : int or (int, int)
        Down and across, in pixels, at least 1.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        Zero pixels around the images: for all sides, ``(height, width)``, or ``((top, bottom), (left, right))``.
        ``"same"`` makes the output ``ceil(size / stride)`` with the odd pixel after (ONNX's SAME_UPPER).
    dilation : int or (int, int)
        Distance between the input pixels that neighbouring filter weights meet, down and across, at least 1.
    groups : int
        Groups of channels convolved apart; `C` of them is depthwise convolution.
    activation : None or "relu"
        Applied to the result, fused into the convolution.
    layout : "NHWC" or "NCHW"
        Order of the axes of `x` and of the result. With "NCHW" the filters are ``(K, C // groups, kh, kw)``.
    backend : str
        Where: "auto", "reference", "serial", "multicore" or "cuda".
    algorithm : str
        How: "auto" or one of ``pyconv.algorithms(backend)``.
    threads : int, optional
        Threads for "multicore"; every CPU that the process may use by default. The result does not depend on it.

    Returns
    -------
    array, (N, OH, OW, K), dtype of `x`

    Raises
    ------
    ShapeError
        If the shapes do not fit together or the output would be empty.
    DtypeError
        If an array is neither float32 nor float64, or they differ.
    InputError
        If another argument is wrong.
    BackendUnavailable
        If the backend cannot run here.

    References
    ----------
    Chavan and Kulkarni, section 3B, Algorithms 2 (CPU) and 3 (GPU).

    Examples
    --------
    >>> import numpy as np, pyconv
    >>> x = np.ones((1, 4, 4, 1), np.float32)
    >>> w = np.ones((3, 3, 1, 1), np.float32)
    >>> pyconv.conv2d(x, w)[0, :, :, 0]
    array([[9., 9.],
           [9., 9.]], dtype=float32)
    """
    door = _Door(backend, layout, threads)
    images, filters = door.images(x, "x"), door.filters(weight, "weight")
    offsets = None if bias is None else door.backend.admit(bias, "bias", 1)
    _same_dtype(x=images, weight=filters, bias=offsets)
    g = conv_geometry(images.shape, filters.shape, stride=stride, padding=padding, dilation=dilation, groups=groups)
    if offsets is not None:
        _expect_shape(offsets, (g.k,), "bias")
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, [str(name) for name in ACTIVATIONS])
    door.backend.check_algorithm(algorithm)
    y = door.backend.conv2d(
        images, filters, offsets, g, activation=activation, algorithm=algorithm, threads=door.threads
    )
    return door.images_out(y)


def conv2d_input_grad(
    grad_out: Any,
    weight: Any,
    input_shape: tuple[int, int, int, int],
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = None,
) -> Any:
    """Gradient of a convolution with respect to its images.

    Parameters
    ----------
    grad_out : array, (N, OH, OW, K), float32 or float64
        Gradient of the loss with respect to the convolution's result.
    weight : array, (kh, kw, C // groups, K), dtype of `grad_out`
        The filters of the forward pass.
    input_shape : (int, int, int, int)
        Shape of the images, in `layout`'s order: more than one size can give the same output size.
    stride, padding, dilation, groups, layout, backend, algorithm, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, `input_shape`, dtype of `grad_out`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`.

    References
    ----------
    Chavan and Kulkarni, section 2, equations (3) and (4): the backward recurrence of a convolutional layer.
    """
    door = _Door(backend, layout, threads)
    errors, filters = door.images(grad_out, "grad_out"), door.filters(weight, "weight")
    _same_dtype(grad_out=errors, weight=filters)
    g = conv_geometry(
        door.image_shape(input_shape), filters.shape, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    _expect_shape(errors, g.output_shape, "grad_out")
    door.backend.check_algorithm(algorithm)
    gx = door.backend.conv2d_input_grad(errors, filters, g, algorithm=algorithm, threads=door.threads)
    return door.images_out(gx)


def conv2d_weight_grad(
    x: Any,
    grad_out: Any,
    kernel_size: Pair,
    *,
    stride: Pair = 1,
    padding: Padding = 0,
    dilation: Pair = 1,
    groups: int = 1,
    layout: str = "NHWC",
    backend: str = "auto",
    algorithm: str = "auto",
    threads: int | None = None,
) -> Any:
    """Gradient of a convolution with respect to its filters.

    Parameters
    ----------
    x : array, (N, H, W, C), float32 or float64
        The images of the forward pass.
    grad_out : array, (N, OH, OW, K), dtype of `x`
        Gradient of the loss with respect to the convolution's result.
    kernel_size : int or (int, int)
        Height and width of the filters.
    stride, padding, dilation, groups, layout, backend, algorithm, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, (kh, kw, C // groups, K), or (K, C // groups, kh, kw) with NCHW; dtype of `x`
        The bias's gradient is ``grad_out.sum(axis=(0, 1, 2))``.

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`.

    References
    ----------
    Chavan and Kulkarni, section 2, Algorithm 1: the weight gradients of the backward pass.
    """
    door = _Door(backend, layout, threads)
    images, errors = door.images(x, "x"), door.images(grad_out, "grad_out")
    _same_dtype(x=images, grad_out=errors)
    kh, kw = pair(kernel_size, "kernel_size")
    groups = integer(groups, "groups", minimum=1)
    channels, filters = images.shape[3], errors.shape[3]
    if channels % groups:
        raise ShapeError(f"groups={groups} must divide the {channels} input channels")
    g = conv_geometry(
        images.shape,
        (kh, kw, channels // groups, filters),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
    )
    _expect_shape(errors, g.output_shape, "grad_out")
    door.backend.check_algorithm(algorithm)
    gw = door.backend.conv2d_weight_grad(images, errors, g, algorithm=algorithm, threads=door.threads)
    return door.filters_out(gw)


def max_pool2d(
    x: Any,
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Largest pixel of each window of each channel.

    Parameters
    ----------
    x : array, (N, H, W, C), float32 or float64
        Images. NaN counts as the largest.
    pool_size : int or (int, int)
        Height and width of a window in pixels.
    stride : int or (int, int), optional
        Defaults to `pool_size`.
    padding, layout, backend, threads
        As in :func:`conv2d`; padded pixels never win.

    Returns
    -------
    array, (N, OH, OW, C), dtype of `x`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`; also where a window would lie wholly in the padding.

    References
    ----------
    Chavan and Kulkarni, section 2, Algorithm 1: the pooling layer.
    """
    door, images, pg = _pool_door(x, pool_size, stride, padding, layout, backend, threads)
    return door.images_out(door.backend.max_pool2d(images, pg, threads=door.threads))


def avg_pool2d(
    x: Any,
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Mean of the pixels of each window that lie inside the image.

    Parameters
    ----------
    x, pool_size, stride, padding, layout, backend, threads
        As in :func:`max_pool2d`.

    Returns
    -------
    array, (N, OH, OW, C), dtype of `x`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`max_pool2d`.
    """
    door, images, pg = _pool_door(x, pool_size, stride, padding, layout, backend, threads)
    return door.images_out(door.backend.avg_pool2d(images, pg, threads=door.threads))


def max_pool2d_input_grad(
    grad_out: Any,
    x: Any,
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Gradient of :func:`max_pool2d`: each window's error goes to the first of its largest pixels.

    Parameters
    ----------
    grad_out : array, (N, OH, OW, C), float32 or float64
        Gradient of the loss with respect to the pooling's result.
    x : array, (N, H, W, C), dtype of `grad_out`
        The images of the forward pass.
    pool_size, stride, padding, layout, backend, threads
        As in :func:`max_pool2d`.

    Returns
    -------
    array, shape and dtype of `x`
    """
    door, images, pg = _pool_door(x, pool_size, stride, padding, layout, backend, threads)
    errors = door.images(grad_out, "grad_out")
    _same_dtype(x=images, grad_out=errors)
    _expect_shape(errors, pg.output_shape, "grad_out")
    indices = np.empty(pg.output_shape, np.int32)
    door.backend.max_pool2d(images, pg, threads=door.threads, indices=indices)
    return door.images_out(door.backend.max_pool2d_input_grad(errors, indices, pg, threads=door.threads))


def avg_pool2d_input_grad(
    grad_out: Any,
    input_shape: tuple[int, int, int, int],
    pool_size: Pair,
    *,
    stride: Pair | None = None,
    padding: Padding = 0,
    layout: str = "NHWC",
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Gradient of :func:`avg_pool2d`: each window's error is shared equally by its pixels inside the image.

    Parameters
    ----------
    grad_out : array, (N, OH, OW, C), float32 or float64
        Gradient of the loss with respect to the pooling's result.
    input_shape : (int, int, int, int)
        Shape of the images, in `layout`'s order.
    pool_size, stride, padding, layout, backend, threads
        As in :func:`avg_pool2d`.

    Returns
    -------
    array, `input_shape`, dtype of `grad_out`
    """
    door = _Door(backend, layout, threads)
    errors = door.images(grad_out, "grad_out")
    pg = pool_geometry(door.image_shape(input_shape), pool_size, stride=stride, padding=padding)
    _expect_shape(errors, pg.output_shape, "grad_out")
    return door.images_out(door.backend.avg_pool2d_input_grad(errors, pg, threads=door.threads))


def _pool_door(
    x: Any, pool_size: Pair, stride: Pair | None, padding: Padding, layout: str, backend: str, threads: int | None
) -> tuple[_Door, Any, PoolGeometry]:
    door = _Door(backend, layout, threads)
    images = door.images(x, "x")
    return door, images, pool_geometry(images.shape, pool_size, stride=stride, padding=padding)


def relu(x: Any, *, backend: str = "auto", threads: int | None = None) -> Any:
    """``max(x, 0)``, element by element; NaN stays NaN.

    Parameters
    ----------
    x : array, any shape, float32 or float64
    backend, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, shape and dtype of `x`
    """
    door = _Door(backend, "NHWC", threads)
    return door.backend.relu(door.backend.admit(x, "x", np.ndim(x)), threads=door.threads)


def relu_grad(grad_out: Any, y: Any, *, backend: str = "auto", threads: int | None = None) -> Any:
    """Gradient of :func:`relu`: the error where the result `y` is positive, else zero.

    Parameters
    ----------
    grad_out : array, any shape, float32 or float64
        Gradient of the loss with respect to the result.
    y : array, shape and dtype of `grad_out`
        The result of :func:`relu`.
    backend, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, shape and dtype of `y`
    """
    door = _Door(backend, "NHWC", threads)
    errors = door.backend.admit(grad_out, "grad_out", np.ndim(grad_out))
    result = door.backend.admit(y, "y", np.ndim(y))
    _same_dtype(grad_out=errors, y=result)
    _expect_shape(errors, result.shape, "grad_out")
    return door.backend.relu_grad(errors, result, threads=door.threads)


def dense(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    activation: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Fully connected layer, ``x @ weight + bias``.

    Parameters
    ----------
    x : array, (N, inputs), float32 or float64
    weight : array, (inputs, units), dtype of `x`
    bias : array, (units,), dtype of `x`, optional
    activation : None or "relu"
    backend, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, (N, units), dtype of `x`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`.
    """
    door = _Door(backend, "NHWC", threads)
    inputs, matrix = door.backend.admit(x, "x", 2), door.backend.admit(weight, "weight", 2)
    offsets = None if bias is None else door.backend.admit(bias, "bias", 1)
    _same_dtype(x=inputs, weight=matrix, bias=offsets)
    if inputs.shape[1] != matrix.shape[0]:
        raise ShapeError(f"x has {inputs.shape[1]} inputs, but weight expects {matrix.shape[0]}")
    if offsets is not None:
        _expect_shape(offsets, (matrix.shape[1],), "bias")
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, [str(name) for name in ACTIVATIONS])
    return door.backend.dense(inputs, matrix, offsets, activation=activation, threads=door.threads)


def dense_input_grad(grad_out: Any, weight: Any, *, backend: str = "auto", threads: int | None = None) -> Any:
    """Gradient of :func:`dense` with respect to its inputs.

    Parameters
    ----------
    grad_out : array, (N, units), float32 or float64
    weight : array, (inputs, units), dtype of `grad_out`
    backend, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, (N, inputs), dtype of `grad_out`
    """
    door = _Door(backend, "NHWC", threads)
    errors, matrix = door.backend.admit(grad_out, "grad_out", 2), door.backend.admit(weight, "weight", 2)
    _same_dtype(grad_out=errors, weight=matrix)
    if errors.shape[1] != matrix.shape[1]:
        raise ShapeError(f"grad_out has {errors.shape[1]} units, but weight has {matrix.shape[1]}")
    return door.backend.dense_input_grad(errors, matrix, threads=door.threads)


def dense_weight_grad(x: Any, grad_out: Any, *, backend: str = "auto", threads: int | None = None) -> Any:
    """Gradient of :func:`dense` with respect to its weights.

    Parameters
    ----------
    x : array, (N, inputs), float32 or float64
    grad_out : array, (N, units), dtype of `x`
    backend, threads
        As in :func:`conv2d`.

    Returns
    -------
    array, (inputs, units), dtype of `x`
    """
    door = _Door(backend, "NHWC", threads)
    inputs, errors = door.backend.admit(x, "x", 2), door.backend.admit(grad_out, "grad_out", 2)
    _same_dtype(x=inputs, grad_out=errors)
    if inputs.shape[0] != errors.shape[0]:
        raise ShapeError(f"x has {inputs.shape[0]} examples, but grad_out has {errors.shape[0]}")
    return door.backend.dense_weight_grad(inputs, errors, threads=door.threads)


def softmax_cross_entropy(
    logits: Any, labels: Any, *, backend: str = "auto", threads: int | None = None
) -> tuple[float, Any]:
    """Mean cross-entropy of the softmax of `logits`, and its gradient.

    Parameters
    ----------
    logits : array, (N, classes), float32 or float64
    labels : array of integers, (N,)
        The class of each example, 0 to classes - 1.
    backend, threads
        As in :func:`conv2d`.

    Returns
    -------
    loss : float
        Mean over the examples, in nats.
    gradient : array, (N, classes), dtype of `logits`
        Of the mean loss with respect to the logits.

    Raises
    ------
    InputError
        If a label is not an integer from 0 to classes - 1; the message names its position.
    """
    door = _Door(backend, "NHWC", threads)
    scores = door.backend.admit(logits, "logits", 2)
    classes = check_labels(labels, len(scores), scores.shape[1])
    losses, gradient = door.backend.softmax_cross_entropy(scores, classes, threads=door.threads)
    gradient /= len(scores)
    return float(losses.mean(dtype=np.float64)), gradient


def check_labels(labels: Any, examples: int, classes: int) -> np.ndarray:
    """`labels` as int64, or an error that names the first wrong one."""
    array = np.asarray(labels)
    if array.ndim != 1 or len(array) != examples:
        raise ShapeError(f"labels must have shape ({examples},), not {array.shape}")
    if array.dtype.kind not in "iu":
        raise DtypeError(f"labels must be integers, not {array.dtype}")
    wrong = np.flatnonzero((array < 0) | (array >= classes))
    if wrong.size:
        raise InputError(f"label {array[wrong[0]]} at position {wrong[0]} is not a class from 0 to {classes - 1}")
    return np.ascontiguousarray(array, np.int64)


__all__ = [
    "avg_pool2d",
    "avg_pool2d_input_grad",
    "check_labels",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "dense",
    "dense_input_grad",
    "dense_weight_grad",
    "max_pool2d",
    "max_pool2d_input_grad",
    "relu",
    "relu_grad",
    "softmax_cross_entropy",
]
