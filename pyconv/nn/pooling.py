"""Max and average pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.shapes import Padding, Pair, PoolGeometry, pair, pool_geometry

from .layer import Layer, Shape, Step, expect_images
from .run import Run

INDEX = np.dtype(np.int32)
#: The same as the place in the window, where a backend takes that and the window has no more pixels.
NARROW = np.dtype(np.uint8)


@dataclass(frozen=True)
class _Pool2D(Layer):
    """What max and average pooling share."""

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

    def step(self, index: int, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return PoolStep(index, self)


@dataclass(frozen=True)
class MaxPool2D(_Pool2D):
    """The largest pixel of each window, channel by channel.

    Parameters
    ----------
    pool_size : int or (int, int)
        Height and width of a window, in pixels.
    stride : int or (int, int), optional
        From window to window, down and across; the pool size by default.
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
    """Pooling, with the ReLU before or after a MaxPool2D done on the pooled result."""

    def __init__(self, index: int, pool: _Pool2D, *, relu: bool = False, layers: int = 1) -> None:
        super().__init__(index, layers)
        self._pool, self._relu = pool, relu
        self._largest = isinstance(pool, MaxPool2D)
        self._geometry: PoolGeometry | None = None
        self._y: np.ndarray | None = None
        self._indices: np.ndarray | None = None

    def geometry(self, x: np.ndarray) -> PoolGeometry:
        """That of the batch `x`, worked out again only when the batch size changes."""
        if self._geometry is None or self._geometry.n != len(x):
            self._geometry = self._pool.geometry(len(x), x.shape[1:])
        return self._geometry

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Pool; in training, remember where each maximum was."""
        pg = self.geometry(x)
        out = run.result(self.index, pg.output_shape)
        if not self._largest:
            return run.ops.avg_pool2d(x, pg, threads=run.threads, out=out)
        self._indices = run.kept((self.index, "indices"), pg.output_shape, INDEX) if run.training else None
        y = run.ops.max_pool2d(x, pg, threads=run.threads, out=out, indices=self._indices)
        if self._relu:
            self._y = y = run.ops.relu(y, threads=run.threads, out=y)
        return y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Send each window's gradient to its maximum, or share it among its pixels."""
        if not input_grad:
            return None
        pg = self._geometry
        assert pg is not None
        if self._relu:
            grad = run.ops.relu_grad(grad, self._y, threads=run.threads, out=grad)
        out = run.passing(pg.input_shape)
        if self._largest:
            return run.ops.max_pool2d_input_grad(grad, self._indices, pg, threads=run.threads, out=out)
        return run.ops.avg_pool2d_input_grad(grad, pg, threads=run.threads, out=out)
