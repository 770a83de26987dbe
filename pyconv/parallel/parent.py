"""The parent's changes to the lanes' words, for any communicator: it begins epochs, gives orders, hands lanes over.

The engine and its supervisor call these functions while worker processes run; the model test calls them in one process.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from . import communicator as c
from .communicator import Communicator

if TYPE_CHECKING:
    from .rules import Rule


def new_epoch(workers: Communicator, rule: Rule, epoch: int, first_step: int = 0) -> None:
    """Set the clocks to the beginning of an epoch, or to the end of its first steps; no lane is running."""
    workers.begin(epoch, first_step * workers.lanes)
    for lane in range(workers.lanes):
        workers.set(lane, c.CLOCK, c.OPS * first_step if rule.lockstep else workers.get(lane, c.TURN))


def order(workers: Communicator) -> None:
    """Let the lanes go on with the epoch from where they are; no lane is running."""
    for lane in range(workers.lanes):
        if workers.get(lane, c.OWNER) >= 0:
            workers.set(lane, c.ARRIVED, 0)
    workers.go()
    workers.wake()


def at_rest(workers: Communicator) -> bool:
    """Whether every lane has nothing left to do under the latest order."""
    return workers.reached(c.DONE, workers.order)


def hand_over(workers: Communicator, rule: Rule, lanes: Collection[int], heirs: Collection[int], freed: bool) -> None:
    """Give a dropped worker's lanes, or the mini-batches that were `freed`, to the remaining workers.

    Its lanes have been recovered (:func:`.program.recover`). Under a lockstep rule, each lane goes to the worker in
    `heirs` that has the fewest. Under the other rules the lane is closed, and lanes that had found no free mini-batch
    look again.
    """
    for lane in lanes:
        if rule.lockstep:
            owners = [workers.get(each, c.OWNER) for each in range(workers.lanes)]
            workers.set(lane, c.OWNER, min(heirs, key=owners.count))
        else:
            workers.set(lane, c.OWNER, -1)
            workers.set(lane, c.DONE, c.NEVER)
            workers.set(lane, c.ARRIVED, c.NEVER)
    if freed and not rule.lockstep:
        latest = workers.order
        for lane in range(workers.lanes):
            if workers.get(lane, c.OWNER) >= 0 and workers.get(lane, c.DONE) == latest:
                workers.set(lane, c.DONE, latest - 1)
    workers.wake()
    workers.wake_parent()
