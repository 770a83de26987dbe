"""Cutout: hides a square of an image.

DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout" (2017).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...errors import InputError
from ...values import integer
from .base import Augmentation, Draws, like


class Cutout(Augmentation):
    """Fill a square with the image's mean; its centre may be any pixel, so that a part may lie outside the image."""

    name, neutral = "cutout", 0
    help, metavar = "hide a square of N pixels a side in each training image, at random", "N"

    def check(self, value: Any) -> float:
        return integer(value, "augment's cutout", minimum=0, maximum=2**30)

    def check_size(self, value: float, height: int, width: int) -> None:
        side = min(height, width)
        if value and value >= side:
            most = f"give at most {side - 1}" if side > 1 else "leave it out"
            raise InputError(f"augment's cutout of {value} pixels a side hides images of {height}x{width}; {most}")

    def apply(self, batch: np.ndarray, value: float, draws: Draws) -> np.ndarray:
        out = batch.copy()
        height, width = batch.shape[1:3]
        top, left = ((draws(k) * size).astype(np.int64) - int(value) // 2 for k, size in enumerate((height, width)))
        for image, y, x in zip(out, top.tolist(), left.tolist(), strict=True):
            rows, columns = (slice(max(begin, 0), max(begin + int(value), 0)) for begin in (y, x))
            mean = image.reshape(-1, image.shape[-1]).mean(axis=0, dtype=np.float64)
            image[rows, columns] = like(mean, batch.dtype)
        return out
