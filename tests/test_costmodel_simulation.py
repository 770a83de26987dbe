"""The discrete-event simulation: it agrees with the closed form where that applies, and shows more elsewhere."""

from __future__ import annotations

import dataclasses
import importlib
import math
from pathlib import Path

import pytest

from pyconv.costmodel import Cluster, averaging_time, bend, curve, epoch_time, shuffle_time, simulate
from pyconv.errors import InputError, UnknownNameError, install_line
from pyconv.parallel import OPTIONS, RULES

pytest.importorskip("simpy", reason=f"SimPy is not installed: {install_line('simulate')}")

EVEN = Cluster(gradient_s=0.1, parameter_bytes=4e6, t_s=50e-6, t_b=8e-10)


@pytest.mark.parametrize("workers", [2, 16, 256, 1024])
def test_even_workers_in_a_tree_follow_the_closed_form(workers: int) -> None:
    cluster = Cluster(gradient_s=0.1, parameter_bytes=4e6, t_s=50e-6, t_b=8e-10, tree=True)
    step_s = 0.1 + averaging_time(workers, 4e6, t_s=50e-6, t_b=8e-10)
    assert simulate(cluster, workers, "sync", steps=10).steps_per_s == pytest.approx(workers / step_s)
    local_s = 20 * 0.1 + averaging_time(workers, 4e6, t_s=50e-6, t_b=8e-10)
    local = simulate(cluster, workers, "local", steps=40, every=20)
    assert local.steps_per_s == pytest.approx(20 * workers / local_s)


def test_the_shuffle_is_paid_once_an_epoch_by_every_worker() -> None:
    shuffle_s = shuffle_time(16, 28709, t_n=1e-6)
    assert shuffle_s == pytest.approx(0.028709) and shuffle_time(32, 28709, t_n=1e-6, cpus=16) == 2 * shuffle_s
    cluster = Cluster(gradient_s=0.1, parameter_bytes=4e6, t_s=50e-6, t_b=8e-10, tree=True, shuffle_s=shuffle_s)
    epoch = 20 * 16
    local = simulate(cluster, 16, "local", steps=40, epoch=epoch)
    seconds = epoch_time(16, epoch * 0.1, 4e6, t_s=50e-6, t_b=8e-10, shuffle_s=shuffle_s)
    assert local.steps_per_s == pytest.approx(epoch / seconds)
    alone = simulate(cluster, 1, "sync", steps=40, epoch=epoch)  # an unfinished epoch has a share of its costs
    assert alone.steps_per_s == pytest.approx(epoch / (epoch * 0.1 + shuffle_s)) and alone.speedup == pytest.approx(1)


@pytest.mark.slow
def test_workers_meet_as_often_as_in_training_by_default() -> None:
    for update, every in OPTIONS["sync_every"].default.items():
        assert simulate(EVEN, 64, update, steps=8).every == every
    assert simulate(EVEN, 64, "easgd", steps=8) == simulate(EVEN, 64, "easgd", steps=8, every=1)
    local = [simulate(EVEN, workers, "local", steps=40, epoch=449) for workers in (2, 64, 1024)]
    assert [made.every for made in local] == [40, 8, 1], "once an epoch, which the workers share"
    assert local[2].steps_per_s == pytest.approx(simulate(EVEN, 1024, "sync", steps=40).steps_per_s)
    assert simulate(EVEN, 4, "sync").every == 1


def test_a_rule_of_ones_own_is_played_by_its_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "docs" / "tutorials")
    majority = importlib.import_module("my_rules").SignMajority()
    uneven = Cluster(gradient_s=0.1, parameter_bytes=4e6, update_s=1e-3, spread=0.2)
    mine, theirs = (simulate(uneven, 8, update) for update in (majority, "sync"))
    assert mine == dataclasses.replace(theirs, update="signmajority")
    assert simulate(uneven, 8, RULES["ssp"](staleness=1)) == simulate(uneven, 8, "ssp", staleness=1)
    assert simulate(uneven, 8, RULES["local"](sync_every=5)) == simulate(uneven, 8, "local", every=5)


