"""Dropout, with masks that depend on nothing but the example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.values import real

from .layer import Layer, Shape, Step
from .run import Run

#: Marks the random streams of dropout among all that follow from one seed.
_STREAM = 0x64726F70

_PER_COUNT = 16  # 16-bit numbers from one count of the generator


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets numbers to 0 at random in training, and scales the others up to keep the mean; nothing in inference.

    Parameters
    ----------
    rate : float
        Share that is dropped, in [0, 1); kept to a 65536th.

    Notes
    -----
    The mask is a function of the model's seed, the training step, the layer and the example's position in the global
    batch: the generator (Philox, Salmon et al. 2011) has a counter, which is set for each example. So a batch that is
    split over workers is dropped as it would be in one piece, and resuming needs no saved state.

    Srivastava et al., "Dropout" (2014).
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("rate", real(self.rate, "rate", minimum=0, below=1))

    def flops(self, input_shape: Shape) -> int:
        return 0

    def step(self, index: int, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return DropoutStep(index, float(self.rate))


def mask(seed: int, step: int, layer: int, first: int, n: int, size: int, threshold: int) -> np.ndarray:
    """Which numbers to keep.

    Parameters
    ----------
    seed, step, layer : int
        The model's seed, the number of the training step, the layer's position.
    first : int
        Position of the first example in the global batch.
    n, size : int
        Examples, and numbers in each.
    threshold : int
        A number is dropped with probability ``threshold / 65536``.

    Returns
    -------
    (n, size) ndarray of bool
    """
    counts = -(-size // _PER_COUNT)
    counter = np.array([first * counts, 0, layer, step], np.uint64)
    generator = np.random.Philox(counter=counter, key=np.array([seed, _STREAM], np.uint64))
    numbers = generator.random_raw(n * counts * 4).astype("<u8", copy=False).view("<u2")
    return numbers.reshape(n, counts * _PER_COUNT)[:, :size] >= threshold


class DropoutStep(Step):
    """Drops in training, passes its input on in inference."""

    fresh = False

    def __init__(self, index: int, rate: float) -> None:
        super().__init__(index)
        self._threshold = min(round(rate * 65536), 65535)
        self._scale = 65536 / (65536 - self._threshold)
        self._factor: np.ndarray | None = None

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Multiply by 0 or by ``1 / (1 - rate)``."""
        if not run.training or not self._threshold:
            self._factor = None
            return x
        self._factor = run.kept((self.index, "factor"), x.shape)
        out = x if run.owned else run.result(self.index, x.shape)
        by_backend = getattr(run.ops, "dropout", None)
        if by_backend is not None:  # the same masks, drawn where the numbers are
            how = {"seed": run.seed, "stream": _STREAM, "step": run.step, "layer": self.index, "first": run.first}
            return by_backend(x, self._factor, threshold=self._threshold, scale=self._scale, out=out, **how)
        keep = mask(run.seed, run.step, self.index, run.first, len(x), math.prod(x.shape[1:]), self._threshold).reshape(
            x.shape
        )
        np.multiply(keep, x.dtype.type(self._scale), out=self._factor)
        return np.multiply(x, self._factor, out=out)

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The same factors on the gradient."""
        if self._factor is None:
            return grad
        multiply = getattr(run.ops, "multiply", np.multiply)
        return multiply(grad, self._factor, out=grad)
