"""The layer BatchNorm: batch normalisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pyconv.errors import ShapeError
from pyconv.values import real

from .layer import Layer, Parameter, Shape, Step
from .run import Run


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation, channel by channel (the last axis), over the batch and the pixels.

    ::

        training:   y = gamma (x - mean) / √(variance + eps) + beta, with the batch's mean and (biased) variance
        inference:  the same with the running mean and variance

    Parameters
    ----------
    eps : float
        Added to the variance.
    momentum : float
        Weight of the newest batch in the running statistics, ``running ← (1 - momentum) running + momentum batch``,
        as in PyTorch (Keras's momentum is one minus this). The running variance takes the batch's unbiased variance.

    Notes
    -----
    Parameters: ``gamma``, ones, and ``beta``, zeros, both ``(C,)``. Buffers: ``running_mean``, zeros, and
    ``running_var``, ones. Ioffe and Szegedy, "Batch normalization" (2015), Algorithm 1.
    """

    eps: float = field(default=1e-5, kw_only=True)
    momentum: float = field(default=0.1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("eps", real(self.eps, "eps", above=0))
        self._settle("momentum", real(self.momentum, "momentum", above=0, maximum=1))

    def parameters(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[-1:]
        return {"gamma": Parameter(channels, 1.0), "beta": Parameter(channels, 0.0)}

    def buffers(self, input_shape: Shape) -> dict[str, Parameter]:
        channels = input_shape[-1:]
        return {"running_mean": Parameter(channels, 0.0), "running_var": Parameter(channels, 1.0)}

    def flops(self, input_shape: Shape) -> int:
        return 2 * math.prod(input_shape)  # in inference, a multiplication and an addition for each number

    def least_batch(self, input_shape: Shape) -> int:
        return 2 if math.prod(input_shape[:-1]) == 1 else 1  # one number a channel has no variance

    def step(self, index: int | str, input_shape: Shape, following: Sequence[Layer]) -> Step:
        return BatchNormStep(index, self)


class BatchNormStep(Step):
    """Normalises; in training it also updates the running statistics, unless it is frozen."""

    recorded = True
    over_in_inference = True
    keeps_output = ""
    grad_shares = False
    grad_over = False

    def __init__(self, index: int | str, layer: BatchNorm) -> None:
        super().__init__(index, 1, ["gamma", "beta"])
        self._eps, self._momentum = float(layer.eps), float(layer.momentum)
        self._arrays: tuple[np.ndarray, ...] = ()
        self._kept: tuple[np.ndarray, ...] = ()

    def bind(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Take ``gamma``, ``beta`` and the running statistics."""
        names = ("gamma", "beta", "running_mean", "running_var")
        self._arrays = tuple(arrays[f"{self.index}.{name}"] for name in names)

    def forward(self, x: np.ndarray, run: Run) -> np.ndarray:
        """Normalise with the batch's statistics in training, else with the running statistics."""
        gamma, beta, running_mean, running_var = self._arrays
        out = x if run.owned else run.result(self.index, x.shape)
        if not run.training or self.frozen:
            self._kept = (x,)
            return run.ops.batch_norm_inference(
                x, gamma, beta, running_mean, running_var, self._eps, threads=run.threads, out=out
            )
        numbers = x.size // x.shape[-1]
        if numbers < 2:
            raise ShapeError("training needs more than one number per channel: take a batch of 2 or more")
        y, mean, inv_std = run.ops.batch_norm(x, gamma, beta, self._eps, threads=run.threads, out=out)
        self._kept = x, mean, inv_std
        run.ops.move_running_statistics(running_mean, running_var, mean, inv_std, self._eps, self._momentum, numbers)
        return y

    def backward(self, grad: np.ndarray, run: Run, input_grad: bool) -> np.ndarray | None:
        """The gradients of gamma, beta and the input."""
        x = self._kept[0]
        out = run.gradient(self.index, x.shape)
        if self.frozen:
            gamma, _, _, running_var = self._arrays
            return run.ops.batch_norm_inference_grad(grad, gamma, running_var, self._eps, threads=run.threads, out=out)
        _, mean, inv_std = self._kept
        gx, ggamma, gbeta = run.ops.batch_norm_grad(
            x, grad, self._arrays[0], mean, inv_std, threads=run.threads, out=out
        )
        run.gradients[self.names["gamma"]][...] = ggamma
        run.gradients[self.names["beta"]][...] = gbeta
        return gx if input_grad else None

    def forget(self) -> None:
        """Drop the arrays of the last pass."""
        self._kept = ()
