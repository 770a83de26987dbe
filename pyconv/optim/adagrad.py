"""Adagrad: each parameter has a learning rate of its own, which falls with the sum of its squared gradients."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import DeviceStep, Optimizer, decayed, scratch


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad.

    ::

        s ← s + g²
        p ← p - lr / (1 + (step - 1) lr_decay) · g / (√s + eps)

    Parameters
    ----------
    lr : float
        Learning rate.
    lr_decay : float
        How fast the learning rate falls with the steps.
    eps : float
        Added to the root, against division by zero.
    weight_decay : float
        Factor of the L2 penalty's gradient.

    Notes
    -----
    Duchi, Hazan and Singer, "Adaptive subgradient methods" (2011); the paper's §1.
    """

    lr: float = 0.01
    lr_decay: float = 0.0
    eps: float = 1e-10
    weight_decay: float = 0.0

    @property
    def state_names(self) -> tuple[str, ...]:
        """``("sum",)``: the sum of the squared gradients."""
        return ("sum",)

    def _constants(self, step: int, lr: float) -> tuple[float, ...]:
        return (lr / (1 + (step - 1) * self.lr_decay),)

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        return DeviceStep("adagrad", (lr / (1 + (step - 1) * self.lr_decay), self.eps, self.weight_decay))

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        (total,), (lr,) = state, constants
        t, u = (block[: p.size] for block in scratch(p.dtype, 2))
        g = decayed(p, g, self.weight_decay, u)
        np.multiply(g, g, out=t)
        total += t
        np.sqrt(total, out=t)
        t += self.eps
        np.divide(g, t, out=t)
        t *= lr
        p -= t
