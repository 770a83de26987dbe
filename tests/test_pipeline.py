"""Micro-batches and pipelines, on ranks that are threads of this process: the bits of the unsplit network.

tests/test_pipeline_mpi.py runs them on MPI.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import platform

import numpy as np
import pytest
from cluster_threads import on_ranks, with_sessions

import pyconv
from pyconv import costmodel, nn, optim
from pyconv.arithmetic import total
from pyconv.backends import get
from pyconv.cluster.data import distribute
from pyconv.cluster.pipeline import clipping
from pyconv.cluster.pipeline.stage import Stage
from pyconv.costmodel import Calibration, Fit
from pyconv.costmodel.network import layer_seconds
from pyconv.errors import CheckpointError, InputError, RunError
from pyconv.loop import fitting
from pyconv.nn.part import Part, borders, check_cut
from pyconv.optim.clipping import BLOCK, factor, sum_of_squares
from pyconv.parallel import Job, Weighing, engine_for
from pyconv.parallel.communicator import CHUNK
from pyconv.parallel.engine import epoch_order
from pyconv.parallel.stages import SCHEDULES, Stages

pytestmark = pytest.mark.timeout(120)

IMAGES = 86  # an epoch ends in a short step


def chain(dtype="float32"):
    layers = [
        nn.Conv2D(4, 3, padding=1), nn.ReLU(), nn.MaxPool2D(2), nn.Conv2D(6, 3, padding=1, bias=False), nn.BatchNorm(),
        nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Dense(16, activation="relu"), nn.BatchNorm(), nn.Dropout(0.2),
        nn.Dense(3),
    ]  # fmt: skip
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1, dtype=dtype)


def branches(dtype="float32"):
    layers = [
        nn.Dropout(0.1),
        nn.Conv2D(4, 3, padding=1, bias=False),
        nn.Residual([nn.Conv2D(4, 3, padding=1), nn.BatchNorm(), nn.Dropout(0.3)]),
        nn.ReLU(),
        nn.Parallel([[nn.Conv2D(3, 1)], [nn.Conv2D(2, 3, padding=1), nn.ReLU()]], join="concat"),
        nn.Residual([nn.Conv2D(5, 3, padding=1), nn.BatchNorm()], shortcut=[nn.Conv2D(5, 1)]),
        nn.GlobalAvgPool2D(),
        nn.Dense(3),
    ]
    return nn.Sequential(layers, input_shape=(6, 6, 1), seed=2, dtype=dtype)


NETWORKS = {"chain": chain, "branches": branches}
CUTS = {
    "chain": [(), (4,), (3, 8), (3, 5, 8), (3, 4, 6, 9)],
    "branches": [(), (2,), (1, 4), (2, 4, 5), (1, 2, 4, 6)],
}


def data(n=IMAGES):
    rng = np.random.default_rng(3)
    y = rng.integers(0, 3, n)
    x = rng.normal(size=(n, 6, 6, 1)).astype(np.float32)
    x[np.arange(n), y, y, 0] += 3
    return x, y


def job(micro=4, **settings):
    settings = {"optimizer": optim.SGD(0.05, momentum=0.9), "batch_size": 16, "epochs": 2, **settings}
    return Job(micro_batches=micro, threads_per_worker=1, **settings)


@dataclasses.dataclass
class Result:
    flat: np.ndarray
    buffers: np.ndarray
    reports: list
    state: dict
    statistics: dict


def _epochs(engine, plan, first, stop):
    """All steps from `first` on; up to `stop`, if that is given."""
    reports, per = [], engine.steps_per_epoch
    for epoch in range(first // per, plan.epochs):
        with contextlib.closing(engine.epoch(epoch, max(first - epoch * per, 0))) as steps:
            for each in steps:
                reports.append((each.step, each.images, each.loss, each.correct))
                if each.step == stop:
                    break
        if stop is not None and first + len(reports) == stop:
            break
    return reports, engine.state(), engine.statistics()


def unsplit(make, plan, frozen=(), state=None, values=None, first=0, stop=None):
    model = make()
    model.frozen = frozen
    if values is not None:
        model.flat[...], model.flat_buffers[...] = values
    engine = engine_for(model, *data(), plan)
    if state is not None:
        engine.load_state(state)
    found = _epochs(engine, plan, first, stop)
    return Result(model.flat.copy(), model.flat_buffers.copy(), *found)


def split(make, plan, frozen=(), state=None, values=None, first=0, stop=None, sharded=False, ranks=0):
    """The same in stages, or on `ranks`; the result of rank 0, which all others have to share."""

    def body(session):
        model = make()
        model.frozen = frozen
        x, y = data()
        session.prepare(plan)
        if sharded:
            x, y = distribute(session, x, y, "read")
        if not session.leads:
            session.follow(model, x, y, plan, lambda: None)
            return model.flat.copy(), model.flat_buffers.copy()
        if values is not None:
            model.flat[...], model.flat_buffers[...] = values
        engine = session.engine(model, x, y, plan, lambda number: None)
        if state is not None:
            engine.load_state(state)
        found = _epochs(engine, plan, first, stop)
        engine.close()
        session.finish(model, [])
        return Result(model.flat.copy(), model.flat_buffers.copy(), *found)

    leader, *others = raised(on_ranks(ranks or plan.workers * plan.stages.count, body))
    for flat, buffers in others:
        np.testing.assert_array_equal(flat, leader.flat)
        np.testing.assert_array_equal(buffers, leader.buffers)
    return leader


def raised(results):
    for each in results:
        if isinstance(each, BaseException):
            raise each
    return results


def in_stages(plan, cut, schedule="1f1b"):
    return dataclasses.replace(plan, stages=Stages(len(cut) + 1, cut, schedule))


def assert_same(one, other):
    np.testing.assert_array_equal(one.flat, other.flat)
    np.testing.assert_array_equal(one.buffers, other.buffers)
    assert one.reports == other.reports
    assert one.state.keys() == other.state.keys()
    for name, value in one.state.items():
        np.testing.assert_array_equal(value, other.state[name], err_msg=name)


# ---- micro-batches on one process -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("micro", [2, 4, 16])
def test_micro_batches_are_what_they_say(dtype, micro):
    """The literal form: each part's gradient by itself, their weighted sum, and the optimizer's step."""
    plan = job(micro, batch_size=32)
    found = unsplit(lambda: chain(dtype), plan)
    model, (x, y), optimizer = chain(dtype), data(), plan.optimizer
    model.threads, state, done = 1, optimizer.init(model.flat.size, dtype), 0
    for epoch in range(plan.epochs):
        order = epoch_order(y, plan, epoch, model.least_batch)
        for step in range(order.steps):
            whole, total = order.whole(step), np.zeros_like(model.flat)
            taken = [order.fine.batch(step, share) for share in range(micro)]
            assert np.concatenate(taken).tolist() == whole.tolist()
            first = 0
            for part in filter(len, taken):
                _, gradient = model.loss_and_gradient(x[part], y[part], step=done, first=first)
                total += gradient * gradient.dtype.type(len(part) / len(whole))
                first += len(part)
            done += 1
            optimizer.update(model.flat, total, state, done, plan.learning_rate(done, order.steps))
    np.testing.assert_array_equal(found.flat, model.flat)
    np.testing.assert_array_equal(found.buffers, model.flat_buffers)


def test_one_micro_batch_is_the_usual_step():
    assert_same(unsplit(chain, job(1)), unsplit(chain, Job(optim.SGD(0.05, momentum=0.9), 16, 2, threads_per_worker=1)))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="elsewhere compilers fuse a multiplication with an addition")
def test_without_batch_norm_micro_batches_are_workers_of_sync():
    def make():
        layers = [nn.Conv2D(4, 3), nn.Dropout(0.3), nn.Flatten(), nn.Dense(3)]
        return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1)

    workers = Job(optim.SGD(0.05, momentum=0.9), 4, 2, workers=4, threads_per_worker=1, clip_norm=0.5)

    def body(session):
        model = make()
        session.prepare(workers)
        if not session.leads:
            return session.follow(model, *data(80), workers, lambda: None)
        found = _epochs(session.engine(model, *data(80), workers, lambda number: None), workers, 0, None)
        session.finish(model, [])
        return model, found[0]

    other, reports = raised(on_ranks(2, body))[0]
    mine, plan = make(), job(4, clip_norm=0.5)
    assert _epochs(engine_for(mine, *data(80), plan), plan, 0, None)[0] == reports
    np.testing.assert_array_equal(mine.flat, other.flat)


def test_short_steps_leave_no_empty_micro_batch():
    for images, micro in itertools.product(range(17, 40), (2, 4, 8)):
        plan = job(micro)
        order = epoch_order(np.arange(images) % 3, plan, 0, 1)
        for step in range(order.steps):
            found = order.micro(step, 0)
            assert sum(each.images for each in found) == order.count(step)
            assert min(each.images for each in found) >= 1
            assert math.isclose(sum(each.weight for each in found), 1)
            ends = list(itertools.accumulate(each.images for each in found))
            assert [each.first for each in found] == [0, *ends[:-1]]


# ---- pipelines ------------------------------------------------------------------------------------

PLANS = {
    "plain": {},
    "clipped": {"clip_norm": 0.3},
    "flipped": {"augment": {"flip": True, "shift": 1}},
    "weighted": {"weighing": Weighing(np.linspace(0.2, 2, IMAGES), np.array([1.0, 2.0, 0.5]), 0.1)},
    "adam": {"optimizer": optim.Adam(1e-2)},
}


@pytest.mark.covering("network stages", "plan", "schedule micro", most=12)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("stages", range(1, 6))
@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("micro", [1, 2, 4, 8])
@pytest.mark.parametrize("plan", PLANS)
def test_a_pipeline_has_the_bits_of_the_unsplit_network(network, stages, schedule, micro, plan):
    run = job(micro, **PLANS[plan])
    found = split(NETWORKS[network], in_stages(run, CUTS[network][stages - 1], schedule))
    assert_same(found, unsplit(NETWORKS[network], run))
    alive = min(stages, micro) if schedule == "1f1b" else micro
    assert found.statistics["micro_batches_alive_max"] == alive
    assert 0 <= found.statistics["bubble_mean"] <= 1


def test_in_float64():
    run = job(4)
    assert_same(split(lambda: chain("float64"), in_stages(run, (3, 8))), unsplit(lambda: chain("float64"), run))


@pytest.mark.parametrize("frozen", [[0], [0, 3], [3, 8], [0, "BatchNorm"]])
def test_frozen_layers(frozen):
    """Where nothing is trained before a stage, no gradient goes back to the stages before it."""
    model = chain()
    ways = model.which(frozen)
    run = job(4, clip_norm=0.5)
    assert_same(split(chain, in_stages(run, (3, 4, 8)), ways), unsplit(chain, run, ways))


def test_stages_without_parameters():
    def make():
        layers = [nn.Flatten(), nn.Dropout(0.1), nn.Dense(8), nn.Dropout(0.5), nn.Dense(3), nn.Dropout(0.0)]
        return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1)

    run = job(4, clip_norm=0.5)
    assert_same(split(make, in_stages(run, (1, 2, 3, 4, 5))), unsplit(make, run))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_result_that_lies_where_its_input_arrived_is_not_written_over(schedule):
    """A stage that is a residual block alone gives its input's gradient in the memory of its output's."""
    run = job(8)
    assert_same(split(branches, in_stages(run, (2, 4), schedule)), unsplit(branches, run))


def test_images_of_which_each_rank_begins_with_a_part():
    run = job(4)
    assert_same(split(chain, in_stages(run, (3, 8)), sharded=True), unsplit(chain, run))


@pytest.mark.parametrize("stop", [3, 6, 8])
def test_a_run_goes_on_to_the_same_bits_with_other_stages(stop):
    run = job(4, optimizer=optim.Adam(1e-2), clip_norm=0.5)
    whole = unsplit(branches, run)
    begun = split(branches, in_stages(run, (2, 4)), stop=stop)
    assert begun.reports == whole.reports[:stop]
    for other in (in_stages(run, (1, 4, 5), "gpipe"), in_stages(run, (2,))):
        found = split(branches, other, state=begun.state, values=(begun.flat, begun.buffers), first=stop)
        np.testing.assert_array_equal(found.flat, whole.flat)
        np.testing.assert_array_equal(found.buffers, whole.buffers)
        assert found.reports == whole.reports[stop:]
    alone = unsplit(branches, run, state=begun.state, values=(begun.flat, begun.buffers), first=stop)
    np.testing.assert_array_equal(alone.flat, whole.flat)


def test_a_state_of_another_run_is_refused():
    run = in_stages(job(4), (4,))
    state = unsplit(chain, job(4, optimizer=optim.Adam())).state
    for damaged in (state, {"step": np.array(-1), "optimizer.momentum": np.zeros(3, np.float32)}):
        with pytest.raises(CheckpointError):
            split(chain, run, state=damaged)


# ---- several pipelines side by side ---------------------------------------------------------------


def workers_of_sync(make, plan, frozen=()):
    """As many workers that compute the whole network, with the same micro-batches."""
    return split(make, plan, frozen, ranks=min(plan.workers, 2))


@pytest.mark.covering("network", "stages replicas", "plan", "micro", most=8)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("stages", "replicas"), [(1, 2), (2, 2), (3, 2), (2, 3), (2, 4)])
@pytest.mark.parametrize("micro", [1, 2, 4])
@pytest.mark.parametrize("plan", PLANS)
def test_replicas_have_the_bits_of_as_many_workers_of_sync(network, stages, replicas, micro, plan):
    run = job(micro, batch_size=8, workers=replicas, **PLANS[plan])
    whole = workers_of_sync(NETWORKS[network], run)
    found = split(NETWORKS[network], in_stages(run, CUTS[network][stages - 1]))
    np.testing.assert_array_equal(found.flat, whole.flat)
    np.testing.assert_array_equal(found.buffers, whole.buffers)
    assert found.reports == whole.reports
    for name in run.optimizer.state_names:
        np.testing.assert_array_equal(found.state[f"optimizer.{name}"], whole.state[f"optimizer.{name}"])


@pytest.mark.parametrize("replicas", [1, 2])
def test_the_clipped_norm_of_many_parameters(replicas):
    def make():
        layers = [nn.Flatten(), nn.Dense(1500), nn.ReLU(), nn.Dense(200), nn.Dense(3)]
        return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1)

    run = job(2, batch_size=16, workers=replicas, clip_norm=0.01, epochs=1)
    assert make().flat.size > 2 * CHUNK
    whole = workers_of_sync(make, run) if replicas > 1 else unsplit(make, run)
    np.testing.assert_array_equal(split(make, in_stages(run, (3, 4))).flat, whole.flat)


@pytest.mark.parametrize("clip", [None, 0.1])
def test_replicas_without_images_in_the_last_step(clip):
    def make():
        layers = [nn.Conv2D(4, 3), nn.Dropout(0.3), nn.Flatten(), nn.Dense(3)]
        return nn.Sequential(layers, input_shape=(6, 6, 1), seed=1)

    assert IMAGES % 85 == 1
    run = job(1, batch_size=17, workers=5, clip_norm=clip)
    found, whole = split(make, in_stages(run, (2,), "gpipe")), workers_of_sync(make, run)
    assert found.reports == whole.reports
    np.testing.assert_array_equal(found.flat, whole.flat)


@pytest.mark.slow
def test_workers_with_micro_batches_on_one_machine():
    run = job(2, batch_size=8, workers=2, clip_norm=0.5)
    assert_same(workers_of_sync(chain, run), unsplit(chain, run))
    run = job(2, batch_size=8, workers=2)
    ways = chain().which([0, 3])
    whole = unsplit(chain, run, ways)
    found = split(chain, in_stages(run, (4, 8)), ways)
    np.testing.assert_array_equal(found.flat, whole.flat)
    np.testing.assert_array_equal(found.buffers, whole.buffers)


@pytest.mark.parametrize("sharded", [False, True])
def test_a_run_of_replicas_goes_on_to_the_same_bits(sharded):
    run = job(2, batch_size=8, workers=2, optimizer=optim.Adam(1e-2))
    whole = split(chain, in_stages(run, (3, 8)), sharded=sharded)
    begun = split(chain, in_stages(run, (3, 8)), stop=4, sharded=sharded)
    values = (begun.flat, begun.buffers)
    found = split(chain, in_stages(run, (5,)), state=begun.state, values=values, first=4, sharded=sharded)
    np.testing.assert_array_equal(found.flat, whole.flat)
    np.testing.assert_array_equal(found.buffers, whole.buffers)
    assert found.reports == whole.reports[4:]
    with pytest.raises(CheckpointError, match="running statistics of replicas"):
        split(chain, in_stages(run, (5,)), state=unsplit(chain, job(2, optimizer=optim.Adam(1e-2))).state)


# ---- the norm of a gradient that is spread --------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 2 * BLOCK])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_norm_over_stages_has_the_bits_of_the_norm_in_one_place(dtype, chunk):
    rng = np.random.default_rng()
    for _ in range(20):
        size, stages = int(rng.integers(1, 6 * BLOCK)), int(rng.integers(1, 6))
        near = [int(each) for each in (BLOCK * rng.integers(0, 7, 2) + rng.integers(-1, 2, 2)) if 0 <= each <= size]
        ends = sorted([0, size, *near, *map(int, rng.integers(0, size + 1, stages))])[: stages + 1]
        ends[-1] = size
        whole = rng.normal(size=size).astype(dtype)
        spans = [slice(*pair) for pair in itertools.pairwise(ends)]

        def body(session, whole=whole, spans=spans):
            return clipping.shrink(whole[spans[session.rank]], 0.5, spans, session.world, chunk)

        if len(spans) > 1:
            found = raised(on_ranks(len(spans), body))
            step = chunk or size
            squares = total(sum_of_squares(whole[at : at + step]) for at in range(0, size, step))
            assert found == [factor(math.sqrt(squares), 0.5)] * len(spans)


# ---- cuts -----------------------------------------------------------------------------------------


def test_where_a_network_can_be_cut():
    assert list(borders(chain())) == [0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert list(borders(branches())) == [0, 1, 2, 4, 5, 6, 7, 8]
    for cut, said in [
        ((2,), "cut 2 would part layers that are computed together, ReLU and MaxPool2D: cut at 3"),
        ((0,), "cut 0 is outside the network's 12 layers: take numbers from 1 to 11"),
        ((12,), "cut 12 is outside"),
        ((8, 3), "cut 8,3 must be layers in rising order"),
        ((3, 3), "cut 3,3 must be layers in rising order"),
    ]:
        with pytest.raises(InputError, match=said):
            check_cut(chain(), cut)
    with pytest.raises(InputError, match="Residual and ReLU: cut at 2 or 4"):
        check_cut(branches(), (3,))


def _constants():
    fit = Fit(1e-9, 1e-10, 1e-8, "s", 5)
    return Calibration({"serial": {"direct": fit}}, {"serial": {"direct": fit}}, fit, fit, fit, fit, 1, {"serial": 0.0})


@pytest.mark.parametrize("name", ["lenet", "fer", "resnet18", "squeezenet"])
@pytest.mark.parametrize("stages", [2, 3, 4])
def test_no_other_cut_has_a_faster_slowest_stage(name, stages):
    model, known = nn.build(name, input_shape=(32, 32, 1), classes=7), _constants()
    each = layer_seconds(model, 16, known, backend="serial")
    assert sum(each) == pytest.approx(costmodel.network.estimated_seconds(model, 16, known, backend="serial"))

    def slowest(cut):
        return max(sum(each[first:last]) for first, last in itertools.pairwise([0, *cut, len(each)]))

    found = costmodel.cut(model, stages, 16, backend="serial", calibration=known)
    check_cut(model, found)
    assert len(found) == stages - 1
    places = list(borders(model))[1:-1]
    assert slowest(found) == pytest.approx(min(map(slowest, itertools.combinations(places, stages - 1))))


def test_a_network_has_only_so_many_stages():
    assert costmodel.cut(chain(), 1) == ()
    assert costmodel.cut(branches(), 7) == (1, 2, 4, 5, 6, 7)
    with pytest.raises(InputError, match="8 stages are more than the network's 8 layers, of which 7 can be parted"):
        costmodel.cut(branches(), 8)


# ---- some layers by themselves --------------------------------------------------------------------


def test_stages_hold_the_work_arrays_of_their_own_layers():
    """One micro-batch through the parts of a network, and through the whole: the same bits, in less memory each."""
    layers = [nn.Conv2D(16, 3, padding=1, activation="relu") for _ in range(9)]
    whole = nn.Sequential([*layers, nn.GlobalAvgPool2D(), nn.Dense(7)], input_shape=(24, 24, 1))
    whole.backend = "serial"
    rng = np.random.default_rng()
    x, y = rng.normal(size=(8, 24, 24, 1)).astype(np.float32), rng.integers(0, 7, 8)
    loss, gradient = whole.loss_and_gradient(x, y, step=3, first=5)
    how = {"backend": "serial", "threads": 1, "algorithm": "auto"}
    parts = [Part(whole, *pair, 1, **how) for pair in ((0, 3), (3, 6), (6, 11))]
    value = x
    for part in parts:
        value = part.forward(0, value, 3, 5)
    found, _, error = parts[-1].loss(0, y, None)
    for part in reversed(parts):
        error = part.backward(0, error)
    assert (found, error) == (loss, None)
    np.testing.assert_array_equal(np.concatenate([part.gradient for part in parts]), gradient)
    most = whole._home(get("serial")).nbytes
    assert max(part.nbytes for part in parts) < 0.6 * most


# ---- ends -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("guilty", [0, 1, 2])
@pytest.mark.parametrize("way", ["_forward", "_backward"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_rank_that_fails_ends_all_by_its_name(monkeypatch, guilty, way, schedule):
    usual, calls = getattr(Stage, way), [0] * 3

    def spoilt(self, *args):
        calls[self.stage] += 1
        if self.stage == guilty and calls[self.stage] == 6:
            raise ValueError("planted")
        return usual(self, *args)

    monkeypatch.setattr(Stage, way, spoilt)
    plan = in_stages(job(4, clip_norm=0.5), (3, 8), schedule)

    def body(session):
        model, (x, y) = chain(), data()
        session.prepare(plan)
        if session.leads:
            return _epochs(session.engine(model, x, y, plan, lambda number: None), plan, 0, None)
        return session.follow(model, x, y, plan, lambda: None)

    found = on_ranks(3, body)
    for rank, error in enumerate(found):
        assert isinstance(error, ValueError if rank == guilty else RunError)
        if rank != guilty:
            assert str(error) == f"rank {guilty} on here: failed: ValueError: planted"


# ---- fit() ----------------------------------------------------------------------------------------


@pytest.fixture
def fit_on_ranks(monkeypatch):
    """``fit_on_ranks(size, **settings)``: fit() on ranks; returns each rank's history or error, and its model."""
    play = with_sessions(monkeypatch, fitting)

    def run(size, of_rank_1=None, **settings):
        def body(session):
            model = chain()
            given = {"epochs": 2, "batch_size": 16, "progress": "off", "threads_per_worker": 1, **settings}
            given.update(of_rank_1 or {} if session.rank == 1 else {})
            return pyconv.fit(model, *data(), **given), model

        return play(size, body)

    return run


