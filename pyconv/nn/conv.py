"""The layer Conv2D, and its step, which includes a ReLU and a max pooling that follow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.backends import Backend
from pyconv.errors import ShapeError
from pyconv.shapes import ConvGeometry, Padding, Pair, PoolGeometry, conv_geometry, pair
from pyconv.values import integer, real

from .activation import ReLU, check_activation
from .layer import Buffer, Layer, Parameter, Shape, Step, expect_images, remember
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
        Distance between the pixels that neighbouring weights are multiplied with, down and across.
    groups : int
        Groups of channels, each convolved by itself; with as many groups as input channels it is depthwise convolution.
    activation : None or "relu"
        Applied to the result, fused into the convolution.
    bias : bool
        Whether to add a trained number to each channel; with a BatchNorm after it, it is superfluous.
    scale : float
        Factor of the first weights, as in :class:`Dense`; a small one if this is the network's last layer.

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
    scale: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("scale", real(self.scale, "scale", minimum=0))
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
        parameters = {"weight": Parameter(shape, "he", fan_in=math.prod(shape[:3]), scale=float(self.scale))}
        if self.bias:
            parameters["bias"] = Parameter((self.filters,), 0.0)
        return parameters

    def flops(self, input_shape: Shape) -> int:
        g = self.geometry(1, input_shape)
        return g.flops + math.prod(g.output_shape) * (bool(self.bias) + (self.activation is not None))

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
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
    """Convolution, then ReLU, then max pooling; the last two are optional.

    With pooling, neither the convolution's full result nor its gradient outlives the step. The backward pass needs only
    the pooled result, which tells where the ReLU was active, and the position of each maximum.
    """

    recorded = True
    grad_shares = False

    def __init__(
        self, index: int | str, layer: Conv2D, input_shape: Shape, *, relu: bool, pool: MaxPool2D | None, layers: int
    ) -> None:
        super().__init__(index, layers, list(layer.parameters(input_shape)))
        self._layer, self._relu, self._pool = layer, relu, pool
        self._activation = "relu" if relu else None
        self.keeps_output = "sign" if relu else ""
        self.grad_over = relu
        self._geometries: dict[int, tuple[ConvGeometry, PoolGeometry | None]] = {}
        self._geometry: tuple[ConvGeometry, PoolGeometry | None] | None = None
        self._weight: np.ndarray | None = None
        self._bias: np.ndarray | None = None
        self._x: np.ndarray | None = None
        self._y: np.ndarray | None = None
        self._indices: np.ndarray | None = None

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take ``weight``, and ``bias`` if there is one."""
        self._weight = arrays[self.names["weight"]]
        self._bias = arrays[self.names["bias"]] if "bias" in self.names else None

    def geometry(self, n: int, input_shape: Shape) -> tuple[ConvGeometry, PoolGeometry | None]:
        """The geometry of convolution and pooling for a batch of `n`, computed once for each size."""
        found = self._geometries.get(n)
        if found is None:
            g = self._layer.geometry(n, input_shape)
            found = g, self._pool.geometry(n, g.output_shape[1:]) if self._pool else None
            remember(self._geometries, n, found)
        return found

    def buffers(self, input_shape: Shape, training: bool, ops: Backend) -> Sequence[Buffer]:
        """The positions of the maxima, and the gradient of the convolution's full result."""
        g, pg = self.geometry(1, input_shape)
        if pg is None or not training:
            return ()
        return (
            Buffer("indices", pg.output_shape[1:], _index_dtype(ops, pg)),
            Buffer("full", g.output_shape[1:], span="backward"),
        )

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Convolve, with the ReLU and the pooling that follow."""
        self._geometry = g, pg = self.geometry(len(x), x.shape[1:])
        self._x = x
        if pg is None:
            self._y = run.ops.conv2d(
                x, self._weight, self._bias, g, activation=self._activation, algorithm=run.algorithm,
                threads=run.threads, out=run.result(self.index, g.output_shape),
            )  # fmt: skip
            return self._y
        place = (self.index, "indices")
        self._indices = run.kept(place, pg.output_shape, _index_dtype(run.ops, pg)) if run.training else None
        self._y = run.ops.conv2d_pool(
            x, self._weight, self._bias, g, pg, activation=self._activation, algorithm=run.algorithm,
            threads=run.threads, out=run.result(self.index, pg.output_shape), indices=self._indices,
        )  # fmt: skip
        return self._y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The filters', the bias's and the input's gradients."""
        assert self._geometry is not None
        g, pg = self._geometry
        if pg is not None and not input_grad and self._sparse_backward(grad, run):
            return None
        ops, algorithm, threads = run.ops, run.algorithm, run.threads
        if self._relu:
            grad = ops.relu_grad(grad, self._y, threads=threads, out=grad)
        if "bias" in self.names and not self.frozen:
            # Pooling gives each number to one pixel, so the sum before it is the same.
            run.gradients[self.names["bias"]][...] = ops.bias_grad(grad, threads=threads)
        if pg is not None:
            full = run.kept((self.index, "full"), g.output_shape)
            grad = ops.max_pool2d_input_grad(grad, self._indices, pg, threads=threads, out=full)
        if not self.frozen:
            weight_grad = run.gradients[self.names["weight"]]
            ops.conv2d_weight_grad(self._x, grad, g, algorithm=algorithm, threads=threads, out=weight_grad)
        if not input_grad:
            return None
        out = run.gradient(self.index, g.input_shape)
        return ops.conv2d_input_grad(grad, self._weight, g, algorithm=algorithm, threads=threads, out=out)

    def _sparse_backward(self, grad: np.ndarray, run: Run) -> bool:
        """The filters' and the bias's gradients directly from the pooled errors; returns whether the backend can."""
        assert self._geometry is not None
        g, pg = self._geometry
        assert pg is not None
        if run.algorithm not in ("auto", "direct"):
            return False
        found = run.ops.conv2d_pool_weight_grad(
            self._x, grad, self._indices, self._y, g, pg, activation=self._activation, threads=run.threads,
            out=run.gradients[self.names["weight"]],
        )  # fmt: skip
        if found is not None and "bias" in self.names:
            run.gradients[self.names["bias"]][...] = found[1]
        return found is not None

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._x = self._y = self._indices = None


def _index_dtype(ops: Backend, pg: PoolGeometry) -> np.dtype:
    """The dtype of the positions of a pooling's maxima."""
    return NARROW if ops.narrow_indices and pg.kh * pg.kw <= 256 else INDEX
