"""Reads each ONNX operator: one function an operator, and the table of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...activation import ReLU
from ...activations import Clip, LeakyReLU, ReLU6, Sigmoid, Tanh
from ...dropout import Dropout
from ...foreign import Item
from ...norm import BatchNorm
from . import dense, pooling
from .call import Call
from .flow import Flow

MOMENTUM = 0.1  # for a BatchNorm whose file has no momentum, because it was exported for inference


def _same(call: Call) -> Flow:
    """An operator that changes nothing here."""
    return call.flow()


def _relu(call: Call) -> Flow:
    return call.emit(call.flow(), ReLU())


def _leaky_relu(call: Call) -> Flow:
    slope = decimal(float(call.get("alpha", 0.01)))
    if slope < 0:
        call.refuse(f"its alpha is {slope}; it must be at least 0")
    return call.emit(call.flow(), LeakyReLU(slope))


def _clip(call: Call) -> Flow:
    bounds = []
    for name, place in (("min", 1), ("max", 2)):
        bound = call.setting(name, place)
        number = None if bound is None else float(np.ravel(bound)[0])
        most = float(np.finfo(np.float32).max)
        bounds.append(None if number is None or abs(number) >= most else number)
    low, high = bounds
    if low is None and high is None:
        return call.flow()
    if low == 0 and high is None:
        return call.emit(call.flow(), ReLU())
    if low is not None and high is not None and low >= high:
        call.refuse(f"clips to {low} ... {high}; the first must be below the second")
    return call.emit(call.flow(), ReLU6() if (low, high) == (0, 6) else Clip(low, high))


def _sigmoid(call: Call) -> Flow:
    return call.emit(call.flow(), Sigmoid())


def _tanh(call: Call) -> Flow:
    return call.emit(call.flow(), Tanh())


def _softmax(call: Call) -> Flow:
    flow = call.flow()
    axis = int(call.get("axis", -1 if call.opset >= 13 else 1))
    if not flow.is_vector or axis not in (1, -1):
        call.refuse("takes the softmax of other values than one vector of logits for each image")
    return call.note(flow, "softmax")


def _dropout(call: Call) -> Flow:
    if len(call.node.output) > 1 and call.node.output[1]:
        call.refuse("gives its mask too, which no layer here takes")
    rate = float(np.ravel(call.setting("ratio", 1, 0.5))[0])
    if not 0 <= rate < 1:
        call.refuse(f"its ratio is {rate}; it must be at least 0 and below 1")
    return call.emit(call.flow(), Dropout(rate)) if rate else call.flow()


def _batch_norm(call: Call) -> Flow:
    flow = call.flow()
    if call.get("training_mode", 0) or (len(call.node.output) > 1 and any(call.node.output[1:])):
        call.refuse("is in training mode; export the model in inference (model.eval() in PyTorch)")
    if call.get("spatial", 1) != 1:
        call.refuse("has statistics for each pixel; there must be one for each channel")
    if not flow.is_vector:
        flow = call.images()
    names = ("gamma", "beta", "running_mean", "running_var")
    values = {name: flow.in_order(call.constant(place + 1)) for place, name in enumerate(names)}
    momentum = 1 - float(call.get("momentum", 0.9))
    momentum = round(momentum, 6) if 0 < momentum <= 1 else MOMENTUM
    return call.emit(flow, BatchNorm(eps=decimal(float(call.get("epsilon", 1e-5))), momentum=momentum), values)


def decimal(number: float) -> float:
    """A float32 that was widened, as it was typed: 1e-05 instead of 9.999999747378752e-06."""
    return float(f"{number:.6g}")


def _flatten(call: Call) -> Flow:
    flow = call.flow()
    axis = int(call.get("axis", 1)) % (len(flow.axes) + 1)
    if axis != 1:
        call.refuse("flattens from another axis than 1, the first after the batch")
    return dense.flattened(call, flow)


def resized(call: Call, flow: Flow, sizes: list[int]) -> Flow:
    """The same numbers in a value of other `sizes`: as one axis, or with axes of size 1 added or removed."""
    if flow.is_vector:
        if [size for size in sizes if size != 1] == [size for size in flow.shape if size != 1] and len(sizes) == 1:
            return flow
        call.refuse(f"makes images of shape {sizes} of vectors, which no layer here does")
    if len(sizes) == 1:
        return dense.flattened(call, flow)
    axes = flow.labelled(sizes)
    if axes is None:
        call.refuse(f"reshapes images of {flow.sizes} to {sizes}; the result must be one vector for each image")
    return Flow(axes, flow.shape, flow.item)


def _unsqueeze(call: Call) -> Flow:
    flow = call.flow()
    sizes, told = [1, *flow.sizes], call.setting("axes", 1)
    count = len(sizes) + np.size(told)
    places = sorted(int(axis) % count for axis in np.ravel(told))
    if 0 in places:
        call.refuse("puts an axis before the batch")
    for place in places:
        sizes.insert(place, 1)
    return resized(call, flow, sizes[1:])


def _squeeze(call: Call) -> Flow:
    flow = call.flow()
    told = call.setting("axes", 1)
    sizes = [2, *flow.sizes]
    places = range(1, len(sizes)) if told is None else [int(axis) % len(sizes) for axis in np.ravel(told)]
    left = [size for place, size in enumerate(sizes) if place not in places or (told is None and size != 1)]
    if 0 in places or any(sizes[place] != 1 for place in places if told is not None):
        call.refuse("takes away the batch, or an axis that is not of size 1")
    return resized(call, flow, left[1:])


def _transpose(call: Call) -> Flow:
    flow = call.flow()
    places = list(call.get("perm", range(len(flow.axes), -1, -1)))
    if sorted(places) != list(range(len(flow.axes) + 1)) or places[0] != 0:
        call.refuse(f"its perm is {places}; the batch must stay first")
    return Flow("".join(flow.axes[place - 1] for place in places[1:]), flow.shape, flow.item, flow.order)


def _concat(call: Call) -> Flow:
    flows = [call.flow(place) for place in range(len(call))]
    first = flows[0]
    axis = int(call.get("axis", 1)) % (len(first.axes) + 1)
    channels = "F" if first.is_vector else "C"
    if axis == 0 or first.axes[axis - 1] != channels:
        call.refuse("joins along another axis than the channels")
    for flow in flows[1:]:
        if flow.axes != first.axes or flow.shape[:-1] != first.shape[:-1]:
            call.refuse(f"joins values of different shapes, {first.shape} and {flow.shape}")
    if len(flows) == 1:
        return first
    order = None
    if any(flow.order is not None for flow in flows):
        starts = np.cumsum([0, *(flow.shape[0] for flow in flows)])
        each = [np.arange(flow.shape[0]) if flow.order is None else flow.order for flow in flows]
        order = np.concatenate([start + places for start, places in zip(starts, each)])
    shape = (*first.shape[:-1], sum(flow.shape[-1] for flow in flows))
    return Flow(first.axes, shape, Item(call.title, tuple(flow.item for flow in flows), "concat", shape), order)


def _gather(call: Call) -> Flow:
    """Gather that puts the features of vectors into another order."""
    flow, places = call.flow(), call.constant(1)
    if not flow.is_vector or call.get("axis", 0) not in (1, -1) or places.ndim != 1:
        call.refuse("takes some of its input's numbers; it must take all features of vectors, in any order")
    if not np.array_equal(np.sort(places), np.arange(flow.shape[0])):
        call.refuse("takes some of its input's features; it must take all of them, in any order")
    order = places if flow.order is None else flow.order[places]
    return Flow("F", flow.shape, flow.item, None if np.array_equal(order, np.sort(order)) else order)


def _sum(call: Call) -> Flow:
    if len(call) == 1:
        return call.flow()
    return dense.add(call) if len(call) == 2 else dense.join_add(call)


#: By operator, the function that makes its result. Reshape and Shape, which depend on the batch, are in network.py.
OPERATORS: dict[str, Callable[[Call], Flow]] = {
    "Conv": pooling.conv,
    "MaxPool": pooling.max_pool,
    "AveragePool": pooling.average_pool,
    "GlobalAveragePool": pooling.global_average,
    "GlobalMaxPool": pooling.global_max,
    "ReduceMean": pooling.reduce_mean,
    "ReduceMax": pooling.reduce_max,
    "Pad": pooling.pad,
    "BatchNormalization": _batch_norm,
    "Relu": _relu,
    "LeakyRelu": _leaky_relu,
    "Clip": _clip,
    "Sigmoid": _sigmoid,
    "Tanh": _tanh,
    "Softmax": _softmax,
    "LogSoftmax": _softmax,
    "Dropout": _dropout,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _same,
    "Cast": _same,
    "Gemm": dense.gemm,
    "MatMul": dense.matmul,
    "Add": dense.add,
    "Sum": _sum,
    "Sub": dense.subtract,
    "Mul": dense.multiply,
    "Div": dense.divide,
    "Neg": dense.negate,
    "Concat": _concat,
    "Gather": _gather,
}
