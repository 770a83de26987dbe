"""Turns each layer of Keras into layers of pyconv: one function a layer, and the table of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pyconv.errors import short, shown

from ..activation import ReLU
from ..activations import Clip, LeakyReLU, ReLU6, Sigmoid, Tanh
from ..conv import Conv2D
from ..dense import Dense, Flatten
from ..dropout import Dropout
from ..foreign import Item
from ..global_pool import GlobalAvgPool2D
from ..norm import BatchNorm
from ..pooling import AvgPool2D, MaxPool2D
from ..separable import SeparableConv2D
from ..zero_pad import ZeroPad2D
from .entry import Entry, Value

#: Keras does not add this to the variance, but uses no smaller deviation.
SMALLEST_DEVIATION = 1e-7
#: The slopes of Keras if a file names none.
SLOPE_OF_LAYER, SLOPE_OF_ACTIVATION = 0.3, 0.2


def _nothing(entry: Entry) -> Value:
    """A layer that changes nothing in inference; pyconv trains without it."""
    return entry.value


def activated(entry: Entry, value: Value) -> Value:
    """The result of a layer's own activation."""
    name = entry.get("activation")
    layers = {
        "relu": ReLU(), "relu6": ReLU6(), "sigmoid": Sigmoid(), "tanh": Tanh(),
        "leaky_relu": LeakyReLU(SLOPE_OF_ACTIVATION),
    }  # fmt: skip
    if name is None or name == "linear":
        return value
    if name == "softmax":
        return _softmax_of(entry, value)
    if not isinstance(name, str) or name not in layers:
        entry.refuse(
            f"its activation {shown(name)} has none here; those that have: linear, softmax, {', '.join(layers)}"
        )
    return entry.emit(value, layers[name])


def _softmax_of(entry: Entry, value: Value) -> Value:
    if len(value.shape) != 1:
        entry.refuse("takes the softmax of other values than one vector of logits for each image")
    return entry.note(value, "softmax")


def _activation(entry: Entry) -> Value:
    return activated(entry, entry.value)


def _softmax(entry: Entry) -> Value:
    if entry.get("axis", -1) not in (-1, 1, [-1], [1]):
        entry.refuse("takes the softmax along another axis than the last")
    return _softmax_of(entry, entry.value)


def _relu(entry: Entry) -> Value:
    most, slope, threshold = entry.get("max_value"), entry.number("negative_slope", 0.0), entry.number("threshold", 0.0)
    if threshold or (slope and most is not None) or slope < 0:
        entry.refuse("has a threshold, a negative slope, or both a slope and a maximum; it must be a ReLU or LeakyReLU")
    if slope:
        return entry.emit(entry.value, LeakyReLU(slope))
    if most is None:
        return entry.emit(entry.value, ReLU())
    limit = entry.number("max_value", 6.0)
    if limit <= 0:
        entry.refuse(f"its max_value is {limit:g}; it must be above 0")
    return entry.emit(entry.value, ReLU6() if limit == 6 else Clip(0.0, limit))


def _leaky_relu(entry: Entry) -> Value:
    slope = entry.number("negative_slope", entry.number("alpha", SLOPE_OF_LAYER))
    if slope < 0:
        entry.refuse(f"its slope is {slope:g}; it must be at least 0")
    return entry.emit(entry.value, LeakyReLU(slope))


def _bias(entry: Entry) -> bool:
    return bool(entry.get("use_bias", True))


def _convolution(entry: Entry) -> dict[str, Any]:
    """What all convolutions say alike."""
    return {
        "stride": entry.pair("strides", 1),
        "padding": entry.padding(),
        "dilation": entry.pair("dilation_rate", 1),
        "bias": _bias(entry),
    }


def _conv(entry: Entry) -> Value:
    value, filters, groups = entry.images, entry.whole("filters"), entry.whole("groups")
    layer = Conv2D(
        filters,
        entry.pair("kernel_size"),
        groups=groups,
        **_convolution(entry),
    )
    shapes = {name: parameter.shape for name, parameter in layer.parameters(value.shape).items()}
    return activated(entry, entry.emit(value, layer, entry.weights(shapes)))


def _depthwise(entry: Entry) -> Value:
    value, times = entry.images, entry.whole("depth_multiplier")
    channels, kernel = value.shape[2], entry.pair("kernel_size")
    layer = Conv2D(
        channels * times,
        kernel,
        groups=channels,
        **_convolution(entry),
    )
    kh, kw, _, filters = layer.weight_shape(value.shape)
    shapes: dict[str, tuple[int, ...]] = {"weight": (kh, kw, channels, times)}
    if layer.bias:
        shapes["bias"] = (filters,)
    found = entry.weights(shapes)
    found["weight"] = found["weight"].reshape(kh, kw, 1, filters)
    return activated(entry, entry.emit(value, layer, found))


