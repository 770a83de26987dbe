"""sync: average the gradients of all workers in every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..kernels import kernel
from .base import Rule

if TYPE_CHECKING:
    from ..chunk import Chunk
    from ..lane import Action, Lane


@dataclass(frozen=True)
class Sync(Rule):
    """Average the gradients of all workers and step; every worker reduces and updates its share of the parameters.

    W workers with batch size B do what one worker with batch size W·B does, to rounding, and every run gives the same
    bits. (BatchNorm uses the statistics of each worker's own B images, as in other data-parallel trainers.) All workers
    wait for the slowest.

    Notes
    -----
    Each share is summed over the gradient slots in the order of the workers, so their speeds do not change any bit.
    """

    name = "sync"
    lockstep = True
    clips_mean = True

    def step(self, lane: Lane) -> Iterator[Action]:
        yield lane.everyone()  # the last step is complete in all shares
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
        c.optimise(c.centre, c.clipped(c.mean(c.gradients, c.weights)), c.state)
