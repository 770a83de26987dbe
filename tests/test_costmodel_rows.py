"""The cost model of convolutions split by rows: the prediction, and constants that are measured between ranks."""

from __future__ import annotations

import numpy as np
import pytest
from cluster_threads import ThreadWorld, with_sessions
from hypothesis import given
from hypothesis import strategies as st

from pyconv import costmodel
from pyconv.cluster import link
from pyconv.cluster.rows import RowSplit, evenly
from pyconv.costmodel import calibration
from pyconv.errors import InputError
from pyconv.shapes import conv_geometry

TIMES = st.floats(1e-12, 1e-3)


@given(p=st.integers(3, 8), n=st.integers(40, 300), m=st.integers(0, 4), k=st.integers(1, 50), c=st.integers(1, 4),
       t_c=TIMES, t_s=TIMES, t_b=TIMES)  # fmt: skip
def test_between_two_neighbours_it_is_the_papers_equation(p, n, m, k, c, t_c, t_s, t_b):
    m = 2 * m + 3
    g = conv_geometry((1, n, n, c), (m, m, c, k), padding="same")
    made = costmodel.row_split(g, p, t_c=t_c, t_s=t_s, t_b=t_b)
    assert made.serial_s == pytest.approx(t_c * g.flops)
    assert made.computation_s == pytest.approx(made.serial_s * max(evenly(n, p)) / n)
    # (6) has K messages each way, of one channel of bytes; here one each way has all kernels' and channels'.
    assert made.communication_s == pytest.approx(costmodel.communication_time(n, m, 1, t_s=t_s, t_b=t_b, s=4 * c))
    if n % p == 0 and c == 1:
        t_op = t_c * g.flops / costmodel.operations(n, m, k)  # the paper counts the bias too
        eight = costmodel.speedup(p, n, m, t_c=t_op, t_s=t_s / k, t_b=t_b, s=4 / k)
        assert made.speedup == pytest.approx(eight)


def test_two_ranks_have_one_neighbour_and_one_rank_none():
    g = conv_geometry((2, 30, 20, 3), (7, 5, 3, 4), padding="same")
    how = {"t_c": 1e-9, "t_s": 1e-4, "t_b": 1e-8, "start_up": 1e-5}
    two = costmodel.row_split(g, 2, itemsize=8, **how)
    assert two.communication_s == pytest.approx(1e-4 + 1e-8 * 8 * 2 * 20 * 3 * 3)
    assert two.serial_s - two.computation_s == pytest.approx(1e-9 * g.flops / 2)
    one = costmodel.row_split(g, 1, **how)
    assert (one.communication_s, one.speedup) == (0, 1)
    # Of one image a rank makes a call for the rows that need no halo, and one for those above and those below each.
    g = conv_geometry((1, 30, 20, 3), (7, 5, 3, 4), padding="same")
    for p, calls in ((1, 1), (2, 2), (3, 3)):
        some = costmodel.row_split(g, p, **how)
        assert some.computation_s == pytest.approx(1e-9 * g.flops / p + calls * 1e-5)
        assert some.serial_s == pytest.approx(1e-9 * g.flops + 1e-5)
    # The halo of a large kernel comes from several ranks, each with a message.
    g = conv_geometry((1, 8, 20, 1), (7, 5, 1, 4), padding="same")
    assert costmodel.row_split(g, 8, t_c=1e-9, t_s=1.0, t_b=0).communication_s == 6
    assert sum(len(rows) for rows in RowSplit(g, (1,) * 8).outputs) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"g": 3}, "g must be"),
        ({"p": 0}, "p must"),
        ({"t_c": 0}, "t_c"),
        ({"t_s": -1}, "t_s"),
        ({"itemsize": 0}, "itemsize"),
    ],
)
def test_wrong_arguments_are_refused(change, message):
    g = conv_geometry((1, 8, 8, 1), (3, 3, 1, 1))
    with pytest.raises(InputError, match=message):
        costmodel.row_split(**{"g": g, "p": 2, "t_c": 1e-9, "t_s": 1e-4, "t_b": 1e-9, **change})


# ---- between ranks --------------------------------------------------------------------------------


@pytest.fixture
def ranks(monkeypatch):
    return with_sessions(monkeypatch, calibration)


