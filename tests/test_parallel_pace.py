"""Slow workers are found by long mini-batches, or a second of short ones; waiting for a shared CPU does not count."""

from __future__ import annotations

import numpy as np
import pytest

from pyconv.parallel.pace import Paces, Reading
from pyconv.parallel.running import RunningTime


def looks(batch_s: list[float], seconds: float = 6.0, noise: float = 0.0, seed: int = 0) -> dict[int, float]:
    """Let workers run, with mini-batches of these lengths (and others' turns in between); when each is named slow."""
    rng = np.random.default_rng(seed)
    paces, named = Paces(), {}
    ends = [[] for _ in batch_s]
    for mine, base in zip(ends, batch_s, strict=True):
        total = 0.0
        while total < seconds:
            took = base + noise * (rng.random() < 0.2)
            total += took
            mine.append((total, took))
    for now in np.arange(0.25, seconds, 0.25):
        readings = {}
        for worker, mine in enumerate(ends):
            done = [(end, took) for end, took in mine if end <= now]
            last_end, last = done[-1] if done else (0.0, 0.0)
            readings[worker] = Reading(len(done), last_end, last, float(now - last_end), len(done) > 1)
        for worker in paces.slow(float(now), readings):
            named.setdefault(worker, float(now))
    return named


@pytest.mark.parametrize("scale", [0.002, 0.02, 0.09])
def test_ten_times_slower_is_named_within_seconds(scale: float) -> None:
    named = looks([scale, 10 * scale, scale, scale])
    assert named.keys() == {1} and named[1] < 5


def test_one_of_two_is_named() -> None:
    assert looks([0.05, 0.5]).keys() == {1}


@pytest.mark.parametrize("seed", range(5))
def test_turns_on_a_shared_cpu_are_not_slowness(seed: int) -> None:
    assert not looks([0.002] * 4, noise=0.03, seed=seed)


def test_a_mini_batch_that_does_not_end_is_named() -> None:
    fast = Reading(10, 1.0, 0.1, 0.05, True)
    assert not Paces().slow(0.0, {0: fast, 1: Reading(3, 0.3, 0.1, 2.0, True)})
    assert Paces().slow(0.0, {0: fast, 1: Reading(3, 0.3, 0.1, 2.6, True)}).keys() == {1}
    assert not Paces().slow(0.0, {0: fast, 1: Reading(1, 0.1, 0.1, 2.6, False)}), "a process that has just begun"


def test_a_stop_of_all_is_not_one_workers_slowness() -> None:
    """Worker 1 was stopped within a mini-batch, the other worker between two, while the parent did not look."""
    paces, named = Paces(), {}
    stop = (2.0, 5.0)
    for now in (*np.arange(0.25, stop[0], 0.25), *np.arange(stop[1] + 0.1, 9.0, 0.25)):
        ran = now if now < stop[0] else now - (stop[1] - stop[0])
        batches, lost = int(ran / 0.002), stop[1] - stop[0] if now > stop[1] + 0.2 else 0.0
        readings = {0: Reading(batches, ran, 0.002, 0.0, True), 1: Reading(batches, ran + lost, 0.002, 0.0, True)}
        if stop[1] < now <= stop[1] + 0.2:
            readings[1] = Reading(batches, ran, 0.002, stop[1] - stop[0] + 0.1, True)
        named |= paces.slow(float(now), readings)
    assert not named


def test_a_long_stop_is_counted_in_no_ones_time() -> None:
    """Mini-batches take a second. A worker's clock counts the stop in the present one; readings must not count it."""
    time, paces = RunningTime(0.0), Paces()
    stop, resumed = 10.0, 140.0
    for now in (*np.arange(0.25, stop + 0.1, 0.25), *np.arange(resumed, 150.0, 0.25)):
        time.look(float(now))
        ran = now if now < resumed else now - (resumed - stop)
        readings = {}
        for worker, phase in enumerate((0.3, 0.9)):
            batches, amid = int(ran + phase), int(stop + phase) + 1
            started = now - (ran + phase) % 1
            if now >= resumed and batches < amid:
                started = stop - (stop + phase) % 1
            last, lost = (131.0 if batches == amid else 1.0), (130.0 if batches >= amid else 0.0)
            readings[worker] = Reading(batches, batches + lost, last, time.since(started), True)
            assert readings[worker].running_s < 1.5
        assert not paces.slow(float(now), readings)
        assert all(each.last_s == 1.0 for each in paces.fair(float(now), readings).values())


def test_one_that_never_goes_on_after_a_stop_is_named() -> None:
    time, paces = RunningTime(0.0), Paces()
    named = set()
    for now in (*np.arange(0.25, 10.1, 0.25), *np.arange(140.0, 160.0, 0.25)):
        time.look(float(now))
        other = Reading(20, 20.0, 1.0, 0.0, True)  # this worker waits for the other
        stuck = Reading(10, 10.0, 1.0, time.since(9.5), True) if now > 9.5 else Reading(9, 9.0, 1.0, 0.1, True)
        named |= set(paces.slow(float(now), {0: stuck, 1: other}))
    assert named == {0}


@pytest.mark.parametrize(("moment", "seconds"), [(20.0, 9.5), (2.0, 10.5), (11.5, 2.5), (1.0, 11.5)])
def test_running_time_leaves_out_gaps(moment: float, seconds: float) -> None:
    time = RunningTime(0.0)
    for now in (1.0, 2.0, 10.0, 11.0, 12.0, 26.5, 28.0, 29.5):
        time.look(now)
    gaps = ((2.0, 10.0), (12.0, 26.5))
    assert time.since(moment) == 29.5 - moment - sum(max(0.0, end - max(start, moment)) for start, end in gaps)
