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


def _play(schedule, stages, micro, back):
    """Play a step with messages that arrive only when both sides are ready for them; returns the time that it takes.

    A pass takes 1, a message nothing.
    """
    orders = [passes(schedule, stages, stage, micro) for stage in range(stages)]
    messages = [exchanges(order, stages, stage, back) for stage, order in enumerate(orders)]
    at, ready = [0] * stages, [0] * stages  # each stage's present exchange, and since when it is ready for it
    sent: dict[tuple[int, int], list[tuple[Pass, int]]] = {}  # by sender and receiver, with the time
    awaited: dict[tuple[int, int], list[tuple[Pass, int]]] = {}
    places: dict[tuple[int, int], list[tuple[dict, tuple[int, int], int]]] = {}

    def post(stage):
        number, each = at[stage], messages[stage][at[stage]]
        mine = places[stage, number] = []
        if each.to is not None:
            sent.setdefault((stage, each.to), []).append((orders[stage][number - 1], ready[stage]))
            mine.append((awaited, (stage, each.to), len(sent[stage, each.to]) - 1))
        if each.source is not None:
            awaited.setdefault((each.source, stage), []).append((orders[stage][number], ready[stage]))
            mine.append((sent, (each.source, stage), len(awaited[each.source, stage]) - 1))

    def over(stage):
        """When the present exchange is over; None if the other sides are not all ready for it."""
        time = ready[stage]
        for others, pair, number in places[stage, at[stage]]:
            if len(others.get(pair, [])) <= number:
                return None
            assert sent[pair][number][0] == awaited[pair][number][0], "another micro-batch than the one waited for"
            time = max(time, others[pair][number][1])
        return time

    for stage in range(stages):
        post(stage)
    left = set(range(stages))
    while left:
        able = {stage: over(stage) for stage in left if over(stage) is not None}
        assert able, f"{schedule} of {stages} stages and {micro} micro-batches: the ranks wait for each other"
        for stage, time in able.items():
            at[stage] += 1
            if at[stage] == len(messages[stage]):
                ready[stage] = time
                left.remove(stage)
            else:
                ready[stage] = time + 1
                post(stage)
    return max(ready)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_ranks_never_wait_for_each_other_for_ever(schedule):
    for stages, micro in SIZES:
        for trained_from in range(stages):  # the first stage with something to train
            back = [stage > trained_from for stage in range(stages)]
            _play(schedule, stages, micro, back)


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
        length = _length(schedule, stages, micro)
        assert 1 - 2 * micro / length == pytest.approx(bubble(stages, micro))
        # Nothing is lost because a stage goes on only when its result is taken.
        assert _play(schedule, stages, micro, [stage > 0 for stage in range(stages)]) == length
