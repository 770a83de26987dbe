"""Micro-batches: a mini-batch whose gradient is the sum of the gradients of its parts, each computed by itself.

A worker's mini-batch of B images is cut into M micro-batches, as M workers with batches of B / M would share it. Their
gradients are added in order, weighted by their images, and the optimizer does one step. A pipeline does the same with
the layers on several ranks, and gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..arithmetic import own
from .sampler import EpochOrder


@dataclass(frozen=True)
class Micro:
    """A micro-batch of a step.

    Attributes
    ----------
    share : int
        Its number among all micro-batches of the step: as a share of :attr:`MicroOrder.fine`.
    first : int
        Position of its first image in the global step.
    images : int
    weight : float
        What its gradient counts in its worker's.
    """

    share: int
    first: int
    images: int
    weight: float


class MicroOrder(EpochOrder):
    """An epoch's mini-batches, as an :class:`EpochOrder`, each of which is cut into micro-batches.

    Parameters
    ----------
    labels, seed, epoch, workers, batch_size
        As for an :class:`EpochOrder`.
    parts : int
        M, micro-batches of a worker's mini-batch; it divides `batch_size`.
    least : int
        Fewest examples of a micro-batch.

    Attributes
    ----------
    fine : EpochOrder
        The micro-batches as the shares of as many workers: worker w's k-th one is share ``w M + k``.
    parts : int
    """

    def __init__(
        self, labels: ArrayLike, *, seed: int, epoch: int, workers: int, batch_size: int, parts: int, least: int = 1
    ) -> None:
        self.fine = EpochOrder(
            labels, seed=seed, epoch=epoch, workers=workers * parts, batch_size=batch_size // parts, least=least
        )
        self.parts, self.workers, self.batch_size = parts, workers, batch_size
        self.order, self.steps, self._moved = self.fine.order, self.fine.steps, self.fine._moved

    def span(self, step: int, worker: int) -> tuple[int, int]:
        """See :class:`EpochOrder`: the micro-batches of a worker follow each other."""
        if not 0 <= worker < self.workers:
            raise IndexError(f"worker {worker} is not one of the {self.workers} workers")
        first, last = worker * self.parts, (worker + 1) * self.parts - 1
        return self.fine.span(step, first)[0], self.fine.span(step, last)[1]

    def micro(self, step: int, worker: int) -> list[Micro]:
        """A worker's micro-batches in a step, without empty ones, which a short last step may have.

        Parameters
        ----------
        step, worker : int
            From 0.

        Returns
        -------
        list of Micro
        """
        shares = range(worker * self.parts, (worker + 1) * self.parts)
        spans = {share: self.fine.span(step, share) for share in shares}
        whole = sum(last - first for first, last in spans.values())
        return [
            Micro(share, first, last - first, (last - first) / whole)
            for share, (first, last) in spans.items()
            if last > first
        ]


@own
def add_gradient(total: np.ndarray, gradient: np.ndarray, weight: float, begins: bool) -> None:
    """Add a micro-batch's gradient to its step's, or begin the sum.

    Parameters
    ----------
    total : (n,) ndarray
        Written.
    gradient : (n,) ndarray of the same dtype
        Overwritten.
    weight : float
    begins : bool
        Whether it is the first, so that what `total` holds does not count.
    """
    factor = gradient.dtype.type(weight)
    if begins:
        np.multiply(gradient, factor, out=total)
        return
    np.multiply(gradient, factor, out=gradient)
    np.add(total, gradient, out=total)


def mean_loss(losses: Sequence[float], images: Sequence[int]) -> float:
    """The mean loss over the images of some micro-batches."""
    if len(losses) == 1:
        return losses[0]
    return float(np.dot(losses, images)) / max(sum(images), 1)
