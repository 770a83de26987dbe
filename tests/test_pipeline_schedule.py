"""The order of a pipeline's passes and messages: complete, in order, and without ranks that wait for each other."""

from __future__ import annotations

import itertools

import pytest

from pyconv.cluster.pipeline.schedule import BACK, FORWARD, Exchange, Pass, alive, bubble, exchanges, passes
from pyconv.parallel.stages import SCHEDULES

SIZES = list(itertools.product(range(1, 6), range(1, 9)))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_micro_batch_goes_forward_and_back_once_in_order(schedule):
    for stages, micro in SIZES:
        for stage in range(stages):
            order = passes(schedule, stages, stage, micro)
            for way in (FORWARD, BACK):
                assert [each.micro for each in order if each.way == way] == list(range(micro))
            for k in range(micro):
                assert order.index(Pass(FORWARD, k)) < order.index(Pass(BACK, k))


def test_how_many_micro_batches_are_alive():
    for stages, micro in SIZES:
        for stage in range(stages):
            assert alive("gpipe", stages, stage, micro) == micro
            assert alive("1f1b", stages, stage, micro) == min(stages - stage, micro)


def test_no_micro_batches_are_nothing_to_do():
    assert passes("1f1b", 3, 1, 0) == passes("gpipe", 3, 1, 0) == []
    assert exchanges([], 3, 1, [False, True, True]) == [Exchange()]


def test_1f1b_as_in_the_paper():
    """Stage 1 of 3, as drawn in the papers: two forward, then one forward, one back."""
    words = [f"{each.way[0]}{each.micro}" for each in passes("1f1b", 3, 1, 4)]
    assert words == ["f0", "f1", "b0", "f2", "b1", "f3", "b2", "b3"]


def _run(schedule, stages, micro, back):
    """Play a step with messages that arrive only when both sides are ready for them, and compare what they hold."""
    orders = [passes(schedule, stages, stage, micro) for stage in range(stages)]
    all_messages = [exchanges(order, stages, stage, back) for stage, order in enumerate(orders)]
    at = [0] * stages
    posted: dict[tuple[int, int, str], list[tuple[Pass, int]]] = {}

    def post(stage):
        messages, number = all_messages[stage][at[stage]], at[stage]
        if messages.to is not None:
            posted.setdefault((stage, messages.to, "send"), []).append((orders[stage][number - 1], number))
        if messages.source is not None:
            posted.setdefault((messages.source, stage, "receive"), []).append((orders[stage][number], number))

    def met(stage):
        """The other sides of this stage's present exchange, if they are all there."""
        number, others = at[stage], []
        for (sender, receiver, side), list_ in posted.items():
            if (sender if side == "send" else receiver) == stage and list_[-1][1] == number:
                other = posted.get((sender, receiver, "receive" if side == "send" else "send"), [])
                if len(other) < len(list_):
                    return None
                assert other[len(list_) - 1][0] == list_[-1][0], "another micro-batch than the one waited for"
                others.append(receiver if side == "send" else sender)
        return others

    for stage in range(stages):
        post(stage)
    while any(at[stage] < len(all_messages[stage]) for stage in range(stages)):
        able = [s for s in range(stages) if at[s] < len(all_messages[s]) and met(s) is not None]
        assert able, f"{schedule} of {stages} stages and {micro} micro-batches: the ranks wait for each other"
        for stage in able:
            at[stage] += 1
            if at[stage] < len(all_messages[stage]):
                post(stage)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ranks_never_wait_for_each_other_for_ever(schedule):
    for stages, micro in SIZES:
        for trained_from in range(stages):  # the first stage with something to train
            back = [stage > trained_from for stage in range(stages)]
            _run(schedule, stages, micro, back)


def _length(schedule, stages, micro):
    """The time of a step if each pass takes 1, and messages nothing and nobody waits to send."""
    done: dict[tuple[int, Pass], int] = {}
    orders = [passes(schedule, stages, stage, micro) for stage in range(stages)]
    at, clock = [0] * stages, [0] * stages
    while any(at[stage] < len(orders[stage]) for stage in range(stages)):
        for stage in range(stages):
            if at[stage] == len(orders[stage]):
                continue
            each = orders[stage][at[stage]]
            before = stage - 1 if each.way == FORWARD else stage + 1
            needed = 0 if before in (-1, stages) else done.get((before, each))
            if needed is not None:
                clock[stage] = done[stage, each] = max(clock[stage], needed) + 1
                at[stage] += 1
    return max(clock)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_bubble_of_equal_stages(schedule):
    for stages, micro in SIZES:
        assert 1 - 2 * micro / _length(schedule, stages, micro) == pytest.approx(bubble(stages, micro))