def _numbers(history):
    return [(line["train_loss"], line["train_accuracy"], line["val_loss"], line["val_accuracy"]) for line in history]


def test_fit_gives_the_history_and_model_of_one_process_to_all(fit_on_ranks, tmp_path):
    settings = {"validation": data(40), "micro_batches": 4, "clip_norm": 1.0}
    model = chain()
    alone = pyconv.fit(
        model, *data(), epochs=2, batch_size=16, progress="off", threads_per_worker=1, out=tmp_path / "one", **settings
    )
    found = raised(fit_on_ranks(3, pipeline_stages=3, cut=[3, 8], out=tmp_path / "three", **settings))
    for history, other in found:
        assert _numbers(history) == _numbers(alone)
        np.testing.assert_array_equal(other.flat, model.flat)
        np.testing.assert_array_equal(other.flat_buffers, model.flat_buffers)
    assert "bubble_mean" in found[0][0][0]
    x = data(40)[0]
    np.testing.assert_array_equal(nn.load(tmp_path / "three" / "model.safetensors").predict(x), model.predict(x))


def test_fit_is_continued_with_the_recorded_split_or_another(fit_on_ranks, tmp_path):
    settings = {"validation": data(40), "optimizer": {"name": "sgd", "lr": 0.05}}
    settings["schedule"] = {"name": "constant", "warmup": 0.0}
    model, alone = chain(), {"batch_size": 16, "progress": "off", "threads_per_worker": 1}
    pyconv.fit(model, *data(), epochs=4, micro_batches=4, **alone, **settings)
    for name, asked, size in (("as", {}, 3), ("two", {"pipeline_stages": 2, "cut": [5]}, 2)):
        out = tmp_path / name
        raised(fit_on_ranks(3, pipeline_stages=3, cut=[3, 8], micro_batches=4, out=out, **settings))
        found = raised(fit_on_ranks(size, epochs=4, out=out, resume=True, **asked, **settings))
        np.testing.assert_array_equal(found[0][1].flat, model.flat)
    out = tmp_path / "one"
    raised(fit_on_ranks(3, pipeline_stages=3, cut=[3, 8], micro_batches=4, out=out, **settings))
    found = chain()
    with pytest.raises(CheckpointError, match="micro_batches 4, not 2"):
        pyconv.fit(found, *data(), epochs=4, micro_batches=2, progress="off", out=out, resume=True, **settings)
    pyconv.fit(found, *data(), epochs=4, progress="off", threads_per_worker=1, out=out, resume=True, **settings)
    np.testing.assert_array_equal(found.flat, model.flat)
    assert "stages were 3 and are 1 from here on" in (out / "log.txt").read_text()


