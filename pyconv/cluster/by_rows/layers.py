"""A layer of one rank's network that first gets rows from other ranks.

It stands in the place of the layer that it holds, so that names and numbers of layers stay as they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...backends import Backend
from ...nn.layer import Buffer, Layer, Parameter, Shape, Step
from ...nn.run import Run
from ..halo import Halo
from ..world import World


@dataclass(frozen=True)
class OnRows(Layer):
    """A layer that is computed on other rows than the layer before it has left on this rank.

    Parameters
    ----------
    inner : Layer
        The layer; its padding is that of this rank's rows.
    halo : Halo
        The rows that each rank has, and those that each needs.
    world : World
    whole : bool
        Whether all ranks need all rows, and compute the same from here on.
    """

    inner: Layer
    halo: Halo = dataclasses.field(repr=False)
    world: World = dataclasses.field(repr=False)
    whole: bool = False

    def _inside(self, shape: Shape) -> Shape:
        return (len(self.halo.need[self.world.rank]), *shape[1:])

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.inner.output_shape(self._inside(input_shape))

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return self.inner.parameters(self._inside(input_shape))

    def buffers(self, input_shape: Shape) -> dict[str, Parameter]:
        return self.inner.buffers(self._inside(input_shape))

    def flops(self, input_shape: Shape) -> int:
        return self.inner.flops(self._inside(input_shape))

    def least_batch(self, input_shape: Shape) -> int:
        return self.inner.least_batch(self._inside(input_shape))

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        inside = self._inside(input_shape)
        return OnRowsStep(self.inner.step(index, inside, following), inside, self)


class OnRowsStep(Step):
    """Gets the rows, then does the layer's own step; backwards the other way round."""

    keeps_input = False
    grad_shares = False

    def __init__(self, inner: Step, inside: Shape, layer: OnRows) -> None:
        super().__init__(inner.index, inner.layers)
        self.names = inner.names
        self.keeps_output, self.grad_over = inner.keeps_output, inner.grad_over
        self._inner, self._inside, self._layer = inner, inside, layer
        self._shape: tuple[int, ...] = ()

    @property
    def frozen(self) -> bool:
        """Whether training leaves the parameters as they are."""
        return self._inner.frozen

    @frozen.setter
    def frozen(self, value: bool) -> None:
        self._inner.frozen = value

    def buffers(self, input_shape: Shape, training: bool, ops: Backend) -> Sequence[Buffer]:
        """The rows, and what the layer's step needs."""
        return [Buffer("rows", self._inside), *self._inner.buffers(self._inside, training, ops)]

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take the layer's parameters and buffers."""
        self._inner.bind(arrays)

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """The layer's result on the rows that it needs."""
        layer, self._shape = self._layer, x.shape
        rows = run.kept((self.index, "rows"), (len(x), *self._inside))
        coming = layer.halo.begin(layer.world, x)
        coming.wait()
        coming.into(layer.halo.need[layer.world.rank], rows)
        return self._inner.forward(rows, run)

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The parameters' gradients on these rows; the input's is the sum of what comes from all ranks' rows."""
        layer = self._layer
        found: Any = self._inner.backward(grad, run, input_grad)
        if not input_grad:
            return None
        out: np.ndarray = run.kept((self.index, "dx of rows"), self._shape)
        if layer.whole:  # it is the same on all ranks
            own = layer.halo.have[layer.world.rank]
            out[...] = found[:, own.start : own.stop]
            return out
        layer.halo.give_back(layer.world, found, out)
        return out

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._inner.forget()
