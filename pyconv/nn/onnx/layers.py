"""What each layer becomes in ONNX: one function a layer, and the table of them.

Images are NCHW in the graph and NHWC in pyconv. A Flatten changes nothing in the graph but leaves a note: arrays whose
first axis runs over the features that follow are written with their rows in the other order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..activation import ReLU
from ..conv import Conv2D
from ..dense import Dense, Flatten
from ..dropout import Dropout
from ..layer import Layer, Shape
from ..norm import BatchNorm
from ..pooling import AvgPool2D, MaxPool2D
from .graph import Graph

Arrays = Mapping[str, np.ndarray]
Writer = Callable[[Graph, Any, str, Shape, Arrays], None]


def _conv(graph: Graph, layer: Conv2D, name: str, shape: Shape, arrays: Arrays) -> None:
    g = layer.geometry(1, shape)
    inputs = [graph.constant(f"{name}.weight", arrays[f"{name}.weight"].transpose(3, 2, 0, 1))]
    if layer.bias:
        inputs.append(graph.constant(f"{name}.bias", arrays[f"{name}.bias"]))
    graph.add(
        "Conv",
        f"{name}.conv",
        *inputs,
        kernel_shape=[g.kh, g.kw],
        strides=[g.sh, g.sw],
        dilations=[g.dh, g.dw],
        group=g.groups,
        pads=[g.pt, g.pl, g.pb, g.pr],
    )
    _activation(graph, layer.activation, name)


def _pool(graph: Graph, layer: MaxPool2D | AvgPool2D, name: str, shape: Shape, arrays: Arrays) -> None:
    g = layer.geometry(1, shape)
    # Both leave the pixels beside the image out; ONNX's average does so by default.
    graph.add(
        "MaxPool" if isinstance(layer, MaxPool2D) else "AveragePool",
        f"{name}.pool",
        kernel_shape=[g.kh, g.kw],
        strides=[g.sh, g.sw],
        pads=[g.pt, g.pl, g.pb, g.pr],
    )


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


def _nothing(graph: Graph, layer: Layer, name: str, shape: Shape, arrays: Arrays) -> None:
    """A layer that does nothing in inference."""


def _activation(graph: Graph, activation: str | None, name: str) -> None:
    if activation is not None:
        graph.add("Relu", f"{name}.relu")


#: The layers that have a form in ONNX: a function that adds the nodes of one.
WRITERS: dict[type[Layer], Writer] = {
    Conv2D: _conv,
    MaxPool2D: _pool,
    AvgPool2D: _pool,
    BatchNorm: _batch_norm,
    ReLU: _relu,
    Dropout: _nothing,
    Flatten: _flatten,
    Dense: _dense,
}
