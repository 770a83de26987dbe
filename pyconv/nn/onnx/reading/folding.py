"""Computes the parts of an ONNX graph that depend on constants only: assembled sizes, transposed weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

#: Most numbers in a folded constant.
MOST = 1 << 28

Inputs = Sequence[np.ndarray]
Attributes = dict[str, Any]


def _arithmetic(function: Callable[..., Any]) -> Callable[[Inputs, Attributes], np.ndarray]:
    """An operation number by number, with NumPy's rules for shapes, which are ONNX's."""

    def compute(inputs: Inputs, attributes: Attributes) -> np.ndarray:
        _check(np.broadcast_shapes(*(each.shape for each in inputs)))
        with np.errstate(all="ignore"):
            return np.asarray(function(*inputs)).astype(inputs[0].dtype)

    return compute


def _check(shape: Sequence[int]) -> None:
    if math.prod(int(size) for size in shape) > MOST:
        raise ValueError(f"a constant of shape {list(map(int, shape))} is too large")


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.trunc(a / b) if a.dtype.kind in "iu" else a / b


def axes_of(inputs: Inputs, attributes: Attributes) -> list[int] | None:
    """The axes that an operator is given: by an attribute, or from opset 13 on by an input; or None."""
    if "axes" in attributes:
        return [int(axis) for axis in attributes["axes"]]
    return [int(axis) for axis in inputs[1].ravel()] if len(inputs) > 1 else None


def _unsqueeze(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    return np.expand_dims(inputs[0], tuple(axes_of(inputs, attributes) or ()))


def _squeeze(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    axes = axes_of(inputs, attributes)
    return np.squeeze(inputs[0], None if axes is None else tuple(axes))


def _gather(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    axis = attributes.get("axis", 0)
    shape = inputs[0].shape
    _check([*shape[:axis], *inputs[1].shape, *shape[axis % max(len(shape), 1) + 1 :]])
    return np.take(inputs[0], inputs[1], axis=axis)


def _slice(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    data = inputs[0]
    given = [list(map(int, each.ravel())) for each in inputs[1:]]
    starts, ends = given[:2] if len(given) >= 2 else (attributes["starts"], attributes["ends"])
    axes = given[2] if len(given) > 2 else attributes.get("axes", range(len(starts)))
    steps = given[3] if len(given) > 3 else [1] * len(starts)
    places = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        places[axis] = slice(start, None if step < 0 and end < -data.shape[axis] else end, step)
    return data[tuple(places)]


def _reshape(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    data = inputs[0]
    sizes = [int(size) for size in inputs[1].ravel()]
    if not attributes.get("allowzero", 0):
        sizes = [data.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    return data.reshape(sizes)


def _concat(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    return np.concatenate([np.atleast_1d(each) for each in inputs], axis=attributes["axis"])


def _transpose(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    return inputs[0].transpose(attributes.get("perm"))


def _expand(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(map(int, inputs[1].ravel())))
    _check(shape)
    return np.broadcast_to(inputs[0], shape)


def _constant_of_shape(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    shape = tuple(map(int, inputs[0].ravel()))
    _check(shape)
    value = attributes.get("value", np.zeros(1, np.float32))
    return np.full(shape, value.ravel()[0], value.dtype)


def _shape(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    return np.array(inputs[0].shape, np.int64)[attributes.get("start", 0) : attributes.get("end")]


def _cast(inputs: Inputs, attributes: Attributes) -> np.ndarray:
    import onnx

    return inputs[0].astype(onnx.helper.tensor_dtype_to_np_dtype(attributes["to"]))


#: The operators that are computed here if all their inputs are constants.
FOLDED: dict[str, Callable[[Inputs, Attributes], np.ndarray]] = {
    "Identity": lambda inputs, attributes: inputs[0],
    "Cast": _cast,
    "Shape": _shape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Reshape": _reshape,
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(_divide),
    "Neg": _arithmetic(np.negative),
    "Sqrt": _arithmetic(np.sqrt),
    "Reciprocal": _arithmetic(np.reciprocal),
}
