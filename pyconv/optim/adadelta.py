"""Adadelta: steps in the units of the parameters, from running means of gradients and of steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import DeviceStep, Optimizer, decayed, scratch


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta.

    ::

        s ← rho s + (1 - rho) g²
        d = √(a + eps) / √(s + eps) · g
        a ← rho a + (1 - rho) d²
        p ← p - lr d

    Parameters
    ----------
    lr : float
        Factor of the step; 1 in the original.
    rho : float
        Share of the running means that is kept, in [0, 1).
    eps : float
        Added under both roots.
    weight_decay : float
        Factor of the L2 penalty's gradient.

    Notes
    -----
    Zeiler, "ADADELTA: an adaptive learning rate method" (2012); the paper's §1.
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    @classmethod
    def _fractions(cls) -> tuple[str, ...]:
        return ("rho",)

    @property
    def state_names(self) -> tuple[str, ...]:
        """``("square", "delta")``: running means of the squared gradients and of the squared steps."""
        return ("square", "delta")

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        return DeviceStep("adadelta", (lr, self.rho, 1 - self.rho, self.eps, self.weight_decay))

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        (square, delta), (lr,) = state, constants
        t, u, w = (block[: p.size] for block in scratch(p.dtype, 3))
        g = decayed(p, g, self.weight_decay, u)
        square *= self.rho
        np.multiply(g, g, out=t)
        t *= 1 - self.rho
        square += t
        np.add(square, self.eps, out=t)
        np.add(delta, self.eps, out=w)
        np.sqrt(t, out=t)
        np.sqrt(w, out=w)
        np.divide(w, t, out=t)
        t *= g
        delta *= self.rho
        np.multiply(t, t, out=w)
        w *= 1 - self.rho
        delta += w
        t *= lr
        p -= t
