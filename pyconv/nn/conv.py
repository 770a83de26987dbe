"""Convolution, with the ReLU and the pooling that follow it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.errors import ShapeError
from pyconv.shapes import ConvGeometry, Padding, Pair, PoolGeometry, conv_geometry, pair
from pyconv.values import integer

from .activation import ReLU, check_activation
from .layer import Layer, Parameter, Shape, Step, expect_images
from .pooling import INDEX, NARROW, MaxPool2D
from .run import Run


@dataclass(frozen=True)
class Conv2D(Layer):
    """2-D convolution (cross-correlation) with a bank of filters.

    Parameters
    ----------
    filters : int
        Output channels.
    kernel_size : int or (int, int)
        Height and width of a filter, in pixels.
    stride : int or (int, int)
        Down and across, in pixels.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        Zero padding, as in :func:`pyconv.conv2d`.
    dilation : int or (int, int)
        Distance between the pixels that neighbouring weights meet, down and across.
    groups : int
        Groups of channels convolved apart; as many as there are input channels is depthwise convolution.
    activation : None or "relu"
        Applied to the result, fused into the convolution.
    bias : bool
        Whether to add a trained number to each channel; a BatchNorm that follows makes it superfluous.

    Notes
    -----
    Parameters: ``weight``, ``(kernel height, kernel width, channels // groups, filters)``, with He initialisation;
    ``bias``, ``(filters,)``, zeros. The paper, section 2 and Algorithm 2.
    """

    filters: int
    kernel_size: Pair
    stride: Pair = field(default=1, kw_only=True)
    padding: Padding = field(default=0, kw_only=True)
    dilation: Pair = field(default=1, kw_only=True)
    groups: int = field(default=1, kw_only=True)
    activation: str | None = field(default=None, kw_only=True)
    bias: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("filters", integer(self.filters, "filters", minimum=1))
        pair(self.kernel_size, "kernel_size")
        pair(self.stride, "stride")
        pair(self.dilation, "dilation")
        self._settle("groups", integer(self.groups, "groups", minimum=1))
        check_activation(self.activation)

    def weight_shape(self, input_shape: Shape) -> tuple[int, int, int, int]:
        """Shape of the filters.

        Parameters
        ----------
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        (int, int, int, int)
            ``(kernel height, kernel width, channels // groups, filters)``.

        Raises
        ------
        ShapeError
            If examples are no images, or the groups do not divide their channels and the filters.
        """
        channels = expect_images(input_shape)[2]
        if channels % self.groups or self.filters % self.groups:
            raise ShapeError(
                f"groups={self.groups} must divide the {channels} input channels and the {self.filters} filters"
            )
        kh, kw = pair(self.kernel_size, "kernel_size")
        return kh, kw, channels // self.groups, self.filters

    def geometry(self, n: int, input_shape: Shape) -> ConvGeometry:
        """Geometry of the convolution of a batch.

        Parameters
        ----------
        n : int
            Examples in the batch.
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        ConvGeometry

        Raises
        ------
        ShapeError
            If the filters do not fit the images.
        """
        return conv_geometry(
            (n, *expect_images(input_shape)),
            self.weight_shape(input_shape),
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
        )

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.geometry(1, input_shape).output_shape[1:]

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        shape = self.weight_shape(input_shape)
        parameters = {"weight": Parameter(shape, "he", fan_in=math.prod(shape[:3]))}
        if self.bias:
            parameters["bias"] = Parameter((self.filters,), 0.0)
        return parameters

    def flops(self, input_shape: Shape) -> int:
        g = self.geometry(1, input_shape)
        return g.flops + math.prod(g.output_shape) * (bool(self.bias) + (self.activation is not None))

    def step(self, index: int, input_shape: Shape, following: Sequence[Layer]) -> Step:
        rest = list(following[:2])
        relu = self.activation == "relu"
        layers = 1
        if not relu and rest and isinstance(rest[0], ReLU):
            relu = True
            layers += 1
            rest.pop(0)
        pool = rest[0] if rest and isinstance(rest[0], MaxPool2D) else None
        return ConvStep(index, self, input_shape, relu=relu, pool=pool, layers=layers + (pool is not None))


class ConvStep(Step):
    """Convolution, then ReLU, then max pooling, each but the first optional.

    With pooling neither the convolution's full result nor its gradient outlives the step: the backward pass needs the
    pooled result, which tells where the ReLU was active, and the position of each maximum.
    """

    def __init__(
        self, index: int, layer: Conv2D, input_shape: Shape, *, relu: bool, pool: MaxPool2D | None, layers: int
    ) -> None:
        super().__init__(index, layers, list(layer.parameters(input_shape)))
        self._layer, self._relu, self._pool = layer, relu, pool
        self._activation = "relu" if relu else None
        self._geometry: tuple[ConvGeometry, PoolGeometry | None] | None = None
        self._weight: np.ndarray | None = None
        self._bias: np.ndarray | None = None
        self._x: np.ndarray | None = None
        self._y: np.ndarray | None = None
        self._indices: np.ndarray | None = None

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take ``weight`` and, where there is one, ``bias``."""
        self._weight = arrays[self.names["weight"]]
        self._bias = arrays[self.names["bias"]] if "bias" in self.names else None

    def geometry(self, x: np.ndarray) -> tuple[ConvGeometry, PoolGeometry | None]:
        """Those of the batch `x`, worked out again only when the batch size changes."""
        if self._geometry is None or self._geometry[0].n != len(x):
            g = self._layer.geometry(len(x), x.shape[1:])
            self._geometry = g, self._pool.geometry(g.n, g.output_shape[1:]) if self._pool else None
        return self._geometry

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Convolve, with what follows."""
        g, pg = self.geometry(x)
        how = {"algorithm": run.algorithm, "threads": run.threads}
        self._x = x
        if pg is None:
            out = run.result(self.index, g.output_shape)
            self._y = run.ops.conv2d(x, self._weight, self._bias, g, activation=self._activation, out=out, **how)
            return self._y
        fused = getattr(run.ops, "conv2d_pool", None)
        narrow = getattr(run.ops, "narrow_indices", False) and pg.kh * pg.kw <= 256
        dtype = NARROW if narrow else INDEX
        self._indices = run.kept((self.index, "indices"), pg.output_shape, dtype) if run.training else None
        if fused is not None:
            how.update(activation=self._activation, out=run.result(self.index, pg.output_shape), indices=self._indices)
            self._y = fused(x, self._weight, self._bias, g, pg, **how)
            return self._y
        full = run.passing(g.output_shape)
        run.ops.conv2d(x, self._weight, self._bias, g, activation=self._activation, out=full, **how)
        out = run.result(self.index, pg.output_shape)
        self._y = run.ops.max_pool2d(full, pg, threads=run.threads, out=out, indices=self._indices)
        return self._y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The filters', the bias's and the input's gradients."""
        assert self._geometry is not None
        g, pg = self._geometry
        how = {"algorithm": run.algorithm, "threads": run.threads}
        if pg is not None and not input_grad and self._sparse_backward(grad, run):
            return None
        if self._relu:
            grad = run.ops.relu_grad(grad, self._y, threads=run.threads, out=grad)
        if "bias" in self.names:  # pooling hands each number to one pixel, so the sum is the same before it
            run.gradients[self.names["bias"]][...] = run.ops.bias_grad(grad, threads=run.threads)
        if pg is not None:
            full = run.passing(g.output_shape)
            grad = run.ops.max_pool2d_input_grad(grad, self._indices, pg, threads=run.threads, out=full)
        run.ops.conv2d_weight_grad(self._x, grad, g, out=run.gradients[self.names["weight"]], **how)
        if not input_grad:
            return None
        return run.ops.conv2d_input_grad(grad, self._weight, g, out=run.passing(g.input_shape), **how)

    def _sparse_backward(self, grad: np.ndarray, run: Run) -> bool:
        """The filters' and the bias's gradients straight from the pooled errors, where the backend has a way."""
        assert self._geometry is not None
        sparse = getattr(run.ops, "conv2d_pool_weight_grad", None)
        if sparse is None or run.algorithm not in ("auto", "direct"):
            return False
        how = {"activation": self._activation, "threads": run.threads, "out": run.gradients[self.names["weight"]]}
        found = sparse(self._x, grad, self._indices, self._y, *self._geometry, **how)
        if found is not None and "bias" in self.names:
            run.gradients[self.names["bias"]][...] = found[1]
        return found is not None

    def forget(self) -> None:
        """Drop the input: of the first step it is the caller's."""
        self._x = None
