"""How long a rank looks before it sleeps: as the machine's load allows, and never where ranks share a CPU."""

from __future__ import annotations

import time

import pytest

from pyconv import waiting
from pyconv.cluster import mpi, patience
from pyconv.cluster.hosts import Here, Hosts
from pyconv.cluster.patience import LOOK_S, Patience

needs_rule = pytest.mark.skipif(waiting.rule() is None, reason="needs the compiled modules")


@pytest.fixture
def clock(monkeypatch):
    """The time and the kernel's account of this thread, to be set."""
    now = {"at": 100.0, "ran": 0.0, "waited": 0.0}
    monkeypatch.setattr(patience.time, "monotonic", lambda: now["at"])
    monkeypatch.setattr(patience, "_account", lambda: (int(now["ran"] * 1e9), int(now["waited"] * 1e9)))
    monkeypatch.setattr(waiting, "passive", lambda: False)

    def spend(seconds, waited):
        """So many seconds, of which the thread waited for a CPU for that share."""
        for _ in range(round(seconds * 10)):
            now["at"] += 0.1001
            now["ran"] += 0.1 * (1 - waited)
            now["waited"] += 0.1 * waited
            found = mine.looks_s
        return found

    mine = Patience()
    mine.allowed = True
    return mine, spend


@needs_rule
def test_looking_follows_the_load(clock):
    _, spend = clock
    assert spend(1, 0.0) == LOOK_S
    assert spend(0.3, 0.5) == 0.0  # a neighbour wants the CPU
    assert spend(0.8, 0.0) == 0.0
    assert spend(0.5, 0.0) == LOOK_S  # after a second of calm
    assert spend(0.2, 0.3) == 0.0


@needs_rule
def test_the_kernels_account_is_read_ten_times_a_second_at_most(clock, monkeypatch):
    mine, spend = clock
    spend(0.1, 0.0)
    monkeypatch.setattr(patience, "_account", lambda: 1 / 0)
    assert [mine.looks_s for _ in range(50)] == [LOOK_S] * 50


def test_where_ranks_share_cpus_they_never_look(clock, monkeypatch):
    mine, _ = clock
    mine.allowed = False
    monkeypatch.setattr(patience, "_account", lambda: 1 / 0)
    assert mine.looks_s == 0.0
    mine.allowed = True
    monkeypatch.setattr(waiting, "passive", lambda: True)
    assert mine.looks_s == 0.0


@pytest.mark.parametrize(
    ("ranks", "usable", "threads", "room"),
    [(2, 2, 1, True), (3, 2, 1, False), (2, 2, 2, False), (2, 4, 2, True), (1, 8, 8, True), (4, 4, 1, True)],
)
def test_there_is_room_if_each_thread_of_each_rank_has_a_cpu(ranks, usable, threads, room):
    places = [Here("a", -1, "-", "ff", usable, usable, {}) for _ in range(ranks)]
    places.append(Here("b", -1, "-", "ff", usable, usable, {}))  # on another host
    places.append(Here("a", -1, "-", "ff00", usable, usable, {}))  # and bound to other CPUs
    assert Hosts(places, 0).room(threads) == room


def test_the_kernel_keeps_an_account_of_this_thread():
    before = patience._account()
    if before is None:
        pytest.skip("this kernel keeps no account (CONFIG_SCHED_INFO)")
    end = time.thread_time() + 0.02
    while time.thread_time() < end:
        pass
    after = patience._account()
    assert after is not None and after[0] - before[0] > 0.01e9 and after[1] >= before[1]


@pytest.mark.parametrize("looks", [0.0, 0.05])
def test_a_wait_begins_with_looking_and_goes_on_with_sleeping(looks, monkeypatch):
    world = mpi.MPIWorld.__new__(mpi.MPIWorld)
    world.patience, world.waited_ns, world._limit = Patience(), 0, None
    world.idle = world.lost = lambda: None
    monkeypatch.setattr(Patience, "looks_s", looks)
    sleeps = []
    monkeypatch.setattr(mpi.time, "sleep", lambda seconds: sleeps.append(seconds) or _pass(seconds))
    end = time.monotonic() + 0.04
    world.until(lambda: time.monotonic() > end)
    assert bool(sleeps) == (looks == 0.0)
    assert 0.03e9 < world.waited_ns < 10e9
    world.until(lambda: True)
    assert sleeps == sorted(sleeps)


def _pass(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
