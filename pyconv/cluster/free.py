"""Lanes that wait for nobody: the communicator, on a rank of a cluster, of update rules that are not lockstep.

Gradients, replicas and optimizer states of its own lanes are at each rank; what all lanes share is at rank 0
(:mod:`.desk`). Another rank brings a copy of the centre when a lane takes the lock, or first uses the centre in a
mini-batch, and sends back what its kernels have changed: under the lock the numbers themselves, without it the
differences, which rank 0 adds. A rule sees nothing of that.

A rank's lanes take only mini-batches of their own shares, whose images the rank holds.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from ..parallel import communicator as c
from ..parallel import store as s
from ..parallel.communicator import Everyones
from ..parallel.kernels import Kernel, kernels
from .desk import CENTRE, STATES, Desk, Ended
from .lanes import Lanes
from .line import Line
from .world import World

if TYPE_CHECKING:
    from ..parallel import Rule


class FreeLanes(Lanes):
    """The lanes of one rank.

    Parameters
    ----------
    plan : Plan
        Sizes, as of a parameter server of all lanes.
    world : World
    fetch : callable
        As for :class:`~.lanes.Lanes`; used between epochs only.
    rule : Rule
    signalled : callable
        ``signalled()``: number of a signal that this rank has received, or 0.
    waited : callable
        ``waited(began)``: this rank has waited for another since then (monotonic ns); returns how long in all.

    Attributes
    ----------
    desk : Desk or Line
        What all lanes share, or the way there.
    """

    def __init__(
        self, plan: s.Plan, world: World, fetch: Callable[[int], None], rule: Rule, signalled: Callable[[], int],
        waited: Callable[[int], int],
    ) -> None:  # fmt: skip
        self._running = False
        self._here = 0  # bits of what was brought
        self._kernel: Kernel | None = None  # of the sweep that is in progress
        self._declared = 0  # bits of what it says that it changes, under the lock
        self._before: dict[int, list[np.ndarray]] = {}  # what else it uses, as it was before
        self._changed = 0  # bits of what has changed since the lock was taken
        self._locked: int | None = None  # the lane that has the lock
        super().__init__(plan, world, fetch)
        self._rule, self._waited = rule, waited
        self._far: Line | None = None if world.rank == 0 else Line(world, signalled, waited)
        self.desk: Desk | Line = self._far or Desk(world, plan.lanes, self._vectors, self._noted)
        self._mine = np.flatnonzero(np.isin(np.arange(plan.units) % plan.lanes, self.own))
        self._first = 0  # of these, the first that may be free
        self._notes: list[tuple[int, int]] = []  # mini-batches that are done, with their lanes
        self._come: dict[int, int] = {}  # lanes that say how far they have come, and what they have said
        self.claims = self._push = 0

    # ---- what all share ---------------------------------------------------------------------------

    @property
    def centre(self) -> np.ndarray:
        self._use(CENTRE)
        return self._centre

    @centre.setter
    def centre(self, vector: np.ndarray) -> None:
        self._centre = vector

    @property
    def state(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        self._use(STATES)
        return self._state

    @property
    def sequence(self) -> int:
        """Pushes since the start of the run."""
        return self.desk.pushes

    @sequence.setter
    def sequence(self, pushes: int) -> None:
        self.desk.pushes = pushes

    @property
    def spread_state(self) -> dict[str, np.ndarray]:
        return {}  # rank 0 has it whole

    @property
    def pushes(self) -> int:
        if self._locked is None:
            self._use(CENTRE)  # the number is that of the centre which is used
        return self.desk.pushes

    def _vectors(self, what: int) -> list[np.ndarray]:
        return [*([self._centre] if what & CENTRE else []), *(self._state.values() if what & STATES else [])]

    def _use(self, what: int) -> None:
        """Have the centre, or the shared state, here; and as it was, where only that shows what a sweep changes."""
        if self._far is None or not self._running:
            return
        if not self._here & what:
            if what == CENTRE:
                self._far.look(self._centre)
            else:
                self._far.bring_state(self._vectors(STATES))
            self._here |= what
        if self._kernel is not None and not self._declared & what and what not in self._before:
            self._before[what] = [vector.copy() for vector in self._vectors(what)]

    def set(self, lane: int, word: int, value: int) -> None:
        super().set(lane, word, value)
        if word == c.SWEEP and self._far is not None and self._running:
            if value:
                self._begin_sweep(lane, kernels(self._rule)[value - 1].kernel)
            elif self._kernel is not None:
                self._end_sweep(lane, self._far)

    def _begin_sweep(self, lane: int, kernel: Kernel) -> None:
        self._kernel, self._declared = kernel, 0
        self._before.clear()
        if self._locked == lane and not kernel.racy:
            self._declared = CENTRE * ("centre" in kernel.writes) | STATES * ("state" in kernel.writes)
            if kernel.pull:
                self._declared |= CENTRE  # it reads the centre: to keep that as it was would be for nothing

    def _end_sweep(self, lane: int, far: Line) -> None:
        """Keep for the lock's release, or send, what the sweep has changed."""
        kernel, locked = self._kernel, self._locked == lane
        assert kernel is not None
        self._kernel = None
        found = {what: self._before.pop(what) for what in list(self._before)}
        different = {what: old for what, old in found.items() if self._differs(what, old)}
        if locked:
            self._changed |= sum(different)
            if not kernel.racy:
                self._changed |= CENTRE * ("centre" in kernel.writes) | STATES * ("state" in kernel.writes)
            return
        for what, old in different.items():
            far.add(what, [vector - before for vector, before in zip(self._vectors(what), old, strict=True)])

    def _differs(self, what: int, old: list[np.ndarray]) -> bool:
        return any((vector != before).any() for vector, before in zip(self._vectors(what), old, strict=True))

    def everyones(self, what: Everyones, part: slice) -> np.ndarray:
        if self._running:
            raise InputError(
                f"update rule {self._rule.name!r} reads all lanes' {what} while they wait for nobody: that is not "
                "there over MPI; train on one machine (--cluster off)"
            )
        return super().everyones(what, part)

    # ---- the lock, and pushes ---------------------------------------------------------------------

    def try_lock(self, lane: int) -> bool:
        if self._locked != lane:
            began = time.monotonic_ns()
            self.desk.take(lane, self._centre)
            if self._far is None:
                self._waited(began)
            self._locked, self._here, self._changed, self._push = lane, CENTRE, 0, 0
        return True

    def unlock(self, lane: int) -> None:
        if self._locked == lane:
            self._locked = None
            self.desk.give(lane, self._push, self._changed, self._vectors(self._changed))

    def count_push(self) -> int:
        return self.desk.count()

    def pushed(self, push: int) -> None:
        self._push = self.desk.pushes = push

    # ---- waiting ----------------------------------------------------------------------------------

    def arrive(self, lane: int, value: int) -> None:
        super().arrive(lane, value)
        if self._come.get(lane, -1) < value:
            self._come[lane] = value
            self.desk.arrive(lane, value)

    def reached(self, word: int, value: int) -> bool:
        return word == c.ARRIVED and self.desk.reached(value)

    def wait_reached(self, word: int, value: int, seconds: float, spin: float = 0.0) -> bool:
        self.desk.wait(value, seconds)
        return self.reached(word, value)

    @property
    def closed(self) -> bool:
        return self.desk.closed

    def close_gate(self) -> None:
        assert isinstance(self.desk, Desk), "rank 0 alone closes it"
        self.desk.close_gate()

    def pass_gate(self, step: int) -> bool:
        raise InputError("a step that all begin together is none of a rule that waits for nobody")

    # ---- mini-batches -----------------------------------------------------------------------------

    def claim(self, lane: int) -> int:
        self.flush()
        self._here = 0
        self.claims += 1
        if lane in self._come:  # now, and not in its next turn, for which others would have to wait
            self.arrive(lane, self.get(lane, c.TURN) - self.get(lane, c.CLOCK))
        states = self.unit_states[self._mine]
        free = self._first + np.flatnonzero(states[self._first :] == s.FREE)[:1]
        if not free.size:
            return -1
        self._first = int(free[0])
        unit = int(self._mine[self._first])
        self.unit_states[unit] = lane + 1
        self.set(lane, c.UNIT, unit)
        return unit

    def claimed(self, unit: int, lane: int) -> bool:
        return bool(self.unit_states[unit] == lane + 1)

    def free_claims(self, lane: int) -> list[int]:
        claimed: list[int] = np.flatnonzero(self.unit_states == lane + 1).tolist()
        self.unit_states[claimed] = s.FREE
        self._first = 0
        self.set(lane, c.UNIT, -1)
        return claimed

    def note_unit(self, unit: int, lane: int, time: int, push: int = 0, pulled: int = 0) -> None:
        self.unit_lane[unit], self.unit_time[unit] = lane, time
        self.unit_push[unit], self.unit_pulled[unit] = push, pulled

    def use(self, unit: int) -> None:
        self.unit_states[unit] = s.USED
        if self._far is not None:
            self._notes.append((unit, int(self.unit_lane[unit])))

    def flush(self) -> None:
        """Tell rank 0 of the mini-batches that are done."""
        notes, self._notes = self._notes, []
        for unit, lane in notes:
            assert self._far is not None
            push, pulled = int(self.unit_push[unit]), int(self.unit_pulled[unit])
            loss, correct = float(self.unit_loss[unit]), int(self.unit_correct[unit])
            self._far.note(unit, lane, push, pulled, loss, correct)

    def _noted(self, unit: int, lane: int, push: int, pulled: int, loss: float, correct: int) -> None:
        """Write another rank's mini-batch into the table; the clock is rank 0's."""
        self.note_unit(unit, lane, time.monotonic_ns(), push, pulled)
        self.unit_loss[unit], self.unit_correct[unit] = loss, correct
        self.unit_states[unit] = s.USED

    # ---- epochs -----------------------------------------------------------------------------------

    def begin(self, epoch: int, done: int) -> None:
        self.unit_push[:] = 0
        self.unit_pulled[:] = 0
        super().begin(epoch, done)

    def go(self) -> None:
        super().go()
        self._first, self._here, self._kernel, self._locked = 0, 0, None, None
        self._before.clear()
        self._notes.clear()
        self._come.clear()
        self._running = True
        self.desk.open()

    def rest(self, failed: bool = False) -> None:
        """This rank has nothing left to do in the epoch, or cannot go on."""
        if self._far is not None:
            if not failed and not self._far.ended:
                with contextlib.suppress(Ended):  # of which the next round says why
                    self.flush()
            self._far.rest(failed)
        self._running = False
