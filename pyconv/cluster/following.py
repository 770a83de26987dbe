"""Follower: the part of a rank other than 0 in a run; it does what rank 0 says."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from ..errors import RunError
from ..nn import Sequential
from ..parallel import Job
from . import rounds as r
from .desk import Ended
from .engine import computed
from .node import Node, Place
from .transfer import collect, load
from .turns import mini_batches
from .world import World


class Follower:
    """A rank that takes part in a run that rank 0 leads.

    Parameters
    ----------
    rounds : Rounds
    world : World
    model : Sequential
        Holds the result at the end, as at rank 0.
    x, labels : ndarray
        The training data.
    job : Job
        As rank 0 has it.
    threads : int
        OpenMP threads of this rank.
    """

    def __init__(
        self, rounds: r.Rounds, world: World, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job,
        threads: int,
    ) -> None:  # fmt: skip
        self._rounds, self._world, self._model = rounds, world, model
        self._node = Node(model, x, labels, job, world, rounds, threads, self._fetch)

    def follow(self) -> list[dict[str, Any]]:
        """Do as rank 0 says, to the end of the run.

        Returns
        -------
        list of dict
            The history, as rank 0 has it.
        """
        node, world = self._node, self._world
        while True:
            verdict = self._meet((r.REST, 0))
            if verdict.action == r.BEGIN:
                node.begin(verdict.epoch, verdict.step, bool(verdict.what))
                self._epoch()
            elif verdict.action == r.COLLECT:
                collect(node.lanes, world, bool(verdict.what))
            elif verdict.action == r.LOAD:
                load(node.lanes, world, None)
            elif verdict.action == r.FINISH:
                world.swap([], [(0, self._model.flat), (0, self._model.flat_buffers)])
                node.close()
                history: list[dict[str, Any]] = json.loads(verdict.text)
                return history
            else:
                raise RunError(f"this rank is told {verdict.action} while it is at rest")

    def _epoch(self) -> None:
        node = self._node
        if not node.rule.lockstep:
            try:
                for _ in mini_batches(node):
                    pass
            except Ended:  # in the next round it will be said why
                pass
            except BaseException:
                node.rest(failed=True)
                raise
            node.rest()
            return
        place: Place = (r.BOUNDARY, 0)
        while place[0] != r.REST:
            place = computed(self._node)
            self._node.go(place, self._meet(place))

    def _meet(self, place: Place) -> r.Verdict:
        """Rank 0's verdict when all ranks have come to `place`; until then, serve ranks that lack something."""
        began = time.monotonic_ns()
        while (verdict := self._rounds.ask(self._node.header(place))).action == r.SERVE:
            self._node.lanes.serve(verdict.needs)
        if place[0] != r.REST:
            self._node.waiting(began)
        return verdict

    def _fetch(self, needs: int) -> None:
        verdict = self._rounds.ask(self._rounds.header(r.FETCH, needs=needs))
        self._node.lanes.serve(verdict.needs)
