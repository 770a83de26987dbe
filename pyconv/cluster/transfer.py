"""Sends the state of all ranks' lanes to rank 0, and sends it back to the ranks when a run is continued."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..parallel import communicator as c
from .lanes import Lanes
from .world import Message, World


class Collected:
    """The lanes' running statistics and, if everything was asked for, their replicas and optimizer states.

    Attributes
    ----------
    buffers : (lanes, m) ndarray
    replicas : (lanes, n) ndarray
        Without rows if the rule has no replicas.
    replica_state : dict of str to (lanes, n) ndarray
    """

    def __init__(self, lanes: Lanes, everything: bool) -> None:
        count, n, kind = lanes.lanes, lanes.parameters, lanes.centre.dtype
        self.buffers = np.zeros((count, lanes.plan.buffers), kind)
        self.replicas = np.zeros((count if everything and lanes.replicas else 0, n), kind)
        self.replica_state = {name: np.zeros((count, n), kind) for name in lanes.replica_state if everything}


def collect(lanes: Lanes, world: World, everything: bool) -> Collected:
    """Bring the lanes' words and running statistics, and with `everything` all of their vectors, to rank 0.

    Every rank calls it. The result is complete at rank 0 only, where words and optimizer state are then complete too.
    """
    made = Collected(lanes, everything and not world.rank)
    sends: list[Message] = []
    receives: list[Message] = []
    if world.rank:
        sends.append((0, lanes.words[lanes.own[0] : lanes.own[-1] + 1]))
        for lane in lanes.own:
            sends.append((0, lanes.running(lane, lanes.get(lane, c.TURN))))
            if everything:
                sends += [(0, vectors[lane]) for vectors in (lanes.replicas, *lanes.replica_state.values()) if vectors]
        if everything:
            sends += [(0, vector[lanes.stretch]) for vector in lanes.spread_state.values()]
    else:
        for rank in range(1, world.size):
            theirs = lanes.spread.lanes_of(rank)
            receives.append((rank, lanes.words[theirs[0] : theirs[-1] + 1]))
            for lane in theirs:
                receives.append((rank, made.buffers[lane]))
                if everything and lanes.replicas:
                    receives.append((rank, made.replicas[lane]))
                receives += [(rank, vectors[lane]) for vectors in made.replica_state.values()]
            if everything:
                part = lanes.spread.stretch(rank)
                receives += [(rank, vector[part]) for vector in lanes.spread_state.values()]
        for lane in lanes.own:
            made.buffers[lane] = lanes.running(lane, lanes.get(lane, c.TURN))
            if everything and lanes.replicas:
                made.replicas[lane] = lanes.replicas[lane]
            for name, vectors in made.replica_state.items():
                vectors[lane] = lanes.replica_state[name][lane]
    world.swap(sends, receives)
    return made


def load(lanes: Lanes, world: World, state: Mapping[str, np.ndarray] | None) -> None:
    """Continue a run: rank 0 has its `state`, as an engine gives it, and sends each rank its part."""
    sends: list[Message] = []
    receives: list[Message] = []
    if state is not None:
        lanes.words[:, c.CLOCK], lanes.words[:, c.TURN] = state["clock"], state["turn"]
        lanes.words[:, c.PULLED] = state["sequence"]
        lanes.words[:, c.ARRIVED] = 0
        for name, vector in lanes.whole_state.items():
            vector[...] = state[f"optimizer.{name}"]
        rows = _rows(lanes, state)
        for lane in lanes.own:
            for mine, theirs in zip(_own(lanes, lane), rows):
                mine[...] = theirs[lane]
        for rank in range(1, world.size):
            sends += [
                (rank, each) for each in (lanes.words, lanes.unit_states, lanes.centre, *lanes.whole_state.values())
            ]
            sends += [(rank, np.ascontiguousarray(each[lane])) for lane in lanes.spread.lanes_of(rank) for each in rows]
    else:
        receives += [(0, each) for each in (lanes.words, lanes.unit_states, lanes.centre, *lanes.whole_state.values())]
        receives += [(0, each) for lane in lanes.own for each in _own(lanes, lane)]
    world.swap(sends, receives)


def _rows(lanes: Lanes, state: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The vectors of each lane, by lane."""
    rows = [np.stack([state["buffers"]] * 2, axis=1)]
    if lanes.replicas:
        rows.append(state["replicas"])
    return [*rows, *(state[f"worker_optimizer.{name}"] for name in lanes.replica_state)]


def _own(lanes: Lanes, lane: int) -> list[np.ndarray]:
    replicas = [lanes.replicas[lane]] if lanes.replicas else []
    return [lanes.buffers[lane], *replicas, *(vectors[lane] for vectors in lanes.replica_state.values())]
