"""Brings the stages' parameters, running statistics and optimizer state to rank 0, and back when a run is continued."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...nn import Sequential
from ..world import Message, World
from .stage import Stage


class Whole:
    """The whole network, at rank 0.

    Attributes
    ----------
    flat : (n,) ndarray
    buffers : (replicas, m) ndarray
        Each replica's running statistics.
    state : dict of str to (n,) ndarray
        The optimizer's; empty if it was not asked for.
    """

    def __init__(self, stage: Stage, replicas: int, everything: bool) -> None:
        parameters, buffers = (stage.spans[-1][which].stop for which in (0, 1))
        self.flat = np.zeros(parameters, stage.part.dtype)
        self.buffers = np.zeros((replicas, buffers), stage.part.dtype)
        self.state = {name: np.zeros(parameters, stage.part.dtype) for name in stage.state if everything}

    def of(self, stage: Stage, rank: int) -> list[np.ndarray]:
        """What a rank sends: its replica's running statistics, and from the first replica the rest."""
        replica, number = divmod(rank, len(stage.spans))
        span, buffers = stage.spans[number]
        rest = [] if replica else [self.flat[span], *(vector[span] for vector in self.state.values())]
        return [self.buffers[replica, buffers], *rest]


def collect(stage: Stage, world: World, everything: bool) -> Whole | None:
    """Bring everything to rank 0, which gets it; with `everything` the optimizer's state too. Every rank calls it."""
    own = _own(stage, everything)
    if world.rank:
        world.swap([(0, each) for each in own], [])
        return None
    whole = Whole(stage, world.size // len(stage.spans), everything)
    for mine, place in zip(own, whole.of(stage, 0), strict=True):
        place[...] = mine
    world.swap([], [(rank, place) for rank in range(1, world.size) for place in whole.of(stage, rank)])
    return whole


def _own(stage: Stage, everything: bool) -> list[np.ndarray]:
    part = stage.part
    rest = [] if stage.replica else [part.flat, *(stage.state.values() if everything else ())]
    return [part.buffers, *rest]


def load(stage: Stage, world: World, model: Sequential | None, state: Mapping[str, np.ndarray] | None) -> None:
    """Continue a run: rank 0 has its model and `state`, as an engine gives it, and sends each rank its part."""
    part = stage.part
    done = np.array([0 if state is None else int(state["step"])], np.int64)
    own = [done, part.flat, part.buffers, *stage.state.values()]
    if model is None or state is None:
        world.swap([], [(0, each) for each in own])
    else:
        sends: list[Message] = []
        for rank in range(world.size):
            replica, number = divmod(rank, len(stage.spans))
            span, buffers = stage.spans[number]
            running = state["buffers"][replica] if "buffers" in state else model.flat_buffers
            given = [
                done,
                model.flat[span],
                running[buffers],
                *(state[f"optimizer.{name}"][span] for name in stage.state),
            ]
            if rank:
                sends += [(rank, np.ascontiguousarray(each)) for each in given]
            else:
                for mine, theirs in zip(own, given, strict=True):
                    mine[...] = theirs
        world.swap(sends, [])
    stage.done = int(done[0])