def test_fit_on_twice_as_many_ranks_has_two_pipelines(fit_on_ranks, tmp_path):
    settings = {"micro_batches": 2, "batch_size": 8, "validation": data(40), "clip_norm": 1.0}
    whole = raised(fit_on_ranks(2, **settings))
    found = raised(fit_on_ranks(4, cut=[5], out=tmp_path / "run", **settings))
    for history, model in found:
        assert _numbers(history) == _numbers(whole[0][0])
        np.testing.assert_array_equal(model.flat, whole[0][1].flat)
        np.testing.assert_array_equal(model.flat_buffers, whole[0][1].flat_buffers)
    longer = {**settings, "epochs": 3, "out": tmp_path / "run", "resume": True}
    continued = raised(fit_on_ranks(4, **longer))
    assert continued[0][0][-1]["epoch"] == 3
    for size, asked, said in [
        (2, {"pipeline_stages": 2}, "a run of 2 workers cannot be continued as 1 times 2 stages"),
        (3, {}, "2 stages do not fit 3 ranks"),
    ]:
        for error in fit_on_ranks(size, **{**longer, "epochs": 4}, **asked):
            assert isinstance(error, InputError)
            assert said in str(error)
    with pytest.raises(InputError, match="a run of 2 times 2 stages is continued on as many ranks: mpiexec -n 4"):
        pyconv.fit(chain(), *data(), progress="off", **{**longer, "epochs": 4})


