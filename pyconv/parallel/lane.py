"""A lane as a rule's script sees it, and the actions that a script is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from . import store as s


@dataclass(frozen=True)
class Everyone:
    """Wait until every lane has come to this place in the script."""


@dataclass(frozen=True)
class NotAhead:
    """Wait until every lane has done as many mini-batches of the epoch as this one, less `by`."""

    by: int


@dataclass(frozen=True)
class Gradient:
    """Compute the mini-batch's gradient at ``"centre"`` or ``"replica"``, into this lane's slot."""

    at: str


@dataclass(frozen=True)
class Sweep:
    """Run a kernel over all parameters, or this lane's share of them; `locked`: with nobody else at the centre."""

    kernel: Callable[..., None]
    share: bool
    locked: bool


Action = Everyone | NotAhead | Gradient | Sweep


class Lane:
    """A logical worker: what a rule's script may ask about it, and what it may have it do.

    Attributes
    ----------
    index, workers : int
        Which lane it is, of how many.
    step, steps : int
        Number of the step in the epoch, from 0 on, and steps in the epoch. For a rule that is not lockstep, the
        step that its mini-batch belongs to.
    epoch : int
        Number of the epoch, from 0 on.
    """

    def __init__(self, store: s.Store, index: int) -> None:
        self._store = store
        self.index = index
        self.workers = store.plan.lanes
        self.step = 0
        self.steps = store.plan.units // store.plan.lanes
        self.epoch = 0

    @property
    def turn(self) -> int:
        """Mini-batches that the lane has done since the start of the run."""
        return self._store.get(self.index, s.TURN)

    def everyone(self) -> Action:
        """Wait until every lane has come here; lockstep rules only."""
        return Everyone()

    def not_ahead(self, by: int) -> Action:
        """Wait until no lane is more than `by` mini-batches behind; not for lockstep rules."""
        return NotAhead(by)

    def gradient(self, at: str) -> Action:
        """Compute the gradient of this lane's mini-batch at ``"centre"`` or at ``"replica"``."""
        return Gradient(at)

    def sweep(self, kernel: Callable[..., None], *, share: bool = False, locked: bool = False) -> Action:
        """Run one of the rule's kernels over all parameters, chunk by chunk.

        Parameters
        ----------
        kernel : method
            One that is decorated with :func:`~pyconv.parallel.rules.kernel`.
        share : bool
            Only over this lane's share of the parameters: the lanes' shares make up the whole.
        locked : bool
            While no other lane is in a locked sweep. Sweeps that change the centre, and are not shares, need it.
        """
        return Sweep(kernel, share, locked)
