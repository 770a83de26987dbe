"""Brightness: all pixels of an image times one factor."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...values import real
from .base import Augmentation, Draws, like


class Brightness(Augmentation):
    """Multiply by a factor from ``1 - strength`` to ``1 + strength``; bytes are rounded and stay from 0 to 255."""

    name, neutral = "brightness", 0.0
    help, metavar = "make training images brighter or darker by up to this share, at random", "SHARE"

    def check(self, value: Any) -> float:
        return real(value, "augment's brightness", minimum=0, maximum=1)

    def apply(self, batch: np.ndarray, value: float, draws: Draws) -> np.ndarray:
        kind = np.float64 if batch.dtype == np.float64 else np.float32
        factors = (1 + value * (2 * draws(0) - 1)).astype(kind)
        return like(batch * factors[:, None, None, None], batch.dtype)
