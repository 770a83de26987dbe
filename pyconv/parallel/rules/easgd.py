"""easgd: workers train parameters of their own, which an elastic force pulls towards a common centre."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...values import real
from ..kernels import kernel
from .base import Needs, Rule, at_least, option

if TYPE_CHECKING:
    from ..chunk import Chunk
    from ..lane import Action, Lane


@dataclass(frozen=True)
class EASGD(Rule):
    """Elastic averaging: every so often a worker and the centre move towards each other by the same difference.

    The centre is the result. Workers wait for nobody.

    Parameters
    ----------
    sync_every : int
        Mini-batches of a worker between two meetings with the centre (the reference's τ).
    moving_rate : float
        Share α of the difference by which both move when they meet, at most 1; 0 takes ``0.9 / W``, the reference's
        choice (its β = 0.9), which is meant for τ = 4, large mini-batches and many epochs.
    elastic_rho : float, optional
        Strength ρ of the force; if given, it replaces `moving_rate`: ``α = lr ρ``, which must be at most 1.

    References
    ----------
    Zhang, Choromanska and LeCun, "Deep learning with elastic averaging SGD" (2015), algorithm 1.
    """

    name = "easgd"
    replicas = True
    replica_state = True
    formerly: ClassVar[Mapping[str, Any]] = {"sync_every": 4, "moving_rate": 0.0}

    sync_every: int = option(1, "mini-batches of a worker between two meetings with the centre")
    moving_rate: float = option(0.5, "share of the difference that a meeting closes; 0 for 0.9 / workers")
    elastic_rho: float | None = option(None, "strength of the elastic force: lr times it is the moving rate")

    def __post_init__(self) -> None:
        at_least(self, "sync_every", 1)
        rate = real(self.moving_rate, "moving_rate of update 'easgd'", minimum=0, maximum=1)
        object.__setattr__(self, "moving_rate", rate)
        if self.elastic_rho is not None:
            object.__setattr__(self, "elastic_rho", real(self.elastic_rho, "elastic_rho", above=0))

    def needs(self, workers: int) -> Needs:
        return Needs(
            warmup=0.2
        )  # replicas move apart most while the learning rate is high and the network has learnt nothing yet

    def step(self, lane: Lane) -> Iterator[Action]:
        yield lane.gradient("replica")
        yield lane.sweep(self.descend)
        if lane.turn % self.sync_every == 0:
            yield lane.sweep(self.attract, locked=True)

    @kernel(writes=("replica", "replica_state"), gradient=True)
    def descend(self, c: Chunk) -> None:
        """Step the lane's own parameters by its own gradient.

        Parameters
        ----------
        c : Chunk
            Of the numbers; replica and its optimizer state are written.
        """
        c.optimise(c.replica, c.gradient, c.replica_state)

    @kernel(writes=("replica", "centre"), event="push")
    def attract(self, c: Chunk) -> None:
        """Move replica and centre towards each other.

        Parameters
        ----------
        c : Chunk
            Of the numbers; both are written.
        """
        share = self.moving_rate or 0.9 / c.workers
        if self.elastic_rho is not None:
            share = min(c.lr * self.elastic_rho, 1.0)
        difference = np.subtract(c.replica, c.centre, out=c.scratch(0))
        difference *= share
        c.replica[...] -= difference
        c.centre[...] += difference
