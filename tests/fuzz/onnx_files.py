"""ONNX files with something changed: nodes, their inputs and settings, tensors, shapes and versions."""

from __future__ import annotations

import functools
import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pyconv import nn

THERE = importlib.util.find_spec("onnx") is not None

_OPERATORS = (
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Neg", "Relu",
    "LeakyRelu", "Clip", "Sigmoid", "Tanh", "Softmax", "Dropout", "BatchNormalization", "Flatten", "Reshape",
    "Transpose", "Squeeze", "Unsqueeze", "Pad", "Concat", "Identity", "Cast", "Constant", "ConstantOfShape", "Shape",
    "Gather", "Slice", "Expand", "ReduceMean", "LRN", "If", "Loop", "Scan", "ConvTranspose", "Split", "Pow", "Sqrt",
    "HardSwish", "Resize", "LogSoftmax", "", "x" * 3000,
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 3, 7, 2**31, -(2**31), 2**62, 2**63 - 1, -(2**63))
_REALS = (0.0, -0.0, 1.0, -1.0, 1e-30, 1e30, float("nan"), float("inf"), float("-inf"))


def make_files(folder: Path) -> None:
    """Networks of every kind of layer in `folder`, where the package onnx is installed."""
    if not THERE:
        return
    plain = nn.Sequential(
        [nn.Conv2D(2, 3, padding="same"), nn.BatchNorm(), nn.ReLU(), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(3)],
        (6, 6, 1),
    )  # fmt: skip
    plain.normalization, plain.classes = nn.Normalization(3.0, 2.0), ["a", "b", "c"]
    plain.to_onnx(folder / "plain.onnx")
    branches = nn.Sequential(
        [
            nn.ZeroPad2D(1), nn.SeparableConv2D(2, 3, activation="relu"), nn.LeakyReLU(), nn.Clip(-1, 1),
            nn.Residual([nn.Conv2D(2, 3, padding="same"), nn.Tanh()], shortcut=[nn.Conv2D(2, 1)]),
            nn.Parallel([[nn.Conv2D(1, 1), nn.Sigmoid()], [nn.ReLU6()]]), nn.Dropout(), nn.AvgPool2D(2),
            nn.GlobalAvgPool2D(), nn.Dense(3),
        ],
        (6, 6, 2),
    )  # fmt: skip
    branches.to_onnx(folder / "branches.onnx", layout="NHWC", softmax=True)


@functools.cache
def _parsed(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def odd_onnx(path: Path, rng: random.Random, odd_bytes: Callable[[bytes, random.Random], bytes]) -> bytes:
    """A model's file with one thing or two changed, or bytes of it."""
    if rng.random() < 0.25:
        return odd_bytes(path.read_bytes(), rng)
    model = type(_parsed(path))()
    model.CopyFrom(_parsed(path))
    for _ in range(rng.choice((1, 1, 2))):
        rng.choice((_node, _node, _setting, _setting, _wire, _wire, _tensor, _tensor, _image, _about))(model, rng)
    data: bytes = model.SerializeToString()
    return data


def _node(model: Any, rng: random.Random) -> None:
    nodes = model.graph.node
    if not nodes:
        return
    place, kind = rng.randrange(len(nodes)), rng.randrange(5)
    if kind < 2:
        nodes[place].op_type = rng.choice(_OPERATORS)
    elif kind == 2:
        del nodes[place]
    elif kind == 3:
        nodes.add().CopyFrom(nodes[place])
    else:
        nodes[place].domain = rng.choice(("", "ai.onnx", "ai.onnx.ml", "x" * 3000))


def _setting(model: Any, rng: random.Random) -> None:
    from onnx import helper

    nodes = [node for node in model.graph.node if len(node.attribute)]
    if not nodes:
        return
    settings = rng.choice(nodes).attribute
    place, kind = rng.randrange(len(settings)), rng.randrange(6)
    name = settings[place].name
    values: list[Any] = [
        [rng.choice(_NUMBERS) for _ in range(rng.choice((1, 2, 3, 4, 5, 2000)))], rng.choice(_NUMBERS),
        rng.choice(_REALS), rng.choice(("SAME_UPPER", "VALID", "NOTSET", "", "x" * 3000)), [rng.choice(_REALS)] * 2,
    ]  # fmt: skip
    if kind == 5:
        del settings[place]
    else:
        settings[place].CopyFrom(helper.make_attribute(name, values[kind]))


def _wire(model: Any, rng: random.Random) -> None:
    node = rng.choice(model.graph.node) if len(model.graph.node) else None
    if node is None:
        return
    names = [name for other in model.graph.node for name in (*other.input, *other.output)]
    names += ["", "nothing", "x" * 3000]
    kind = rng.randrange(5)
    if kind == 0 and len(node.input):
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 1 and len(node.output):
        node.output[0] = rng.choice(names)
    elif kind == 2:
        node.input.append(rng.choice(names))
    elif kind == 3 and len(node.input):
        del node.input[rng.randrange(len(node.input))]
    elif len(model.graph.output):
        model.graph.output[0].name = rng.choice(names)


def _tensor(model: Any, rng: random.Random) -> None:
    from onnx import numpy_helper

    tensors = model.graph.initializer
    if not tensors:
        return
    tensor, kind = tensors[rng.randrange(len(tensors))], rng.randrange(7)
    if kind == 0 and len(tensor.dims):
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)
    elif kind == 1:
        tensor.data_type = rng.choice((0, 1, 2, 6, 7, 8, 9, 10, 11, 14, 16, 99, -1))
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif kind == 3:
        tensor.name = rng.choice(("", "nothing", "x" * 3000))
    elif kind == 4:
        del tensors[rng.randrange(len(tensors))]
    else:
        try:
            array = np.asarray(numpy_helper.to_array(tensor))
        except (ValueError, TypeError, KeyError):  # it is damaged already
            return
        made = np.full_like(array, rng.choice((0, 1, 2**31 - 1) if array.dtype.kind in "iu" else _REALS))
        shape = rng.choice((made.shape, made.shape, made.shape[::-1], (1, *made.shape), (made.size,)))
        tensor.CopyFrom(numpy_helper.from_array(made.reshape(shape), tensor.name))


def _image(model: Any, rng: random.Random) -> None:
    if not len(model.graph.input):
        return
    kind, chosen = model.graph.input[0].type.tensor_type, rng.randrange(5)
    if chosen < 2 and len(kind.shape.dim):
        kind.shape.dim[rng.randrange(len(kind.shape.dim))].dim_value = rng.choice(_NUMBERS)
    elif chosen == 2 and len(kind.shape.dim):
        kind.shape.dim[rng.randrange(len(kind.shape.dim))].dim_param = rng.choice(("N", "", "x" * 3000))
    elif chosen == 3:
        kind.elem_type = rng.choice((0, 1, 2, 7, 10, 11, 99, -1))
    else:
        del model.graph.input[:]


def _about(model: Any, rng: random.Random) -> None:
    kind = rng.randrange(4)
    if kind == 0 and len(model.opset_import):
        model.opset_import[0].version = rng.choice((*_NUMBERS, 6, 13, 999))
    elif kind == 1:
        model.ir_version = rng.choice(_NUMBERS)
    elif len(model.metadata_props):
        model.metadata_props[0].value = rng.choice(("", "[", "[1]", '["a"]', "x" * 3000, '["a", "a", "b"]', "null"))
    else:
        entry = model.metadata_props.add()
        entry.key, entry.value = rng.choice(("classes", "names", "")), rng.choice(("[", "[1]", "x" * 3000))
