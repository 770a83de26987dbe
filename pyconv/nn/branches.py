"""The layers Residual and Parallel: branches of layers on one input, whose results are added or concatenated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyconv.errors import InputError, PyconvError, ShapeError, shown
from pyconv.values import choice, sequence

from .activation import ReLU
from .layer import Chain, Join, Layer, LayersReader, Parameter, Shape, in_layer
from .run import Run

#: How the results of branches are joined.
JOINS = ("add", "concat")


@dataclass(frozen=True)
class Branches(Layer):
    """Base class of layers with branches: parameters, buffers and FLOPs are those of the inner layers together."""

    def joined(self, shapes: Sequence[Shape]) -> Shape:
        """The shape of the joined result.

        Parameters
        ----------
        shapes : sequence of tuple of int
            Of one example, after each branch.

        Returns
        -------
        tuple of int
        """
        raise TypeError(f"{type(self).__name__} is not a layer of its own")

    def ends(self, input_shape: Shape) -> list[Shape]:
        """Shapes of one example at the ends of the branches.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, before the branches.

        Returns
        -------
        list of tuple of int

        Raises
        ------
        ShapeError
            If a layer of a branch does not fit; the message names it.
        """
        shapes = []
        for prefix, layers in self.chains():
            shape = input_shape
            for position, layer in enumerate(layers):
                try:
                    shape = tuple(layer.output_shape(shape))
                except PyconvError as error:
                    raise in_layer(f"{prefix}{position}", type(layer).__name__, error) from None
            shapes.append(shape)
        return shapes

    def leaves(self, input_shape: Shape) -> list[tuple[str, Layer, Shape]]:
        """The inner layers of all branches, in the order of their parameters.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example.

        Returns
        -------
        list of (str, Layer, tuple of int)
            Path to each layer, such as ``"0"`` or ``"shortcut.0"``, the layer, and its input's shape.
        """
        found = []
        for prefix, layers in self.chains():
            shape = input_shape
            for position, layer in enumerate(layers):
                found.append((f"{prefix}{position}", layer, shape))
                shape = tuple(layer.output_shape(shape))
        return found

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.joined(self.ends(input_shape))

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return {
            f"{way}.{name}": parameter
            for way, layer, shape in self.leaves(input_shape)
            for name, parameter in layer.parameters(shape).items()
        }

    def buffers(self, input_shape: Shape) -> dict[str, Parameter]:
        return {
            f"{way}.{name}": parameter
            for way, layer, shape in self.leaves(input_shape)
            for name, parameter in layer.buffers(shape).items()
        }

    def flops(self, input_shape: Shape) -> int:
        return sum(layer.flops(shape) for _, layer, shape in self.leaves(input_shape)) + self.own_flops(input_shape)

    def least_batch(self, input_shape: Shape) -> int:
        return max((layer.least_batch(shape) for _, layer, shape in self.leaves(input_shape)), default=1)


@dataclass(frozen=True)
class Residual(Branches):
    """Layers, and their input added to their result: ``layers(x) + shortcut(x)``.

    Parameters
    ----------
    layers : sequence of Layer
        At least one.
    shortcut : sequence of Layer
        Layers on the input's other path; by default none: the input is added as it is.

    Raises
    ------
    InputError
        If these are no layers.

    Notes
    -----
    Parameters are those of the inner layers, by position: ``"0.weight"``, ``"shortcut.0.weight"``. A ReLU that follows
    is computed together with the addition. He et al., "Deep residual learning for image recognition" (2016).
    """

    layers: Sequence[Layer]
    shortcut: Sequence[Layer] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("layers", chain(self.layers, "layers", least=1))
        self._settle("shortcut", chain(self.shortcut, "shortcut"))

    def chains(self) -> tuple[Chain, ...]:
        return (("", tuple(self.layers)), ("shortcut.", tuple(self.shortcut)))

    def joined(self, shapes: Sequence[Shape]) -> Shape:
        return added(shapes)

    def own_flops(self, input_shape: Shape) -> int:
        return int(np.prod(self.output_shape(input_shape)))

    def meeting(self, index: int | str, following: Sequence[Layer]) -> Join:
        return AddStep(index, relu=bool(following) and isinstance(following[0], ReLU))

    @classmethod
    def read(cls, settings: Mapping[str, Any], layers: LayersReader) -> dict[str, Any]:
        ways = {"layers": "", "shortcut": "shortcut."}
        return {name: layers(value, ways[name]) if name in ways else value for name, value in settings.items()}


@dataclass(frozen=True)
class Parallel(Branches):
    """Chains of layers side by side on one input.

    Parameters
    ----------
    branches : sequence of sequence of Layer
        At least one branch; an empty one passes the input on.
    join : "add" or "concat"
        Add the results, which must then have the same shape, or concatenate them along the last axis (channels or
        features).

    Raises
    ------
    InputError
        If these are no layers, or `join` is neither.

    Notes
    -----
    Parameters are those of the inner layers, by branch and position: ``"1.0.weight"``.
    """

    branches: Sequence[Sequence[Layer]]
    join: str = field(default="concat", kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = sequence(self.branches)
        if given is None or not given:
            raise InputError(f"branches must be a list of lists of layers, not {shown(self.branches)}")
        made = tuple(chain(each, f"branch {number}") for number, each in enumerate(given))
        self._settle("branches", made)
        choice(self.join, "join", JOINS)

    def chains(self) -> tuple[Chain, ...]:
        return tuple((f"{number}.", tuple(layers)) for number, layers in enumerate(self.branches))

    def joined(self, shapes: Sequence[Shape]) -> Shape:
        return added(shapes) if self.join == "add" else concatenated(shapes)

    def own_flops(self, input_shape: Shape) -> int:
        return (len(self.branches) - 1) * int(np.prod(self.output_shape(input_shape))) if self.join == "add" else 0

    def meeting(self, index: int | str, following: Sequence[Layer]) -> Join:
        if self.join == "concat":
            return ConcatStep(index)
        return AddStep(index, relu=bool(following) and isinstance(following[0], ReLU))

    @classmethod
    def read(cls, settings: Mapping[str, Any], layers: LayersReader) -> dict[str, Any]:
        found = dict(settings)
        if "branches" in found:
            given = sequence(found["branches"])
            if given is None:
                raise InputError(f"branches must be a list of lists of tables, not {shown(found['branches'])}")
            found["branches"] = [layers(each, f"{number}.") for number, each in enumerate(given)]
        return found


def chain(layers: Any, name: str, least: int = 0) -> tuple[Layer, ...]:
    """`layers` as a tuple of layers, or an error that names them."""
    given = sequence(layers)
    if given is None or len(given) < least or isinstance(layers, Layer):
        raise InputError(f"{name} must be a list of layers, not {shown(layers)}")
    for position, layer in enumerate(given):
        if not isinstance(layer, Layer):
            raise InputError(f"{name} holds {shown(layer)} at position {position}, which is not a layer")
    return tuple(given)


def added(shapes: Sequence[Shape]) -> Shape:
    """The shape of a sum, or a `ShapeError`."""
    if len(set(shapes)) > 1:
        raise ShapeError(f"branches give {', '.join(map(str, shapes))}, which cannot be added: they need one shape")
    return shapes[0]


def concatenated(shapes: Sequence[Shape]) -> Shape:
    """The shape of concatenated branches, or a `ShapeError`."""
    if len({shape[:-1] for shape in shapes}) > 1:
        given = ", ".join(map(str, shapes))
        raise ShapeError(f"branches give {given}, which do not fit beside each other: only the last size may differ")
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))


class AddStep(Join):
    """Adds branches, with ReLU if one follows; each branch gets the gradient of the sum."""

    recorded = True
    keeps_input = False
    grad_shares = True

    def __init__(self, index: int | str, *, relu: bool) -> None:
        super().__init__(index, 1 + relu)
        self._relu = relu
        self.keeps_output = "sign" if relu else ""
        self.grad_over = relu
        self._y: np.ndarray | None = None
        self._inputs = 0

    def meet(self, inputs: Sequence[np.ndarray], run: Run) -> np.ndarray:
        """Add the inputs, from the first to the last."""
        ops, threads = run.ops, run.threads
        self._inputs = len(inputs)
        out = run.result(self.index, inputs[0].shape)
        if len(inputs) == 1:
            y = ops.copy(inputs[0], out=out)
        else:
            y = ops.add(inputs[0], inputs[1], threads=threads, out=out)
        for each in inputs[2:]:
            y = ops.add(y, each, threads=threads, out=out)
        if self._relu:
            self._y = y = ops.relu(y, threads=threads, out=y)
        return y

    def part(self, grad: np.ndarray, run: Run) -> Sequence[np.ndarray]:
        """The gradient, once for each input."""
        if self._relu:
            grad = run.ops.relu_grad(grad, self._y, threads=run.threads, out=grad)
        return [grad] * self._inputs

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._y = None


class ConcatStep(Join):
    """Concatenates branches along the last axis."""

    recorded = True
    keeps_input = False
    keeps_output = ""
    grad_shares = False
    grad_over = False

    def __init__(self, index: int | str) -> None:
        super().__init__(index)
        self._shapes: list[tuple[int, ...]] = []

    def meet(self, inputs: Sequence[np.ndarray], run: Run) -> np.ndarray:
        """Copy each input to its channels."""
        self._shapes = [each.shape for each in inputs]
        shape = (*self._shapes[0][:-1], sum(each[-1] for each in self._shapes))
        return run.ops.concatenate(inputs, threads=run.threads, out=run.result(self.index, shape))

    def part(self, grad: np.ndarray, run: Run) -> Sequence[np.ndarray]:
        """For each input, the gradient of its channels."""
        parts, start = [], 0
        for place, shape in enumerate(self._shapes):
            out = run.kept((self.index, f"dx{place}" if place else "dx"), shape)
            parts.append(run.ops.channels(grad, start, threads=run.threads, out=out))
            start += shape[-1]
        return parts
