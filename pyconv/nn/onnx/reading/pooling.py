"""Reads ONNX's operators of convolution, pooling and padding, whose windows can be given in many ways."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...conv import Conv2D
from ...foreign import Item
from ...pooling import AvgPool2D, MaxPool2D
from ...zero_pad import ZeroPad2D
from .call import Call
from .dense import flattened
from .flow import Flow

Pads = tuple[tuple[int, int], tuple[int, int]]


def _two(call: Call, name: str, default: Any = None) -> tuple[int, int]:
    """An attribute with a number for each of height and width."""
    values = call.get(name, default)
    if values is None or len(values) != 2:
        call.refuse(f"its {name} is {list(values) if values is not None else None}; images have two axes")
    return int(values[0]), int(values[1])


def _pads(call: Call, flow: Flow, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Pads:
    """The padding around the images, in whichever way it is given."""
    mode = call.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", "VALID", ""):
        told = [0, 0, 0, 0] if mode == "VALID" else [int(each) for each in call.get("pads", [0, 0, 0, 0])]
        if len(told) != 4 or min(told) < 0:
            call.refuse(f"its pads are {told}; they must be four numbers of at least 0")
        return (told[0], told[2]), (told[1], told[3])
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        call.refuse(f"its auto_pad is {mode!r}; it must be NOTSET, VALID, SAME_UPPER or SAME_LOWER")
    pads = []
    for size, reach, step in zip(
        flow.shape[:2], ((k - 1) * d + 1 for k, d in zip(kernel, dilation)), stride, strict=True
    ):
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        few, many = total // 2, total - total // 2
        pads.append((few, many) if mode == "SAME_UPPER" else (many, few))
    return pads[0], pads[1]


def conv(call: Call) -> Flow:
    """Conv in two dimensions."""
    weight, bias = call.constant(1), call.optional(2)
    if weight.ndim != 4:
        call.refuse(f"convolves in {weight.ndim - 2} dimensions; only 2 can be read")
    flow = call.images()
    kernel = (weight.shape[2], weight.shape[3])
    if "kernel_shape" in call.attributes and _two(call, "kernel_shape") != kernel:
        call.refuse(f"its kernel_shape is {_two(call, 'kernel_shape')}, its weight is of {kernel}")
    stride, dilation = _two(call, "strides", (1, 1)), _two(call, "dilations", (1, 1))
    layer = Conv2D(
        weight.shape[0],
        _plain(kernel),
        stride=_plain(stride),
        dilation=_plain(dilation),
        padding=_padding(_pads(call, flow, kernel, stride, dilation)),
        groups=int(call.get("group", 1)),
        bias=bias is not None,
    )
    values = {"weight": weight.transpose(2, 3, 1, 0)}
    if bias is not None:
        values["bias"] = bias
    return call.emit(flow, layer, values)


def _plain(pair: tuple[int, int]) -> int | tuple[int, int]:
    """One number instead of two equal ones, as one would write it."""
    return pair[0] if pair[0] == pair[1] else pair


def _padding(pads: Pads) -> int | tuple[int, int] | Pads:
    (top, bottom), (left, right) = pads
    return _plain((top, left)) if top == bottom and left == right else pads


def _windows(call: Call) -> tuple[Flow, tuple[int, int], tuple[int, int], Pads]:
    """Images, kernel, stride and pads of a pooling, with the extra padding that rounding up needs."""
    flow = call.images()
    kernel, stride = _two(call, "kernel_shape"), _two(call, "strides", (1, 1))
    if _two(call, "dilations", (1, 1)) != (1, 1):
        call.refuse("pools with dilation; only convolutions can have one")
    if len(call.node.output) > 1 and call.node.output[1]:
        call.refuse("gives the places of the maxima too, which no layer here takes")
    if min(kernel) < 1 or min(stride) < 1:
        call.refuse(f"its kernel is {kernel} and its strides are {stride}; they must be above 0")
    pads = _pads(call, flow, kernel, stride, (1, 1))
    same = call.get("auto_pad", "NOTSET") in ("SAME_UPPER", "SAME_LOWER")
    if same and any((-(-size // step) - 1) * step + k < size for size, k, step in zip(flow.shape, kernel, stride)):
        call.refuse("leaves out pixels at the border, where runtimes disagree: give pads instead of auto_pad")
    if call.get("ceil_mode", 0) and not same:
        rounded = [_rounded_up(*each) for each in zip(flow.shape[:2], kernel, stride, pads, strict=True)]
        pads = rounded[0], rounded[1]
    return flow, kernel, stride, pads


def _rounded_up(size: int, kernel: int, stride: int, pads: tuple[int, int]) -> tuple[int, int]:
    """Pads that give as many windows as rounding up: the last window begins in the image or the padding before it."""
    before, after = pads
    count = -(-(size + before + after - kernel) // stride) + 1
    if (count - 1) * stride >= size + before:
        count -= 1
    return before, max((count - 1) * stride + kernel - size - before, 0)


def max_pool(call: Call) -> Flow:
    """MaxPool in two dimensions."""
    flow, kernel, stride, pads = _windows(call)
    return call.emit(flow, MaxPool2D(_plain(kernel), stride=_plain(stride), padding=_padding(pads)))


def average_pool(call: Call) -> Flow:
    """AveragePool in two dimensions; pixels of the padding count only if the node says so."""
    flow, kernel, stride, pads = _windows(call)
    if call.get("count_include_pad", 0):
        own = _pads(call, flow, kernel, stride, (1, 1))
        if own != ((0, 0), (0, 0)):  # padding that counts: these zeros are pixels of a larger image
            flow = call.emit(flow, ZeroPad2D(_padding(own)))
            pads = tuple((0, max(now[1] - told[1], 0)) for now, told in zip(pads, own))  # type: ignore[assignment]
    return call.emit(flow, AvgPool2D(_plain(kernel), stride=_plain(stride), padding=_padding(pads)))


def global_average(call: Call) -> Flow:
    """GlobalAveragePool, as one window; tidy.py makes it a layer of its own if vectors follow."""
    flow = call.images()
    return call.emit(flow, AvgPool2D(_plain((flow.shape[0], flow.shape[1]))))


def global_max(call: Call) -> Flow:
    """GlobalMaxPool."""
    flow = call.images()
    return call.emit(flow, MaxPool2D(_plain((flow.shape[0], flow.shape[1]))))


def reduce_mean(call: Call) -> Flow:
    """ReduceMean over height and width."""
    return _reduced(call, AvgPool2D, "mean")


def reduce_max(call: Call) -> Flow:
    """ReduceMax over height and width."""
    return _reduced(call, MaxPool2D, "maximum")


def _reduced(call: Call, pool: type[AvgPool2D] | type[MaxPool2D], what: str) -> Flow:
    flow, told = call.flow(), call.setting("axes", 1)
    count = len(flow.axes) + 1
    axes = sorted(int(axis) % count for axis in np.ravel(told)) if told is not None else []
    letters = {flow.axes[axis - 1] for axis in axes if axis}
    if flow.is_vector or 0 in axes or letters | {a for a in "HW" if flow.size(a) == 1} != set("HW"):
        call.refuse(f"takes the {what} over other axes than height and width")
    made = call.emit(flow, pool(_plain((flow.shape[0], flow.shape[1]))))
    if call.get("keepdims", 1):
        return made
    left = "".join(axis for axis in flow.axes if axis not in letters)
    made = Flow(left, made.shape, made.item)
    return flattened(call, made) if len(left) == 1 else made


def pad(call: Call) -> Flow:
    """Pad with zeros; tidy.py makes it a convolution's padding if one follows.

    Before a MaxPool it may also pad with the edge or with -inf: neither changes a maximum, and MaxPool2D's padding
    does not either.
    """
    flow = call.flow()
    mode, value = call.get("mode", "constant"), call.setting("value", 2, 0.0)
    number = float(np.ravel(value)[0]) if np.size(value) else 0.0
    lowest = float(np.finfo(np.float32).min)
    border = mode == "edge" or (mode == "constant" and number <= lowest)
    if not border and (mode != "constant" or number != 0):
        call.refuse(f"pads with mode {mode!r} or another number than 0; it must pad with zeros")
    told = [int(each) for each in np.ravel(call.setting("pads", 1, []))]
    count = len(flow.axes) + 1
    chosen = call.optional(3)
    axes = list(range(count)) if chosen is None else [int(axis) % count for axis in chosen]
    if len(told) != 2 * len(axes) or min(told, default=0) < 0:
        call.refuse(f"its pads are {told}; they must be two numbers of at least 0 for each axis")
    around = {"H": (0, 0), "W": (0, 0)}
    for place, axis in enumerate(axes):
        pair = told[place], told[place + len(axes)]
        letter = flow.axes[axis - 1] if axis else "N"
        if letter in around:
            around[letter] = pair
        elif pair != (0, 0):
            call.refuse("pads other axes than height and width")
    pads = around["H"], around["W"]
    if pads == ((0, 0), (0, 0)):
        return flow
    shape = ZeroPad2D(pads).output_shape(flow.shape)
    item = Item(call.title, (flow.item,), "border" if border else "pads", shape, pads=pads)
    return Flow(flow.axes, shape, item, flow.order)
