"""Lane: a logical worker, as a rule's script sees it; and the actions that a script may yield."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .kernels import Kernel


@dataclass(frozen=True)
class Everyone:
    """Wait until every lane has come to this point of the script."""


@dataclass(frozen=True)
class NotAhead:
    """Wait until every lane has done at least as many mini-batches of the epoch as this lane, minus `by`."""

    by: int


@dataclass(frozen=True)
class Gradient:
    """Compute the mini-batch's gradient at ``"centre"`` or ``"replica"``, and put it into this lane's slot."""

    at: str


@dataclass(frozen=True)
class Sweep:
    """Run a kernel over all parameters, or over this lane's share; `locked`: while nobody else changes the centre."""

    kernel: Callable[..., None]
    share: bool
    locked: bool

    @property
    def declared(self) -> Kernel:
        """The kernel's declaration."""
        declared: Kernel = self.kernel.kernel  # type: ignore[attr-defined]
        return declared


Action = Everyone | NotAhead | Gradient | Sweep


class Lane:
    """A logical worker: what a rule's script may ask about it, and the actions that the script may yield.

    Training runs a script (:mod:`.program`), the cost model adds up the costs of its actions, and the simulation plays
    them (:mod:`pyconv.costmodel`). All three use the same script.

    Attributes
    ----------
    index, workers : int
        Number of the lane, and number of lanes.
    step, steps : int
        Number of the step in the epoch, from 0 on, and steps in the epoch. If the rule is not lockstep, it is the step
        to which the lane's mini-batch belongs.
    epoch : int
        Number of the epoch, from 0 on.
    """

    def __init__(self, index: int, workers: int, steps: int, turn: Callable[[], int]) -> None:
        self.index = index
        self.workers = workers
        self.step = 0
        self.steps = steps
        self.epoch = 0
        self._turn = turn

    @property
    def turn(self) -> int:
        """Mini-batches that the lane has done since the start of the run."""
        return self._turn()

    def everyone(self) -> Action:
        """Wait until every lane has come to this point; lockstep rules only."""
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
            Only over this lane's share of the parameters; all lanes' shares together are all parameters.
        locked : bool
            While no other lane is in a locked sweep. A sweep that changes the centre and is not a share needs it.
        """
        return Sweep(kernel, share, locked)
