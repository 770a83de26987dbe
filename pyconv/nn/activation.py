"""The layer ReLU, which is fused into its neighbours where possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.values import choice

from .layer import Layer, Shape, Step
from .pooling import MaxPool2D, PoolStep
from .run import Run

#: The activations that a layer can include.
ACTIVATIONS = ("relu",)


def check_activation(activation: object) -> None:
    """Refuse an activation that is neither None nor a known name."""
    if activation is not None:
        choice(activation, "activation", ACTIVATIONS)


@dataclass(frozen=True)
class ReLU(Layer):
    """Rectified linear unit, ``max(x, 0)``. After a Conv2D or a Dense layer it is fused into that layer.

    Notes
    -----
    The paper, section 2. NaN stays NaN; the gradient at 0 is 0.
    """

    def flops(self, input_shape: Shape) -> int:
        return math.prod(input_shape)

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        # ReLU and max pooling can change places, and the pooled result is smaller, so the ReLU is done on that. The
        # gradients are the same too: they go to the first largest pixel if it is above 0, else nowhere.
        if following and isinstance(following[0], MaxPool2D):
            return PoolStep(index, following[0], relu=True, layers=2)
        return ReLUStep(index)


class ReLUStep(Step):
    """ReLU, in place if the input may be overwritten."""

    recorded = True
    over = True
    keeps_input = False
    keeps_output = "sign"
    grad_shares = True

    def __init__(self, index: int | str) -> None:
        super().__init__(index)
        self._y: np.ndarray | None = None

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Overwrite `x` with the result, unless `x` is still needed."""
        out = x if run.owned else run.result(self.index, x.shape)
        self._y = run.ops.relu(x, threads=run.threads, out=out)
        return self._y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """Pass the gradient where the result is above 0."""
        return run.ops.relu_grad(grad, self._y, threads=run.threads, out=grad) if input_grad else None

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._y = None
