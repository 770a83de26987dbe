"""Overlap: what a step makes, and what the last one has made, travels between ranks while they compute.

The ranks agree on it before a step (:class:`.rounds.Verdict`). From then on to their next round, a lane's gradient
leaves in pieces, from the end of the vector to its beginning, as the backward pass completes it; and the parameters
that other ranks have updated arrive from the beginning to the end, as the forward pass needs them. Each rank gets what
it would get in a round, and adds it in the same order.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np

from ..nn import Sequential
from ..nn.layer import Step
from ..nn.reach import Reach
from . import wire
from .flow import Flow, cut
from .helper import Helper
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
    half : bool
        Whether numbers travel as float16.

    Attributes
    ----------
    had : list of int
        Which vectors of gradients each rank gets in this step, as bits; empty if none travel.
    waited_ns : int
        How long passes have waited for parameters.
    """

    def __init__(self, model: Sequential, lanes: Lanes, world: World, half: bool = False) -> None:
        self._lanes, self._world = lanes, world
        self._reach = Reach(model)
        self._lane = lanes.own[0]
        self._gradients: dict[tuple[int, ...], _Gradients] = {}
        self._centre = _Centre(lanes, world, half)
        self._left = {lane: np.zeros_like(lanes.centre) for lane in lanes.own} if half else None
        self._now: _Gradients | None = None
        self._last = Flow(world, GRADIENT_TAG, {}, {})
        self.had: list[int] = []
        self.waited_ns = 0
        model.before_forward, model.after_backward = self._before, self._after
        self._helper = Helper(self.look)
        self._helped = world.serialized  # whether a second thread may call MPI

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
        if self._left is not None and ALL in self.had:  # a piece is rounded once: all get the same
            self.had = [ALL if had else 0 for had in self.had]
        if changed:
            self._centre.begin()
        key = tuple(self.had)
        if any(key):
            if key not in self._gradients:
                self._gradients[key] = _Gradients(self._lanes, self._world, self.had, self._left)
            self._now = self._gradients[key]
            self._last = self._now.flow
            self._now.begin()
        self.look()

    @contextlib.contextmanager
    def computing(self, lane: int) -> Iterator[None]:
        """Within it, a lane of this rank computes its gradient; those before it have done so."""
        self._lane = lane
        if self._now is not None:
            self._now.allow(lane, self._lanes.parameters)
        if not (self.going and self._helped):
            yield
            return
        self._helper.begin()
        try:
            yield
        finally:
            self._helper.end()

    def look(self) -> bool:
        """Move on what is on its way, without waiting; returns whether all of it has come."""
        with self._helper.turn:
            done = True
            if self._centre.flow.going:
                done = self._centre.look()
            if self._now is not None:
                done = self._now.flow.look() and done
            return done

    def finish(self) -> None:
        """Wait until everything has arrived: the lanes' gradients can be read then, by :meth:`.Lanes.everyones`."""
        if self._centre.flow.going:
            self._centre.finish()
        if self._now is not None:
            self._now.finish()
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

    def reset(self) -> None:
        """All ranks have the same parameters now, between two steps; with float16, begin again without its errors."""
        self._centre.reset()

    def new_epoch(self) -> None:
        """Forget what rounding has left, so that a run which is continued here gives the same numbers."""
        for left in (self._left or {}).values():
            left[...] = 0

    def forget(self) -> None:
        """Free memory, between two steps."""
        self._gradients.clear()

    # ---- within a pass ----------------------------------------------------------------------------

    def _before(self, step: Step) -> None:
        """Before a step's forward pass: its parameters must be there."""
        stop = self._reach.reads[step]
        if not self._come(stop):
            began = time.monotonic_ns()
            self._world.until(lambda: self._come(stop))
            self.waited_ns += time.monotonic_ns() - began

    def _come(self, stop: int) -> bool:
        with self._helper.turn:
            self.look()
            return not self._centre.flow.going or self._centre.there(stop)

    def _after(self, step: Step) -> None:
        """After a step's backward pass: its gradients may leave."""
        with self._helper.turn:
            if self._now is not None:
                self._now.allow(self._lane, self._reach.left[step])
            self.look()


