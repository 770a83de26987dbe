"""Predictions, advice and simulations over the ranks of a cluster, on made-up machines; ranks that measure together."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import pytest
from cluster_threads import with_sessions
from hypothesis import given, settings
from hypothesis import strategies as st

import pyconv
from pyconv import costmodel, nn
from pyconv.costmodel import ranks as ranks_module
from pyconv.costmodel.advised import WORTH
from pyconv.costmodel.profile import measured_profile
from pyconv.errors import InputError, UnknownNameError

pytestmark = pytest.mark.skipif(pyconv.backends()["serial"] is not None, reason="the compiled module is missing")


def fit(value: float) -> costmodel.Fit:
    return costmodel.Fit(value, value, value, "s", 9)


def machine(t_s: float = 1e-4, t_b: float = 8e-9, t_c: float = 2e-11) -> costmodel.Calibration:
    """One thread, and links of 1 Gbit/s."""
    rates = {"serial": {"direct": fit(t_c)}}
    return costmodel.Calibration(
        rates, {"serial": {"direct": fit(1e-6)}}, fit(t_s), fit(t_b), fit(5e-10), fit(2e-11), 1, {"serial": 0.0}
    )


CONVOLUTIONS = nn.Sequential(
    [nn.Conv2D(8, 5, padding="same", activation="relu"), nn.Conv2D(8, 3, padding="same", activation="relu"),
     nn.MaxPool2D(2), nn.Flatten(), nn.Dense(10)], (32, 32, 1)
)  # fmt: skip
WIDE = nn.Sequential([nn.Flatten(), nn.Dense(2048), nn.Dense(2048), nn.Dense(10)], (32, 32, 1))
NARROW = nn.Sequential(
    [nn.Flatten(), nn.Dense(1500), nn.Dense(16), nn.Dense(1500), nn.Dense(1000), nn.Dense(10)], (32, 32, 1)
)
LARGE = nn.Sequential(
    [nn.Conv2D(8, 5, padding="same", activation="relu"), nn.Conv2D(8, 5, padding="same", activation="relu"),
     nn.AvgPool2D(64), nn.Flatten(), nn.Dense(4000), nn.Dense(10)], (256, 256, 1)
)  # fmt: skip
HOW = {"backend": "serial", "images": 6400}


def test_one_rank_sends_nothing_whatever_it_splits():
    for split in costmodel.SPLITS:
        made = costmodel.predict(CONVOLUTIONS, 64, ranks=1, split=split, gradient_s=0.02, update_s=0.001,
                                 calibration=machine(), **HOW)  # fmt: skip
        adding = 4 * 2 * 2e-11 * CONVOLUTIONS.flat.nbytes if split == "pipeline" else 0.0
        assert made.step_s == pytest.approx(0.021 + adding)
        assert made.sent_bytes == 0 and made.speedup == pytest.approx(0.021 / made.step_s)
        assert made.epoch_s == pytest.approx(100 * made.step_s)


def test_predictions_by_hand():
    n, t_s, t_b = CONVOLUTIONS.flat.nbytes, 1e-4, 8e-9
    how = {"gradient_s": 0.02, "update_s": 0.001, "calibration": machine(t_s, t_b), **HOW}
    apart = costmodel.predict(CONVOLUTIONS, 64, ranks=4, overlap=False, **how)
    step = 0.02 + 2 * 4 * t_s + 2 * (t_s + t_b * n * 3 / 4) + 2e-11 * n + 0.001 / 4
    assert apart.step_s == pytest.approx(step)
    end = t_s + t_b * n * 3 / 4
    assert apart.epoch_s == pytest.approx(25 * step + end) and apart.sent_bytes == pytest.approx(2 * n * 3 / 4)
    assert apart.speedup == pytest.approx(100 * 0.021 / apart.epoch_s)
    assert apart.setting == "images over 4 ranks × 1 thread" and "times one rank with 1 thread" in str(apart)
    together = costmodel.predict(CONVOLUTIONS, 64, ranks=4, **how)
    assert 0.02 < together.step_s < apart.step_s
    late = costmodel.predict(CONVOLUTIONS, 64, ranks=4, **{**how, "spread": 0.1})
    assert late.step_s - together.step_s == pytest.approx(0.1 * late.gradient_s * 1.03, rel=0.02)
    crowded = costmodel.predict(CONVOLUTIONS, 64, ranks=4, shared_cpus=2, **how)
    assert crowded.gradient_s == pytest.approx(2 * together.gradient_s)
    two = costmodel.predict(CONVOLUTIONS, 64, ranks=4, workers=2, **how)
    assert two.gradient_s == pytest.approx(2 * 0.02 + 0.001 / 4) and "2 workers each" in two.setting


def test_local_averages_at_an_epochs_end_too_and_rank_0_gets_all_replicas():
    n, t_b = CONVOLUTIONS.flat.nbytes, 8e-9
    how = {"gradient_s": 0.02, "update_s": 0.001, "calibration": machine(0.0, t_b), "backend": "serial"}
    made = costmodel.predict(CONVOLUTIONS, 64, ranks=4, update="local", every=4, images=64 * 4 * 6, **how)
    average = 2 * t_b * n * 3 / 4 + 2e-11 * n  # before the fifth step, and after the last
    assert made.epoch_s == pytest.approx(6 * 0.021 + 2 * average + t_b * n * 3)


def test_a_pipelines_numbers():
    how = {"gradient_s": 0.02, "update_s": 0.0, "calibration": machine(0.0, 0.0), **HOW}
    made = costmodel.predict(CONVOLUTIONS, 64, ranks=4, split="pipeline", stages=2, micro_batches=8, cut=[1], **how)
    assert (made.ranks, made.stages, made.micro_batches) == (4, 2, 8)
    assert made.setting == "layers over 4 ranks × 1 thread, 2 stages of 8 micro-batches, 2 pipelines"
    alone = 2 * made.gradient_s  # both stages' work; each micro-batch's gradient is weighted and added
    assert alone == pytest.approx(0.02 + 8 * 2 * 2e-11 * CONVOLUTIONS.flat.nbytes)
    assert made.step_s >= 0.01 and made.images / made.epoch_s == pytest.approx(2 * 64 / made.step_s)
    # The slower stage computes all the time, and the other waits for it.
    usual = costmodel.predict(CONVOLUTIONS, 64, ranks=2, split="pipeline", **how)
    assert (usual.stages, usual.micro_batches) == (2, 8)


@settings(max_examples=20)
@given(ranks=st.sampled_from([2, 3, 4, 8]), t_b=st.floats(1e-12, 1e-7), t_s=st.floats(1e-9, 1e-3))
def test_slower_links_make_nothing_faster(ranks, t_b, t_s):
    for split in costmodel.SPLITS:
        if split == "pipeline" and ranks > 3:
            continue
        told = {"ranks": ranks, "split": split, "gradient_s": 0.02, "update_s": 0.001, **HOW}
        one, wider, later, free = (
            costmodel.predict(CONVOLUTIONS, 64, calibration=machine(*link), **told).epoch_s
            for link in ((t_s, t_b), (t_s, 2 * t_b), (2 * t_s, t_b), (0.0, 0.0))
        )
        assert free <= one * (1 + 1e-9) and one <= min(wider, later) * (1 + 1e-9)


def simulated(model: nn.Sequential, batch: int, ranks: int, how: dict, rows: dict) -> dict[tuple[str, int], float]:
    """Images a second of each split that the network allows."""
    found = {}
    for split, stages in [("data", None), ("rows", None), ("filters", None), *(("pipeline", each) for each in rows)]:
        try:
            made = costmodel.simulate_split(model, batch, ranks, split, stages=stages, steps=4, **how)
        except InputError:
            continue
        found[split, stages or 1] = made.images_per_s
    return found


@pytest.mark.parametrize(
    ("model", "batch", "ranks", "link", "best"),
    [
        (CONVOLUTIONS, 64, 4, (1e-4, 8e-9), "data"),
        (CONVOLUTIONS, 64, 2, (1e-5, 1e-10), "data"),
        (LARGE, 1, 4, (1e-4, 4e-8), "rows"),
        (WIDE, 8, 4, (1e-5, 4e-10), "filters"),
        (NARROW, 128, 2, (1e-5, 8e-9), "pipeline"),
    ],
)  # fmt: skip
def test_advice_names_the_split_that_is_fastest_in_the_simulation(model, batch, ranks, link, best):
    made = machine(*link)
    advice = costmodel.advise(model, batch, ranks=ranks, calibration=made, measure=False, **HOW)
    stages = [each for each in range(2, ranks + 1) if ranks % each == 0]
    rates = simulated(model, batch, ranks, {"calibration": made, "backend": "serial"}, dict.fromkeys(stages))
    fastest = max(rates, key=rates.__getitem__)
    assert (advice.split, advice.considered[0].stages) == fastest
    assert advice.split == best and advice.ranks == ranks and advice.considered[0].speedup >= WORTH
    assert f"{advice.considered[0].speedup:.2f} times as fast as one rank alone" in str(advice)
    for each in advice.considered:  # the equations and the simulation agree, but for the order and end of an epoch
        if each.ranks > 1:
            assert each.images_per_s == pytest.approx(rates[each.split, each.stages], rel=0.05)


def test_advice_stays_alone_where_links_are_too_slow_and_says_what_is_left_out():
    advice = costmodel.advise(CONVOLUTIONS, 64, ranks=5, calibration=machine(1.0, 1e-3), measure=False, **HOW)
    assert advice.ranks == 1 and "more ranks do not pay" in advice.reason and "1 worker" in str(advice)
    left_out = dict(advice.left_out)
    assert "take at most" in left_out["pipeline, 5 stages"]
    few = nn.Sequential([nn.Conv2D(2, 3, padding="same"), nn.Flatten(), nn.Dense(3)], (4, 8, 1))
    advice = costmodel.advise(few, 64, ranks=5, calibration=machine(), measure=False, **HOW)
    assert "5 ranks, each of which needs rows" in dict(advice.left_out)["rows"]
    one = costmodel.advise(few, 64, ranks=1, calibration=machine(), measure=False, **HOW)
    assert one.ranks == 1 and one.reason == "there is one rank"


def test_a_shared_batch_is_divided_among_ranks_with_images_of_their_own():
    advice = costmodel.advise(CONVOLUTIONS, ranks=4, calibration=machine(), measure=False, **HOW)
    batches = {each.split: each.batch for each in advice.considered if each.ranks > 1 and each.stages == 1}
    assert batches == {"data": 16, "rows": 64, "filters": 64}


@pytest.mark.parametrize("split", costmodel.SPLITS)
def test_a_thousand_nodes_are_simulated_in_seconds(split):
    layers = [nn.Conv2D(8, 3, padding="same", activation="relu") for _ in range(4)]
    model = nn.Sequential([*layers, nn.GlobalAvgPool2D(), nn.Dense(10)], (2048, 64, 1))
    how = {"calibration": machine(), "backend": "serial", "spread": 0.1, "straggler_share": 0.01,
           "straggler_factor": 3.0, "steps": 3, "stages": 4 if split == "pipeline" else None}  # fmt: skip
    began = time.perf_counter()
    made = costmodel.simulate_split(model, 16, 1024, split, **how)
    assert time.perf_counter() - began < 20
    assert 0 < made.speedup < 1024 and 0 < made.busy_share < 1
    again = costmodel.simulate_split(model, 16, 1024, split, **how)
    assert again == made != costmodel.simulate_split(model, 16, 1024, split, **how, seed=1)
    even = costmodel.simulate_split(model, 16, 1024, split, **{**how, "spread": 0.0, "straggler_share": 0.0})
    assert even.step_s < made.step_s


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ranks": 0}, "ranks must be at least 1, not 0"),
        ({"ranks": "2"}, "ranks must"),
        ({"split": "rows", "workers": 2}, "split rows is one worker on all its ranks, not 2: leave workers out"),
        ({"split": "filters", "update": "local"}, "split filters is for update sync, not local"),
        ({"stages": 2}, "stages is for split pipeline: leave it out with split data"),
        ({"split": "rows", "cut": [1]}, "cut is for split pipeline"),
        ({"split": "pipeline", "stages": 2}, "3 ranks cannot be shared by pipelines of 2 stages: take a multiple"),
        ({"split": "pipeline", "cut": [1]}, "3 ranks cannot be shared"),
        ({"split": "pipeline", "stages": 3, "cut": [1]}, "cut makes 2 stages, and stages says 3"),
        ({"split": "pipeline", "micro_batches": 5}, "micro_batches must divide the batch of 64 images, and 5 does not"),
        ({"split": "pipeline", "cut": [2, 4]}, "cut 2 would part layers|computed together"),
        ({"overlap": 1}, "overlap must be True or False"),
        ({"shared_cpus": 0}, "shared_cpus must"),
        ({"ranks": None, "split": "rows"}, "are for ranks: say how many, or cluster=True"),
        ({"cluster": "yes"}, "cluster must be True or False"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_in_one_line(change, message):
    given = {"ranks": 3, "gradient_s": 0.02, "calibration": machine(), **HOW, **change}
    with pytest.raises(InputError, match=message) as refused:
        costmodel.predict(CONVOLUTIONS, 64, **given)
    assert "\n" not in str(refused.value)


def test_names_that_are_not_known_are_refused():
    given = {"gradient_s": 0.02, "calibration": machine(), "ranks": 2, **HOW}
    with pytest.raises(UnknownNameError, match="split 'columns'"):
        costmodel.predict(CONVOLUTIONS, 64, split="columns", **given)
    with pytest.raises(UnknownNameError, match="pipeline schedule 'zb'"):
        costmodel.predict(CONVOLUTIONS, 64, split="pipeline", schedule="zb", **given)
    with pytest.raises(InputError, match="ranks must be at most 16384"):
        costmodel.simulate_split(CONVOLUTIONS, 64, 20000, calibration=machine())
    with pytest.raises(InputError, match="straggler_share"):
        costmodel.simulate_split(CONVOLUTIONS, 64, 2, calibration=machine(), straggler_share=2)


def test_a_profile_has_every_layers_passes():
    profile = measured_profile(CONVOLUTIONS, 16, backend="serial", seconds=0)
    assert [each.layer for each in profile.layers] == [0, 1, 3, 4]  # a pool is computed with its convolution
    assert all(each.forward_s > 0 and each.backward_s >= 0 for each in profile.layers)
    assert [each.reads for each in profile.layers] == [208, 792, 0, 792 + 2048 * 10 + 10]
    assert [each.left for each in profile.layers] == [0, 208, 792, 792]
    whole = costmodel.measure(CONVOLUTIONS, 16, backend="serial", seconds=0).gradient_s
    assert profile.gradient_s < 20 * whole and whole < 20 * profile.gradient_s
    again = profile.with_times(profile.times())
    assert again == profile
    assert profile.scaled(2.0).gradient_s == pytest.approx(2 * profile.gradient_s)


# ---- on ranks ---------------------------------------------------------------------------------------


@pytest.fixture
def together(monkeypatch):
    return with_sessions(monkeypatch, ranks_module)


def test_ranks_that_measure_together_all_get_the_same(together):
    model = nn.Sequential([nn.Conv2D(4, 3, padding="same"), nn.Flatten(), nn.Dense(3)], (8, 8, 1))

    def body(session):
        own = nn.Sequential(model.layers, model.input_shape)
        how = {"calibration": machine(), "backend": "serial", "threads": 1, "cluster": True, "images": 64}
        found = [costmodel.predict(own, 8, split=split, **how) for split in costmodel.SPLITS]
        advice = costmodel.advise(own, 8, seconds=0, **how)
        with pytest.raises(InputError, match="there are 2 ranks, not 3: leave ranks out"):
            costmodel.predict(own, 8, ranks=3, **how)
        return found, advice

    first, second = together(2, body)
    assert first == second
    found, advice = first
    assert [each.split for each in found] == list(costmodel.SPLITS) and {each.ranks for each in found} == {2}
    assert all(each.epoch_s > 0 and each.sent_bytes > 0 for each in found)
    assert {each.split for each in advice.considered} == set(costmodel.SPLITS)


def test_ranks_that_ask_for_different_things_are_refused(together):
    def body(session):
        split = costmodel.SPLITS[session.rank]
        costmodel.predict(CONVOLUTIONS, 8, split=split, cluster=True, calibration=machine(), measure=False, **HOW)

    errors = together(2, body)
    assert all(isinstance(each, InputError) for each in errors)
    assert "was given another split ('rows') than" in str(errors[0]) and "ask the same on all ranks" in str(errors[0])


def test_messages_take_some_of_the_cpu_while_they_travel():
    links = {"x_s": fit(1e-4), "x_b": fit(1e-9)}
    free, busy = (dataclasses.replace(machine(), **links, x_c=fit(cost)) for cost in (0.0, 1e-8))
    how = {"gradient_s": 0.02, "update_s": 0.001, **HOW}
    one, other = (costmodel.predict(CONVOLUTIONS, 64, ranks=2, calibration=made, **how) for made in (free, busy))
    assert other.step_s - one.step_s == pytest.approx(1e-8 * CONVOLUTIONS.flat.nbytes)
    apart = [costmodel.predict(CONVOLUTIONS, 64, ranks=2, calibration=c, overlap=False, **how) for c in (free, busy)]
    assert apart[0] == apart[1]


def test_exchanges_are_kept_with_a_calibration(tmp_path):
    made = dataclasses.replace(machine(), x_s=fit(1e-3), x_b=fit(1e-7))
    made.save(tmp_path / "cluster.json")
    assert costmodel.Calibration.load(tmp_path / "cluster.json") == made
    assert "x_b: 1e-07" in str(made) and "x_b" not in str(machine())
    assert machine().link == (machine().t_s, machine().t_b)
    older = machine()._content()
    for name in ("x_s", "x_b", "x_c"):
        del older[name]
    assert costmodel.Calibration._of(older) == machine()
    assert np.isfinite(made.link[0].value)
