"""async and ssp: workers push gradients and pull parameters, without or with a bound on staleness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ...values import flag
from ..kernels import kernel
from .base import SHARED_STATE, Rule, at_least, option, own_state

if TYPE_CHECKING:
    from ..chunk import Chunk
    from ..lane import Action, Lane


@dataclass(frozen=True)
class Async(Rule):
    """Downpour SGD: push the gradient and pull the parameters whenever ready, waiting for nobody.

    The gradient is computed at parameters that others may change in the meantime; the number of their pushes is its
    *staleness*. Every push is a step of the shared parameters, so W workers make W times as many steps as under
    ``sync``. If pyconv chooses the learning rate, each step takes a W-th of it.

    Parameters
    ----------
    staleness_aware : bool
        Divide the learning rate of a push by its staleness, if that is above 1.
    shared_state : bool
        Keep one state of the optimizer for all workers, as Downpour does. By default each worker has its own: then its
        momentum is a mean over its own last gradients, and the others' pushes are not counted twice.

    References
    ----------
    Dean et al., "Large scale distributed deep networks" (2012), section 4.1; Zhang et al., "Staleness-aware
    async-SGD for distributed deep learning" (2016), eq. 6; Hakimi et al., "Taming momentum in a distributed
    asynchronous environment" (2019), algorithm 6, for the workers' own momentum.
    """

    name = "async"
    replicas = True
    formerly: ClassVar[Mapping[str, Any]] = {"shared_state": True}

    staleness_aware: bool = option(False, "divide the learning rate of a push by its staleness")
    shared_state: bool = option(False, SHARED_STATE)

    def __post_init__(self) -> None:
        object.__setattr__(self, "staleness_aware", flag(self.staleness_aware, "staleness_aware"))
        own_state(self)

    def begin(self, lane: Lane) -> Iterator[Action]:
        yield lane.sweep(self.pull, locked=True)

    def step(self, lane: Lane) -> Iterator[Action]:
        yield lane.gradient("replica")
        yield lane.sweep(self.push_to_shared_and_pull if self.shared_state else self.push_and_pull, locked=True)

    @kernel(pull=True)
    def pull(self, c: Chunk) -> None:
        """Copy the centre to the replica.

        Parameters
        ----------
        c : Chunk
            Of the numbers; the replica is written.
        """
        c.replica[...] = c.centre

    @kernel(writes=("centre", "replica_state"), gradient=True, push=True, pull=True)
    def push_and_pull(self, c: Chunk) -> None:
        """Step the centre by the lane's gradient, and copy it to the replica.

        Parameters
        ----------
        c : Chunk
            Of the numbers; centre, the lane's optimizer state and its replica are written.
        """
        c.optimise(c.centre, c.gradient, c.replica_state)
        c.replica[...] = c.centre

    @kernel(writes=("centre", "state"), gradient=True, push=True, pull=True)
    def push_to_shared_and_pull(self, c: Chunk) -> None:
        """As :meth:`push_and_pull`, with the shared optimizer state.

        Parameters
        ----------
        c : Chunk
            Of the numbers; centre, optimizer state and replica are written.
        """
        c.optimise(c.centre, c.gradient, c.state)
        c.replica[...] = c.centre

    def learning_rate(self, lr: float, staleness: int) -> float:
        return lr / max(1, staleness) if self.staleness_aware else lr


@dataclass(frozen=True)
class SSP(Rule):
    """Stale synchronous parallel: as ``async``, but no worker gets too many mini-batches ahead of the slowest.

    Parameters
    ----------
    staleness : int
        Mini-batches that the fastest worker may be ahead of the slowest; with 0 all wait for each other every time.
    shared_state : bool
        As for :class:`Async`.

    References
    ----------
    Ho et al., "More effective distributed ML via a stale synchronous parallel parameter server" (2013), section 3.
    """

    name = "ssp"
    replicas = True
    formerly: ClassVar[Mapping[str, Any]] = {"staleness": 3, "shared_state": True}

    staleness: int = option(3, "mini-batches that a worker may be ahead of the slowest")
    shared_state: bool = option(False, SHARED_STATE)

    def __post_init__(self) -> None:
        at_least(self, "staleness", 0)
        own_state(self)

    def step(self, lane: Lane) -> Iterator[Action]:
        yield lane.not_ahead(self.staleness)
        yield lane.sweep(self.pull, locked=True)  # after the wait, so that it includes what was waited for
        yield lane.gradient("replica")
        yield lane.sweep(self.push_to_shared if self.shared_state else self.push, locked=True)

    @kernel(pull=True)
    def pull(self, c: Chunk) -> None:
        """Copy the centre to the replica.

        Parameters
        ----------
        c : Chunk
            Of the numbers; the replica is written.
        """
        c.replica[...] = c.centre

    @kernel(writes=("centre", "replica_state"), gradient=True, push=True)
    def push(self, c: Chunk) -> None:
        """Step the centre by the lane's gradient.

        Parameters
        ----------
        c : Chunk
            Of the numbers; centre and the lane's optimizer state are written.
        """
        c.optimise(c.centre, c.gradient, c.replica_state)

    @kernel(writes=("centre", "state"), gradient=True, push=True)
    def push_to_shared(self, c: Chunk) -> None:
        """As :meth:`push`, with the shared optimizer state.

        Parameters
        ----------
        c : Chunk
            Of the numbers; centre and optimizer state are written.
        """
        c.optimise(c.centre, c.gradient, c.state)
