"""The activation layers other than ReLU; models from other libraries use them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pyconv.errors import InputError
from pyconv.values import real

from .layer import Layer, Shape, Step
from .run import Run


@dataclass(frozen=True)
class _Activation(Layer):
    """Base class of the activations: the shape stays the same, and one operation of the backends computes it."""

    def operation(self) -> tuple[str, float, float]:
        """The backends' operation for this activation.

        Returns
        -------
        tuple of (str, float, float)
            The backends' name for it, and its two parameters.
        """
        raise TypeError(f"{type(self).__name__} is no activation of its own")

    def flops(self, input_shape: Shape) -> int:
        return math.prod(input_shape)

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return ActivationStep(index, *self.operation())


@dataclass(frozen=True)
class LeakyReLU(_Activation):
    """``x`` where it is above 0, else ``slope x``.

    Parameters
    ----------
    slope : float
        At least 0. PyTorch's and ONNX's default is 0.01, Keras's 0.3.

    Notes
    -----
    NaN stays NaN; the gradient at 0 is `slope`. Maas et al., "Rectifier nonlinearities improve neural network acoustic
    models" (2013).
    """

    slope: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("slope", real(self.slope, "slope", minimum=0))

    def operation(self) -> tuple[str, float, float]:
        return "leaky_relu", float(self.slope), 0.0


@dataclass(frozen=True)
class Clip(_Activation):
    """``min(max(x, low), high)``.

    Parameters
    ----------
    low, high : float, optional
        `low` must be below `high`; None is no bound.

    Notes
    -----
    NaN stays NaN; the gradient is 0 at the bounds and beyond, as in PyTorch's Hardtanh.
    """

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("low", "high"):
            if getattr(self, name) is not None:
                self._settle(name, real(getattr(self, name), name))
        _, low, high = self.operation()
        if not low < high:
            raise InputError(f"low must be below high, not {self.low} and {self.high}")

    def operation(self) -> tuple[str, float, float]:
        return "clip", -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high


@dataclass(frozen=True)
class ReLU6(_Activation):
    """``min(max(x, 0), 6)``.

    Notes
    -----
    :class:`Clip` from 0 to 6. Krizhevsky, "Convolutional deep belief networks on CIFAR-10" (2010).
    """

    def operation(self) -> tuple[str, float, float]:
        return "clip", 0.0, 6.0


@dataclass(frozen=True)
class Sigmoid(_Activation):
    """``1 / (1 + exp(-x))``, between 0 and 1; NaN stays NaN."""

    def operation(self) -> tuple[str, float, float]:
        return "sigmoid", 0.0, 0.0


@dataclass(frozen=True)
class Tanh(_Activation):
    """``tanh(x)``, between -1 and 1; NaN stays NaN."""

    def operation(self) -> tuple[str, float, float]:
        return "tanh", 0.0, 0.0


class ActivationStep(Step):
    """An activation whose gradient is computed from its result, which must stay intact in training."""

    recorded = True
    over_in_inference = True
    keeps_input = False
    keeps_output = "values"
    grad_shares = True

    def __init__(self, index: int | str, kind: str, first: float, second: float) -> None:
        super().__init__(index)
        self._operation = kind, first, second
        self._y: np.ndarray | None = None

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """In place if the input may be overwritten."""
        out = x if run.owned else run.result(self.index, x.shape)
        self._y = run.ops.activate(x, *self._operation, threads=run.threads, out=out)
        return self._y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The gradient times the activation's slope."""
        if not input_grad:
            return None
        return run.ops.activate_grad(grad, self._y, *self._operation, threads=run.threads, out=grad)

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._y = None
