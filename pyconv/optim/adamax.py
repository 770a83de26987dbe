"""AdaMax: Adam with the infinity norm in place of the mean square."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import DeviceStep, Optimizer, decayed, scratch


@dataclass(frozen=True)
class AdaMax(Optimizer):
    """AdaMax.

    ::

        m ← beta1 m + (1 - beta1) g
        u ← max(beta2 u, |g| + eps)
        p ← p - lr / (1 - beta1^step) · m / u

    Parameters
    ----------
    lr : float
        Learning rate.
    beta1, beta2 : float
        Shares of the running mean and of the running maximum that are kept, in [0, 1).
    eps : float
        Added to the gradient's absolute value, as in PyTorch; the original has none, and divides by zero if g was
        always 0.
    weight_decay : float
        Factor of the L2 penalty's gradient.

    Notes
    -----
    Kingma and Ba (2015), algorithm 2; the paper's §1.
    """

    lr: float = 2e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    @classmethod
    def _fractions(cls) -> tuple[str, ...]:
        return ("beta1", "beta2")

    @property
    def state_names(self) -> tuple[str, ...]:
        """``("mean", "maximum")``: running mean of the gradients, running maximum of their sizes."""
        return ("mean", "maximum")

    def _constants(self, step: int, lr: float) -> tuple[float, ...]:
        return (lr / (1 - self.beta1**step),)

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        rate = lr / (1 - self.beta1**step)
        return DeviceStep("adamax", (rate, self.beta1, 1 - self.beta1, self.beta2, self.eps, self.weight_decay))

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        (mean, maximum), (rate,) = state, constants
        t, u = (block[: p.size] for block in scratch(p.dtype, 2))
        g = decayed(p, g, self.weight_decay, u)
        mean *= self.beta1
        np.multiply(g, 1 - self.beta1, out=t)
        mean += t
        maximum *= self.beta2
        np.abs(g, out=t)
        t += self.eps
        np.maximum(maximum, t, out=maximum)
        np.divide(mean, maximum, out=t)
        t *= rate
        p -= t
