"""The cost model: the paper's equations, the fits, the rules' costs, predictions against measured epochs."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

import pyconv
from pyconv import costmodel, nn, optim
from pyconv.costmodel import advice as advice_module
from pyconv.costmodel import advised_workers, fits
from pyconv.costmodel.network import estimated_seconds
from pyconv.costmodel.prediction import expected_lead
from pyconv.errors import CheckpointError, InputError, UnknownNameError
from pyconv.loop import recipe
from pyconv.parallel import RULES, Job
from pyconv.parallel.guard import MESSAGE
from pyconv.parallel.rules import Local
from pyconv.shapes import conv_geometry

SIZES = st.integers(3, 300)
TIMES = st.floats(1e-12, 1e-3)
needs_kernels = pytest.mark.skipif(pyconv.backends()["serial"] is not None, reason="the compiled module is missing")


def fit(value: float, unit: str = "s") -> costmodel.Fit:
    return costmodel.Fit(value, value, value, unit, 9)


@pytest.fixture
def machine() -> costmodel.Calibration:
    """A made-up machine of 8 CPUs: 50 GFLOP/s, messages of 10 µs and 10 GB/s."""
    rates = {"direct": fit(2e-11), "naive": fit(1e-9)}
    starts = {"direct": fit(1e-5), "naive": fit(1e-5)}
    return costmodel.Calibration(
        {"serial": rates, "multicore": rates}, {"serial": starts, "multicore": starts},
        fit(1e-5), fit(1e-10), fit(5e-10), fit(2e-11), 8, {"serial": 0.0, "multicore": 0.9},
    )  # fmt: skip


@given(p=st.integers(2, 2000), n=SIZES, m=st.integers(1, 15), k=st.integers(1, 600), t_c=TIMES, t_s=TIMES, t_b=TIMES,
       s=st.integers(1, 64))  # fmt: skip
def test_equation_8_follows_from_7(p: int, n: int, m: int, k: int, t_c: float, t_s: float, t_b: float, s: int) -> None:
    one = costmodel.serial_time(n, m, k, t_c=t_c)
    many = costmodel.parallel_time(p, n, m, k, t_c=t_c, t_s=t_s, t_b=t_b, s=s)
    assert many == pytest.approx(one / p + 2 * t_s * k + t_b * k * s * n * (m - 1))  # (7) as the paper writes it out
    assert costmodel.speedup(p, n, m, t_c=t_c, t_s=t_s, t_b=t_b, s=s) == pytest.approx(one / many)


def test_speedup_is_ideal_without_communication_and_bounded_with_it() -> None:
    assert costmodel.speedup(7, 48, 5, t_c=1e-9, t_s=0, t_b=0) == pytest.approx(7)
    bound = 1e-9 * costmodel.operations(48, 5, 1) / (2 * 1e-4)
    assert costmodel.speedup(10**9, 48, 5, t_c=1e-9, t_s=1e-4, t_b=0) == pytest.approx(bound)
    assert costmodel.speedup(1, 48, 5, t_c=1e-9, t_s=1, t_b=1) == 1


def test_averaging_takes_a_logarithm_of_rounds() -> None:
    assert costmodel.averaging_time(1, 4e6, t_s=1e-5, t_b=1e-9) == 0
    for workers, rounds in ((2, 1), (3, 2), (5, 3), (16, 4), (17, 5)):
        seconds = costmodel.averaging_time(workers, 4e6, t_s=1e-5, t_b=1e-9)
        assert seconds == pytest.approx(2 * rounds * (1e-5 + 4e-3)), workers
    assert costmodel.epoch_time(16, 32.0, 4e6, t_s=0, t_b=0) == pytest.approx(2)


@pytest.mark.parametrize("function, bad, message", [
    ("speedup", {"n": 0}, "n must be at least 1, not 0"),
    ("speedup", {"m": 0}, "m must be at least 1, not 0"),
    ("speedup", {"p": 0}, "p must be at least 1, not 0"),
    ("speedup", {"p": 2.5}, "p must be an integer, not 2.5"),
    ("speedup", {"t_c": 0}, "t_c must be a finite number above 0, not 0"),
    ("speedup", {"t_c": -1e-9}, "t_c must be a finite number above 0"),
    ("speedup", {"p": 1, "t_s": -1}, "t_s must be a finite number of at least 0"),
    ("speedup", {"t_b": math.nan}, "t_b must be a finite number"),
    ("speedup", {"s": -1}, "s must be a finite number"),
    ("serial_time", {"t_c": -1e-9}, "t_c must be a finite number"),
    ("computation_time", {"p": 2.5}, "p must be an integer"),
    ("communication_time", {"t_b": -1}, "t_b must be a finite number"),
    ("parallel_time", {"p": 1, "t_s": -1}, "t_s must be a finite number"),
    ("averaging_time", {"parameter_bytes": -1}, "parameter_bytes must be a finite number"),
    ("averaging_time", {"workers": 2.5}, "workers must be an integer"),
    ("epoch_time", {"compute_s": -1}, "compute_s must be a finite number"),
    ("cost", {"t_u": -1}, "t_u must be a finite number"),
    ("cost", {"every": 0}, "every must be a number of at least 1"),
    ("cost", {"workers": 0}, "workers must be at least 1"),
    ("calibrate", {"seconds": math.nan}, "seconds must be a finite number"),
])  # fmt: skip
def test_numbers_out_of_range_are_refused_by_name(function: str, bad: dict, message: str) -> None:
    layer = {"p": 2, "n": 48, "m": 5, "k": 3}
    constants = {"t_c": 1e-9, "t_s": 0.0, "t_b": 0.0, "s": 1}
    epoch = {"workers": 2, "compute_s": 1.0, "parameter_bytes": 4e6, "t_s": 0.0, "t_b": 0.0}
    good = {
        "cost": {"update": "local", "workers": 2, "parameters": 9, "itemsize": 4, "t_s": 0, "t_b": 0, "t_u": 0},
        "averaging_time": {name: epoch[name] for name in ("workers", "parameter_bytes", "t_s", "t_b")},
        "epoch_time": epoch,
        "calibrate": {},
    }
    call = getattr(costmodel, function)
    if function not in good:
        wanted = inspect.signature(call).parameters
        good[function] = {name: value for name, value in (layer | constants).items() if name in wanted}
    with pytest.raises(InputError, match=message):
        call(**good[function] | bad)


@needs_kernels
@pytest.mark.parametrize(
    "bad", [{"gradient_s": -1}, {"gradient_s": 0}, {"update_s": -1}, {"spread": -1}, {"every": 0.5}, {"workers": 2.5}]
)
def test_a_prediction_from_numbers_out_of_range_is_refused(machine: costmodel.Calibration, bad: dict) -> None:
    good = {"workers": 2, "update": "local", "threads": 1, "calibration": machine, "gradient_s": 1, "update_s": 0}
    with pytest.raises(InputError, match=f"{next(iter(bad))} must be"):
        costmodel.predict(nn.build("5-2-4-2"), 64, **good | bad)


@needs_kernels
def test_advice_and_estimates_refuse_numbers_out_of_range(machine: costmodel.Calibration) -> None:
    model = nn.build("5-2-4-2")
    with pytest.raises(InputError, match="batch must be at least 1"):
        costmodel.advise(model, 0, calibration=machine)
    with pytest.raises(InputError, match="cpus must be at least 1"):
        costmodel.advise(model, cpus=0, calibration=machine)
    with pytest.raises(InputError, match="threads must be at least 1"):
        estimated_seconds(model, 64, machine, backend="serial", threads=0)


@given(start=st.floats(1e-7, 1e-2), rate=st.floats(1e-12, 1e-8))
def test_a_line_without_noise_is_found(start: float, rate: float) -> None:
    amounts = np.array([1e3, 1e5, 1e6, 1e7, 1e8])
    found_start, found_rate = fits.line(amounts, start + rate * amounts, "byte")
    ends = start + rate * amounts
    np.testing.assert_allclose(found_start.value + found_rate.value * amounts, ends, rtol=1e-3)
    assert found_rate.unit == "s/byte"


def test_the_interval_covers_the_truth_in_most_noisy_fits(rng: np.random.Generator) -> None:
    amounts, truth, hits = np.geomspace(1e5, 1e8, 12), 2e-11, 0
    for _ in range(100):
        seconds = (1e-4 + truth * amounts) * rng.normal(1, 0.05, amounts.size)
        rate = fits.line(amounts, seconds, "operation")[1]
        hits += rate.low <= truth <= rate.high
    assert hits >= 80


def test_a_line_needs_three_points() -> None:
    with pytest.raises(InputError, match="at least 3"):
        fits.line([1, 2], [1, 2], "byte")


def test_the_scripts_cost_what_the_table_says() -> None:
    workers, u, c, m = 4, 5e-4, 4e-4, 2e-5
    s, k = 2 * c, c
    table = {
        "sync": (2 * m + 2 * c + (u + s) / workers + k, 0, 1),
        "async": (u + s + 2 * c + k, u + s + c, 0),
        "ssp": (u + s + 2 * c + k, u + s + c, 0),
        "hogwild": (u + c + k, 0, 0),
        "local": (u + s + k + 2 * m + 2 * c, 0, 1),
        "easgd": (u + s + k + 3 * c, 3 * c, 0),
    }
    how = {"parameters": 10**6, "itemsize": 4, "t_s": 1e-5, "t_b": 1e-10, "t_u": 5e-10}
    assert list(table) == list(RULES)
    for update, expected in table.items():
        assert costmodel.cost(update, workers=1, **how) == costmodel.Cost(5e-4)
        for rule in (update, RULES[update]()):
            assert dataclasses.astuple(costmodel.cost(rule, workers=workers, **how)) == pytest.approx(expected)
    with pytest.raises(UnknownNameError, match="did you mean 'hogwild'"):
        costmodel.cost("hogwold", workers=2, parameters=1, itemsize=4, t_s=0, t_b=0, t_u=0)


def test_meetings_are_as_frequent_as_in_training_by_default() -> None:
    how = {"workers": 4, "parameters": 10**6, "itemsize": 4, "t_s": 1e-5, "t_b": 1e-10, "t_u": 5e-10}
    alone = 5e-4 + 3 * 4e-4  # u + k + s, where k + s = 3 c
    assert costmodel.cost("local", every=1e9, **how).busy_s == pytest.approx(alone)
    assert costmodel.cost("local", every=10, **how).busy_s > alone
    assert costmodel.cost("local", every=1, **how) == costmodel.cost("local", **how)
    assert costmodel.cost(Local(sync_every=10), **how) == costmodel.cost("local", every=10, **how)
    assert costmodel.cost(Local(sync_every=0), **how).busy_s == pytest.approx(alone)


def test_what_a_rule_does_now_and_then_costs_a_share_of_a_step() -> None:
    @dataclasses.dataclass(frozen=True)
    class Seldom(Local):
        def step(self, lane):
            yield lane.gradient("replica")
            yield lane.sweep(self.descend)
            if lane.turn % 3 == 2:
                yield lane.sweep(self.take)

        def finish(self, lane):
            return iter(())

    how = {"workers": 4, "parameters": 10**6, "itemsize": 4, "t_s": 1e-5, "t_b": 1e-10, "t_u": 5e-10}
    assert costmodel.cost(Seldom(), **how).busy_s == pytest.approx(5e-4 + (3 + 1 / 3) * 4e-4)


@needs_kernels
def test_the_tutorials_rule_is_predicted_and_advised_without_another_line(
    machine: costmodel.Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "docs" / "tutorials")
    majority = importlib.import_module("my_rules").SignMajority()
    model = nn.build("lenet")
    how = {"images": 640, "threads": 1, "calibration": machine, "gradient_s": 1e-3, "update_s": 1e-5}
    mine, theirs = (costmodel.predict(model, 8, 4, update, **how) for update in (majority, "sync"))
    assert mine.update == "signmajority" and mine.epoch_s == theirs.epoch_s
    monkeypatch.setattr("pyconv.costmodel.advice._here", lambda backend, cpus: machine)
    monkeypatch.setattr("pyconv.costmodel.advice.usable_cpus", lambda: 8)
    monkeypatch.setattr(
        "pyconv.costmodel.advice.measure", lambda *args, threads, **how: costmodel.Measured((0.4,), (1e-6,))
    )
    job = Job(optim.SGD(lr=0.01), 8, 1, backend="serial", threads_per_worker=1, update=majority)
    workers, reason = advised_workers(model, 640, job)
    assert workers == 8 and "times as fast" in reason


@needs_kernels
def test_an_epoch_of_local_has_one_meeting(machine: costmodel.Calibration) -> None:
    model = nn.build("lenet")
    how = {"images": 6400, "threads": 1, "calibration": machine, "gradient_s": 1e-3}
    one, often = (costmodel.predict(model, 64, 4, "local", every=every, **how) for every in (25, None))
    bytes_ = 4 * model.flat.size
    meeting_s = 2 * (2 * 1e-5) + 2 * 1e-10 * bytes_
    own_s = 5e-10 * model.flat.size + 3 * 1e-10 * bytes_
    assert one.communication_s == pytest.approx(25 * own_s + meeting_s)
    assert often.communication_s == pytest.approx(25 * (own_s + meeting_s))


@needs_kernels
def test_an_epoch_begins_with_the_shuffle(machine: costmodel.Calibration, tmp_path: Path) -> None:
    known = {"measure": False, "gradient_s": 0.05, "update_s": 1e-3, "spread": 0.0, "images": 8000, "backend": "serial"}
    ordered = dataclasses.replace(machine, t_n=fit(1e-6))
    model = nn.build("5-2-4-2")
    for workers, seconds in ((1, 0.008), (8, 0.008), (16, 0.016)):  # of 8 CPUs
        free, paid = (
            costmodel.predict(model, 64, workers, "sync", calibration=one, threads=1, **known)
            for one in (machine, ordered)
        )
        assert free.shuffle_s == 0 and paid.shuffle_s == pytest.approx(seconds)
        assert paid.epoch_s - free.epoch_s == pytest.approx(seconds)
        assert paid.communication_s - free.communication_s == pytest.approx(seconds)
    ordered.save(tmp_path / "calibration.json")
    assert costmodel.Calibration.load(tmp_path / "calibration.json") == ordered


def test_prediction_divides_computation_and_adds_communication(machine: costmodel.Calibration) -> None:
    model = nn.build("5-50-100-10")
    how = {"images": 6400, "threads": 1, "calibration": machine, "gradient_s": 0.1}
    one, four = (costmodel.predict(model, 64, workers, "sync", **how) for workers in (1, 4))
    assert (one.compute_s, four.compute_s) == (pytest.approx(10), pytest.approx(2.5))
    assert one.communication_s == pytest.approx(100 * 5e-10 * model.flat.size)
    assert four.epoch_s == pytest.approx(four.compute_s + four.communication_s)
    assert 3.5 < four.speedup < 4
    sixteen = costmodel.predict(model, 64, 16, "sync", **how)
    assert sixteen.gradient_s == pytest.approx(0.2), "16 workers take turns on 8 CPUs"
    assert "16 workers × 1 thread, sync" in str(sixteen)


@needs_kernels
def test_company_slows_computation_down(machine: costmodel.Calibration) -> None:
    shared = dataclasses.replace(machine, slowdown=1.05)
    how = {"images": 6400, "threads": 1, "gradient_s": 0.1, "calibration": shared}
    one, two, sixteen = (costmodel.predict(nn.build("lenet"), 64, workers, **how) for workers in (1, 2, 16))
    assert one.gradient_s == pytest.approx(0.1)
    assert two.gradient_s == pytest.approx(0.105)
    assert sixteen.gradient_s == pytest.approx(0.1 * (1 + 7 * 0.05) * 2), "8 CPUs, two turns"


@needs_kernels
def test_meetings_wait_for_the_slowest(machine: costmodel.Calibration) -> None:
    model = nn.build("lenet")
    how = {"threads": 1, "calibration": machine, "gradient_s": 0.1, "images": 6400}
    even, uneven = (costmodel.predict(model, 64, 8, "sync", spread=spread, **how) for spread in (0, 0.1))
    free = costmodel.predict(model, 64, 8, "hogwild", spread=0.1, **how)
    assert uneven.epoch_s > 1.1 * even.epoch_s
    assert free.epoch_s < uneven.epoch_s


@pytest.mark.parametrize("workers, error", [(2, 1e-6), (3, 0.03), (4, 0.02), (8, 0.01), (64, 0.005), (1024, 0.005)])
def test_the_expected_lead_is_that_of_normal_numbers(workers: int, error: float) -> None:
    def largest(x: float) -> float:
        """The density of the largest of these numbers, times x."""
        return x * workers * norm.pdf(x) * norm.cdf(x) ** (workers - 1)

    assert expected_lead(workers) == pytest.approx(quad(largest, -9, 9, points=[0, 3], limit=200)[0], rel=error)


def test_an_average_in_shared_memory_costs_that_of_a_tree_for_two_workers_only() -> None:
    how = {"parameters": 10**6, "itemsize": 4, "t_s": 1e-5, "t_b": 1e-10, "t_u": 0.0}
    with_meeting, without = (
        [costmodel.cost("local", workers=workers, every=every, **how).busy_s for workers in (2, 4, 16)]
        for every in (1, math.inf)
    )
    shared = [one - other for one, other in zip(with_meeting, without, strict=True)]
    tree = [costmodel.averaging_time(workers, 4e6, t_s=1e-5, t_b=1e-10) for workers in (2, 4, 16)]
    assert shared[0] == pytest.approx(tree[0])
    assert shared[1] < tree[1] and shared[2] < tree[2]


@needs_kernels
def test_exclusive_updates_bound_the_rate(machine: costmodel.Calibration) -> None:
    model = nn.build("fer")
    how = {"threads": 1, "calibration": machine, "gradient_s": 1e-3, "images": 6400}
    made = costmodel.predict(model, 64, 8, "async", **how)
    own = costmodel.cost("async", workers=8, parameters=model.flat.size, itemsize=4, t_s=1e-5, t_b=1e-10, t_u=5e-10)
    assert made.step_s == pytest.approx(8 * own.exclusive_s)


@needs_kernels
def test_work_is_counted_from_the_layers() -> None:
    work = costmodel.workload(nn.build("fer"))
    geometry = [(48, 1, 32, 5), (24, 32, 64, 3), (12, 64, 128, 3), (12, 128, 128, 3), (6, 128, 256, 3)]
    macs = [size * size * c * k * kernel**2 for size, c, k, kernel in geometry]
    assert work.convolution_flops == pytest.approx(2 * (3 * sum(macs) - macs[0]), rel=0.02)
    assert work.calls == 14
    assert work.parameters == nn.build("fer").flat.size


@needs_kernels
def test_advice_is_one_worker_where_more_do_not_pay(machine: costmodel.Calibration) -> None:
    advice = costmodel.advise(nn.build("lenet"), batch=8, calibration=machine, cpus=1, seconds=0.02)
    assert (advice.workers, advice.threads) == (1, 1)
    assert "one CPU" in advice.reason
    wide = costmodel.advise(nn.build("lenet"), batch=8, calibration=machine, seconds=0.02)
    assert wide.workers * wide.threads <= 8
    assert wide.considered[0].epoch_s == min(p.epoch_s for p in wide.considered)


@needs_kernels
def test_threads_that_are_decided_limit_the_workers(machine: costmodel.Calibration) -> None:
    made = costmodel.advise(nn.build("lenet"), batch=8, backend="multicore", threads=3, calibration=machine,
                            seconds=0.02)  # fmt: skip
    assert made.threads == 3
    assert sorted((p.workers, p.threads) for p in made.considered) == [(1, 3), (2, 3)], "8 CPUs hold no third"
    full = costmodel.advise(nn.build("lenet"), batch=8, backend="multicore", threads=8, calibration=machine,
                            seconds=0.02)  # fmt: skip
    assert (full.workers, full.reason) == (
        1,
        "there are 8 CPUs: two workers of 8 threads each would take turns on them",
    )
    with pytest.raises(InputError, match="threads must be at least 1"):
        costmodel.advise(nn.build("lenet"), backend="multicore", threads=0, calibration=machine)


@needs_kernels
def test_an_advice_has_one_number_for_how_many_times_faster(
    machine: costmodel.Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(model: nn.Sequential, batch: int, *, threads: int, **how: object) -> costmodel.Measured:
        return costmodel.Measured((0.4 / threads**0.5,), (1e-6,))  # as the root of threads

    monkeypatch.setattr("pyconv.costmodel.advice.measure", measured)
    advice = costmodel.advise(nn.build("lenet"), 8, images=640, backend="multicore", calibration=machine)
    best = advice.considered[0]
    assert advice.workers == best.workers > 1
    assert advice.reason.startswith(f"{best.speedup:.2f} times as fast as one worker with {best.base_threads} threads")
    (alone,) = (one for one in advice.considered if one.workers == 1)
    for one in advice.considered:
        assert one.speedup == alone.epoch_s / one.epoch_s
        assert f"{one.speedup:.2f} times one worker with {alone.threads} threads" in str(one)
    assert best.speedup < best.workers / alone.threads**0.5 * 1.01  # and not over one worker with one thread


@needs_kernels
@pytest.mark.parametrize("threads, counts", [(None, {1, 2, 4, 8}), (2, {2}), (5, set()), (8, set())])
def test_workers_are_chosen_for_the_threads_of_each(
    machine: costmodel.Calibration, monkeypatch: pytest.MonkeyPatch, threads: int | None, counts: set[int]
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("pyconv.costmodel.advice.usable_cpus", lambda: 8)
    monkeypatch.setattr("pyconv.costmodel.advice._here", lambda backend, cpus: machine)

    def measured(model: nn.Sequential, batch: int, *, threads: int, **how: object) -> costmodel.Measured:
        asked.append(threads)
        return costmodel.Measured((0.4 / threads,), (1e-6,))

    monkeypatch.setattr("pyconv.costmodel.advice.measure", measured)
    job = Job(optim.SGD(lr=0.01), 8, 1, threads_per_worker=threads, backend="multicore")
    workers, reason = advised_workers(nn.build("lenet"), 640, job)
    assert set(asked) == counts
    if threads is None:  # both ways of asking have the same answer
        advice = costmodel.advise(nn.build("lenet"), 8, images=640, backend="multicore")
        assert (advice.workers, advice.reason) == (workers, reason)
    if threads == 2:
        assert workers == 4 and "one worker with 2 threads" in reason
    elif threads is not None:
        assert workers == 1
        assert reason == f"there are 8 CPUs: two workers of {threads} threads each would take turns on them"


@needs_kernels
@pytest.mark.timeout(120)
def test_calibration_measures_saves_and_loads(tmp_path: Path) -> None:
    made = costmodel.calibrate("serial", seconds=0.002)
    assert set(made.t_c["serial"]) == set(pyconv.algorithms("serial"))
    assert made.rate("serial", "naive").value > made.rate("serial").value > 1e-13
    assert 0 < made.t_b.value < 1e-7
    assert 1 <= made.slowdown <= 2
    assert 0 <= made.t_s.low <= made.t_s.value <= made.t_s.high < 1e-2
    path = tmp_path / "machine.json"
    made.save(path)
    assert costmodel.Calibration.load(path) == made
    assert "t_c serial naive" in str(made)
    with pytest.raises(UnknownNameError):
        made.rate("serial", "fastest")
    estimate = estimated_seconds(nn.build("lenet"), 16, made, backend="serial")
    assert math.isfinite(estimate) and estimate > 0


@needs_kernels
@pytest.mark.parametrize("name, shape, update, images", [
    ("lenet", (28, 28, 1), "sync", 600), ("lenet", (28, 28, 1), "async", 40), ("5-4-8-3", (48, 48, 1), "hogwild", 2000),
    ("5-4-8-3", (20, 20, 3), "easgd", 28709),
])  # fmt: skip
def test_advise_and_auto_give_one_answer(
    machine: costmodel.Calibration, monkeypatch: pytest.MonkeyPatch, name: str, shape: tuple[int, ...], update: str,
    images: int,
) -> None:  # fmt: skip
    """The training loop and a user get the same advice, and nothing is measured twice."""
    for where in ("pyconv.threads.usable_cpus", "pyconv.costmodel.advice.usable_cpus"):
        monkeypatch.setattr(where, lambda: 8)
    monkeypatch.setattr("pyconv.costmodel.advice._here", lambda backend, cpus: machine)
    noise = np.random.default_rng(images)

    def measured(model: nn.Sequential, batch: int, *, threads: int, **how: object) -> costmodel.Measured:
        return costmodel.Measured((1e-4 * batch / threads ** noise.uniform(0, 1),), (1e-6,))

    monkeypatch.setattr("pyconv.costmodel.advice.measure", measured)
    model = nn.build(name, input_shape=shape)
    job = Job(optim.SGD(lr=0.01), min(64, images), 1, update=update)
    assert advice_module.BATCH == recipe.BATCH
    workers, reason = advised_workers(model, images, job, shared=True)
    for _ in range(3):
        advice = costmodel.advise(model, update=update, images=images)
        assert (advice.workers, advice.reason) == (workers, reason)


UNGUARDED = """
import numpy as np, pyconv
from pyconv import costmodel, nn
model = nn.build("5-2-4-2")
{call}
"""


@needs_kernels
@pytest.mark.timeout(120)
@pytest.mark.covering("call", most=1)
@pytest.mark.parametrize(
    "call",
    [
        "costmodel.calibrate('serial', seconds=0.001)",
        "costmodel.advise(model, backend='serial', seconds=0.01)",
        "pyconv.threads.usable_cpus = lambda: 2\n"
        "x, y = np.zeros((64, 28, 28, 1), 'f4'), np.arange(64) % 2\n"
        "pyconv.fit(model, x, y, epochs=1, batch_size=16, workers='auto', progress='off')",
    ],
    ids=["calibrate", "advise", "workers=auto"],
)
def test_a_script_without_a_guard_is_told_so(tmp_path: Path, call: str) -> None:
    path = tmp_path / "script.py"
    path.write_text(UNGUARDED.format(call=call))
    environment = {**os.environ, "PYTHONPATH": str(Path(pyconv.__file__).parents[1])}
    ran = subprocess.run([sys.executable, path], env=environment, capture_output=True, text=True, timeout=100)
    assert ran.stderr.strip().splitlines()[-1] == f"pyconv.errors.InputError: {MESSAGE}"
    assert ran.stderr.count("Traceback") == 1, "the other process says nothing"


@needs_kernels
def test_the_fastest_is_chosen_among_those_that_do_the_convolution(machine: costmodel.Calibration) -> None:
    rates = {"direct": fit(2e-11), "winograd": fit(5e-12)}
    fast = dataclasses.replace(machine, t_c={"serial": rates})
    flat = costmodel.Fit(0.0, 0.0, 1e-10, "s", 9)
    noisy = dataclasses.replace(machine, t_c={"serial": {**rates, "naive": flat}})
    assert noisy.rate("serial").value == 5e-12, "a line that may be flat is not the fastest"
    three, five, strided = (
        conv_geometry((1, 12, 12, 4), (size, size, 4, 8), padding="same", stride=stride)
        for size, stride in ((3, 1), (5, 1), (3, 2))
    )
    assert fast.rate("serial").value == fast.rate("serial", geometry=three).value == 5e-12
    assert fast.rate("serial", geometry=five).value == fast.rate("serial", geometry=strided).value == 2e-11
    slow = dataclasses.replace(machine, t_c={"serial": {"direct": fit(2e-11)}})
    with_fives, with_threes = (nn.build(name) for name in ("5-20-50-10", "3-20-50-10"))
    same, less = (
        estimated_seconds(model, 64, fast, backend="serial") / estimated_seconds(model, 64, slow, backend="serial")
        for model in (with_fives, with_threes)
    )
    assert same == 1 and less < 0.9, "Winograd's rate stands for 3×3 filters only"


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', '{"format": 1, "t_s": 3}', "[1]"])
def test_a_damaged_calibration_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises(CheckpointError, match="not a calibration"):
        costmodel.Calibration.load(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        costmodel.Calibration.load(tmp_path / "missing.json")
