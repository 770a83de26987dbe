"""Reductions over ranks: the equations, and clocks of many ranks, against messages that are sent one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconv import costmodel
from pyconv.costmodel.clocks import SMALL, Clocks
from pyconv.errors import InputError, UnknownNameError

TIMES = st.floats(1e-9, 1e-3)
CHARGES = st.tuples(TIMES, TIMES, TIMES)
HOWS = list(costmodel.REDUCTIONS)


class Ranks:
    """Ranks with vectors of p numbers, one a part, which really add up; a number is `size` / p bytes."""

    def __init__(self, starts: list[float], size: float, t_s: float, t_b: float, t_a: float) -> None:
        self.p, self.now, self.size = len(starts), list(starts), size
        self.t_s, self.t_b, self.t_a = t_s, t_b, t_a
        self.vectors = [np.arange(len(starts)) + 100.0 * rank for rank in range(len(starts))]
        self.total = sum(self.vectors)

    def round(self, messages: list[tuple[int, int, slice, bool, float]]) -> None:
        """Messages at the same time: from, to, which numbers, whether they are added, and their bytes."""
        before, clocks = [each.copy() for each in self.vectors], list(self.now)
        ends: dict[int, float] = {}
        for source, to, which, added, size in messages:
            end = max(clocks[source], clocks[to]) + self.t_s + self.t_b * size
            if added:
                self.vectors[to][which] += before[source][which]
            else:
                self.vectors[to][which] = before[source][which]
            ends[source] = max(ends.get(source, 0), end)
            ends[to] = max(ends.get(to, 0), end + self.t_a * size * added)
        for rank, end in ends.items():
            self.now[rank] = max(self.now[rank], end)

    def ring(self) -> None:
        p, part = self.p, self.size / self.p
        for turn in range(2 * (p - 1)):
            added = turn < p - 1  # then rank r has the sum of part r + 1
            first = -turn if added else 1 - (turn - (p - 1))
            parts = [(rank + first) % p for rank in range(p)]
            self.round([(rank, (rank + 1) % p, slice(k, k + 1), added, part) for rank, k in enumerate(parts)])

    def tree(self) -> None:
        masks = [1 << turn for turn in range((self.p - 1).bit_length())]
        for mask in masks:
            pairs = range(mask, self.p, 2 * mask)
            self.round([(rank, rank - mask, slice(None), True, self.size) for rank in pairs])
        for mask in masks[::-1]:
            pairs = range(mask, self.p, 2 * mask)
            self.round([(rank - mask, rank, slice(None), False, self.size) for rank in pairs])

    def owners(self) -> None:
        """Even starts only: all messages are on their way at once, and a link passes p - 1 of them."""
        p, part = self.p, self.size / self.p
        for added in (True, False):
            begun = self.now[0]
            before = [each.copy() for each in self.vectors]
            for rank in range(p):
                for other in range(p):
                    if other != rank and added:
                        self.vectors[rank][rank] += before[other][rank]
                    elif other != rank:
                        self.vectors[rank][other] = before[other][other]
            end = begun + self.t_s + sum(self.t_b * part for _ in range(p - 1))
            self.now = [end + sum(self.t_a * part for _ in range(p - 1)) * added] * p


def halving(starts: list[float], size: float, t_s: float, t_b: float, t_a: float) -> list[float]:
    """Recursive halving and doubling with vectors of q numbers, q the largest power of two: the clocks at the end."""
    p = len(starts)
    q = 1 << (p.bit_length() - 1)
    ranks = Ranks(starts, size, t_s, t_b, t_a)
    ranks.vectors = [np.arange(q) + 100.0 * rank for rank in range(p)]
    total = sum(ranks.vectors)
    ranks.round([(rank, rank - q, slice(None), True, size) for rank in range(q, p)])
    spans = [(0, q)] * q
    masks = [q >> (turn + 1) for turn in range(q.bit_length() - 1)]
    for mask in masks:
        messages, kept = [], []
        for rank in range(q):
            low, high = spans[rank]
            middle = (low + high) // 2
            mine, theirs = ((low, middle), (middle, high)) if rank & mask == 0 else ((middle, high), (low, middle))
            messages.append((rank, rank ^ mask, slice(*theirs), True, size * (high - low) / 2 / q))
            kept.append(mine)
        ranks.round(messages)
        spans = kept
    for mask in masks[::-1]:
        messages = [
            (rank, rank ^ mask, slice(*spans[rank]), False, size * (spans[rank][1] - spans[rank][0]) / q)
            for rank in range(q)
        ]
        ranks.round(messages)
        spans = [
            (min(spans[rank][0], spans[rank ^ mask][0]), max(spans[rank][1], spans[rank ^ mask][1]))
            for rank in range(q)
        ]
    ranks.round([(rank - q, rank, slice(None), False, size) for rank in range(q, p)])
    for vector in ranks.vectors:
        np.testing.assert_array_equal(vector, total)
    return ranks.now


def literal(how: str, starts: list[float], size: float, charges: tuple[float, float, float]) -> list[float]:
    if how == "halving":
        return halving(starts, size, *charges)
    ranks = Ranks(starts, size, *charges)
    getattr(ranks, how)()
    for vector in ranks.vectors:
        np.testing.assert_array_equal(vector, ranks.total)
    return ranks.now


@given(p=st.integers(2, 20), size=st.floats(1, 1e6), charges=CHARGES)
@pytest.mark.parametrize("how", HOWS)
def test_an_equation_is_the_time_of_its_messages(how, p, size, charges):
    t_s, t_b, t_a = charges
    made = costmodel.reduction_time(how, p, size, t_s=t_s, t_b=t_b, t_a=t_a)
    assert made == pytest.approx(max(literal(how, [0.0] * p, size, charges)))


@given(starts=st.lists(st.floats(0, 1e-2), min_size=2, max_size=20), size=st.floats(1, 1e6), charges=CHARGES)
@pytest.mark.parametrize("how", ["ring", "halving"])
def test_clocks_of_uneven_ranks_are_those_of_the_messages(how, starts, size, charges):
    clocks = Clocks(len(starts), *charges)
    clocks.now = np.array(starts)
    getattr(clocks, how)(size)
    np.testing.assert_allclose(clocks.now, literal(how, starts, size, charges))


@given(starts=st.lists(st.floats(0, 1e-2), min_size=1, max_size=40), size=st.floats(1, 1e6), charges=CHARGES)
@pytest.mark.parametrize("how", [*HOWS, "sum", "exchange", "neighbours"])
def test_a_late_rank_makes_none_earlier_and_even_clocks_are_the_equation(how, starts, size, charges):
    t_s, t_b, t_a = charges
    p = len(starts)
    even, uneven = Clocks(p, *charges), Clocks(p, *charges)
    uneven.now = np.array(starts)
    for clocks in (even, uneven):
        getattr(clocks, how)(size)
    assert (uneven.now >= even.now * (1 - 1e-12)).all()
    assert uneven.now.max() <= (even.now.max() + max(starts)) * (1 + 1e-12)
    if how in HOWS:
        assert even.now.max() == pytest.approx(costmodel.reduction_time(how, p, size, t_s=t_s, t_b=t_b, t_a=t_a))


@given(p=st.integers(2, 2000), size=st.floats(1, 1e9), charges=CHARGES)
def test_limits_and_order(p, size, charges):
    t_s, t_b, t_a = charges
    for how in HOWS:
        made = costmodel.reduction_time(how, p, size, t_s=t_s, t_b=t_b, t_a=t_a)
        assert costmodel.reduction_time(how, 1, size, t_s=t_s, t_b=t_b) == 0
        assert made <= costmodel.reduction_time(how, p, 2 * size, t_s=t_s, t_b=t_b, t_a=t_a)
        assert made <= costmodel.reduction_time(how, 2 * p, size, t_s=t_s, t_b=t_b, t_a=t_a) * (1 + 1e-12)
        # Nobody sends fewer bytes than twice all but an own part (Patarasuk and Yuan).
        assert costmodel.reduction_time(how, p, size, t_s=0, t_b=t_b) >= 2 * t_b * size * (p - 1) / p * (1 - 1e-12)
    starts = {how: costmodel.reduction_time(how, p, size, t_s=t_s, t_b=0) for how in HOWS}
    rounds = (p - 1).bit_length()
    assert starts["ring"] == pytest.approx(2 * (p - 1) * t_s) and starts["owners"] == pytest.approx(2 * t_s)
    assert starts["tree"] == pytest.approx(2 * rounds * t_s) == pytest.approx(starts["halving"])
    tree = costmodel.reduction_time("tree", p, size, t_s=t_s, t_b=t_b)
    assert tree == pytest.approx(costmodel.averaging_time(p, size, t_s=t_s, t_b=t_b))


def test_a_small_sum_is_one_exchange():
    small, large = Clocks(4, 1.0, 0.0), Clocks(4, 1.0, 0.0)
    small.sum(SMALL)
    large.sum(SMALL + 1)
    assert (small.now.max(), large.now.max()) == (1, 2)


@given(p=st.integers(1, 600), t_s=TIMES)
def test_a_meeting_takes_a_tree_there_and_back(p, t_s):
    clocks = Clocks(p, t_s, 1.0)
    clocks.meet()
    assert clocks.now.max() == pytest.approx(2 * (p - 1).bit_length() * t_s)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"ranks": 0}, "ranks must"), ({"size": -1}, "size"), ({"t_s": "1"}, "t_s"), ({"t_b": -1}, "t_b"),
     ({"t_a": float("nan")}, "t_a")],
)  # fmt: skip
def test_wrong_arguments_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        costmodel.reduction_time(**{"how": "ring", "ranks": 2, "size": 8, "t_s": 1e-4, "t_b": 1e-9, **change})
    with pytest.raises(UnknownNameError, match="reduction"):
        costmodel.reduction_time("butterfly", 2, 8, t_s=1e-4, t_b=1e-9)
