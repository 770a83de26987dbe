"""How numbers travel: as they are, or as float16, with what the rounding leaves kept for the next time.

Error feedback: Seide, Fu, Droppo, Li and Yu, "1-bit stochastic gradient descent and its application to data-parallel
distributed training of speech DNNs" (2014).
"""

from __future__ import annotations

import math

import numpy as np

#: How gradients and parameters travel while steps are computed: "exact", or "float16".
WIRES = ("exact", "float16")

HEAD = 2  # places of float16 before the numbers, for the scale
LARGEST = 14  # the largest number of a piece is sent as one below two to this; float16 ends at two to the 16th


def room(numbers: int) -> np.ndarray:
    """Memory for a piece of so many numbers on its way, ``(numbers + 2,)`` float16."""
    return np.zeros(HEAD + numbers, np.float16)


def write(numbers: np.ndarray, out: np.ndarray) -> None:
    """Write a piece as float16, with a power of two as its scale; what that leaves is left in `numbers`.

    Parameters
    ----------
    numbers : (m,) ndarray of float32 or float64
        Overwritten by the difference between them and what :func:`read` will give.
    out : (m + 2,) float16 ndarray
    """
    most = float(np.abs(numbers).max(initial=0.0))
    power = LARGEST - math.frexp(most)[1] if math.isfinite(most) and most else 0
    power = max(min(power, 126), -126)  # both the scale and its inverse are float32
    out[:HEAD].view(np.float32)[0] = 2.0**power
    with np.errstate(over="ignore", invalid="ignore"):  # a gradient that is not finite ends the run later
        np.multiply(numbers, numbers.dtype.type(2.0**power), out=numbers)
        out[HEAD:] = numbers
        numbers -= out[HEAD:]
        numbers *= numbers.dtype.type(2.0**-power)


def read(piece: np.ndarray, out: np.ndarray) -> None:
    """Read what :func:`write` has written.

    Parameters
    ----------
    piece : (m + 2,) float16 ndarray
    out : (m,) ndarray of float32 or float64
    """
    scale = out.dtype.type(piece[:HEAD].view(np.float32)[0])
    with np.errstate(divide="ignore", invalid="ignore"):
        np.divide(piece[HEAD:], scale, out=out)