def _separable(entry: Entry) -> Value:
    value, times, filters = entry.images, entry.whole("depth_multiplier"), entry.whole("filters")
    channels = value.shape[2]
    layer = SeparableConv2D(
        filters,
        entry.pair("kernel_size"),
        depth_multiplier=times,
        **_convolution(entry),
    )
    known = {name: parameter.shape for name, parameter in layer.parameters(value.shape).items()}
    kh, kw = known["depthwise"][:2]
    found = entry.weights({**known, "depthwise": (kh, kw, channels, times)})
    found["depthwise"] = found["depthwise"].reshape(known["depthwise"])
    return activated(entry, entry.emit(value, layer, found))


def _dense(entry: Entry) -> Value:
    value, units = entry.value, entry.whole("units")
    bias: dict[str, tuple[int, ...]] = {"bias": (units,)} if _bias(entry) else {}
    found = entry.weights({"weight": (value.shape[-1], units), **bias})
    if len(value.shape) == 1:
        made = entry.emit(value, Dense(units, bias=bool(bias)), found)
    else:  # along the last axis: a 1×1 convolution
        found["weight"] = found["weight"][np.newaxis, np.newaxis]
        made = entry.emit(value, Conv2D(units, 1, bias=bool(bias)), found)
    return activated(entry, made)


def _batch_norm(entry: Entry) -> Value:
    value, axis = entry.value, entry.get("axis", -1)
    if axis not in (-1, len(value.shape), [-1], [len(value.shape)]):
        entry.refuse(f"normalises along axis {shown(axis)}; it must be the last, of channels")
    if entry.get("renorm") or entry.get("synchronized"):
        entry.refuse("is of a kind that has no layer here: renorm or synchronized")
    channels = (value.shape[-1],)
    names = {"gamma": entry.get("scale", True), "beta": entry.get("center", True)}
    shapes = dict.fromkeys([name for name, there in names.items() if there], channels)
    found = entry.weights({**shapes, "running_mean": channels, "running_var": channels})
    found = {"gamma": np.ones(channels), "beta": np.zeros(channels), **found}
    momentum = round(1 - entry.number("momentum", 0.99), 9)
    if not 0 < momentum <= 1:
        entry.refuse(f"its momentum is {1 - momentum:g}; it must be at least 0 and below 1")
    return entry.emit(value, BatchNorm(eps=entry.number("epsilon", 1e-3), momentum=momentum), found)


def _rescaling(entry: Entry) -> Value:
    channels = entry.value.shape[-1]
    return entry.affine(entry.value, entry.vector("scale", channels, 1.0), entry.vector("offset", channels, 0.0))


def _normalization(entry: Entry) -> Value:
    value, axis = entry.value, entry.get("axis", -1)
    channels = value.shape[-1]
    if axis not in (-1, len(value.shape), [-1], [len(value.shape)], None, []):
        entry.refuse(f"normalises along axis {shown(axis)}; it must be the last, of channels")
    if entry.get("mean") is not None:
        mean, variance = entry.vector("mean", channels, 0.0), entry.vector("variance", channels, 1.0)
    else:
        shape: tuple[int, ...] = (channels,) if axis not in (None, []) else ()
        found = entry.weights({"mean": shape, "variance": shape, "count": ()})
        mean, variance = (found[name].astype(np.float64).ravel() for name in ("mean", "variance"))
    if (variance < 0).any():
        entry.refuse("has a variance below 0")
    deviation = np.maximum(np.sqrt(variance), SMALLEST_DEVIATION)
    if entry.get("invert"):
        return entry.affine(value, deviation, mean)
    return entry.affine(value, 1 / deviation, -mean / deviation)


def _pool(kind: type[MaxPool2D] | type[AvgPool2D]) -> Callable[[Entry], Value]:
    def read(entry: Entry) -> Value:
        value, size = entry.images, entry.pair("pool_size", 2)
        stride = None if entry.get("strides") is None else entry.pair("strides")
        return entry.emit(value, kind(size, stride=None if stride == size else stride, padding=entry.padding()))

    return read


def _global_average(entry: Entry) -> Value:
    value = entry.images
    h, w, _ = value.shape
    return entry.emit(value, AvgPool2D((h, w)) if entry.get("keepdims") else GlobalAvgPool2D())


def _global_max(entry: Entry) -> Value:
    value = entry.images
    h, w, _ = value.shape
    made = entry.emit(value, MaxPool2D((h, w)))
    return made if entry.get("keepdims") else entry.emit(made, Flatten())


def _flatten(entry: Entry) -> Value:
    value = entry.value
    if entry.get("data_format", "channels_last") not in (None, "channels_last"):
        entry.refuse("has the channels first; build the model with data_format='channels_last'")
    return entry.emit(value, Flatten()) if len(value.shape) == 3 else value