def test_fit_lets_the_cost_model_cut(fit_on_ranks, monkeypatch):
    monkeypatch.setattr(costmodel.layers, "_here", lambda backend: _constants())
    found = fit_on_ranks(2, pipeline_stages=2, micro_batches=2, backend="serial")
    model = chain()
    pyconv.fit(model, *data(), epochs=2, batch_size=16, micro_batches=2, progress="off", backend="serial")
    np.testing.assert_array_equal(raised(found)[1][1].flat, model.flat)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pipeline_stages": 11}, "11 stages are more than the network's 12 layers, of which 10 can be parted"),
        ({"pipeline_stages": 2, "micro_batches": 5}, "5 micro-batches do not divide a batch of 16 images: take 4, say"),
        ({"pipeline_stages": 2, "micro_batches": 0}, "micro_batches must be"),
        ({"pipeline_stages": 0}, "pipeline_stages must be"),
        ({"cut": [12]}, "cut 12 is outside the network's 12 layers"),
        ({"cut": [1]}, "computed together"),
        ({"cut": "3"}, "cut must be layers"),
        ({"pipeline_stages": 2, "cut": [3, 8]}, "cut 3,8 makes 3 stages, not 2"),
        ({"pipeline_stages": 3}, "3 stages do not fit 2 ranks"),
        ({"pipeline_stages": 2, "pipeline_schedule": "2f2b"}, "pipeline schedule"),
        (
            {"pipeline_stages": 2, "update": "local"},
            "stages of a pipeline are there under update sync only, not under local",
        ),
        ({"pipeline_stages": 2, "workers": 2}, "workers of a rank and stages of a pipeline do not go together"),
        ({"pipeline_stages": 2, "micro_batches": 16}, "leave fewer than 2 images"),
        ({"pipeline_stages": 2, "backend": "cuda"}, "cuda"),
        ({"pipeline_stages": 2, "split": "filters"}, "split filters and stages of a pipeline do not go together"),
        ({"micro_batches": 2, "split": "filters"}, "split filters and micro-batches do not go together"),
        ({"pipeline_stages": 2, "wire": "float16"}, "wire float16 is for whole networks"),
    ],
)
def test_what_is_refused_is_refused_by_all_before_anything_is_written(fit_on_ranks, tmp_path, settings, said):
    for error in fit_on_ranks(2, out=tmp_path / "run", **settings):
        assert isinstance(error, InputError)
        assert said in str(error)
        assert "\n" not in str(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "other", "said"),
    [
        ({}, {"cut": [5]}, "given another pipeline"),
        ({"cut": [5]}, {"cut": None}, "given another pipeline"),
        ({"cut": [5]}, {"cut": [6]}, "given another pipeline"),
        ({"cut": [5]}, {"pipeline_schedule": "gpipe"}, "given another pipeline"),
        ({"cut": [5], "micro_batches": 2}, {"micro_batches": 4}, "given another micro_batches (4) than"),
        ({"cut": [5]}, {"micro_batches": 5}, "5 micro-batches do not divide"),
    ],
)
def test_an_option_of_one_rank_only_is_refused(fit_on_ranks, tmp_path, settings, other, said):
    for error in fit_on_ranks(2, other, out=tmp_path / "run", **settings):
        assert isinstance(error, InputError)
        assert said in str(error)
        assert str(error).startswith("rank 1 on here")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"pipeline_stages": 2}, "2 stages do not fit 1 rank: .* mpiexec -n 2"),
        ({"micro_batches": 3}, "3 micro-batches do not divide a batch of 16 images: take 2, say"),
        ({"micro_batches": 2, "update": "async"}, "micro-batches are there under update sync only, not under async"),
    ],
)
def test_what_one_process_refuses(tmp_path, settings, said):
    with pytest.raises(InputError, match=said):
        pyconv.fit(chain(), *data(), batch_size=16, progress="off", out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
