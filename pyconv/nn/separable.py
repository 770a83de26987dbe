"""The layer SeparableConv2D: depthwise separable convolution."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.backends import Backend
from pyconv.shapes import ConvGeometry, Padding, Pair, pair
from pyconv.values import integer

from .activation import ReLU, check_activation
from .conv import Conv2D
from .layer import Buffer, Layer, Parameter, Shape, Step, expect_images, remember
from .run import Run


@dataclass(frozen=True)
class SeparableConv2D(Layer):
    """A depthwise convolution (each channel has filters of its own), then a 1×1 convolution that mixes the channels.

    Parameters
    ----------
    filters : int
        Output channels.
    kernel_size, stride, padding, dilation
        The depthwise convolution's, as in :class:`Conv2D`.
    depth_multiplier : int
        Filters of each input channel.
    activation : None or "relu"
        Applied to the result; there is none between the two convolutions.
    bias : bool
        Whether to add a trained number to each output channel.

    Notes
    -----
    Parameters: ``depthwise``, ``(kernel height, kernel width, 1, channels · depth_multiplier)``, and ``pointwise``,
    ``(1, 1, channels · depth_multiplier, filters)``, with He initialisation; ``bias``, ``(filters,)``, zeros. Chollet,
    "Xception" (2017).
    """

    filters: int
    kernel_size: Pair
    stride: Pair = field(default=1, kw_only=True)
    padding: Padding = field(default=0, kw_only=True)
    dilation: Pair = field(default=1, kw_only=True)
    depth_multiplier: int = field(default=1, kw_only=True)
    activation: str | None = field(default=None, kw_only=True)
    bias: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("filters", integer(self.filters, "filters", minimum=1))
        for name in ("kernel_size", "stride", "dilation"):
            pair(getattr(self, name), name)
        self._settle("depth_multiplier", integer(self.depth_multiplier, "depth_multiplier", minimum=1))
        check_activation(self.activation)

    def parts(self, input_shape: Shape) -> tuple[Conv2D, Conv2D]:
        """The two convolutions.

        Parameters
        ----------
        input_shape : (int, int, int)
            Of one example: height, width and channels.

        Returns
        -------
        (Conv2D, Conv2D)
            Depthwise and pointwise, without the activation.

        Raises
        ------
        ShapeError
            If examples are no images.
        """
        channels = expect_images(input_shape)[2]
        depthwise = Conv2D(
            channels * self.depth_multiplier,
            self.kernel_size,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=channels,
            bias=False,
        )
        return depthwise, Conv2D(self.filters, 1, bias=self.bias)

    def output_shape(self, input_shape: Shape) -> Shape:
        depthwise, pointwise = self.parts(input_shape)
        return pointwise.output_shape(depthwise.output_shape(input_shape))

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        depthwise, pointwise = self.parts(input_shape)
        mixing = pointwise.parameters(depthwise.output_shape(input_shape))
        found = {"depthwise": depthwise.parameters(input_shape)["weight"], "pointwise": mixing.pop("weight")}
        return found | mixing

    def flops(self, input_shape: Shape) -> int:
        depthwise, pointwise = self.parts(input_shape)
        between = depthwise.output_shape(input_shape)
        rectified = math.prod(pointwise.output_shape(between)) if self.activation is not None else 0
        return depthwise.flops(input_shape) + pointwise.flops(between) + rectified

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        fused = self.activation is None and bool(following) and isinstance(following[0], ReLU)
        relu = fused or self.activation == "relu"
        return SeparableConvStep(index, self, input_shape, relu=relu, layers=1 + fused)


class SeparableConvStep(Step):
    """Two convolutions, the second with bias and ReLU."""

    recorded = True
    grad_shares = False

    def __init__(
        self, index: int | str, layer: SeparableConv2D, input_shape: Shape, *, relu: bool, layers: int
    ) -> None:  # fmt: skip
        super().__init__(index, layers, list(layer.parameters(input_shape)))
        self._parts = layer.parts(input_shape)
        self._activation = "relu" if relu else None
        self.keeps_output = "sign" if relu else ""
        self.grad_over = relu
        self._geometries: dict[int, tuple[ConvGeometry, ConvGeometry]] = {}
        self._arrays: Mapping[str, np.ndarray] = {}
        self._kept: tuple[np.ndarray, ...] = ()

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take ``depthwise``, ``pointwise``, and ``bias`` if there is one."""
        self._arrays = {name: arrays[full] for name, full in self.names.items()}

    def geometry(self, n: int, input_shape: Shape) -> tuple[ConvGeometry, ConvGeometry]:
        """The geometries of both convolutions for a batch of `n`, computed once for each size."""
        found = self._geometries.get(n)
        if found is None:
            first = self._parts[0].geometry(n, input_shape)
            found = first, self._parts[1].geometry(n, first.output_shape[1:])
            remember(self._geometries, n, found)
        return found

    def buffers(self, input_shape: Shape, training: bool, ops: Backend) -> Sequence[Buffer]:
        """The value between the two convolutions, and its gradient."""
        shape = self.geometry(1, input_shape)[0].output_shape[1:]
        if not training:
            return (Buffer("between", shape, span="forward"),)
        return Buffer("between", shape), Buffer("error", shape, span="backward")

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Convolve twice."""
        first, second = self.geometry(len(x), x.shape[1:])
        algorithm, threads = run.algorithm, run.threads
        between = run.kept((self.index, "between"), first.output_shape)
        run.ops.conv2d(x, self._arrays["depthwise"], None, first, algorithm=algorithm, threads=threads, out=between)
        y: np.ndarray = run.ops.conv2d(
            between, self._arrays["pointwise"], self._arrays.get("bias"), second, activation=self._activation,
            algorithm=algorithm, threads=threads, out=run.result(self.index, second.output_shape),
        )  # fmt: skip
        self._kept = x, between, y
        return y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The gradients of both sets of filters, of the bias and of the input."""
        x, between, y = self._kept
        first, second = self.geometry(len(x), x.shape[1:])
        ops, algorithm, threads = run.ops, run.algorithm, run.threads
        depthwise, pointwise = (self.names[name] for name in ("depthwise", "pointwise"))
        if self._activation is not None:
            grad = ops.relu_grad(grad, y, threads=threads, out=grad)
        if "bias" in self.names and not self.frozen:
            run.gradients[self.names["bias"]][...] = ops.bias_grad(grad, threads=threads)
        if not self.frozen:
            out = run.gradients[pointwise]
            ops.conv2d_weight_grad(between, grad, second, algorithm=algorithm, threads=threads, out=out)
        out = run.kept((self.index, "error"), first.output_shape)
        weight = self._arrays["pointwise"]
        error = ops.conv2d_input_grad(grad, weight, second, algorithm=algorithm, threads=threads, out=out)
        if not self.frozen:
            out = run.gradients[depthwise]
            ops.conv2d_weight_grad(x, error, first, algorithm=algorithm, threads=threads, out=out)
        if not input_grad:
            return None
        out, weight = run.gradient(self.index, first.input_shape), self._arrays["depthwise"]
        return ops.conv2d_input_grad(error, weight, first, algorithm=algorithm, threads=threads, out=out)

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._kept = ()