def test_ranks_calibrate_what_messages_between_them_cost(ranks, monkeypatch):
    sizes = []

    def found(world, other, size, count):
        sizes.append(size)
        return [1e-4 + 2e-9 * size] * count

    monkeypatch.setattr(link, "ping_pong", found)
    made = ranks(3, lambda _: costmodel.calibrate("serial", seconds=0.001, cluster=True, largest=1 << 16))
    assert {str(each) for each in made} == {str(made[0])}
    assert made[0].t_s.value == pytest.approx(1e-4)
    assert made[0].t_b.value == pytest.approx(2e-9)
    assert made[0].t_s.low <= made[0].t_s.value <= made[0].t_s.high
    assert (min(sizes), max(sizes)) == (8, 1 << 16)
    assert made[0].rate("serial").value > 0
    assert (
        made[0].link == (made[0].x_s, made[0].x_b) and made[0].x_b.points == 5
    )  # 16 bytes to two ranks, and large ones
    assert made[0].x_c.points == 4 and made[0].x_c.value >= 0


def test_in_an_exchange_each_sends_to_each(ranks):
    def body(session):
        before = session.world.swapped
        return link.exchanges(session.world, 1 << 10), session.world.swapped - before

    for rank, (found, sent) in enumerate(ranks(3, body)):
        assert [each.size for each in found] == [16, 128, 256, 512, 1024] and all(each.seconds > 0 for each in found)
        word = rank == 1  # for which rank 0 waits, to see what waiting takes
        assert sent == word + 2 * (16 * (link.TURNS + 1) + (link.HAULS + 1) * (128 + 256 + 512 + 1024))


def test_what_fits_into_buffers_leaves_at_once(ranks, monkeypatch):
    monkeypatch.setattr(link, "AWAY_S", 0.02)
    swap = ThreadWorld.swap

    def buffered(self, sends, receives):
        """More than 600 bytes leave when the receiver has come, as in MPI's rendezvous."""
        swap(self, sends, receives)
        if any(array.nbytes > 600 for _, array in sends):
            self._take(sends[0][0])
        for source, array in receives:
            if array.nbytes > 600:
                swap(self, [(source, np.ones(1, np.uint8))], [])

    found = ranks(3, lambda session: link.eager(session.world, 1 << 10))
    assert found == [1 << 10, 0, 0]
    monkeypatch.setattr(ThreadWorld, "swap", buffered)
    assert ranks(3, lambda session: link.eager(session.world, 1 << 10)) == [512, 0, 0]


def test_messages_really_go_there_and_back(ranks):
    def body(session):
        before = session.world.swapped
        found = link.between(session.world, session.hosts.places, 1 << 10)
        return found, session.world.swapped - before

    (leader, sent), (other, back), (third, nothing) = ranks(3, body)
    assert list(leader) == ["link within here"]
    assert list(leader["link within here"]) == [8 << step for step in range(8)]
    assert all(seconds > 0 for seconds in leader["link within here"].values())
    assert sent == back == (link.TURNS + 1) * sum(8 << step for step in range(8))
    assert (list(other), third, nothing) == (["link within here"], {}, 0)


def test_ranks_that_calibrate_differently_are_refused(ranks):
    errors = ranks(2, lambda session: costmodel.calibrate("serial", seconds=0.001 + session.rank, cluster=True))
    assert all(isinstance(each, InputError) and "another seconds" in str(each) for each in errors)


def test_one_process_has_no_ranks_to_calibrate():
    with pytest.raises(InputError):
        costmodel.calibrate("serial", cluster=True)
    with pytest.raises(InputError, match="largest"):
        costmodel.calibrate("serial", cluster=True, largest=1)


def test_a_calibration_between_ranks_is_saved_and_loaded(ranks, tmp_path, monkeypatch):
    monkeypatch.setattr(
        link, "ping_pong", lambda world, other, size, count: list(1e-4 + np.arange(1, count + 1) * 1e-6)
    )
    made = ranks(2, lambda _: costmodel.calibrate("serial", seconds=0.001, cluster=True))[1]
    made.save(tmp_path / "c.json")
    assert costmodel.Calibration.load(tmp_path / "c.json") == made
