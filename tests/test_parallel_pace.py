"""Who is slow: told from long mini-batches, or from a second of short ones, and not from turns on a shared CPU."""

from __future__ import annotations

import numpy as np
import pytest

from pyconv.parallel.pace import Paces, Reading


def looks(batch_s: list[float], seconds: float = 6.0, noise: float = 0.0, seed: int = 0) -> dict[int, float]:
    """Let workers run apart, with mini-batches that long (and turns of others in between); when each is named slow."""
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
    """Worker 1 was stopped amid a mini-batch, the other between two; the parent did not look meanwhile."""
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
