"""PyTorch's names and shapes of each layer's arrays, and how they become pyconv's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.errors import InputError

from ..branches import Parallel
from ..conv import Conv2D
from ..dense import Dense, Flatten
from ..global_pool import GlobalAvgPool2D
from ..layer import Layer, Shape
from ..norm import BatchNorm
from ..separable import SeparableConv2D

#: The place of PyTorch's feature i in pyconv's vectors; None if the order is the same.
Order = np.ndarray | None


@dataclass(frozen=True)
class Target:
    """Where a tensor of the file goes.

    Attributes
    ----------
    name : str
        Full name of the parameter or buffer in pyconv.
    shape : tuple of int
        The tensor's shape in the file.
    turned : callable
        Makes an array of pyconv's shape of it.
    """

    name: str
    shape: tuple[int, ...]
    turned: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Part:
    """What is one module in PyTorch: a layer, or one of the convolutions of a separable layer.

    Attributes
    ----------
    way : str
        Its path, as in ``names``: ``"3"``, ``"4.shortcut.0"``, ``"5.depthwise"``.
    title : str
        For messages.
    targets : dict of str to Target
        By the tensor's name within the module.
    """

    way: str
    title: str
    targets: Mapping[str, Target]

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the file's tensors, by name within the module."""
        return {name: target.shape for name, target in self.targets.items()}


def parts_of(layers: Sequence[Layer], input_shape: Shape) -> list[Part]:
    """The modules that a network takes its weights from, in its order.

    Raises
    ------
    InputError
        If a layer's weights have no counterpart in PyTorch.
    """
    found: list[Part] = []
    _chain(layers, "", input_shape, None, found)
    return found


def _chain(
    layers: Sequence[Layer], prefix: str, shape: Shape, order: Order, found: list[Part]
) -> tuple[Shape, Order]:  # fmt: skip
    for position, layer in enumerate(layers):
        way = f"{prefix}{position}"
        if layer.chains():
            ends = [_chain(inner, f"{way}.{name}", shape, order, found) for name, inner in layer.chains()]
            order = _met(layer, way, ends)
        else:
            found += _parts(layer, way, shape, order)
            if isinstance(layer, Flatten) and len(shape) == 3:
                order = _flattened(shape)
            elif isinstance(layer, (Dense, GlobalAvgPool2D)):
                order = None
        shape = tuple(layer.output_shape(shape))
    return shape, order


def _met(layer: Layer, way: str, ends: Sequence[tuple[Shape, Order]]) -> Order:
    """The order of the features after branches are joined."""
    if all(order is None for _, order in ends):
        return None
    each = [np.arange(shape[0]) if order is None else order for shape, order in ends]
    if isinstance(layer, Parallel) and layer.join == "concat":
        starts = np.cumsum([0, *(len(order) for order in each)])
        return np.concatenate([start + order for start, order in zip(starts, each)])
    if any(not np.array_equal(order, each[0]) for order in each):
        raise InputError(
            f"layer {way} ({type(layer).__name__}) adds up images that were flattened in unlike orders: PyTorch's "
            "weights do not fit here"
        )
    return each[0]


def _flattened(shape: Shape) -> Order:
    places = np.arange(int(np.prod(shape))).reshape(shape)
    order = places.transpose(2, 0, 1).ravel()
    return None if np.array_equal(order, places.ravel()) else order


def _in_order(order: Order) -> Callable[[np.ndarray], np.ndarray]:
    """Puts an array, whose first axis runs over PyTorch's features, into pyconv's order."""

    def turned(array: np.ndarray) -> np.ndarray:
        if order is None:
            return array
        made = np.empty_like(array)
        made[order] = array
        return made

    return turned


def _same(array: np.ndarray) -> np.ndarray:
    return array


def _filters(array: np.ndarray) -> np.ndarray:
    return array.transpose(2, 3, 1, 0)


def _parts(layer: Layer, way: str, shape: Shape, order: Order) -> list[Part]:
    """What one layer takes from the file."""
    arrays = {**layer.parameters(shape), **layer.buffers(shape)}
    if not arrays:
        return []
    title = f"layer {way} ({type(layer).__name__})"
    shapes = {name: parameter.shape for name, parameter in arrays.items()}

    def target(name: str, turned: Callable[[np.ndarray], np.ndarray] = _same) -> Target:
        there = shapes[name]
        if turned is _filters:
            there = (there[3], there[2], there[0], there[1])
        return Target(f"{way}.{name}", there[::-1] if len(there) == 2 else there, turned)

    bias = {"bias": target("bias")} if "bias" in shapes else {}
    kind = type(layer)
    if kind is Conv2D:
        return [Part(way, title, {"weight": target("weight", _filters), **bias})]
    if kind is SeparableConv2D:
        return [
            Part(f"{way}.depthwise", f"{title}, depthwise", {"weight": target("depthwise", _filters)}),
            Part(f"{way}.pointwise", f"{title}, pointwise", {"weight": target("pointwise", _filters), **bias}),
        ]
    turned = _in_order(order)
    if kind is Dense:
        return [Part(way, title, {"weight": target("weight", lambda array: turned(array.T)), **bias})]
    if kind is BatchNorm:
        names = {"weight": "gamma", "bias": "beta", "running_mean": "running_mean", "running_var": "running_var"}
        return [Part(way, title, {theirs: target(ours, turned) for theirs, ours in names.items()})]
    raise InputError(f"{title} has parameters that PyTorch has no name for")
