"""Stochastic gradient descent, the paper's Algorithm 1, with momentum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from pyconv.errors import InputError

from .base import DeviceStep, Optimizer, decayed, scratch

try:
    from . import _fused
except ImportError:  # not built: NumPy gives the same bits
    _fused = None  # type: ignore[assignment]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent.

    ::

        g ← g + weight_decay p
        v ← momentum v + g
        p ← p - lr v                    or, with nesterov,  p ← p - lr (g + momentum v)

    Parameters
    ----------
    lr : float
        Learning rate.
    momentum : float
        Share of the last step's direction that is kept, in [0, 1).
    nesterov : bool
        Nesterov momentum: use the gradient after the momentum's next step; needs `momentum`.
    weight_decay : float
        Factor of the L2 penalty's gradient.

    Notes
    -----
    The paper's §1 and Algorithm 1; momentum as in Sutskever et al., "On the importance of initialization and momentum
    in deep learning" (2013), in PyTorch's form, where the learning rate multiplies the whole velocity.
    """

    batch_power: ClassVar[float] = 1.0

    lr: float = 0.01
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise InputError("nesterov=True needs a momentum above 0")

    @classmethod
    def _fractions(cls) -> tuple[str, ...]:
        return ("momentum",)

    @property
    def state_names(self) -> tuple[str, ...]:
        """``("momentum",)`` with momentum, else nothing."""
        return ("momentum",) if self.momentum else ()

    def _update_vectors(self, vectors: list[np.ndarray], constants: tuple[float, ...]) -> None:
        (lr,) = constants
        p, g, velocity = vectors if self.momentum else (*vectors, None)
        compiled = _fused is not None and type(self)._update_block is SGD._update_block  # a subclass may replace it
        if not (compiled and _fused.sgd(p, g, velocity, lr, self.momentum, self.weight_decay, self.nesterov)):
            super()._update_vectors(vectors, constants)

    def device_step(self, step: int, lr: float) -> DeviceStep | None:
        return DeviceStep(
            "sgd", (lr, self.momentum, self.weight_decay), flags=(self.nesterov,), absent=0 if self.momentum else 1
        )

    def _update_block(self, p: np.ndarray, g: np.ndarray, *state: np.ndarray, constants: tuple[float, ...]) -> None:
        (lr,) = constants
        t, u = (block[: p.size] for block in scratch(p.dtype, 2))
        g = decayed(p, g, self.weight_decay, u)
        if state:
            (velocity,) = state
            velocity *= self.momentum
            velocity += g
            if self.nesterov:
                np.multiply(velocity, self.momentum, out=t)
                t += g
                t *= lr
            else:
                np.multiply(velocity, lr, out=t)
        else:
            np.multiply(g, lr, out=t)
        p -= t
