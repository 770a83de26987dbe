"""A rank's part in a network that is split by rows of the images."""

from __future__ import annotations

import numpy as np

from ...nn import Sequential
from ...parallel import Job
from ..joint import Member
from ..world import World
from .network import DividedNetwork


class RowMember(Member):
    """A rank with some rows of the images.

    Parameters
    ----------
    model : Sequential
    x : (N, H, W, C) ndarray
        All images, whole.
    labels : (N,) int64 ndarray
    job : Job
    world : World
    threads : int
        OpenMP threads of this rank.

    Raises
    ------
    InputError
        If the job or the network cannot be split by rows.
    """

    def __init__(
        self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, world: World, threads: int
    ) -> None:
        self._divided = DividedNetwork(model, world)
        super().__init__(self._divided, x, labels, job, world, model)
        self._divided.threads = threads

    def own_is_finite(self) -> bool:
        """Whether what this rank has computed of the gradient is finite, before it is added to what others have."""
        return self._divided.own_is_finite

    def take_waited(self) -> float:
        """Seconds of adding gradients up since the last call; the halos' way counts as computation."""
        waited, self._divided.waited_s = self._divided.waited_s, 0.0
        return waited
