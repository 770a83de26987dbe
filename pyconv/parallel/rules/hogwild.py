"""hogwild: every worker changes the shared parameters in place, without a lock.

Three files to read: this one, the worker's moves in parallel/program.py, and the step itself in parallel/sweep.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ..kernels import kernel
from .base import SHARED_STATE, Rule, option, own_state

if TYPE_CHECKING:
    from ..chunk import Chunk
    from ..lane import Action, Lane


@dataclass(frozen=True)
class Hogwild(Rule):
    """Compute at the shared parameters while others change them, and step them in place without a lock.

    Parameters are not copied and nobody waits. Every number is read, changed and written within nanoseconds. If two
    workers do that at the same moment, one of the changes is lost; on dense networks that is rare, and small beside the
    noise of the gradients.

    Parameters
    ----------
    shared_state : bool
        Keep one state of the optimizer for all workers, changed in place as the parameters are. By default each worker
        has its own, as under :class:`Async`.

    References
    ----------
    Niu et al., "Hogwild!: a lock-free approach to parallelizing stochastic gradient descent" (2011), algorithm 1.
    """

    name = "hogwild"
    formerly: ClassVar[Mapping[str, Any]] = {"shared_state": True}

    shared_state: bool = option(False, SHARED_STATE)

    def __post_init__(self) -> None:
        own_state(self)

    def step(self, lane: Lane) -> Iterator[Action]:
        yield lane.gradient("centre")
        yield lane.sweep(self.add)

    @kernel(gradient=True, push=True, racy=True)
    def add(self, c: Chunk) -> None:
        """Step the centre by the lane's gradient, without a lock.

        Parameters
        ----------
        c : Chunk
            Of the numbers; centre and optimizer state are written.
        """
        c.optimise(c.centre, c.gradient, c.state if self.shared_state else c.replica_state)
