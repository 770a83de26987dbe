"""A network on paper: layers in order and the shapes that follow, before any memory is taken."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import numpy as np

from pyconv.errors import InputError, PyconvError, shown
from pyconv.values import flag, integer

from .layer import Layer, Parameter, Shape, Step, example_shape, in_layer


class Architecture:
    """Layers that fit together.

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
        Of one example before each layer, and after the last.
    parameters, buffers : dict of str to Parameter
        By name, such as ``"0.weight"``: the position of the layer, from 0, and the name within it.

    Raises
    ------
    ShapeError, InputError
        If a layer does not fit; the message names it, as ``layer 3 (MaxPool2D): ...``.
    """

    def __init__(self, layers: Iterable[Layer], input_shape: Iterable[int]) -> None:
        if isinstance(layers, (str, bytes, Mapping, np.ndarray, Layer)) or not isinstance(layers, Iterable):
            raise InputError(f"layers must be a list of layers, not {shown(layers)}")
        self.layers = tuple(layers)
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
        """Examples that a batch needs at least in training."""
        return max(layer.least_batch(shape) for layer, shape in zip(self.layers, self.shapes))

    def steps(self) -> list[Step]:
        """Fresh steps that compute the layers, those that belong together fused.

        Returns
        -------
        list of Step
        """
        steps: list[Step] = []
        index = 0
        while index < len(self.layers):
            step = self.layers[index].step(index, self.shapes[index], self.layers[index + 1 :])
            steps.append(step)
            index += step.layers
        return steps

    def flops(self, batch: int = 1, *, training: bool = False) -> int:
        """Floating-point operations of a forward pass, or of a whole training step.

        Parameters
        ----------
        batch : int
            Examples.
        training : bool
            Count the backward pass too: as much again for the parameters' gradients and for the input's gradient of
            each layer, except before the first layer with parameters, where none is computed.

        Returns
        -------
        int
            A multiply-add counts as two.
        """
        training = flag(training, "training")
        total, trained = 0, False
        for layer, shape in zip(self.layers, self.shapes):
            one = layer.flops(shape)
            total += one
            if training:
                own = bool(layer.parameters(shape))
                total += one * (own + trained)
                trained = trained or own
        return total * integer(batch, "batch", minimum=1)

    def summary(self) -> Summary:
        """A table of the layers: output shape, parameters, and floating-point operations of one example.

        Returns
        -------
        Summary
            A str, which an interactive session shows as a table.
        """
        rows = [("layer", "", "output", "parameters", "MFLOP"), ("", "input", _by(self.input_shape), "", "")]
        for index, (layer, before, after) in enumerate(zip(self.layers, self.shapes, self.shapes[1:])):
            count = sum(math.prod(parameter.shape) for parameter in layer.parameters(before).values())
            flops = layer.flops(before)
            cells = f"{count:,}" if count else "", f"{flops / 1e6:,.2f}" if flops else ""
            rows.append((str(index), _title(layer), _by(after), *cells))
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
    """A table as text, which an interactive session shows as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _by(shape: Shape) -> str:
    return "×".join(map(str, shape))


def _title(layer: Layer) -> str:
    """The layer as one would type it, without the settings that are as they are by default."""
    given = []
    for field in dataclasses.fields(layer):
        value = getattr(layer, field.name)
        if value != field.default:
            given.append(f"{field.name}={value!r}" if field.kw_only else repr(value))
    return f"{type(layer).__name__}({', '.join(given)})"
