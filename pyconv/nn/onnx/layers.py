"""The ONNX nodes of each layer: one function a layer, and the table of them.

Images are NCHW in the graph and NHWC in pyconv. A Flatten does not reorder anything in the graph, but it leaves a note:
arrays whose first axis runs over the features after it are written with their rows in NCHW order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..activation import ReLU
from ..activations import Clip, LeakyReLU, ReLU6, Sigmoid, Tanh
from ..conv import Conv2D
from ..dense import Dense, Flatten
from ..dropout import Dropout
from ..global_pool import GlobalAvgPool2D
from ..layer import Layer, Shape
from ..norm import BatchNorm
from ..pooling import AvgPool2D, MaxPool2D
from ..separable import SeparableConv2D
from ..zero_pad import ZeroPad2D
from .graph import Graph

Arrays = Mapping[str, np.ndarray]
Writer = Callable[[Graph, Any, str, Shape, Arrays], None]


def _conv(graph: Graph, layer: Conv2D, name: str, shape: Shape, arrays: Arrays) -> None:
    _convolve(graph, layer, f"{name}.conv", shape, arrays, f"{name}.weight", f"{name}.bias")
    _activation(graph, layer.activation, name)


def _separable(graph: Graph, layer: SeparableConv2D, name: str, shape: Shape, arrays: Arrays) -> None:
    depthwise, pointwise = layer.parts(shape)
    _convolve(graph, depthwise, f"{name}.depthwise_conv", shape, arrays, f"{name}.depthwise")
    between = depthwise.output_shape(shape)
    _convolve(graph, pointwise, f"{name}.pointwise_conv", between, arrays, f"{name}.pointwise", f"{name}.bias")
    _activation(graph, layer.activation, name)


def _convolve(
    graph: Graph, layer: Conv2D, node: str, shape: Shape, arrays: Arrays, weight: str, bias: str = ""
) -> None:  # fmt: skip
    """A convolution with the parameters called `weight` and `bias`."""
    g = layer.geometry(1, shape)
    inputs = [graph.constant(weight, arrays[weight].transpose(3, 2, 0, 1))]
    if layer.bias:
        inputs.append(graph.constant(bias, arrays[bias]))
    graph.add(
        "Conv",
        node,
        *inputs,
        kernel_shape=[g.kh, g.kw],
        strides=[g.sh, g.sw],
        dilations=[g.dh, g.dw],
        group=g.groups,
        pads=[g.pt, g.pl, g.pb, g.pr],
    )


def _pool(graph: Graph, layer: MaxPool2D | AvgPool2D, name: str, shape: Shape, arrays: Arrays) -> None:
    g = layer.geometry(1, shape)
    # Both leave out the pixels outside the image, as ONNX's average does by default.
    graph.add(
        "MaxPool" if isinstance(layer, MaxPool2D) else "AveragePool",
        f"{name}.pool",
        kernel_shape=[g.kh, g.kw],
        strides=[g.sh, g.sw],
        pads=[g.pt, g.pl, g.pb, g.pr],
    )


def _global_pool(graph: Graph, layer: GlobalAvgPool2D, name: str, shape: Shape, arrays: Arrays) -> None:
    graph.add("GlobalAveragePool", f"{name}.pool")
    graph.add("Flatten", f"{name}.flatten", axis=1)


def _zero_pad(graph: Graph, layer: ZeroPad2D, name: str, shape: Shape, arrays: Arrays) -> None:
    (top, bottom), (left, right) = layer.pads()
    pads = [0, 0, top, left, 0, 0, bottom, right]
    if graph.opset < 11:
        graph.add("Pad", f"{name}.pad", pads=pads)
    else:
        graph.add("Pad", f"{name}.pad", graph.constant(f"{name}.pads", np.array(pads, np.int64)))


def _dense(graph: Graph, layer: Dense, name: str, shape: Shape, arrays: Arrays) -> None:
    inputs = [graph.constant(f"{name}.weight", graph.in_place(arrays, f"{name}.weight"))]
    if layer.bias:
        inputs.append(graph.constant(f"{name}.bias", arrays[f"{name}.bias"]))
        graph.add("Gemm", f"{name}.dense", *inputs)
    else:
        graph.add("MatMul", f"{name}.dense", *inputs)
    graph.pending = None
    _activation(graph, layer.activation, name)


def _batch_norm(graph: Graph, layer: BatchNorm, name: str, shape: Shape, arrays: Arrays) -> None:
    names = [f"{name}.{part}" for part in ("gamma", "beta", "running_mean", "running_var")]
    inputs = [graph.constant(each, graph.in_place(arrays, each)) for each in names]
    graph.add("BatchNormalization", f"{name}.norm", *inputs, epsilon=float(layer.eps))


def _flatten(graph: Graph, layer: Flatten, name: str, shape: Shape, arrays: Arrays) -> None:
    if len(shape) == 3:
        graph.add("Flatten", f"{name}.flatten", axis=1)
        if shape[2] > 1 and shape[0] * shape[1] > 1:
            graph.pending = shape


def _relu(graph: Graph, layer: ReLU, name: str, shape: Shape, arrays: Arrays) -> None:
    graph.add("Relu", f"{name}.relu")


def _clip(graph: Graph, layer: Clip | ReLU6, name: str, shape: Shape, arrays: Arrays) -> None:
    _, low, high = layer.operation()
    if graph.opset < 11:  # there, no bound means the largest float32
        most = float(np.finfo(np.float32).max)
        graph.add("Clip", f"{name}.clip", min=max(low, -most), max=min(high, most))
        return
    bounds = [np.array(bound, np.float32) for bound in (low, high)]
    names = [
        graph.constant(f"{name}.{which}", bound) if np.isfinite(bound) else ""
        for which, bound in zip(("low", "high"), bounds)
    ]
    graph.add("Clip", f"{name}.clip", *names)


def _leaky_relu(graph: Graph, layer: LeakyReLU, name: str, shape: Shape, arrays: Arrays) -> None:
    graph.add("LeakyRelu", f"{name}.leaky_relu", alpha=float(layer.slope))


def _sigmoid(graph: Graph, layer: Sigmoid, name: str, shape: Shape, arrays: Arrays) -> None:
    graph.add("Sigmoid", f"{name}.sigmoid")


def _tanh(graph: Graph, layer: Tanh, name: str, shape: Shape, arrays: Arrays) -> None:
    graph.add("Tanh", f"{name}.tanh")


def _nothing(graph: Graph, layer: Layer, name: str, shape: Shape, arrays: Arrays) -> None:
    """A layer that does nothing in inference."""


def _activation(graph: Graph, activation: str | None, name: str) -> None:
    if activation is not None:
        graph.add("Relu", f"{name}.relu")


#: The layers that can be written: for each a function that adds its nodes.
WRITERS: dict[type[Layer], Writer] = {
    Conv2D: _conv,
    SeparableConv2D: _separable,
    ZeroPad2D: _zero_pad,
    MaxPool2D: _pool,
    AvgPool2D: _pool,
    GlobalAvgPool2D: _global_pool,
    BatchNorm: _batch_norm,
    ReLU: _relu,
    LeakyReLU: _leaky_relu,
    ReLU6: _clip,
    Clip: _clip,
    Sigmoid: _sigmoid,
    Tanh: _tanh,
    Dropout: _nothing,
    Flatten: _flatten,
    Dense: _dense,
}
