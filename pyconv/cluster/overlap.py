"""Overlap: what a step makes, and what the last one has made, travels between ranks while they compute.

The ranks agree on it before a step (:class:`.rounds.Verdict`). From then on to their next round, a lane's gradient
leaves in pieces, from the end of the vector to its beginning, as the backward pass completes it; and the parameters
that other ranks have updated arrive from the beginning to the end, as the forward pass needs them. Each rank gets what
it would get in a round, and adds it in the same order.
"""

from __future__ import annotations

import time

from ..nn import Sequential
from ..nn.layer import Step
from ..nn.reach import Reach
from .flow import Flow, cut
from .lanes import SLICES, WHOLE, Lanes
from .world import World

GRADIENT_TAG, CENTRE_TAG = 1, 2
SLICE, ALL = SLICES["gradients"], WHOLE["gradients"]


class Overlap:
    """What travels while a rank computes a step.

    Parameters
    ----------
    model : Sequential
        The one that computes the gradients; nothing in it is frozen.
    lanes : Lanes
    world : World

    Attributes
    ----------
    had : list of int
        Which vectors of gradients each rank gets in this step, as bits; empty if none travel.
    waited_ns : int
        How long passes have waited for parameters.
    """

    def __init__(self, model: Sequential, lanes: Lanes, world: World) -> None:
        self._lanes, self._world = lanes, world
        self._reach = Reach(model)
        self._lane = lanes.own[0]
        self._gradients: dict[tuple[int, ...], _Gradients] = {}
        self._centre = _Centre(lanes, world)
        self._now: _Gradients | None = None
        self._last = Flow(world, GRADIENT_TAG, {}, {})
        self.had: list[int] = []
        self.waited_ns = 0
        model.before_forward, model.after_backward = self._before, self._after

    @property
    def going(self) -> bool:
        """Whether anything is on its way."""
        return self._now is not None or self._centre.flow.going

    def begin(self, needs: list[int], changed: bool) -> None:
        """Begin a step; all ranks call it, with the same arguments.

        Parameters
        ----------
        needs : list of int
            What each rank will need of the gradients, as bits.
        changed : bool
            Whether each rank has updated its stretch of the parameters.
        """
        self.had = [ALL if need & ALL else need & SLICE for need in needs]
        if changed:
            self._centre.flow.begin()
            self._centre.flow.allow_all()
        key = tuple(self.had)
        if any(key):
            if key not in self._gradients:
                self._gradients[key] = _Gradients(self._lanes, self._world, self.had)
            self._now = self._gradients[key]
            self._last = self._now.flow
            self._last.begin()
        self.look()

    def computes(self, lane: int) -> None:
        """From here on, a lane of this rank computes its gradient; those before it have done so."""
        self._lane = lane
        if self._now is not None:
            self._now.allow(lane, self._lanes.parameters)

    def look(self) -> None:
        """Move on what is on its way, without waiting."""
        if self._centre.flow.going:
            self._centre.flow.look()
        if self._now is not None:
            self._now.flow.look()

    def finish(self) -> None:
        """Wait until everything has arrived: the lanes' gradients can be read then, by :meth:`.Lanes.everyones`."""
        if self._centre.flow.going:
            self._centre.flow.finish()
        if self._now is not None:
            self._now.flow.finish()
            if self.had[self._world.rank]:
                self._lanes.hold("gradients", self.had[self._world.rank], self._lanes.gradients)
            self._now = None

    def rest(self, needs: list[int]) -> list[int]:
        """What each rank needs beyond what has travelled."""
        if not self.had:
            return needs
        covered = [SLICE | ALL if had == ALL else had for had in self.had]
        return [need & ~had for need, had in zip(needs, covered, strict=True)]

    def settle(self) -> None:
        """End a step that will not be completed; all ranks call it."""
        self._centre.flow.settle()
        self._last.settle()
        self._now = None

    def forget(self) -> None:
        """Free memory, between two steps."""
        self._gradients.clear()

    # ---- within a pass ----------------------------------------------------------------------------

    def _before(self, step: Step) -> None:
        """Before a step's forward pass: its parameters must be there."""
        self.look()
        stop = self._reach.reads[step]
        if self._centre.flow.going and not self._centre.there(stop):
            began = time.monotonic_ns()
            self._world.until(lambda: self._come(stop))
            self.waited_ns += time.monotonic_ns() - began

    def _come(self, stop: int) -> bool:
        self.look()
        return self._centre.there(stop)

    def _after(self, step: Step) -> None:
        """After a step's backward pass: its gradients may leave."""
        if self._now is not None:
            self._now.allow(self._lane, self._reach.left[step])
        self.look()


class _Gradients:
    """The lanes' gradients, from the end of each to its beginning, lane after lane."""

    def __init__(self, lanes: Lanes, world: World, needs: list[int]) -> None:
        size = lanes.centre.itemsize
        sends, receives = {}, {}
        self._keys: dict[int, list[tuple[int, int]]] = {}  # by rank, lane and negative start of each piece
        for rank, need in enumerate(needs):
            if not need:
                continue
            part = lanes.part(need, rank)
            pieces = cut(part.start, part.stop, size)[::-1]
            if rank == world.rank:
                rows = lanes.rows(need)
                for other in range(world.size):
                    if other != rank:
                        theirs = lanes.spread.lanes_of(other)
                        receives[other] = [
                            rows[lane, begin - part.start : end - part.start]
                            for lane in theirs
                            for begin, end in pieces
                        ]
                continue
            sends[rank] = [lanes.gradients[lane][begin:end] for lane in lanes.own for begin, end in pieces]
            self._keys[rank] = [(lane, -begin) for lane in lanes.own for begin, _ in pieces]
        self.flow = Flow(world, GRADIENT_TAG, sends, receives)

    def allow(self, lane: int, start: int) -> None:
        """The lane's gradient is complete from `start` on, and those of the lanes before it are complete."""
        now = (lane, -start)
        for rank, keys in self._keys.items():
            place = self.flow.allowed(rank)
            while place < len(keys) and keys[place] <= now:
                place += 1
            self.flow.allow(rank, place)


class _Centre:
    """The parameters, each rank's stretch from its beginning to its end."""

    def __init__(self, lanes: Lanes, world: World) -> None:
        size, centre, me = lanes.centre.itemsize, lanes.centre, world.rank
        stretches = [lanes.spread.stretch(rank) for rank in range(world.size)]
        places = [cut(part.start, part.stop, size) for part in stretches]
        pieces = [[centre[begin:end] for begin, end in each] for each in places]
        others = [rank for rank in range(world.size) if rank != me]
        self._places = {rank: places[rank] for rank in others}
        self.flow = Flow(world, CENTRE_TAG, dict.fromkeys(others, pieces[me]), {rank: pieces[rank] for rank in others})

    def there(self, stop: int) -> bool:
        """Whether all parameters before `stop` have arrived."""
        for rank, places in self._places.items():
            came = self.flow.came(rank)
            if came < len(places) and places[came][0] < stop:
                return False
        return True
