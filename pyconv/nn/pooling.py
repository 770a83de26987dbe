"""The layers MaxPool2D and AvgPool2D."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.backends import Backend
from pyconv.shapes import Padding, Pair, PoolGeometry, pair, pool_geometry

from .layer import Buffer, Layer, Shape, Step, expect_images, remember
from .run import Run

INDEX = np.dtype(np.int32)
#: Positions in the window as bytes, if the backend takes them and the window has no more pixels than that.
NARROW = np.dtype(np.uint8)


@dataclass(frozen=True)
class _Pool2D(Layer):
    """Base class of max and average pooling."""

    pool_size: Pair
    stride: Pair | None = field(default=None, kw_only=True)
    padding: Padding = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        pair(self.pool_size, "pool_size")
        if self.stride is not None:
            pair(self.stride, "stride")

    def geometry(self, n: int, input_shape: Shape) -> PoolGeometry:
        """Geometry of the pooling of a batch.

        Parameters
        ----------
        n : int
            Examples in the batch.
        input_shape : tuple of int
            Of one example, without the batch: ``(H, W, C)`` or ``(features,)``.

        Returns
        -------
        PoolGeometry

        Raises
        ------
        ShapeError
            If examples are no images, or a window does not fit them.
        """
        return pool_geometry((n, *expect_images(input_shape)), self.pool_size, stride=self.stride, padding=self.padding)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.geometry(1, input_shape).output_shape[1:]

    def flops(self, input_shape: Shape) -> int:
        return self.geometry(1, input_shape).flops

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return PoolStep(index, self)


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """The largest pixel of each window, channel by channel.

    Parameters
    ----------
    pool_size : int or (int, int)
        Height and width of a window, in pixels.
    stride : int or (int, int), optional
        Distance between windows, down and across; by default the pool size.
    padding : int, (int, int), ((int, int), (int, int)), "same" or "valid"
        As in :func:`pyconv.max_pool2d`; padded pixels are never the largest.

    Notes
    -----
    The paper, section 2. The gradient goes to the first largest pixel of a window.
    """

    def geometry(self, n: int, input_shape: Shape) -> PoolGeometry:
        return super().geometry(n, input_shape).number_pixels()


@dataclass(frozen=True)
class AvgPool2D(_Pool2D):
    """The mean of each window's pixels inside the image, channel by channel.

    Parameters
    ----------
    pool_size, stride, padding
        As in :class:`MaxPool2D`; padded pixels do not count.
    """


class PoolStep(Step):
    """Pooling; a ReLU before or after a MaxPool2D is done on the pooled result."""

    recorded = True
    keeps_input = False
    grad_shares = False

    def __init__(self, index: int | str, pool: _Pool2D, *, relu: bool = False, layers: int = 1) -> None:
        super().__init__(index, layers)
        self._pool, self._relu = pool, relu
        self._largest = isinstance(pool, MaxPool2D)
        self.keeps_output = "sign" if relu else ""
        self.grad_over = relu
        self._geometries: dict[int, PoolGeometry] = {}
        self._geometry: PoolGeometry | None = None
        self._y: np.ndarray | None = None
        self._indices: np.ndarray | None = None

    def geometry(self, n: int, input_shape: Shape) -> PoolGeometry:
        """The geometry of pooling for a batch of `n`, computed once for each size."""
        found = self._geometries.get(n)
        if found is None:
            found = self._pool.geometry(n, input_shape)
            remember(self._geometries, n, found)
        return found

    def buffers(self, input_shape: Shape, training: bool, ops: Backend) -> Sequence[Buffer]:
        """The positions of the maxima."""
        if not self._largest or not training:
            return ()
        return (Buffer("indices", self.geometry(1, input_shape).output_shape[1:], INDEX),)

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Pool; in training, keep the position of each maximum."""
        self._geometry = pg = self.geometry(len(x), x.shape[1:])
        out = run.result(self.index, pg.output_shape)
        if not self._largest:
            return run.ops.avg_pool2d(x, pg, threads=run.threads, out=out)
        self._indices = run.kept((self.index, "indices"), pg.output_shape, INDEX) if run.training else None
        y = run.ops.max_pool2d(x, pg, threads=run.threads, out=out, indices=self._indices)
        if self._relu:
            self._y = y = run.ops.relu(y, threads=run.threads, out=y)
        return y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Pass each window's gradient to its maximum, or divide it among its pixels."""
        if not input_grad:
            return None
        pg = self._geometry
        assert pg is not None
        if self._relu:
            grad = run.ops.relu_grad(grad, self._y, threads=run.threads, out=grad)
        out = run.gradient(self.index, pg.input_shape)
        if self._largest:
            return run.ops.max_pool2d_input_grad(grad, self._indices, pg, threads=run.threads, out=out)
        return run.ops.avg_pool2d_input_grad(grad, pg, threads=run.threads, out=out)

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._y = self._indices = None
