"""Reads ONNX's operators of matrix products, and of constants that scale and shift."""

from __future__ import annotations

import numpy as np

from ...conv import Conv2D
from ...dense import Dense, Flatten
from ...foreign import Item
from .call import Call
from .flow import Flow


def flattened(call: Call, flow: Flow) -> Flow:
    """Each example of images as one vector."""
    if flow.is_vector:
        return flow
    size = int(np.prod(flow.shape))
    item = Item(call.title, (flow.item,), "layer", (size,), Flatten())
    return Flow("F", (size,), item, flow.flattened_order())


def _product(call: Call, flow: Flow, weight: np.ndarray) -> Flow:
    """``x weight`` with `weight` as ``(features, units)`` in the file's order."""
    if weight.ndim != 2:
        call.refuse(f"its weight has {weight.ndim} axes; a Dense layer's has 2")
    if flow.is_vector:
        if weight.shape[0] != flow.shape[0]:
            call.refuse(f"its weight has {weight.shape[0]} rows for {flow.shape[0]} features")
        made = call.emit(flow, Dense(weight.shape[1], bias=False), {"weight": flow.in_order(weight)})
        return Flow("F", made.shape, made.item)
    if not flow.arranged("HWC") or weight.shape[0] != flow.shape[2]:
        call.refuse("multiplies images along another axis than the channels: put a Flatten before it")
    return call.emit(flow, Conv2D(weight.shape[1], 1, bias=False), {"weight": weight[np.newaxis, np.newaxis]})


def matmul(call: Call) -> Flow:
    """MatMul: a Dense layer without bias, or a 1×1 convolution of images whose channels are last."""
    if not isinstance(call.value(0), Flow):
        call.refuse("multiplies from the left; only x times a constant matrix is a Dense layer")
    return _product(call, call.flow(), call.constant(1))


def gemm(call: Call) -> Flow:
    """Gemm: a Dense layer."""
    if call.get("transA", 0):
        call.refuse("takes its input transposed, which no layer does")
    flow, weight = call.flow(), call.constant(1)
    if not flow.is_vector:
        call.refuse("takes vectors, not images: put a Flatten before it")
    weight = weight.T if call.get("transB", 0) else weight
    made = _product(call, flow, weight * weight.dtype.type(call.get("alpha", 1.0)))
    bias = call.optional(2)
    if bias is None:
        return made
    return call.affine(made, np.ones(1), _vector(call, made, bias) * call.get("beta", 1.0))


def _vector(call: Call, flow: Flow, constant: np.ndarray) -> np.ndarray:
    """A constant that is combined with `flow` number by number: one number for each channel, or one for all."""
    sizes = [1, *flow.sizes]
    if constant.ndim > len(sizes):
        call.refuse(f"its constant has {constant.ndim} axes, its other input {len(sizes)}")
    values = constant.reshape((1,) * (len(sizes) - constant.ndim) + constant.shape).astype(np.float64)
    channel = "F" if flow.is_vector else "C"
    place = flow.axes.find(channel) + 1
    for axis, size in enumerate(values.shape):
        if size != 1 and (axis == 0 or size != sizes[axis]):
            call.refuse(f"its constant of shape {constant.shape} does not fit its other input")
        if size != 1 and (axis != place or not place):
            if (values != values.take([0], axis)).any():
                call.refuse("its constant differs from pixel to pixel; it must be one number for each channel")
            values = values.take([0], axis)
    return flow.in_order(values.ravel()) if values.size > 1 else values.ravel()


def _with_constant(call: Call) -> tuple[Flow, np.ndarray, bool]:
    """The value, the constant, and whether the constant is the first input."""
    first = not isinstance(call.value(0), Flow)
    flow = call.flow(1 if first else 0)
    return flow, _vector(call, flow, call.constant(0 if first else 1)), first


def _both_flow(call: Call) -> bool:
    return isinstance(call.value(0), Flow) and isinstance(call.value(1), Flow)


def add(call: Call) -> Flow:
    """Add: with a constant, a shift; with two values, a join of branches."""
    if _both_flow(call):
        return join_add(call)
    flow, constant, _ = _with_constant(call)
    return call.affine(flow, np.ones(1), constant)


def join_add(call: Call) -> Flow:
    """The sum of branches."""
    flows = [call.flow(place) for place in range(len(call))]
    for flow in flows[1:]:
        same = flow.order is flows[0].order or (
            flow.order is not None and flows[0].order is not None and np.array_equal(flow.order, flows[0].order)
        )
        arranged = flow.axes == "F" or flow.arranged(flows[0].axes)
        if flow.shape != flows[0].shape or flow.is_vector != flows[0].is_vector or not same or not arranged:
            call.refuse(f"adds values of different shapes, {flows[0].shape} and {flow.shape}: they must be alike")
    return Flow(
        flows[0].axes,
        flows[0].shape,
        Item(call.title, tuple(flow.item for flow in flows), "add", flows[0].shape),
        flows[0].order,
    )


def subtract(call: Call) -> Flow:
    """Sub of a constant, or from one."""
    if _both_flow(call):
        call.refuse("subtracts two values that both depend on the images; one must be a constant, or the node an Add")
    flow, constant, first = _with_constant(call)
    return call.affine(flow, -np.ones(1), constant) if first else call.affine(flow, np.ones(1), -constant)


def multiply(call: Call) -> Flow:
    """Mul by a constant."""
    if _both_flow(call):
        call.refuse("multiplies two values that both depend on the images; one must be a constant")
    flow, constant, _ = _with_constant(call)
    return call.affine(flow, constant, np.zeros(1))


def divide(call: Call) -> Flow:
    """Div by a constant."""
    if _both_flow(call):
        call.refuse("divides two values that both depend on the images; the divisor must be a constant")
    flow, constant, first = _with_constant(call)
    if first or (constant == 0).any():
        call.refuse("divides by the images or by 0; the divisor must be a constant other than 0")
    return call.affine(flow, 1 / constant, np.zeros(1))


def negate(call: Call) -> Flow:
    """Neg."""
    return call.affine(call.flow(), -np.ones(1), np.zeros(1))
