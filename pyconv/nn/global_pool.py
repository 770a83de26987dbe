"""The layer GlobalAvgPool2D: the mean of each channel over the whole image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.shapes import PoolGeometry, pool_geometry

from .layer import Layer, Shape, Step, expect_images
from .run import Run


@dataclass(frozen=True)
class GlobalAvgPool2D(Layer):
    """The mean of each channel over all pixels: images ``(H, W, C)`` become vectors ``(C,)``.

    Notes
    -----
    Lin et al., "Network in network" (2014). It takes images of any size, and no Flatten is needed before a Dense layer.
    """

    def output_shape(self, input_shape: Shape) -> Shape:
        return expect_images(input_shape)[2:]

    def flops(self, input_shape: Shape) -> int:
        return math.prod(expect_images(input_shape))

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return GlobalAvgPoolStep(index)


class GlobalAvgPoolStep(Step):
    """Average pooling with a single window."""

    recorded = True
    keeps_input = False
    keeps_output = ""
    grad_shares = False
    grad_over = False

    def __init__(self, index: int | str) -> None:
        super().__init__(index)
        self._geometry: PoolGeometry | None = None

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """The means, ``(N, C)``."""
        if self._geometry is None or self._geometry.input_shape != x.shape:
            self._geometry = pool_geometry(x.shape, x.shape[1:3])
        out = run.result(self.index, self._geometry.output_shape)
        y: np.ndarray = run.ops.avg_pool2d(x, self._geometry, threads=run.threads, out=out)
        return y.reshape(len(x), x.shape[3])

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Divide each channel's gradient equally among its pixels."""
        if not input_grad:
            return None
        assert self._geometry is not None
        out = run.gradient(self.index, self._geometry.input_shape)
        errors = grad.reshape(self._geometry.output_shape)
        return run.ops.avg_pool2d_input_grad(errors, self._geometry, threads=run.threads, out=out)
