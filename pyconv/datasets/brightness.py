"""Brightness: scales images of 16 bits to the units of images of 8 bits, 0 to 255."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

BITS = 16
FULL = (1 << BITS) - 1
DATA = "data"
"""What scales by the range of the training images."""
WHITE = 255.0


class Brightness(NamedTuple):
    """The values of 16-bit pixels that become 0 (black) and 255 (white)."""

    low: float = 0.0
    high: float = float(FULL)

    def scaled(self, pixels: np.ndarray) -> np.ndarray:
        """Pixels of 16 bits in the units of 8 bits; they keep all their shades.

        Parameters
        ----------
        pixels : float32 array
            0 to 65535.

        Returns
        -------
        float32 array
        """
        made: np.ndarray = (pixels - np.float32(self.low)) * np.float32(WHITE / (self.high - self.low))
        return made


def of_bits(bits: int | None) -> Brightness:
    """The brightness of images that use so many bits; by default all bits of the type.

    Parameters
    ----------
    bits : int, optional
        1 to 16.

    Returns
    -------
    Brightness
    """
    return Brightness() if bits is None else Brightness(0.0, float((1 << bits) - 1))
