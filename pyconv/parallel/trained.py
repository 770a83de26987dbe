"""Trained: maps the parameters that are not frozen, and their gradient, to the vectors that workers exchange."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..nn import Sequential


class Trained:
    """A network whose trained parameters come from one vector and whose gradient goes to another.

    If nothing is frozen, the network uses the vector itself and nothing is copied.

    Parameters
    ----------
    model : Sequential
        Holds the parameters that are frozen.
    """

    def __init__(self, model: Sequential) -> None:
        self._model, self._spans = model, model.trained
        self._flat = self._gradient = None if self._spans.whole else model.flat
        if self._flat is not None:
            self._gradient = np.zeros_like(self._flat)

    def attach(self, at: np.ndarray, buffers: np.ndarray) -> None:
        """Give the network these trained parameters, ``(n,)``, and running statistics, which it updates in place."""
        if self._flat is None:
            self._model.attach(at, buffers)
        else:
            self._spans.scatter(at, self._flat)
            self._model.attach(self._flat, buffers)

    def room(self, slot: np.ndarray) -> np.ndarray:
        """Where the network's gradient is written, for :meth:`take`."""
        return slot if self._gradient is None else self._gradient

    def take(self, gradient: np.ndarray, slot: np.ndarray) -> None:
        """Copy the trained part of a gradient to `slot`, ``(n,)``."""
        if gradient is not slot:
            self._spans.gather(gradient, slot)
