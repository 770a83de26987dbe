"""sync: average the gradients of all workers in every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..kernels import kernel
from .base import Rule

if TYPE_CHECKING:
    from ..lane import Action, Lane
    from ..sweep import Chunk


@dataclass(frozen=True)
class Sync(Rule):
    """Average the gradients of all workers and step; every worker reduces and updates its share of the parameters.

    W workers of batch B do what one worker of batch W·B does, to rounding, and each run has the same bits.
    (BatchNorm normalises with the statistics of each worker's own B images, as other data-parallel trainers
    do.) All wait for the slowest.

    Notes
    -----
    Each share is summed over the gradient slots in the order of the workers, so nobody's speed changes a bit.
    """

    name = "sync"
    lockstep = True

    def step(self, lane: Lane) -> Iterator[Action]:
        yield lane.everyone()  # the last step's shares are all updated
        yield lane.gradient("centre")
        yield lane.everyone()  # all slots are full
        yield lane.sweep(self.average, share=True)

    @kernel(writes=("centre", "state"))
    def average(self, c: Chunk) -> None:
        """Step the centre by the mean of all lanes' gradients, weighted by their images.

        Parameters
        ----------
        c : Chunk
            Of the numbers; centre and optimizer state are written.
        """
        c.optimise(c.centre, c.mean(c.gradients, c.weights), c.state)
