"""Architecture: a network's layers and the shapes that follow from them, before any memory is allocated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator

from pyconv.errors import InputError, PyconvError, shown
from pyconv.values import flag, integer, items

from .building import graph_of
from .layer import Layer, Parameter, Shape, example_shape, in_layer, layer_of
from .plan import Graph


class Architecture:
    """Layers that fit together, in order.

    Parameters
    ----------
    layers : iterable of Layer
        At least one.
    input_shape : sequence of int
        Of one example: ``(H, W, C)`` or ``(features,)``.

    Attributes
    ----------
    layers : tuple of Layer
    shapes : tuple of tuple of int
        Of one example, before each layer and after the last.
    parameters, buffers : dict of str to Parameter
        By name, such as ``"0.weight"``: the position of the layer, from 0, and the name within it.

    Raises
    ------
    ShapeError, InputError
        If a layer does not fit; the message names it, as ``layer 3 (MaxPool2D): ...``.
    """

    def __init__(self, layers: Iterable[Layer], input_shape: Iterable[int]) -> None:
        self.layers = items(layers, "layers", "layers")
        if not self.layers:
            raise InputError("a network needs at least one layer")
        shapes = [example_shape(input_shape)]
        self.parameters: dict[str, Parameter] = {}
        self.buffers: dict[str, Parameter] = {}
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise InputError(f"layer {index} is {shown(layer)}, which is not a layer")
            shape = shapes[-1]
            try:
                shapes.append(tuple(layer.output_shape(shape)))
                for into, found in ((self.parameters, layer.parameters(shape)), (self.buffers, layer.buffers(shape))):
                    into.update({f"{index}.{name}": parameter for name, parameter in found.items()})
            except PyconvError as error:
                raise in_layer(index, type(layer).__name__, error) from None
        self.shapes = tuple(shapes)

    @property
    def input_shape(self) -> Shape:
        """Of one example."""
        return self.shapes[0]

    @property
    def output_shape(self) -> Shape:
        """Of one example's result."""
        return self.shapes[-1]

    @property
    def least_batch(self) -> int:
        """The fewest examples that a batch may have in training."""
        return max(layer.least_batch(shape) for layer, shape in zip(self.layers, self.shapes))

    def graph(self) -> Graph:
        """New steps that compute the layers, fused where possible, and the values between them.

        Returns
        -------
        Graph
        """
        return graph_of(self.layers, self.input_shape)

    def leaves(self, frozen: Collection[str] = ()) -> Iterator[tuple[int | str, Layer, Shape, bool]]:
        """The layers that compute something, inner layers included.

        Parameters
        ----------
        frozen : collection of str
            Ways to layers that are not trained.

        Yields
        ------
        index : int or str
            Path to the layer, as in the names of its parameters.
        layer : Layer
        shape : tuple of int
            Of one example before the layer.
        trained : bool
            Whether a layer before it is trained, so that its input's gradient is needed.
        """
        trained = False
        for index, (layer, shape) in enumerate(zip(self.layers, self.shapes)):
            yield from _leaves(index, layer, shape, trained, frozen)
            trained = trained or _trained(index, layer, shape, frozen)

    def flops(self, batch: int = 1, *, training: bool = False) -> int:
        """Floating-point operations of a forward pass, or of a whole training step.

        Parameters
        ----------
        batch : int
            Examples.
        training : bool
            Count the backward pass too: as much again for the parameters' gradients, and as much for the input's
            gradient of each layer. Before the first layer with parameters no input gradient is computed.

        Returns
        -------
        int
            A multiply-add counts as two.
        """
        training = flag(training, "training")
        if not training:
            total = sum(layer.flops(shape) for layer, shape in zip(self.layers, self.shapes))
        else:
            total = 0
            for _, layer, shape, trained in self.leaves():
                total += layer.own_flops(shape) * (1 + bool(not layer.chains() and layer.parameters(shape)) + trained)
        return total * integer(batch, "batch", minimum=1)

    def summary(self) -> Summary:
        """A table of the layers: output shape, parameters, and floating-point operations of one example.

        Returns
        -------
        Summary
            A str that an interactive session shows as a table.
        """
        rows = [("layer", "", "output", "parameters", "MFLOP"), ("", "input", _by(self.input_shape), "", "")]
        for index, (layer, before) in enumerate(zip(self.layers, self.shapes)):
            rows += _rows(str(index), layer, before, "", "")
        count = sum(math.prod(parameter.shape) for parameter in self.parameters.values())
        rows.append(("", "total", "", f"{count:,}", f"{self.flops() / 1e6:,.2f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        lines = []
        for row in rows:
            left = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3])]
            right = [cell.rjust(width) for cell, width in zip(row[3:], widths[3:])]
            lines.append("  ".join(left + right).rstrip())
        rule = "-" * max(len(line) for line in lines)
        return Summary("\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1]]))


class Summary(str):
    """A table as text; an interactive session shows it without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _leaves(
    index: int | str, layer: Layer, shape: Shape, trained: bool, frozen: Collection[str]
) -> Iterator[tuple[int | str, Layer, Shape, bool]]:
    for way, inner in layer.chains():
        at, before = shape, trained
        for position, each in enumerate(inner):
            name = f"{index}.{way}{position}"
            yield from _leaves(name, each, at, before, frozen)
            before = before or _trained(name, each, at, frozen)
            at = tuple(each.output_shape(at))
    yield index, layer, shape, trained


def _trained(index: int | str, layer: Layer, shape: Shape, frozen: Collection[str]) -> bool:
    """Whether anything of a layer is trained."""
    return any(layer_of(f"{index}.{name}") not in frozen for name in layer.parameters(shape))


def _rows(index: str, layer: Layer, shape: Shape, lead: str, below: str) -> list[tuple[str, str, str, str, str]]:
    """The lines of a layer and of its inner layers, which are drawn below it as a tree.

    `lead` is written before the layer's name, `below` before the lines under it.
    """
    chains = layer.chains()
    count = sum(math.prod(parameter.shape) for parameter in layer.parameters(shape).values())
    flops = layer.flops(shape)
    cells = f"{count:,}" if count else "", f"{flops / 1e6:,.2f}" if flops else ""
    rows = [(index, lead + _title(layer), _by(tuple(layer.output_shape(shape))), *cells)]
    for number, (way, inner) in enumerate(chains):
        last = number == len(chains) - 1
        stem = "   " if last else "│  "
        at = shape
        if not inner:
            rows.append((f"{index}.{way}".rstrip("."), f"{below}{'└' if last else '├'}─ the input", _by(shape), "", ""))
        for position, each in enumerate(inner):
            branch = ("└─ " if last else "├─ ") if position == 0 else stem
            rows += _rows(f"{index}.{way}{position}", each, at, below + branch, below + stem)
            at = tuple(each.output_shape(at))
    return rows


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _title(layer: Layer) -> str:
    """The layer as one would write it in Python, without settings that have their default."""
    given = []
    inside = {"layers", "shortcut", "branches"} if layer.chains() else set()
    for field in dataclasses.fields(layer):
        if field.name in inside:  # inner layers have lines of their own
            continue
        value = getattr(layer, field.name)
        if value != field.default:
            given.append(f"{field.name}={value!r}" if field.kw_only else repr(value))
    return f"{type(layer).__name__}({', '.join(given)})"
