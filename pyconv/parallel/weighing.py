"""Weights of a run's loss, scaled so that a step's weighted mean does not depend on how the step is divided.

A mini-batch's loss is divided by the sum of the weights over the whole global step, and multiplied by the number of the
step's images over the mini-batch's own. The mean over workers, weighted by their images, is then the weighted mean over
all images of the step, as one worker would compute it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .sampler import EpochOrder


@dataclass(frozen=True, eq=False)
class Weighing:
    """The weights of images and classes in the loss, and the label smoothing.

    Attributes
    ----------
    images : (N,) float64 ndarray or None
        Weights of the training images; None if all are 1.
    classes : (K,) float64 ndarray or None
        Weights of the classes.
    smoothing : float
        Share of each label that is spread over all classes.
    """

    images: np.ndarray | None = None
    classes: np.ndarray | None = None
    smoothing: float = 0.0

    def of(self, labels: np.ndarray, order: EpochOrder, step: int, worker: int) -> dict[str, Any]:
        """Keyword arguments of ``loss_and_gradient`` for a worker's mini-batch.

        Parameters
        ----------
        labels : (N,) int64 ndarray
            Of the training images.
        order : EpochOrder
            Of the epoch.
        step, worker : int
            From 0.

        Returns
        -------
        dict
            By name.
        """
        whole, own = order.whole(step), order.batch(step, worker)
        at_label = self._of(labels, whole)
        return {
            "weights": None if self.images is None else self.images[own],
            "class_weights": self.classes,
            "label_smoothing": self.smoothing,
            "weight_sum": float(at_label.sum()) * len(own) / len(whole),
        }

    def _of(self, labels: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """The weights of the images at `indices`: their own times their classes'."""
        own = np.ones(len(indices)) if self.images is None else self.images[indices]
        return own if self.classes is None else own * self.classes[labels[indices]]
