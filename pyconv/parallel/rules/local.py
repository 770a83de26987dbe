"""local: the paper's Algorithm 4, SGD on representative shards and averages of the results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..kernels import kernel
from .base import Rule, at_least, option

if TYPE_CHECKING:
    from ..lane import Action, Lane
    from ..store import Store
    from ..sweep import Chunk


@dataclass(frozen=True)
class Local(Rule):
    """Every worker trains parameters of its own on its shard, and now and then all are replaced by their average.

    Each run has the same bits, whatever the workers' speed, and one worker does plain SGD. The optimizers'
    states stay each worker's own.

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
        yield lane.everyone()  # nobody changes a replica any more
        yield lane.sweep(self.average, share=True)
        yield lane.everyone()  # the whole average is there
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

    @kernel()
    def take(self, c: Chunk) -> None:
        """Replace the lane's parameters by the average.

        Parameters
        ----------
        c : Chunk
            Of the numbers; the replica is written.
        """
        c.replica[...] = c.centre

    def result(self, store: Store, out: np.ndarray) -> None:
        assert store.replicas is not None
        mean_of_rows(store.replicas, out)


def mean_of_rows(rows: np.ndarray, out: np.ndarray) -> None:
    """``out = (1 / k) Σ rows[i]``, in the order of the rows."""
    from .. import _atomics

    _atomics.reduce_slots(rows, np.full(len(rows), 1 / len(rows)), out)