def test_no_step_is_left_without_its_meeting() -> None:
    ragged, even = (simulate(EVEN, 64, "local", steps=steps, every=8).steps_per_s for steps in (33, 40))
    assert ragged == pytest.approx(even)


def test_the_server_link_bounds_asynchronous_rules() -> None:
    saturated = simulate(EVEN, 256, "async", steps=20)
    assert saturated.steps_per_s == pytest.approx(1 / (8e-10 * 4e6), rel=0.1)
    assert saturated.busy_share < 0.5
    few = simulate(EVEN, 4, "async", steps=200)
    assert few.steps_per_s == pytest.approx(4 / (0.1 + 2 * (50e-6 + 8e-10 * 4e6)), rel=0.02)


def test_shared_memory_sends_nothing() -> None:
    cluster = Cluster(gradient_s=0.1, parameter_bytes=4e6, workers_per_node=16)
    for update in ("sync", "async", "hogwild", "local"):
        assert simulate(cluster, 16, update).speedup == pytest.approx(16)


def test_stragglers_hold_up_those_who_meet() -> None:
    slow = Cluster(gradient_s=0.1, parameter_bytes=4e3, straggler_share=0.02, straggler_factor=10)
    sync, ssp, asynchronous, local = (
        simulate(slow, 64, update, steps=40, every=20) for update in ("sync", "ssp", "async", "local")
    )
    assert sync.speedup < local.speedup < asynchronous.speedup
    assert sync.speedup < ssp.speedup <= asynchronous.speedup * 1.01
    assert asynchronous.staleness > 30


def test_staleness_is_bounded_by_ssp() -> None:
    uneven = Cluster(gradient_s=0.1, parameter_bytes=4e3, spread=0.5)
    free, bounded = (simulate(uneven, 8, update, steps=50, staleness=1) for update in ("async", "ssp"))
    assert bounded.steps_per_s < free.steps_per_s
    assert 5 < bounded.staleness < 8


def test_one_seed_one_run() -> None:
    uneven = Cluster(gradient_s=0.1, parameter_bytes=4e6, spread=0.3)
    assert simulate(uneven, 32, "ssp", seed=4) == simulate(uneven, 32, "ssp", seed=4)
    assert simulate(uneven, 32, "ssp", seed=4) != simulate(uneven, 32, "ssp", seed=5)


@pytest.mark.slow
def test_the_curve_of_the_rule_that_sends_most_bends_first() -> None:
    counts = [1, 4, 16, 64, 256, 1024]
    uneven = Cluster(gradient_s=0.1, parameter_bytes=4e6, spread=0.2)
    rarely = {"local": {"every": 20}}
    bends = {
        update: bend(curve(uneven, update, counts, steps=20, **rarely.get(update, {})))
        for update in ("sync", "async", "local")
    }
    assert bends["sync"] is not None and bends["async"] is not None
    assert bends["local"] is None or bends["local"] > bends["sync"]


@pytest.mark.parametrize("bad", [
    {"workers": 0}, {"workers": 2.5}, {"workers": 2**62}, {"steps": 0}, {"every": 0}, {"epoch": 0},
    {"staleness": -1}, {"seed": -1},
])  # fmt: skip
def test_bad_numbers_are_refused(bad: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(bad))} must be"):
        simulate(EVEN, **{"workers": 2, **bad})


def test_an_unknown_rule_is_refused() -> None:
    with pytest.raises(UnknownNameError):
        simulate(EVEN, 2, "asink")


@pytest.mark.parametrize("bad", [
    {"gradient_s": 0}, {"parameter_bytes": -1}, {"update_s": -1}, {"t_s": -1e-9}, {"t_b": -1e-9}, {"t_b": math.nan},
    {"workers_per_node": 0}, {"workers_per_node": 2.5}, {"spread": -1}, {"straggler_share": 1.5},
    {"straggler_factor": -2}, {"straggler_factor": 0.5},
])  # fmt: skip
def test_a_cluster_of_bad_numbers_is_refused(bad: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(bad))} must be"):
        Cluster(**{"gradient_s": 0.1, "parameter_bytes": 4e6, **bad})
