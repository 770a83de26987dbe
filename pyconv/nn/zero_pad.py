"""The layer ZeroPad2D: zero padding as a layer of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.errors import InputError, shown
from pyconv.shapes import Padding, padding_pairs, shape4

from .layer import Layer, Shape, Step, expect_images
from .run import Run

Pads = tuple[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True)
class ZeroPad2D(Layer):
    """Zero padding around images, as a layer of its own.

    Parameters
    ----------
    padding : int, (int, int) or ((int, int), (int, int))
        Pixels on every side; above and below, left and right; or top and bottom, left and right.

    Notes
    -----
    A convolution has its own padding. This layer is for pools: the padding of a pool is never a maximum and does not
    count in a mean, but this layer's zeros do.
    """

    padding: Padding

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.padding, str):
            raise InputError(f"padding must be integers, not {shown(self.padding)}")
        self.pads()

    def pads(self) -> Pads:
        """Pixels around an image.

        Returns
        -------
        ((int, int), (int, int))
            Top and bottom, left and right.
        """
        vertical, horizontal = padding_pairs(self.padding)
        assert not isinstance(vertical, str) and not isinstance(horizontal, str)
        return vertical, horizontal

    def output_shape(self, input_shape: Shape) -> Shape:
        h, w, c = expect_images(input_shape)
        (top, bottom), (left, right) = self.pads()
        return shape4((1, h + top + bottom, w + left + right, c), "result")[1:]

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return ZeroPadStep(index, self.pads())


class ZeroPadStep(Step):
    """Copies the images into larger ones."""

    recorded = True
    keeps_input = False
    keeps_output = ""
    grad_shares = False
    grad_over = False

    def __init__(self, index: int | str, pads: Pads) -> None:
        super().__init__(index)
        self._pads = pads
        self._shape: tuple[int, ...] = ()

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Zeros around `x`."""
        n, h, w, c = self._shape = x.shape
        (top, bottom), (left, right) = self._pads
        out = run.result(self.index, (n, h + top + bottom, w + left + right, c))
        return run.ops.pad2d(x, self._pads, threads=run.threads, out=out)

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The errors of the pixels inside."""
        if not input_grad:
            return None
        return run.ops.crop2d(grad, self._pads, threads=run.threads, out=run.gradient(self.index, self._shape))
