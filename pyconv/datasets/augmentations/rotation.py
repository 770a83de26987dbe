"""Rotation of images about their centres."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...values import real
from .base import Augmentation, Draws
from .resampling import affine


class Rotation(Augmentation):
    """Rotate by an angle from ``-degrees`` to ``degrees``, all equally likely; bilinear, with the edge repeated."""

    name, neutral = "rotate", 0.0
    moves = True
    help, metavar = "turn training images by up to so many degrees either way, at random", "DEGREES"

    def check(self, value: Any) -> float:
        return real(value, "augment's rotate", minimum=0, maximum=180)

    def apply(self, batch: np.ndarray, value: float, draws: Draws) -> np.ndarray:
        angles = [math.radians(value * (2 * draw - 1)) for draw in draws(0).tolist()]
        turns = np.array([(math.cos(angle), math.sin(angle)) for angle in angles]).reshape(-1, 2)
        cos, sin = turns[:, 0], turns[:, 1]
        matrices = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], axis=1)
        centre = (np.array(batch.shape[1:3]) - 1) / 2
        offsets = centre - (matrices * centre).sum(axis=2)
        return affine(batch, matrices, offsets)
