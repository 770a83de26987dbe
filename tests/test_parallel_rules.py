"""Training with worker processes: what each update rule promises when nothing fails."""

from __future__ import annotations

import json
import logging
import sys

import numpy as np
import pytest
from parallel_runs import MajorityVote, data, job, small_model, train

import pyconv
from pyconv import optim, threads
from pyconv.errors import CheckpointError, InputError, UnknownNameError
from pyconv.parallel import RULES, InProcess, SharedMemoryError, engine_for, memory, rule_for, share
from pyconv.parallel.replay import replay
from pyconv.parallel.server import ParameterServer

pytestmark = pytest.mark.timeout(120)

OPTIMIZERS = {
    "sgd": {"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3},
    "adagrad": {"lr": 0.01},
    "adadelta": {"lr": 1.0},
    "adam": {"lr": 1e-3},
    "adamw": {"lr": 1e-3, "weight_decay": 0.01},
    "adamax": {"lr": 1e-3},
}


def serial(plan, model, *images):
    """The same training with one worker, in this process."""
    x, y = data(*images)
    engine = InProcess(model, x, y, plan)
    losses = [report.loss for epoch in range(plan.epochs) for report in engine.epoch(epoch)]
    engine.close()
    return losses


@pytest.mark.covering("name", most=2)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_sync_equals_one_worker_with_the_whole_batch(name):
    optimizer = optim.by_name(name, **OPTIMIZERS[name])
    many = train(job("sync", workers=2, batch_size=10, epochs=5, optimizer=optimizer), small_model("float64"))
    alone = small_model("float64")
    losses = serial(job("sync", workers=1, batch_size=20, epochs=5, optimizer=optimizer), alone)
    assert len(losses) == len(many.losses) == 60
    np.testing.assert_allclose(many.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(many.model.flat, alone.flat, rtol=1e-7, atol=1e-10)


def test_sync_counts_workers_by_their_images_in_a_short_last_step():
    """With 215 images and steps of 40, the last step has 15: 7 for one worker, 8 for the other."""
    many = train(job("sync", workers=2, batch_size=20), small_model("float64"), images=215)
    alone = small_model("float64")
    losses = serial(job("sync", workers=1, batch_size=40), alone, 215)
    np.testing.assert_allclose(many.losses, losses, rtol=1e-9)
    np.testing.assert_allclose(many.model.flat, alone.flat, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("workers", [3, pytest.param(16, marks=pytest.mark.slow)])
def test_sync_gives_the_same_bits_every_time(workers):
    runs = [train(job("sync", workers=workers, batch_size=4)) for _ in range(2)]
    np.testing.assert_array_equal(runs[0].model.flat, runs[1].model.flat)
    assert runs[0].losses == runs[1].losses


def test_local_with_one_worker_is_plain_sgd_bit_for_bit():
    alone = small_model()
    losses = serial(job("local", workers=1, batch_size=20), alone)
    one = train(job("local", workers=1, batch_size=20, options={"sync_every": 3}))
    np.testing.assert_array_equal(one.model.flat, alone.flat)
    np.testing.assert_allclose(one.losses, losses, rtol=1e-12)


@pytest.mark.parametrize("update", RULES)
def test_every_rule_learns_and_uses_every_image_once(update):
    result = train(job(update, workers=2, epochs=4, optimizer=optim.SGD(0.05)), small_model(norm=True))
    assert result.losses[-1] < 0.5 * result.losses[0]
    x, y = data()
    # BatchNorm's statistics come from all workers. The centre of easgd lags: 0.904 if the workers share one CPU.
    assert (result.model.predict(x) == y).mean() > 0.85
    assert result.restarts == 0
    figures = result.statistics
    assert figures["compute_s"] > 0 and figures["communication_s"] >= figures["wait_s"] >= 0
    if update in ("async", "ssp", "hogwild"):
        assert sum(figures["staleness_histogram"]) == 4 * 24 * 2
        assert figures["staleness_max"] >= figures["staleness_mean"]
    else:
        assert figures["staleness_max"] == 0


@pytest.mark.covering("update", "shared", most=1)
@pytest.mark.parametrize("update", ["async", "ssp"])
@pytest.mark.parametrize("shared", [False, True])
def test_a_replay_gives_the_bits_of_an_asynchronous_run(update, shared):
    options = {"shared_state": shared, **({"staleness": 1} if update == "ssp" else {"staleness_aware": shared})}
    plan = job(update, options=options, optimizer=optim.Adam(1e-2))
    result = train(plan)
    again = small_model()
    x, y = data()
    replay(again, x, y, plan, result.records)
    np.testing.assert_array_equal(again.flat, result.model.flat)


@pytest.mark.covering("update", most=2)
@pytest.mark.parametrize(
    ("update", "options"),
    [("sync", {}), ("local", {"sync_every": 5}), ("local", {}), ("local", {"sync_every": 0})],
)
def test_a_run_continues_to_the_same_bits(update, options):
    plan = job(update, options=options, workers=2, epochs=2)
    whole = train(plan, small_model(norm=True))
    x, y = data()
    model, state, position = small_model(norm=True), None, []
    losses = []
    for stop in (7, 19, 30, None):
        engine = ParameterServer(model, x, y, plan)
        if state is not None:
            engine.load_state(state)
        for epoch in range(plan.epochs):
            steps = engine.epoch(epoch, len(position) - epoch * 24) if len(position) < (epoch + 1) * 24 else iter(())
            for report in steps:
                losses.append(report.loss)
                position.append(report.step)
                if len(position) == stop:
                    steps.close()
                    break
            if len(position) == stop:
                break
        state = engine.state()
        engine.close()
    assert position == list(range(1, 49))
    assert losses == whole.losses
    np.testing.assert_array_equal(model.flat, whole.model.flat)
    np.testing.assert_allclose(model.flat_buffers, whole.model.flat_buffers, rtol=1e-6)


@pytest.mark.covering("update", most=2)
@pytest.mark.parametrize("update", ["async", "ssp", "hogwild", "easgd"])
def test_a_free_run_continues_with_the_images_that_are_left(update):
    plan = job(update, workers=2, epochs=1)
    x, y = data()
    model = small_model()
    first = ParameterServer(model, x, y, plan)
    steps = first.epoch(0)
    images = [next(steps).images for _ in range(5)]
    steps.close()
    state = first.state()
    first.close()
    second = ParameterServer(model, x, y, plan)
    second.load_state(state)
    images += [report.images for report in second.epoch(0, 5)]
    second.close()
    assert len(images) == 24 and sum(images) == len(x)


def test_a_state_of_another_run_is_refused():
    x, y = data()
    with_two = ParameterServer(small_model(), x, y, job(workers=2))
    state = with_two.state()
    with pytest.raises(CheckpointError, match="another"):
        with_two.load_state({name: value for name, value in state.items() if name != "clock"})
    with pytest.raises(CheckpointError, match="workers"):
        with_two.load_state({**state, "workers": np.array(3)})
    with pytest.raises(CheckpointError, match="momentum"):
        with_two.load_state({**state, "optimizer.momentum": np.zeros(3, np.float32)})
    with_two.close()
    with_two.close()


def test_a_rule_of_the_users_own():
    result = train(job(MajorityVote(scale=0.02), workers=2, epochs=3))
    assert result.losses[-1] < 0.5 * result.losses[0]
    x, y = data()
    with pytest.raises(InputError, match="scale"):
        engine_for(small_model(), x, y, job(MajorityVote(), options={"scale": 0.5}))


def test_the_timeline_shows_what_each_worker_did(tmp_path):
    train(job("async", workers=2, trace=str(tmp_path / "t.json")))
    events = json.loads((tmp_path / "t.json").read_text())
    names = {(event["name"], event["tid"]) for event in events if event["ph"] == "X"}
    assert {(name, tid) for name in ("data", "forward", "backward", "push") for tid in (0, 1)} <= names
    assert sum(event["name"] == "backward" for event in events) == 2 * 48


def test_workers_log_through_the_parent_with_their_number(caplog):
    with caplog.at_level(logging.WARNING, "pyconv"):
        train(job(workers=2, schedule=_warn))
    said = {record.getMessage() for record in caplog.records}
    assert {"[worker 0] a step to remember", "[worker 1] a step to remember"} <= said


def _warn(step: int, total: int) -> float:
    if step == 3:
        logging.getLogger("pyconv.test").warning("a step to %s", "remember")
    return 1.0


@pytest.mark.slow
def test_auto_takes_as_many_workers_as_are_advised_and_says_why(caplog, monkeypatch):
    x, y = data()
    with caplog.at_level(logging.INFO, "pyconv"):
        history = pyconv.fit(small_model(), x, y, epochs=1, batch_size=10, workers="auto", progress="off")
    assert 1 <= history[0]["workers"] <= threads.usable_cpus()
    assert f"workers auto: {history[0]['workers']}; " in caplog.text
    monkeypatch.setattr("pyconv.costmodel.advice.usable_cpus", lambda: 1)
    caplog.clear()
    with caplog.at_level(logging.INFO, "pyconv"):
        options = {"workers": "auto", "update": "ssp", "update_options": {"staleness": 1}}
        history = pyconv.fit(small_model(), x, y, epochs=1, progress="off", **options)
    assert history[0]["workers"] == 1
    assert "there is one CPU" in caplog.text and "staleness left aside" in caplog.text


@pytest.mark.slow
def test_auto_continues_with_as_many_workers_as_the_run_has(tmp_path):
    x, y = data()
    how = {"batch_size": 10, "out": tmp_path / "run", "progress": "off"}
    pyconv.fit(small_model(), x, y, epochs=1, workers=3, **how)
    history = pyconv.fit(small_model(), x, y, epochs=2, workers="auto", resume=True, **how)
    assert [line["workers"] for line in history] == [3, 3]


def test_bad_settings_are_refused_before_anything_is_started(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)  # it sends a lambda by value
    x, y = data()
    for settings, error, match in (
        ({"update": "gossip"}, UnknownNameError, "hogwild"),
        ({"update": "ssp", "options": {"stale": 3}}, UnknownNameError, "staleness"),
        ({"update": "ssp", "options": {"staleness": -1}}, InputError, "staleness"),
        ({"update": "easgd", "options": {"elastic_rho": 0}}, InputError, "elastic_rho"),
        ({"on_worker_failure": "pray"}, UnknownNameError, "restart"),
        ({"workers": 1000}, InputError, "240 images"),
        ({"schedule": lambda step, total: 1.0}, InputError, "top level"),
    ):
        with pytest.raises(error, match=match):
            engine_for(small_model(), x, y, job(**{"workers": 2, **settings}))
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with pytest.raises(SharedMemoryError, match=r"/dev/shm, and 1\.0 kB are left"):
        engine_for(small_model(), x, y, job(workers=2))


def test_shared_data_is_not_copied_again():
    x, y = data()
    shared = share(x)
    engine = ParameterServer(small_model(), np.asarray(shared), y, job(workers=2))
    assert engine._x.segment is shared.segment
    engine.close()
    np.testing.assert_array_equal(shared, x)


def test_a_rule_without_options_says_so() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown option of update 'sync' 'nix'; there is none"):
        rule_for("sync", {"nix": 1})
