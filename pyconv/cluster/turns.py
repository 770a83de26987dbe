"""The mini-batches of one rank under a rule that waits for nobody: its lanes take turns."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import DivergedError
from ..parallel.program import AtBoundary
from ..parallel.worker import NotFinite
from .desk import Ended
from .free import FreeLanes
from .node import Node

WAIT_S = 0.25  # for lanes that all wait, before this rank looks around


def mini_batches(node: Node) -> Iterator[None]:
    """Run the rank's lanes in turn, a mini-batch each, to the end of the epoch or until the gate is closed.

    Yields
    ------
    None
        After each mini-batch, and while all lanes wait.

    Raises
    ------
    Ended
        If another rank cannot go on.
    DivergedError
        If a gradient is not finite; the message says in which step.
    """
    lanes = node.lanes
    assert isinstance(lanes, FreeLanes)
    programs = node.programs
    waits: dict[int, AtBoundary] = {}
    while programs:
        moved = False
        for lane in list(programs):
            if lanes.desk.ended:
                raise Ended
            if lane in waits:
                if not waits[lane].ready():
                    continue
                del waits[lane]
            moved, claims = True, lanes.claims
            node.turn_of(lane)
            while lanes.claims == claims:
                try:
                    found = next(programs[lane])
                except StopIteration:
                    del programs[lane]
                    break
                except NotFinite as error:
                    raise DivergedError(f"{error} in {node.where}") from None
                if found is not None:
                    assert isinstance(found, AtBoundary), "the lock is taken where it is asked for"
                    waits[lane] = found
                    break
            node.turn_of(None)
            node.report()
            yield
        if not moved:
            # A lane may wait for another of this rank: it is the one that waits for the least that may go on first.
            min(waits.values(), key=lambda wait: wait.value).block(WAIT_S, 0.0)
            yield