def _reshape(entry: Entry) -> Value:
    value, target = entry.value, entry.get("target_shape")
    before = list(value.shape[:2] if value.gray else value.shape)
    size = int(np.prod(before))
    if not isinstance(target, list) or not all(type(each) is int for each in target):
        entry.refuse(f"its target_shape is {shown(target)}; it must be integers")
    known = int(np.prod([each for each in target if each != -1]))
    after = [size // known if each == -1 and known > 0 else each for each in target]
    if after == before:
        return value
    if after == list(value.shape):
        return Value(value.shape, value.item)
    if after == [size] and len(value.shape) == 3:
        return entry.emit(value, Flatten())
    entry.refuse(f"reshapes {tuple(before)} to {tuple(after)}; the result must be one vector for each image")


def _zero_padding(entry: Entry) -> Value:
    value, told = entry.images, entry.get("padding", 1)
    pads = [told, told] if isinstance(told, int) else told
    if isinstance(pads, list) and len(pads) == 2:
        pads = [[each, each] if isinstance(each, int) else each for each in pads]
    if not isinstance(pads, list) or not all(
        isinstance(each, list) and len(each) == 2 and all(type(one) is int and one >= 0 for one in each)
        for each in pads
    ) or len(pads) != 2:  # fmt: skip
        entry.refuse(f"its padding is {shown(told)}; it must be integers of at least 0")
    (top, bottom), (left, right) = pads
    layer = ZeroPad2D(((top, bottom), (left, right)))
    shape = entry.emit(value, layer).shape
    return entry.note(value, "pads", shape, pads=((top, bottom), (left, right)))


def _dropout(entry: Entry) -> Value:
    rate = entry.number("rate", 0.5)
    if not 0 <= rate < 1:
        entry.refuse(f"its rate is {rate:g}; it must be at least 0 and below 1")
    if entry.get("noise_shape") is not None:
        entry.refuse("drops whole axes (noise_shape), which no layer here does")
    made = entry.emit(entry.value, Dropout(rate)) if rate else entry.value
    return Value(made.shape, made.item, entry.value.gray)


def _joined(entry: Entry, kind: str, shape: tuple[int, ...]) -> Value:
    item = Item(entry.title, tuple(value.item for value in entry.values), kind, shape)
    return Value(shape, item)


def _add(entry: Entry) -> Value:
    shapes = [value.shape for value in entry.values]
    if len(shapes) < 2 or any(shape != shapes[0] for shape in shapes):
        entry.refuse(f"adds values of the shapes {', '.join(map(str, shapes))}; they must be two or more of one shape")
    return _joined(entry, "add", shapes[0])


def _concatenate(entry: Entry) -> Value:
    shapes = [value.shape for value in entry.values]
    axis = entry.get("axis", -1)
    if len(shapes) < 2 or axis not in (-1, len(shapes[0])) or any(shape[:-1] != shapes[0][:-1] for shape in shapes):
        entry.refuse(f"joins {', '.join(map(str, shapes))} along axis {shown(axis)}; it must be the last, of channels")
    return _joined(entry, "concat", (*shapes[0][:-1], sum(shape[-1] for shape in shapes)))


#: For each class, the function that makes a layer's result.
LAYERS: Mapping[str, Callable[[Entry], Value]] = {
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "BatchNormalization": _batch_norm,
    "Activation": _activation,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "Softmax": _softmax,
    "MaxPooling2D": _pool(MaxPool2D),
    "AveragePooling2D": _pool(AvgPool2D),
    "GlobalAveragePooling2D": _global_average,
    "GlobalMaxPooling2D": _global_max,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "ZeroPadding2D": _zero_padding,
    "Dropout": _dropout,
    "Add": _add,
    "Concatenate": _concatenate,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
}

#: Layers that change nothing in inference; pyconv trains without them.
LEFT_OUT: tuple[str, ...] = (
    "ActivityRegularization", "GaussianDropout", "GaussianNoise", "RandomBrightness", "RandomContrast", "RandomFlip",
    "RandomRotation", "RandomTranslation", "RandomZoom", "SpatialDropout2D",
)  # fmt: skip

#: The layers that take images without an axis for their one channel.
TAKE_GRAY = ("Flatten", "Reshape", "Rescaling", "Dropout")


def result(entry: Entry) -> Value:
    """The result of a layer.

    Raises
    ------
    CheckpointError
        If pyconv has no such layer; the message names it.
    """
    if entry.kind in LEFT_OUT:
        return _nothing(entry)
    if entry.kind not in LAYERS:
        known = short(", ".join(LAYERS), 160)
        entry.refuse(f"has no layer here, and no code of a file is run; those that have: {known}")
    if any(value.gray for value in entry.values) and entry.kind not in TAKE_GRAY:
        entry.refuse("takes images without an axis for the channels; build the model with (height, width, 1)")
    return LAYERS[entry.kind](entry)
