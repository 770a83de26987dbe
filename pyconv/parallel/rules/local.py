"""local: the paper's Algorithm 4: each worker runs SGD on a representative shard, and the results are averaged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..kernels import kernel
from ..sums import in_order
from .base import Rule, at_least, option

if TYPE_CHECKING:
    from ..chunk import Chunk
    from ..communicator import Communicator
    from ..lane import Action, Lane


@dataclass(frozen=True)
class Local(Rule):
    """Every worker trains parameters of its own on its shard; now and then their average replaces them all.

    Every run gives the same bits, whatever the workers' speeds; with one worker it is plain SGD. Each worker keeps its
    own state of the optimizer.

    Parameters
    ----------
    sync_every : int
        Steps between averages; 0 averages once, at the end of each epoch, as the paper does. With 1, SGD takes the
        steps of ``sync``, to rounding.

    References
    ----------
    The paper, Algorithm 4: ``(1 / k) Σ dᵢ``. Stich, "Local SGD converges fast and communicates little" (2019).
    """

    name = "local"
    lockstep = True
    replicas = True
    replica_state = True

    formerly: ClassVar[Mapping[str, Any]] = {"sync_every": 0}

    sync_every: int = option(1, "steps between averages; 0 averages once an epoch")

    def __post_init__(self) -> None:
        at_least(self, "sync_every", 0)

    def step(self, lane: Lane) -> Iterator[Action]:
        if self.sync_every and lane.step and lane.step % self.sync_every == 0:
            yield from self.finish(lane)
        yield lane.gradient("replica")
        yield lane.sweep(self.descend)

    def finish(self, lane: Lane) -> Iterator[Action]:
        yield lane.everyone()  # from here on nobody changes a replica
        yield lane.sweep(self.average, share=True)
        yield lane.everyone()  # the average is complete
        yield lane.sweep(self.take)

    @kernel(writes=("replica", "replica_state"), gradient=True)
    def descend(self, c: Chunk) -> None:
        """Step the lane's own parameters by its own gradient.

        Parameters
        ----------
        c : Chunk
            Of the numbers; replica and its optimizer state are written.
        """
        c.optimise(c.replica, c.gradient, c.replica_state)

    @kernel()
    def average(self, c: Chunk) -> None:
        """Average all lanes' parameters.

        Parameters
        ----------
        c : Chunk
            Of the numbers; the centre is written.
        """
        c.centre[...] = c.mean(c.replicas)

    @kernel(event="pull")
    def take(self, c: Chunk) -> None:
        """Replace the lane's parameters by the average.

        Parameters
        ----------
        c : Chunk
            Of the numbers; the replica is written.
        """
        c.replica[...] = c.centre

    def result(self, shared: Communicator, out: np.ndarray) -> None:
        rows = shared.everyones("replicas", slice(None))
        in_order(rows, np.full(len(rows), 1 / len(rows)), out)
