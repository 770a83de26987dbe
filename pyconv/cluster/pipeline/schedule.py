"""The order in which a stage of a pipeline computes its micro-batches, and the messages between the computations.

Each micro-batch goes forward once through every stage, and back once. Both schedules keep the micro-batches in order in
both directions, so that gradients are added in the order of the micro-batches, whatever the schedule.

gpipe
    all forward, then all back: a stage holds the activations of all M micro-batches.
1f1b
    a stage begins with as many forward passes as there are stages behind it, and then does one forward, one back: it
    holds at most as many micro-batches as there are stages from it on.

Of S equal stages each waits for a share of ``(S - 1) / (M + S - 1)`` of a step under both.

References
----------
Huang et al., "GPipe" (2019). Narayanan et al., "PipeDream" (2019) and "Memory-efficient pipeline-parallel DNN training"
(2021): 1F1B with a flush at the end of each step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FORWARD, BACK = "forward", "back"


@dataclass(frozen=True)
class Pass:
    """What a stage computes next.

    Attributes
    ----------
    way : {"forward", "back"}
    micro : int
        The micro-batch, from 0.
    """

    way: str
    micro: int


@dataclass(frozen=True)
class Exchange:
    """What a stage sends and receives at the same time, between two passes.

    Attributes
    ----------
    to, source : int or None
        The stages that get the last pass's result, and from which the next pass's input comes.
    """

    to: int | None = None
    source: int | None = None


def passes(schedule: str, stages: int, stage: int, micro: int) -> list[Pass]:
    """The passes of a stage in a step, in order.

    Parameters
    ----------
    schedule : {"gpipe", "1f1b"}
    stages, stage : int
        How many there are, and which one, from 0.
    micro : int
        Micro-batches of the step.

    Returns
    -------
    list of Pass
        Each micro-batch twice.
    """
    ahead = micro if schedule == "gpipe" else min(stages - 1 - stage, micro)
    made = [Pass(FORWARD, k) for k in range(ahead)]
    for k in range(micro):
        if ahead + k < micro:
            made.append(Pass(FORWARD, ahead + k))
        made.append(Pass(BACK, k))
    return made


def alive(schedule: str, stages: int, stage: int, micro: int) -> int:
    """How many micro-batches at most are between their forward and their backward pass in a stage.

    Parameters
    ----------
    schedule, stages, stage, micro
        As for :func:`passes`.

    Returns
    -------
    int
    """
    most = now = 0
    for each in passes(schedule, stages, stage, micro):
        now += 1 if each.way == FORWARD else -1
        most = max(most, now)
    return most


def exchanges(order: Sequence[Pass], stages: int, stage: int, back: Sequence[bool]) -> list[Exchange]:
    """The messages before each of a stage's passes, and after the last.

    A stage sends a result and receives the next input at the same time, and only then goes on. So two neighbours that
    send to each other, one forward and one back, do not wait for each other for ever.

    Parameters
    ----------
    order : sequence of Pass
        From :func:`passes`.
    stages, stage : int
    back : sequence of bool
        For each stage, whether the one before it gets gradients from it: not if nothing is trained before it.

    Returns
    -------
    list of Exchange
        One more than passes.
    """
    made = []
    for last, following in zip([None, *order], [*order, None]):
        to = source = None
        if last is not None and last.way == FORWARD and stage + 1 < stages:
            to = stage + 1
        elif last is not None and last.way == BACK and back[stage]:
            to = stage - 1
        if following is not None and following.way == FORWARD and stage:
            source = stage - 1
        elif following is not None and following.way == BACK and stage + 1 < stages and back[stage + 1]:
            source = stage + 1
        made.append(Exchange(to, source))
    return made


def bubble(stages: int, micro: int) -> float:
    """The share of a step in which a stage waits, if all stages take equally long and messages take no time."""
    return (stages - 1) / (micro + stages - 1)
