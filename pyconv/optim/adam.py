"""Adam and AdamW: momentum, scaled by the running size of each parameter's gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .base import DeviceStep, Optimizer, decayed, scratch


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam.

    ::

        g ← g + weight_decay p
        m ← beta1 m + (1 - beta1) g
        v ← beta2 v + (1 - beta2) g²
        p ← p - lr / (1 - beta1^step) · m / (√v / √(1 - beta2^step) + eps)

    Parameters
    ----------
    lr : float
        Learning rate.
    beta1, beta2 : float
        Shares of the running means that are kept, in [0, 1).
    eps : float
        Added to the corrected root.
    weight_decay : float
        Factor of the L2 penalty's gradient.

    Notes
    -----
    Kingma and Ba, "Adam: a method for stochastic optimization" (2015), algorithm 1; the paper's §1.
    """

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

    @classmethod
    def _fractions(cls) -> tuple[str, ...]:
        return ("beta1", "beta2")

    @property
    def state_names(self) -> tuple[str, ...]:
        """``("mean", "square")``: running means of the gradients and of their squares."""
        return ("mean", "square")

    def _constants(self, step: int, lr: float) -> tuple[float, ...]:
        return lr, lr / (1 - self.beta1**step), (1 - self.beta2**step) ** -0.5

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        return self._device_step(step, lr, self.weight_decay, 1.0)

    def _device_step(self, step: int, lr: float, decay: float, shrink: float) -> DeviceStep:
        _, rate, correction = self._constants(step, lr)
        means = (self.beta1, 1 - self.beta1, self.beta2, 1 - self.beta2)
        return DeviceStep("adam", (rate, correction, *means, self.eps, decay, shrink))

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        u = scratch(p.dtype, 2)[1][: p.size]
        self._adam_block(p, decayed(p, g, self.weight_decay, u), *state, constants=constants)

    def _adam_block(
        self, p: np.ndarray, g: np.ndarray, mean: np.ndarray, square: np.ndarray, *, constants: tuple[float, ...]
    ) -> None:
        """The rule itself, with the weight decay already done."""
        _, rate, correction = constants
        t = scratch(p.dtype, 1)[0][: p.size]
        mean *= self.beta1
        np.multiply(g, 1 - self.beta1, out=t)
        mean += t
        square *= self.beta2
        np.multiply(g, g, out=t)
        t *= 1 - self.beta2
        square += t
        np.sqrt(square, out=t)
        t *= correction
        t += self.eps
        np.divide(mean, t, out=t)
        t *= rate
        p -= t


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay: ``p ← p - lr weight_decay p`` beside Adam's step, not in its gradient.

    Parameters
    ----------
    lr, beta1, beta2, eps : float
        As in :class:`Adam`.
    weight_decay : float
        Share of each parameter, times the learning rate, that a step takes away.

    Notes
    -----
    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    weight_decay: float = 0.01

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        return self._device_step(step, lr, 0.0, 1 - lr * self.weight_decay)

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        if self.weight_decay:
            p *= 1 - constants[0] * self.weight_decay
        self._adam_block(p, g, *state, constants=constants)
