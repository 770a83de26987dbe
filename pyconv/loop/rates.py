"""LearningRates: the result of a learning-rate sweep, with smoothed losses and the rate to train with."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

SMOOTH = 0.02
"""Width of the smoothing, a standard deviation, as a share of the sweep's steps."""
BELOW = 4.0
"""The suggestion is so many times smaller than the rate at which the loss was smallest, from where on it rises again.
What other finders take is between a tenth of it and the steepest place; pyconv's own rates, found by whole trainings
(:mod:`.recipe`), are a quarter to a sixth."""
CLEAR = 6.0
"""The loss has fallen if the smoothed loss did by more than so many standard errors. With 3, one flat sweep in fifteen
seems to fall, since the lowest of hundreds of steps is compared; with 6, fewer than one in a thousand."""


@dataclass(frozen=True, eq=False)
class LearningRates:
    """The result of a learning-rate sweep, as :func:`pyconv.find_lr` returns it.

    Attributes
    ----------
    rates : (S,) float64 ndarray
        The learning rate of each step that was done, rising geometrically.
    losses : (S,) float64 ndarray
        Loss of that step's mini-batch before its update, in nats; finite.
    smoothed : (S,) float64 ndarray
        The same, averaged over the steps around each by a Gaussian window.
    suggestion : float or None
        A learning rate to train with: a quarter of the rate at which the smoothed loss is smallest. None if the loss
        did not fall clearly, beside how much mini-batches differ.
    exploded : bool
        Whether the sweep ended because the loss rose beyond twice that at the beginning, or was no longer finite.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float | None
    exploded: bool


def judged(rates: ArrayLike, losses: ArrayLike, steps: int, exploded: bool) -> LearningRates:
    """Find the rate to train with from the losses of a sweep.

    Parameters
    ----------
    rates, losses : (S,) array_like
        Those of the steps that were done, at least one.
    steps : int
        All steps that the sweep would have had; the width of the smoothing follows from it.
    exploded : bool

    Returns
    -------
    LearningRates
    """
    at, loss = np.asarray(rates, np.float64), np.asarray(losses, np.float64)
    width = max(SMOOTH * steps, 1.0)
    smoothed = _smoothed(loss, width)
    return LearningRates(at, loss, smoothed, _suggestion(at, loss, smoothed, width), exploded)


def _smoothed(losses: np.ndarray, width: float) -> np.ndarray:
    """The losses averaged by a Gaussian window, which is cut off at the ends."""
    at = np.arange(len(losses), dtype=np.float64)
    window = np.exp(-0.5 * ((at[:, None] - at) / width) ** 2)
    return window @ losses / window.sum(axis=1)


def _suggestion(rates: np.ndarray, losses: np.ndarray, smoothed: np.ndarray, width: float) -> float | None:
    """The rate to train with, to two digits; None if the loss did not clearly fall."""
    lowest = int(smoothed.argmin())
    noise = float(np.std((losses - smoothed)[: lowest + 1]))
    error = noise / math.sqrt(math.sqrt(math.pi) * width)  # of smoothed[0]: half a window, so many equal weights
    if smoothed[0] - smoothed[lowest] <= CLEAR * error:
        return None
    return float(f"{rates[lowest] / BELOW:.2g}")
