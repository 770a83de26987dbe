"""Gathers and augments the examples of a mini-batch: every engine and worker gets the same ones from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..datasets import augment
from .sampler import EpochOrder


def gathered(
    x: np.ndarray, labels: np.ndarray, order: EpochOrder, step: int, worker: int = 0, *, seed: int, epoch: int,
    augmented: Mapping[str, Any] | None,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Images and labels of a worker's mini-batch in a step.

    Parameters
    ----------
    x, labels : (N, ...) and (N,) ndarray
        The whole data.
    order : EpochOrder
        The epoch's.
    step, worker : int
        From 0; the step is counted in the epoch.
    seed, epoch : int
        Augmentation's random numbers follow from these and from the examples' indices.
    augmented : mapping or None
        Keyword arguments of :func:`pyconv.datasets.augment`, if images are augmented.

    Returns
    -------
    images : (n, ...) ndarray
    labels : (n,) ndarray
    """
    indices = order.batch(step, worker)
    images = x[indices]
    if augmented:
        images = augment(images, **augmented, seed=seed, epoch=epoch, indices=indices)
    return images, labels[indices]
