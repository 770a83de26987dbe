"""The part of another rank than 0 in a pipeline: it does what rank 0 says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ...errors import RunError
from ...nn import Sequential
from .. import rounds as r
from ..world import World
from .stage import Stage
from .transfer import collect, load

# Words of a header that only a pipeline has: time of the schedules, most micro-batches alive, bytes of work arrays.
SCHEDULE, ALIVE, BYTES = 10, 11, 12


def header(rounds: r.Rounds, stage: Stage, place: tuple[int, int]) -> np.ndarray:
    """The header of a rank at a place: what it has measured and, from a last stage, the last step's loss."""
    made = rounds.header(*place)
    made[r.COMPUTE], made[r.UPDATE], made[r.WAIT] = stage.compute_ns, stage.update_ns, stage.wait_ns
    made[SCHEDULE], made[ALIVE], made[BYTES] = stage.schedule_ns, stage.alive, stage.part.nbytes
    made[r.HEAD : r.HEAD + 1].view(np.float64)[:] = stage.loss
    made[r.HEAD + 1] = stage.correct
    return made


def follow(rounds: r.Rounds, world: World, model: Sequential, stage: Stage) -> list[dict[str, Any]]:
    """Do as rank 0 says, to the end of the run.

    Parameters
    ----------
    rounds : Rounds
    world : World
    model : Sequential
        Holds the result at the end, as at rank 0.
    stage : Stage
        This rank's.

    Returns
    -------
    list of dict
        The history, as rank 0 has it.
    """
    while True:
        verdict = rounds.ask(header(rounds, stage, (r.REST, 0)))
        if verdict.action == r.BEGIN:
            stage.begin(verdict.epoch)
            step = verdict.step
            while rounds.ask(header(rounds, stage, (r.BOUNDARY, step))).action == r.GO:
                stage.step(step)
                step += 1
        elif verdict.action == r.COLLECT:
            collect(stage, world, bool(verdict.what))
        elif verdict.action == r.LOAD:
            load(stage, world, None, None)
        elif verdict.action == r.FINISH:
            world.swap([], [(0, model.flat), (0, model.flat_buffers)])
            history: list[dict[str, Any]] = json.loads(verdict.text)
            return history
        else:
            raise RunError(f"this rank is told {verdict.action} while it is at rest")
