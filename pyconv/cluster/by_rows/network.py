"""One rank's network: layers on its rows of the images, and the whole layers from the first on that needs all rows."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from ...errors import InputError
from ...nn import (
    AvgPool2D,
    BatchNorm,
    Clip,
    Conv2D,
    LeakyReLU,
    MaxPool2D,
    ReLU,
    ReLU6,
    SeparableConv2D,
    Sequential,
    Sigmoid,
    Tanh,
)
from ...nn.layer import Layer, Shape
from ...shapes import ConvGeometry
from .. import sums
from ..finite import finite
from ..halo import Halo
from ..rows import RowSplit, evenly, spans
from ..world import World
from .layers import OnRows
from .norm import NormOnRows

WINDOWS = (Conv2D, SeparableConv2D, MaxPool2D, AvgPool2D)
ELEMENTWISE = (ReLU, LeakyReLU, Clip, ReLU6, Sigmoid, Tanh)


def divided(model: Sequential, world: World) -> tuple[list[Layer], range, int]:
    """The layers of one rank.

    Parameters
    ----------
    model : Sequential
    world : World

    Returns
    -------
    layers : list of Layer
        As many as the network has.
    rows : range
        This rank's rows of the images.
    count : int
        How many of the layers are on rows; the others are on the whole, and the same on all ranks.

    Raises
    ------
    InputError
        If the network cannot be split by rows.
    """
    shape, me = model.input_shape, world.rank
    if len(shape) != 3 or shape[0] < world.size:
        what = "takes no images" if len(shape) != 3 else f"takes images of {shape[0]} rows"
        raise InputError(f"split rows: the network {what}, and there are {world.size} ranks, each of which needs rows")
    have = first = spans(evenly(shape[0], world.size))
    made: list[Layer] = []
    for index, layer in enumerate(model.layers):
        if not isinstance(layer, (*WINDOWS, *ELEMENTWISE, BatchNorm)):
            return [*made, _whole(index, layer, have, shape, world), *model.layers[index + 1 :]], first[me], index
        if isinstance(layer, WINDOWS):
            split = RowSplit(_geometry(layer, shape), tuple(map(len, have)))
            need = [split.read(rows) for rows in split.outputs]
            if not (all(split.outputs) and all(need)):  # too few rows for so many ranks
                return [*made, _whole(index, layer, have, shape, world), *model.layers[index + 1 :]], first[me], index
            g = split.forward(split.outputs[me])
            own = dataclasses.replace(layer, padding=((g.pt, g.pb), (g.pl, g.pr)))
            made.append(own if need == have else OnRows(own, Halo(have, need), world))
            have = split.outputs
        else:
            made.append(NormOnRows(layer, shape[0], world) if isinstance(layer, BatchNorm) else layer)
        shape = layer.output_shape(shape)
    raise InputError("split rows needs a classifier: the network's result are images")


def _whole(index: int, layer: Layer, have: list[range], shape: Shape, world: World) -> Layer:
    """The first layer that needs all rows."""
    if layer.chains():
        raise InputError(
            f"split rows: layer {index} ({type(layer).__name__}) holds other layers, which is not there yet; take "
            "split filters"
        )
    return OnRows(layer, Halo(have, [range(shape[0])] * world.size), world, True)


def _geometry(layer: Any, shape: Shape) -> ConvGeometry:
    """The geometry of a layer's windows, as that of a convolution."""
    if isinstance(layer, SeparableConv2D):
        layer = layer.parts(shape)[0]
    g = layer.geometry(1, shape)
    if isinstance(g, ConvGeometry):
        return g
    fields = {field.name: getattr(g, field.name) for field in dataclasses.fields(g)}
    return ConvGeometry(**fields, k=g.c, dh=1, dw=1, groups=g.c)


class DividedNetwork:
    """What stands for the whole network in a step of training: its gradient is computed by all ranks.

    Parameters
    ----------
    model : Sequential
        The whole network, with the parameters.
    world : World

    Attributes
    ----------
    layers_on_rows : int
        How many layers each rank computes on its rows only.
    waited_s : float
        Seconds of adding gradients up.
    own_is_finite : bool
        Whether what this rank has computed of the last gradient is finite.
    """

    def __init__(self, model: Sequential, world: World) -> None:
        layers, self._rows, self.layers_on_rows = divided(model, world)
        self._model, self._world, self.waited_s, self.own_is_finite = model, world, 0.0, True
        self._local = Sequential(layers, (len(self._rows), *model.input_shape[1:]), model.seed, model.dtype)
        self._local.frozen = model.frozen
        self._local.normalization = model.normalization
        self._local.algorithm = model.algorithm
        fronts = {str(index) for index in range(self.layers_on_rows)}
        sizes = [view.size for name, view in model.parameters.items() if name.partition(".")[0] in fronts]
        self._front = sum(sizes)

    @property
    def backend(self) -> str:
        """Where operations run."""
        return self._local.backend

    @backend.setter
    def backend(self, value: str) -> None:
        self._local.backend = value

    @property
    def threads(self) -> int | None:
        """OpenMP threads."""
        return self._local.threads

    @threads.setter
    def threads(self, value: int | None) -> None:
        self._local.threads = value

    @property
    def between_passes(self) -> Any:
        """Called between the forward and the backward pass."""
        return self._local.between_passes

    @between_passes.setter
    def between_passes(self, value: Any) -> None:
        self._local.between_passes = value

    @property
    def flat(self) -> np.ndarray:
        """The whole network's parameters."""
        return self._model.flat

    @property
    def trained(self) -> Any:
        """The spans of the parameters that are trained."""
        return self._model.trained

    @property
    def least_batch(self) -> int:
        """The fewest examples of a batch."""
        return self._model.least_batch

    @property
    def correct(self) -> int:
        """Examples of the last step that were recognised."""
        return self._local.correct

    def loss_and_gradient(
        self, x: np.ndarray, labels: np.ndarray, *, out: np.ndarray, **settings: Any
    ) -> tuple[float, np.ndarray]:
        """As of the whole network; all ranks call it alike.

        Parameters
        ----------
        x, labels
            Whole images.
        out : (n,) ndarray
            The gradient for all parameters: the same bits on all ranks.
        """
        local, front = self._local, out[: self._front]
        local.flat[...], local.flat_buffers[...] = self._model.flat, self._model.flat_buffers
        rows = x[:, self._rows.start : self._rows.stop]
        loss, _ = local.loss_and_gradient(rows, labels, out=out, **settings)
        self._model.flat_buffers[...] = local.flat_buffers
        self.own_is_finite = finite(out)
        began = time.perf_counter()
        front[...] = sums.in_rank_order(self._world, front)
        self.waited_s += time.perf_counter() - began
        return loss, out
