"""The communicator of lanes on several machines.

Each rank keeps the words and vectors of its own lanes. The vectors of other ranks' lanes come in messages. When a
kernel first reads gradients or replicas after an everyone(), the ranks send the stretches of them that are read. When
all ranks meet again, each sends the stretch of the centre that it has changed. No kernel has to declare what it reads:
a rank that lacks something asks for it in the next round (:mod:`.rounds`), and from then on the ranks send it at this
place of the script without being asked.

All lanes of a rank run in one process, so nothing here needs to be atomic. A rank that dies ends the run, so no old
values are saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InputError
from ..parallel import communicator as c
from ..parallel import store as s
from ..parallel.communicator import Communicator, Everyones
from ..parallel.program import share
from .spread import Spread
from .world import Message, World

# Bits: what a rank may need from the others, and that a sweep over shares has changed the centre.
SLICES, WHOLE = {"gradients": 1, "replicas": 4}, {"gradients": 2, "replicas": 8}
STATE = 16
CHANGED = 1


class Lanes(Communicator):
    """The lanes of one rank.

    Parameters
    ----------
    plan : Plan
        The sizes that a parameter server of all lanes would have.
    world : World
    fetch : callable
        ``fetch(needs)``: does a round in which the other ranks send what is needed (:meth:`serve`).

    Attributes
    ----------
    words : (lanes, 16) int64 ndarray
        The words of all lanes; those of the rank's own lanes are up to date.
    begun : int
        How many steps of the epoch the lanes may begin.
    changed : int
        Whether sweeps over shares have changed this rank's stretch of the centre since the ranks last met.
    """

    def __init__(self, plan: s.Plan, world: World, fetch: Callable[[int], None]) -> None:
        n, kind = plan.parameters, np.dtype(plan.dtype)
        self.plan, self.clip = plan, plan.clip
        self.lanes, self.parameters, self.steps = plan.lanes, n, plan.units // plan.lanes
        self.spread = Spread(n, plan.lanes, world.size)
        self.own = self.spread.lanes_of(world.rank)
        self.stretch = self.spread.stretch(world.rank)
        self._world, self._fetch = world, fetch
        self.centre = np.zeros(n, kind)
        self._state = {name: np.zeros(n, kind) for name in plan.state}
        self._stale = False  # whether the state outside of this rank's stretch is out of date
        self.gradients = {lane: np.zeros(n, kind) for lane in self.own}
        self.replicas = {lane: np.zeros(n, kind) for lane in self.own if plan.replicas}
        self.replica_state = {
            name: {lane: np.zeros(n, kind) for lane in self.own} for name in plan.state if plan.replica_state
        }
        self.buffers = {lane: np.zeros((2, plan.buffers), kind) for lane in self.own}
        self.words = np.zeros((plan.lanes, c.LANE), np.int64)
        self.words[:, c.OWNER] = np.arange(plan.lanes)
        self.words[:, [c.UNIT, c.UNDO]] = -1
        self._rates = [0.0] * plan.lanes
        self.unit_states, self.unit_lane, self.unit_push, self.unit_pulled, self.unit_time, self.unit_correct = (
            np.zeros(plan.units, np.int64) for _ in range(6)
        )
        self.unit_loss = np.zeros(plan.units)
        self.events = self.event_counts = None  # no timeline
        self._epoch = self._order = 0
        self.begun = self._met = 0
        self._closed = False
        self.changed = 0
        self._sweep: tuple[int, int] | None = None
        self._held: dict[str, int] = {}  # by vector, what was received since the ranks last met: SLICES or WHOLE
        self._rows: dict[int, np.ndarray] = {}

    # ---- words ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> int:
        return self._epoch

    @property
    def order(self) -> int:
        return self._order

    @property
    def pushes(self) -> int:
        return 0

    def head(self, word: int) -> int:
        """A word of the head, as in a store."""
        assert word == s.EPOCH, "there is no other"
        return self._epoch

    def get(self, lane: int, word: int) -> int:
        return int(self.words[lane, word])

    def set(self, lane: int, word: int, value: int) -> None:
        self.words[lane, word] = value
        if word == c.SWEEP:
            part = (self.get(lane, c.POSITION), self.get(lane, c.END)) if value else None
            if part is not None and part == share(self.parameters, self.lanes, lane):
                self.changed = CHANGED
            self._sweep = part

    def rate(self, lane: int) -> float:
        return self._rates[lane]

    def set_rate(self, lane: int, rate: float) -> None:
        self._rates[lane] = rate

    # ---- vectors ----------------------------------------------------------------------------------

    @property
    def state(self) -> dict[str, np.ndarray]:  # type: ignore[override]
        """The optimizer's state; whole where a sweep goes beyond this rank's stretch, else good within that."""
        if self._stale and self._sweep is not None and not self._within(*self._sweep):
            self._fetch(STATE)
        return self._state

    @property
    def whole_state(self) -> dict[str, np.ndarray]:
        """The optimizer's state as it is here."""
        return self._state

    @property
    def sequence(self) -> int:
        """Pushes since the start of the run, which only rules have that are not lockstep."""
        return 0

    @sequence.setter
    def sequence(self, pushes: int) -> None:
        assert not pushes

    @property
    def spread_state(self) -> dict[str, np.ndarray]:
        """The optimizer's state, of which each rank has its stretch."""
        return self._state

    def _within(self, start: int, stop: int) -> bool:
        return start >= stop or (self.stretch.start <= start and stop <= self.stretch.stop)

    def gradient(self, lane: int) -> np.ndarray:
        return self.gradients[lane]

    def replica(self, lane: int) -> np.ndarray:
        assert self.replicas, "the rule does not say that it uses replicas"
        return self.replicas[lane]

    def own_state(self, lane: int) -> dict[str, np.ndarray]:
        return {name: vectors[lane] for name, vectors in self.replica_state.items()}

    def running(self, lane: int, turn: int) -> np.ndarray:
        running: np.ndarray = self.buffers[lane][turn % 2]
        return running

    def saved(self, lane: int) -> np.ndarray:
        return np.empty((0, 0), self.centre.dtype)

    def everyones(self, what: Everyones, part: slice) -> np.ndarray:
        assert what == "gradients" or self.replicas, "the rule does not say that it uses replicas"
        start, stop, _ = part.indices(self.parameters)
        within = self._within(start, stop)
        if self._held.get(what, 0) not in ((SLICES[what], WHOLE[what]) if within else (WHOLE[what],)):
            self._fetch(SLICES[what] if within else WHOLE[what])
        held = self._held[what]
        before = self.stretch.start if held == SLICES[what] else 0
        return self._rows[held][:, start - before : stop - before]

    # ---- messages ---------------------------------------------------------------------------------

    def serve(self, needs: list[int], changed: int = 0, travels: bool = False) -> None:
        """Send every rank what it needs; where sweeps have changed the centre, send its stretches to all ranks.

        Parameters
        ----------
        needs : list of int
            Of each rank; known to all, as `changed` is.
        changed : int
        travels : bool
            Whether the centre's stretches go another way.
        """
        sends: list[Message] = []
        receives: list[Message] = []
        if changed:
            self._stale = True
        if changed and not travels:
            self._exchange(self.centre, range(self._world.size), sends, receives)
        wanting = [rank for rank, need in enumerate(needs) if need & STATE]
        for vector in self._state.values():
            self._exchange(vector, wanting, sends, receives)
        if self._world.rank in wanting:
            self._stale = False
        for what, vectors in (("gradients", self.gradients), ("replicas", self.replicas)):
            for rank, need in enumerate(needs):
                if need & (SLICES[what] | WHOLE[what]):
                    bit = WHOLE[what] if need & WHOLE[what] else SLICES[what]
                    self._bring(what, bit, vectors, rank, sends, receives)
        self._world.swap(sends, receives)

    def _exchange(self, vector: np.ndarray, to: Any, sends: list[Message], receives: list[Message]) -> None:
        """Add the messages that bring every rank's stretch of a vector to the ranks `to`."""
        me = self._world.rank
        sends += [(rank, vector[self.stretch]) for rank in to if rank != me]
        if me in to:
            receives += [(rank, vector[self.spread.stretch(rank)]) for rank in range(self._world.size) if rank != me]

    def _bring(
        self, what: str, bit: int, vectors: dict[int, np.ndarray], to: int, sends: list[Message],
        receives: list[Message],
    ) -> None:  # fmt: skip
        """Add the messages that bring every lane's vector to the rank `to`: that rank's stretch, or all of it."""
        if to != self._world.rank:
            sends += [(to, vectors[lane][self.part(bit, to)]) for lane in self.own]
            return
        rows = self.rows(bit)
        for rank in range(self._world.size):
            if rank != to:
                receives += [(rank, rows[lane]) for lane in self.spread.lanes_of(rank)]
        self.hold(what, bit, vectors)

    def part(self, bit: int, to: int) -> slice:
        """The part of every lane's vector that the rank `to` gets if it needs that."""
        return self.spread.stretch(to) if bit in SLICES.values() else slice(0, self.parameters)

    def rows(self, bit: int) -> np.ndarray:
        """Memory for that part of every lane's vector, ``(lanes, m)``."""
        if bit not in self._rows:
            part = self.part(bit, self._world.rank)
            self._rows[bit] = np.empty((self.lanes, part.stop - part.start), self.centre.dtype)
        return self._rows[bit]

    def hold(self, what: str, bit: int, vectors: dict[int, np.ndarray]) -> None:
        """Put the own lanes' parts beside the others', which have come: all of them can be read then."""
        part, rows = self.part(bit, self._world.rank), self.rows(bit)
        for lane in self.own:
            rows[lane] = vectors[lane][part]
        self._held[what] = max(self._held.get(what, 0), bit)

    def release(self) -> None:
        """Free the memory for whole vectors of all lanes."""
        for bit in WHOLE.values():
            self._rows.pop(bit, None)
        self._held.clear()

    # ---- waiting ----------------------------------------------------------------------------------

    def met(self, value: int) -> None:
        """Note that all lanes have come to `value`: vectors that were received before are out of date from here on."""
        self._met = max(self._met, value)
        self._held.clear()
        self.changed = 0

    def arrive(self, lane: int, value: int) -> None:
        self.words[lane, c.ARRIVED] = max(self.words[lane, c.ARRIVED], value)

    def reached(self, word: int, value: int) -> bool:
        return word == c.ARRIVED and self._met >= value

    def wait_reached(self, word: int, value: int, seconds: float, spin: float = 0.0) -> bool:
        return self.reached(word, value)  # the ranks meet between two steps of the lanes' programs

    def wake(self) -> None:
        """Nobody sleeps."""

    def wake_parent(self) -> None:
        """Nobody sleeps."""

    # ---- the gate ---------------------------------------------------------------------------------

    @property
    def closed(self) -> bool:
        return self._closed

    def pass_gate(self, step: int) -> bool:
        return self.begun > step

    def close_gate(self) -> None:
        self._closed = True

    # ---- what only rules have that are not lockstep -------------------------------------------------

    def try_lock(self, lane: int) -> bool:
        raise _refused("sweeps with locked=True")

    def unlock(self, lane: int) -> None:
        """Do nothing: no lane can have the lock."""

    @property
    def unlocks(self) -> int:
        return 0

    def wait_unlocked(self, unlocks: int, seconds: float) -> None:
        raise _refused("sweeps with locked=True")

    def count_push(self) -> int:
        raise _refused("pushes")

    def pushed(self, push: int) -> None:
        raise _refused("pushes")

    def claim(self, lane: int) -> int:
        raise _refused("lanes that choose their mini-batches")

    def claimed(self, unit: int, lane: int) -> bool:
        return False

    def free_claims(self, lane: int) -> list[int]:
        return []

    # ---- mini-batches -----------------------------------------------------------------------------

    def use(self, unit: int) -> None:
        self.unit_states[unit] = s.USED

    def note_loss(self, unit: int, loss: float) -> None:
        self.unit_loss[unit] = loss

    def note_unit(self, unit: int, lane: int, time: int, push: int = 0, pulled: int = 0) -> None:
        self.unit_lane[unit], self.unit_time[unit] = lane, time

    # ---- orders -----------------------------------------------------------------------------------

    def begin(self, epoch: int, done: int) -> None:
        for table in (self.unit_lane, self.unit_time, self.unit_loss, self.unit_correct):
            table[:] = 0
        self.unit_states[:] = s.FREE
        self.unit_states[:done] = s.USED
        self._epoch = epoch

    def resume(self, epoch: int, begun: int) -> None:
        """Continue in `epoch`, of which all lanes have done `begun` steps."""
        self._epoch, self.begun = epoch, begun

    def go(self) -> None:
        self._closed = False
        self._met = 0
        self._order += 1


def _refused(what: str) -> InputError:
    return InputError(f"{what} are not there over MPI: take an update rule as sync or local, or one machine")
