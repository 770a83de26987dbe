"""Random resized crop: cuts out a part of the image and resizes it to the image's size."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...values import real
from .base import Augmentation, Draws
from .resampling import affine


class Crop(Augmentation):
    """Cut out a share of the area, drawn uniformly from ``share`` to 1, anywhere, with the image's aspect; bilinear."""

    name, neutral = "crop", 1.0
    moves = True
    help, metavar = "cut out at least this share of training images, at random, and bring it to their size", "SHARE"

    def check(self, value: Any) -> float:
        return real(value, "augment's crop", above=0, maximum=1)

    def apply(self, batch: np.ndarray, value: float, draws: Draws) -> np.ndarray:
        side = np.sqrt(value + (1 - value) * draws(0))
        size = np.array(batch.shape[1:3])
        room = (1 - side)[:, None] * size
        begin = room * np.stack([draws(1), draws(2)], axis=1)
        matrices = side[:, None, None] * np.eye(2)
        return affine(batch, matrices, begin + 0.5 * side[:, None] - 0.5)  # maps centres of pixels to centres of pixels