class _Gradients:
    """The lanes' gradients, from the end of each to its beginning, lane after lane.

    Attributes
    ----------
    left : dict of int to ndarray
        With float16, what the rounding of each own lane's gradients has left.
    """

    def __init__(self, lanes: Lanes, world: World, needs: list[int], left: dict[int, np.ndarray] | None) -> None:
        self._lanes, self._left = lanes, left
        self._keys: dict[int, list[tuple[int, int]]] = {}  # by rank, lane and negative start of each piece
        self._spans: dict[tuple[int, int], int] = {}  # the end of each piece of this rank's lanes
        self._out: dict[tuple[int, int], np.ndarray] = {}  # with float16, each piece of this rank's lanes
        self._read: list[tuple[np.ndarray, np.ndarray]] = []  # with float16, each piece that comes, and its place
        self._written: set[tuple[int, int]] = set()
        sends, receives = {}, {}
        for rank, need in enumerate(needs):
            if not need:
                continue
            part = lanes.part(need, rank)
            pieces = cut(part.start, part.stop, lanes.centre.itemsize)[::-1]
            if rank == world.rank:
                receives = {
                    other: self._incoming(lanes.rows(need), lanes.spread.lanes_of(other), pieces, part.start)
                    for other in range(world.size)
                    if other != rank
                }
                continue
            self._keys[rank] = [(lane, -begin) for lane in lanes.own for begin, _ in pieces]
            sends[rank] = [self._outgoing(lane, *piece) for lane in lanes.own for piece in pieces]
        self.flow = Flow(world, GRADIENT_TAG, sends, receives)

    def _incoming(self, rows: np.ndarray, theirs: range, pieces: list[tuple[int, int]], start: int) -> list[np.ndarray]:
        """The arrays that another rank's pieces are received in."""
        places = [rows[lane, begin - start : end - start] for lane in theirs for begin, end in pieces]
        if self._left is None:
            return places
        arrays = [wire.room(place.size) for place in places]
        self._read += zip(arrays, places, strict=True)
        return arrays

    def _outgoing(self, lane: int, begin: int, end: int) -> np.ndarray:
        """The array that a piece is sent from."""
        if self._left is None:
            return self._lanes.gradients[lane][begin:end]
        key = (lane, -begin)
        if key not in self._out:
            self._out[key], self._spans[key] = wire.room(end - begin), end
        return self._out[key]

    def begin(self) -> None:
        """Begin a step."""
        self._written.clear()
        self.flow.begin()

    def allow(self, lane: int, start: int) -> None:
        """The lane's gradient is complete from `start` on, and those of the lanes before it are complete."""
        now = (lane, -start)
        for rank, keys in self._keys.items():
            place = self.flow.allowed(rank)
            while place < len(keys) and keys[place] <= now:
                if self._left is not None and keys[place] not in self._written:
                    self._write(*keys[place])
                place += 1
            self.flow.allow(rank, place)

    def _write(self, lane: int, start: int) -> None:
        key = (lane, start)
        assert self._left is not None
        left, part = self._left[lane], slice(-start, self._spans[key])
        left[part] += self._lanes.gradients[lane][part]
        wire.write(left[part], self._out[key])
        self._written.add(key)

    def finish(self) -> None:
        """Wait until all have come."""
        self.allow(self._lanes.own[-1], 0)
        self.flow.finish()
        for piece, place in self._read:
            wire.read(piece, place)


class _Centre:
    """The parameters, each rank's stretch from its beginning to its end."""

    def __init__(self, lanes: Lanes, world: World, half: bool) -> None:
        size, self._centre, me = lanes.centre.itemsize, lanes.centre, world.rank
        stretches = [lanes.spread.stretch(rank) for rank in range(world.size)]
        self._places = {rank: cut(part.start, part.stop, size) for rank, part in enumerate(stretches)}
        self._own = self._places.pop(me)
        others = list(self._places)
        views = {rank: [self._centre[begin:end] for begin, end in each] for rank, each in self._places.items()}
        own = [self._centre[begin:end] for begin, end in self._own]
        self._theirs: np.ndarray | None = None  # with float16, what the other ranks have of this one's stretch
        self._offset, self._stretch = stretches[me].start, stretches[me]
        if half:
            self._theirs = self._centre[self._stretch].copy()
            own = [wire.room(each.size) for each in own]
            self._views, views = views, {rank: [wire.room(each.size) for each in views[rank]] for rank in others}
        self._out, self._arrived = own, views
        self._taken = dict.fromkeys(others, 0)
        self.flow = Flow(world, CENTRE_TAG, dict.fromkeys(others, own), views)

    def reset(self) -> None:
        """All ranks have the same parameters."""
        if self._theirs is not None:
            self._theirs[...] = self._centre[self._stretch]

    def begin(self) -> None:
        """Send this rank's stretch, which a step has changed."""
        self._taken = dict.fromkeys(self._taken, 0)
        self.flow.begin()
        if self._theirs is None:
            self.flow.allow_all()
            return
        for number, (begin, end) in enumerate(self._own):
            theirs = self._theirs[begin - self._offset : end - self._offset]
            change = self._centre[begin:end] - theirs
            wire.write(change, self._out[number])
            wire.read(self._out[number], change)
            theirs += change  # as the others do
            for rank in self._taken:
                self.flow.allow(rank, number + 1)
            self.flow.look()

    def look(self) -> bool:
        """Move on, and with float16 add the changes that have come; returns whether all have."""
        done = self.flow.look()
        if self._theirs is None:
            return done
        for rank, taken in self._taken.items():
            while taken < self.flow.came(rank):
                change = np.empty_like(self._views[rank][taken])
                wire.read(self._arrived[rank][taken], change)
                self._views[rank][taken] += change
                taken += 1
            self._taken[rank] = taken
        return done

    def finish(self) -> None:
        """Wait until all have come."""
        self.flow.finish()
        self.look()

    def there(self, stop: int) -> bool:
        """Whether all parameters before `stop` have arrived."""
        for rank, places in self._places.items():
            came = self.flow.came(rank)
            if came < len(places) and places[came][0] < stop:
                return False
        return True
