"""The layers Dense (fully connected) and Flatten (images to vectors)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.values import integer, real

from .activation import ReLU, check_activation
from .layer import Layer, Parameter, Shape, Step, example_shape, expect_vectors
from .run import Run


@dataclass(frozen=True)
class Flatten(Layer):
    """Makes each example a vector: images ``(H, W, C)`` become ``(H W C,)``, rows first, channels last."""

    def output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(example_shape(input_shape)),)

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return FlattenStep(index)


class FlattenStep(Step):
    """Returns another view of the same numbers."""

    recorded = True
    fresh = False
    keeps_input = False
    keeps_output = ""
    grad_shares = True
    grad_over = False

    def __init__(self, index: int | str) -> None:
        super().__init__(index)
        self._shape: Shape = ()

    def shares(self, training: bool) -> bool | None:
        """Always: the result is a view of the input."""
        return True

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """The input as ``(N, features)``."""
        self._shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The gradient in the shape of the input."""
        return grad.reshape(self._shape)


@dataclass(frozen=True)
class Dense(Layer):
    """Fully connected layer, ``y = x weight + bias``.

    Parameters
    ----------
    units : int
        Outputs.
    activation : None or "relu"
        Applied to the result.
    bias : bool
        Whether to add a trained number to each output.
    scale : float
        Factor of the first weights. If it is small in a classifier's last layer, training begins with nearly equal
        probabilities; with 1 the first logits are large, and the first steps only shrink them.

    Notes
    -----
    Parameters: ``weight``, ``(inputs, units)``, with He initialisation; ``bias``, ``(units,)``, zeros. The paper,
    section 2.
    """

    units: int
    activation: str | None = field(default=None, kw_only=True)
    bias: bool = field(default=True, kw_only=True)
    scale: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("units", integer(self.units, "units", minimum=1))
        self._settle("scale", real(self.scale, "scale", minimum=0))
        check_activation(self.activation)

    def output_shape(self, input_shape: Shape) -> Shape:
        expect_vectors(input_shape)
        return (self.units,)

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        inputs = expect_vectors(input_shape)
        parameters = {"weight": Parameter((inputs, self.units), "he", fan_in=inputs, scale=float(self.scale))}
        if self.bias:
            parameters["bias"] = Parameter((self.units,), 0.0)
        return parameters

    def flops(self, input_shape: Shape) -> int:
        inputs = expect_vectors(input_shape)
        return self.units * (2 * inputs + bool(self.bias) + (self.activation is not None))

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        fused = self.activation is None and bool(following) and isinstance(following[0], ReLU)
        return DenseStep(index, self, relu=fused or self.activation == "relu", layers=1 + fused)


class DenseStep(Step):
    """A matrix product, with bias and ReLU."""

    recorded = True
    grad_shares = False

    def __init__(self, index: int | str, layer: Dense, *, relu: bool, layers: int) -> None:
        super().__init__(index, layers, ["weight", "bias"] if layer.bias else ["weight"])
        self._units, self._relu = layer.units, relu
        self._activation = "relu" if relu else None
        self.keeps_output = "sign" if relu else ""
        self.grad_over = relu
        self._weight: np.ndarray | None = None
        self._bias: np.ndarray | None = None
        self._x: np.ndarray | None = None
        self._y: np.ndarray | None = None

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take ``weight``, and ``bias`` if there is one."""
        self._weight = arrays[self.names["weight"]]
        self._bias = arrays[self.names["bias"]] if "bias" in self.names else None

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """``x weight + bias``, then ReLU if there is one."""
        self._x = x
        out = run.result(self.index, (len(x), self._units))
        self._y = run.ops.dense(x, self._weight, self._bias, activation=self._activation, threads=run.threads, out=out)
        return self._y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The weight's, the bias's and the input's gradients."""
        if self._relu:
            grad = run.ops.relu_grad(grad, self._y, threads=run.threads, out=grad)
        if not self.frozen:
            run.ops.dense_weight_grad(self._x, grad, threads=run.threads, out=run.gradients[self.names["weight"]])
        if "bias" in self.names and not self.frozen:
            run.gradients[self.names["bias"]][...] = run.ops.bias_grad(grad, threads=run.threads)
        if not input_grad:
            return None
        assert self._weight is not None
        out = run.gradient(self.index, (len(grad), len(self._weight)))
        return run.ops.dense_input_grad(grad, self._weight, threads=run.threads, out=out)

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._x = self._y = None
