"""The operations of fully connected layers, ReLU, and the loss."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from pyconv.arithmetic import own
from pyconv.arrays import AnyArray, Array, as_array
from pyconv.errors import DtypeError, InputError, ShapeError

from .door import Door, check_activation, expect_shape, rank, same_dtype


def relu(x: Array, *, backend: str = "auto", threads: int | None = None) -> Array:
    """``max(x, 0)``, element by element; NaN stays NaN.

    Parameters
    ----------
    x : array, any shape, float32 or float64
    backend, threads : see :func:`conv2d`

    Returns
    -------
    array, shape and dtype of `x`
    """
    door = Door(backend, "NHWC", threads)
    return door.backend.relu(door.backend.admit(x, "x", rank(x, "x")), threads=door.threads)


def relu_grad(grad_out: Array, y: AnyArray, *, backend: str = "auto", threads: int | None = None) -> Array:
    """Gradient of :func:`relu`: `grad_out` where the result `y` is positive, else zero.

    Parameters
    ----------
    grad_out : array, any shape, float32 or float64
        Gradient of the loss with respect to the result.
    y : array, shape and dtype of `grad_out`
        The result of :func:`relu`.
    backend, threads : see :func:`conv2d`

    Returns
    -------
    array, shape and dtype of `y`
    """
    door = Door(backend, "NHWC", threads)
    errors = door.backend.admit(grad_out, "grad_out", rank(grad_out, "grad_out"))
    result = door.backend.admit(y, "y", rank(y, "y"))
    same_dtype(grad_out=errors, y=result)
    expect_shape(errors, result.shape, "grad_out")
    return door.backend.relu_grad(errors, result, threads=door.threads)


def dense(
    x: Array,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    activation: str | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Array:
    """Fully connected layer, ``x @ weight + bias``.

    Parameters
    ----------
    x : array, (N, inputs), float32 or float64
    weight : array, (inputs, units), dtype of `x`
    bias : array, (units,), dtype of `x`, optional
    activation : None or "relu"
    backend, threads : see :func:`conv2d`

    Returns
    -------
    array, (N, units), dtype of `x`

    Raises
    ------
    ShapeError, DtypeError, InputError, BackendUnavailable
        As :func:`conv2d`.
    """
    door = Door(backend, "NHWC", threads)
    inputs, matrix = door.backend.admit(x, "x", 2), door.backend.admit(weight, "weight", 2)
    offsets = None if bias is None else door.backend.admit(bias, "bias", 1)
    same_dtype(x=inputs, weight=matrix, bias=offsets)
    if inputs.shape[1] != matrix.shape[0]:
        raise ShapeError(f"x has {inputs.shape[1]} inputs, but weight expects {matrix.shape[0]}")
    if offsets is not None:
        expect_shape(offsets, (matrix.shape[1],), "bias")
    check_activation(activation)
    return door.backend.dense(inputs, matrix, offsets, activation=activation, threads=door.threads)


def dense_input_grad(grad_out: Array, weight: AnyArray, *, backend: str = "auto", threads: int | None = None) -> Array:
    """Gradient of :func:`dense` with respect to its inputs.

    Parameters
    ----------
    grad_out : array, (N, units), float32 or float64
    weight : array, (inputs, units), dtype of `grad_out`
    backend, threads : see :func:`conv2d`

    Returns
    -------
    array, (N, inputs), dtype of `grad_out`
    """
    door = Door(backend, "NHWC", threads)
    errors, matrix = door.backend.admit(grad_out, "grad_out", 2), door.backend.admit(weight, "weight", 2)
    same_dtype(grad_out=errors, weight=matrix)
    if errors.shape[1] != matrix.shape[1]:
        raise ShapeError(f"grad_out has {errors.shape[1]} units, but weight has {matrix.shape[1]}")
    return door.backend.dense_input_grad(errors, matrix, threads=door.threads)


def dense_weight_grad(x: Array, grad_out: AnyArray, *, backend: str = "auto", threads: int | None = None) -> Array:
    """Gradient of :func:`dense` with respect to its weights.

    Parameters
    ----------
    x : array, (N, inputs), float32 or float64
    grad_out : array, (N, units), dtype of `x`
    backend, threads : see :func:`conv2d`

    Returns
    -------
    array, (inputs, units), dtype of `x`
    """
    door = Door(backend, "NHWC", threads)
    inputs, errors = door.backend.admit(x, "x", 2), door.backend.admit(grad_out, "grad_out", 2)
    same_dtype(x=inputs, grad_out=errors)
    if inputs.shape[0] != errors.shape[0]:
        raise ShapeError(f"x has {inputs.shape[0]} examples, but grad_out has {errors.shape[0]}")
    return door.backend.dense_weight_grad(inputs, errors, threads=door.threads)


@own
def softmax_cross_entropy(
    logits: Array, labels: ArrayLike, *, backend: str = "auto", threads: int | None = None
) -> tuple[float, Array]:
    """Mean cross-entropy of the softmax of `logits`, and its gradient.

    Parameters
    ----------
    logits : array, (N, classes), float32 or float64
    labels : array of integers, (N,)
        The class of each example, 0 to classes - 1.
    backend, threads : see :func:`conv2d`

    Returns
    -------
    loss : float
        Mean over the examples, in nats.
    gradient : array, (N, classes), dtype of `logits`
        Gradient of the mean loss with respect to the logits.

    Raises
    ------
    InputError
        If a label is not an integer from 0 to classes - 1; the message names its position.
    ShapeError
        If there are no examples, or not as many labels.
    """
    door = Door(backend, "NHWC", threads)
    scores = door.backend.admit(logits, "logits", 2)
    if not len(scores):
        raise ShapeError(f"logits holds no examples, which have no mean loss: got shape {scores.shape}")
    classes = check_labels(labels, len(scores), scores.shape[1])
    losses, gradient = door.backend.softmax_cross_entropy(scores, classes, threads=door.threads)
    gradient /= len(scores)
    return float(losses.mean(dtype=np.float64)), gradient


def check_labels(labels: ArrayLike, examples: int, classes: int) -> np.ndarray:
    """`labels` as int64, or an error that names the first wrong one."""
    array = as_array(labels, "labels")
    if array.ndim != 1 or len(array) != examples:
        raise ShapeError(f"labels must have shape ({examples},), not {array.shape}")
    if array.dtype.kind not in "iu":
        raise DtypeError(f"labels must be integers, not {array.dtype}")
    if array.size and (array.min() < 0 or array.max() >= classes):
        wrong = np.flatnonzero((array < 0) | (array >= classes))
        raise InputError(f"label {array[wrong[0]]} at position {wrong[0]} is not a class from 0 to {classes - 1}")
    return np.ascontiguousarray(array, np.int64)
