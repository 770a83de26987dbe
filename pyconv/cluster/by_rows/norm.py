"""Batch normalisation of images whose rows are on several ranks: the statistics are those of all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...errors import ShapeError
from ...nn import BatchNorm
from ...nn.layer import Layer, Parameter, Shape, Step
from ...nn.norm import BatchNormStep
from ...nn.run import Run
from .. import sums
from ..world import World


@dataclass(frozen=True)
class NormOnRows(Layer):
    """A BatchNorm on this rank's rows.

    Parameters
    ----------
    inner : BatchNorm
    rows : int
        Of a whole image.
    world : World
    """

    inner: BatchNorm
    rows: int
    world: World = field(repr=False)

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        return self.inner.parameters(input_shape)

    def buffers(self, input_shape: Shape) -> dict[str, Parameter]:
        return self.inner.buffers(input_shape)

    def flops(self, input_shape: Shape) -> int:
        return self.inner.flops(input_shape)

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return NormOnRowsStep(index, self)


class NormOnRowsStep(BatchNormStep):
    """Adds sums up over the ranks, in their order; so all have the same statistics."""

    def __init__(self, index: int | str, layer: NormOnRows) -> None:
        super().__init__(index, layer.inner)
        self._rows, self._world = layer.rows, layer.world

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Normalise with the statistics of the batch's whole images."""
        if not run.training or self.frozen:
            return super().forward(x, run)
        gamma, beta, running_mean, running_var = self._arrays
        numbers = x.shape[0] * self._rows * x.shape[2]
        if numbers < 2:
            raise ShapeError("training needs more than one number per channel: take a batch of 2 or more")
        mean = self._total(x) / numbers
        inv_std = 1 / np.sqrt(self._total(np.square(x - mean.astype(x.dtype))) / numbers + self._eps)
        self._kept = x, mean.astype(x.dtype), inv_std.astype(x.dtype)
        scale = gamma * inv_std
        run.ops.move_running_statistics(
            running_mean, running_var, self._kept[1], self._kept[2], self._eps, self._momentum, numbers
        )
        shift = (beta - mean * scale).astype(x.dtype)
        out = run.result(self.index, x.shape)
        y: np.ndarray = run.ops.scale_shift(x, scale.astype(x.dtype), shift, threads=run.threads, out=out)
        return y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The gradients of gamma and beta on these rows, which are added up with all others; and the input's."""
        if self.frozen:
            return super().backward(grad, run, input_grad)
        x, mean, inv_std = self._kept
        normal = (x - mean) * inv_std
        run.gradients[self.names["gamma"]][...] = _sum(grad * normal)
        run.gradients[self.names["beta"]][...] = _sum(grad)
        if not input_grad:
            return None
        numbers = x.shape[0] * self._rows * x.shape[2]
        of_gamma, of_beta = ((self._total(each) / numbers).astype(x.dtype) for each in (grad * normal, grad))
        out: np.ndarray = run.gradient(self.index, x.shape)
        out[...] = self._arrays[0] * inv_std * (grad - of_beta - normal * of_gamma)
        return out

    def _total(self, array: np.ndarray) -> np.ndarray:
        """The sum of each channel over all images and rows, ``(C,)`` float64."""
        return sums.in_rank_order(self._world, _sum(array))


def _sum(array: np.ndarray) -> np.ndarray:
    return array.sum(axis=(0, 1, 2), dtype=np.float64)
