"""The layer Dropout; its random masks depend on the example, not on how a batch is divided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.backends import Backend
from pyconv.values import real

from .layer import Buffer, Layer, Shape, Step, stream_of
from .run import Run

#: Sets the random numbers of dropout apart from others that come from the same seed.
_STREAM = 0x64726F70


@dataclass(frozen=True)
class Dropout(Layer):
    """Sets numbers to 0 at random in training, and scales the others up to keep the mean; changes nothing in inference.

    Parameters
    ----------
    rate : float
        Share of the numbers that is dropped, in [0, 1), rounded to a 65536th.

    Notes
    -----
    The mask is a function of the model's seed, the training step, the layer and the example's position in the global
    batch: the generator (Philox, Salmon et al. 2011) has a counter, which is set for each example. So a batch that is
    divided among workers gets the same masks as in one piece, and a resumed run needs no saved state.

    Srivastava et al., "Dropout" (2014).
    """

    rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("rate", real(self.rate, "rate", minimum=0, below=1))

    def flops(self, input_shape: Shape) -> int:
        return 0

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return DropoutStep(index, float(self.rate))


class DropoutStep(Step):
    """Drops numbers in training; returns its input in inference."""

    recorded = True
    fresh = False
    over = True  # a dropped number gets no gradient, and any other that was above 0 stays so
    keeps_input = False
    keeps_output = ""
    grad_shares = True

    def __init__(self, index: int | str, rate: float) -> None:
        super().__init__(index)
        self._layer = stream_of(index)
        self._threshold = min(round(rate * 65536), 65535)
        self._scale = 65536 / (65536 - self._threshold)
        self._factor: np.ndarray | None = None

    def shares(self, training: bool) -> bool | None:
        """In inference the result is the input."""
        return not training or not self._threshold

    def buffers(self, input_shape: Shape, training: bool, ops: Backend) -> Sequence[Buffer]:
        """The factor of each number."""
        return (Buffer("factor", input_shape),) if training and self._threshold else ()

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Multiply each number by 0 or by ``1 / (1 - rate)``."""
        if not run.training or not self._threshold:
            self._factor = None
            return x
        self._factor = run.kept((self.index, "factor"), x.shape)
        return run.ops.dropout(
            x, self._factor, seed=run.seed, stream=_STREAM, step=run.step, layer=self._layer, first=run.first,
            threshold=self._threshold, scale=self._scale, threads=run.threads,
            out=x if run.owned else run.result(self.index, x.shape),
        )  # fmt: skip

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Multiply the gradient by the same factors."""
        if self._factor is None:
            return grad
        return run.ops.multiply(grad, self._factor, threads=run.threads, out=grad)

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._factor = None
