"""Update rules that wait for nobody, on ranks that are threads of this process.

tests/test_cluster_mpi.py runs them on MPI.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections import Counter

import numpy as np
import pytest
from cluster_threads import ThreadWorld, on_ranks
from parallel_runs import data, job, small_model

from pyconv import optim
from pyconv.cluster import data as sharing
from pyconv.cluster.following import Follower
from pyconv.errors import CheckpointError, DivergedError, InputError, RunError
from pyconv.parallel import InProcess, Rule, rule_for
from pyconv.parallel.kernels import kernel
from pyconv.parallel.replay import replay
from pyconv.parallel.server import ParameterServer

pytestmark = pytest.mark.timeout(120)

RULES = {
    "async": {},
    "async-shared": {"shared_state": True},
    "async-aware": {"staleness_aware": True},
    "ssp": {"staleness": 1},
    "ssp-shared": {"staleness": 0, "shared_state": True},
    "hogwild": {},
    "hogwild-shared": {"shared_state": True},
    "easgd": {"sync_every": 3, "moving_rate": 0.3},
}


def plan(name, lanes=4, **settings):
    return job(rule_for(name.partition("-")[0], RULES[name]), workers=lanes, **settings)


@dataclasses.dataclass
class Result:
    flat: np.ndarray
    losses: list
    images: int
    state: dict
    statistics: dict
    records: list
    lanes: list  # which lane has done each mini-batch, for each epoch


def of_ranks(size, run, *, state=None, flat=None, stop=None, first=0, look=None, shard=False):
    """Train on ranks; the result at rank 0, and what the others have."""

    def body(session):
        model = small_model(norm=True)
        if flat is not None and session.leads:
            model.flat[...], model.flat_buffers[...] = flat
        x, y = data()
        if shard:
            x, y = sharing.distribute(session, x, y, "read")
        session.prepare(run)
        if not session.leads:
            follower = Follower(session.rounds, session.world, model, x, y, run, 1)
            if look is not None:
                look(session.rank, follower._node)
            follower.follow()
            return model.flat.copy()
        engine = session.engine(model, x, y, run, lambda number: None)
        if look is not None:
            look(0, engine._node)
        found = _epochs(engine, run, state, stop, first)
        engine.close()
        session.finish(model, [])
        return dataclasses.replace(found, flat=model.flat.copy())

    return on_ranks(size, body)


def _epochs(engine, run, state=None, stop=None, first=0):
    if state is not None:
        engine.load_state(state)
    losses, images, records, lanes, done = [], 0, [], [], first
    for epoch in range(max(first - 1, 0) // engine.steps_per_epoch, run.epochs):
        with contextlib.closing(engine.epoch(epoch, max(first - epoch * engine.steps_per_epoch, 0))) as steps:
            for report in steps:
                done, images = done + 1, images + report.images
                losses.append(report.loss)
                assert report.step == done
                if done == stop:
                    break
        if hasattr(engine, "_node"):
            records.append(engine.record())
            lanes.append(engine._node.lanes.unit_lane.copy())
        if done == stop:
            break
    return Result(np.empty(0), losses, images, engine.state(), engine.statistics(), records, lanes)


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_every_image_is_used_once_and_the_network_learns(name, shard, rng):
    size = int(rng.integers(2, 5))
    print(size)
    # Under easgd each lane descends by itself, with a fourth of the mini-batches.
    optimizer = optim.SGD(0.06 if name == "easgd" else 0.02, momentum=0.5)
    leader, *others = of_ranks(size, plan(name, optimizer=optimizer), shard=shard)
    assert leader.images == 2 * 240
    assert np.mean(leader.losses[-4:]) < 0.7 * np.mean(leader.losses[:4])
    assert leader.state["used"].all() and sorted(leader.state["finished"].tolist()) == list(range(48))
    for lanes in leader.lanes:
        if size in (2, 4):  # a rank's lanes take only mini-batches of their own
            np.testing.assert_array_equal(lanes * size // 4, np.arange(48) % 4 * size // 4)
    assert leader.state["turn"].sum() == 2 * 48
    for other in others:
        np.testing.assert_array_equal(other, leader.flat)
    if name != "easgd":
        histogram = leader.statistics["staleness_histogram"]
        assert sum(histogram) == 2 * 48
        assert leader.statistics["staleness_max"] == len(histogram) - 1 >= 1
        assert int(leader.state["sequence"]) == 2 * 48


@pytest.mark.parametrize("name", ["async", "async-shared", "async-aware", "ssp", "ssp-shared"])
@pytest.mark.parametrize("size", [2, 3])
def test_a_replay_gives_the_bits_of_the_run(name, size):
    run = plan(name, clip_norm=0.5)
    leader = of_ranks(size, run, shard=size == 3)[0]
    model = small_model(norm=True)
    replay(model, *data(), run, leader.records)
    np.testing.assert_array_equal(leader.flat, model.flat)


def test_no_lane_is_further_ahead_than_ssp_lets_it(rng):
    """Each lane's number of mini-batches, when it begins one, against the slowest lane's."""
    done, lock, ahead = Counter(), threading.Lock(), []

    def look(rank, node):
        compute = node.work.compute

        def counted(lane, at, buffers):
            with lock:
                ahead.append(done[lane.index] - min(done[other] for other in range(4)))
            loss = compute(lane, at, buffers)
            with lock:
                done[lane.index] += 1
            return loss

        node.work.compute = counted

    of_ranks(2, plan("ssp", epochs=1), look=look)
    # A lane begins when the slowest has done as many mini-batches as it, less the bound; and that one may be done in
    # the meantime with its gradient and not have come to its next.
    assert 0 < max(ahead) <= 1 + 1


@pytest.mark.parametrize("slow", [0, 1])
def test_a_fast_rank_runs_ahead_of_a_slow_one_by_the_bound(slow):
    """The slow rank is within its first mini-batch until a lane of the other one has begun its fourth."""
    pulled, ahead = threading.Event(), threading.Event()

    def look(rank, node):
        compute, done = node.work.compute, Counter()

        def counted(lane, at, buffers):
            if rank == slow:
                pulled.set()
                assert ahead.wait(30), "the fast rank is held although the bound allows more"
            else:
                assert pulled.wait(30)
                if done[lane.index] == 3:
                    ahead.set()
            done[lane.index] += 1
            return compute(lane, at, buffers)

        node.work.compute = counted

    leader = of_ranks(2, job(rule_for("ssp", {"staleness": 3}), workers=2, epochs=1), look=look)[0]
    assert not isinstance(leader, BaseException), leader
    assert leader.statistics["staleness_max"] >= 3  # the slow rank's push comes after three of the fast one


def test_what_a_lane_has_done_is_known_while_its_neighbour_computes():
    late = []

    def look(rank, node):
        if rank:
            return
        compute, done = node.work.compute, Counter()

        def counted(lane, at, buffers):
            arrived = node.lanes.desk._arrived
            late.extend(done[other] - arrived[other] for other in node.lanes.own)
            loss = compute(lane, at, buffers)
            done[lane.index] += 1
            return loss

        node.work.compute = counted

    of_ranks(2, plan("ssp", epochs=1), look=look)
    assert late and max(late) <= 0  # a lane that will begin none any more has come further than all


@pytest.mark.parametrize("name", ["async", "ssp-shared", "hogwild", "easgd"])
def test_a_run_goes_on_on_other_ranks_and_on_one_machine(name, rng):
    run, stop = plan(name), int(rng.integers(1, 23))
    print(f"stops after step {stop}")
    begun = of_ranks(3, run, stop=stop)[0]
    assert begun.state["used"].sum() == len(begun.state["finished"]) >= stop % 12 * 4
    flat = begun.flat, small_model(norm=True).flat_buffers
    rest = of_ranks(2, run, state=begun.state, flat=flat, first=stop)[0]
    assert begun.images + rest.images == 2 * 240
    assert rest.state["used"].all() and rest.state["turn"].sum() == 2 * 48
    if name != "async":
        return
    model = small_model(norm=True)
    model.flat[...] = begun.flat
    engine = ParameterServer(model, *data(), run)
    try:
        on_one = _epochs(engine, run, begun.state, None, stop)
    finally:
        engine.close()
    assert begun.images + on_one.images == 2 * 240


# ---- what kernels may do --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Tally(Rule):
    """Adds 1 to all parameters, and to the optimizer's state, for each mini-batch, in one of many ways."""

    how: str = "declared"

    name = "tally"
    replicas = True

    def begin(self, lane):
        yield lane.sweep(self.pull, locked=True)

    def step(self, lane):
        if self.how == "racy":
            yield lane.gradient("centre")
            yield lane.sweep(self.add_racy)
            return
        yield lane.gradient("replica")
        yield lane.sweep(self.nothing)
        if self.how == "declared":
            yield lane.sweep(self.add, locked=True)
        elif self.how == "undeclared":
            yield lane.sweep(self.add_undeclared, locked=True)
        else:
            yield lane.sweep(self.read, locked=True)
            yield lane.sweep(self.add, locked=True)

    @kernel(pull=True)
    def pull(self, c):
        c.replica[...] = c.centre

    @kernel(writes=("replica",))
    def nothing(self, c):
        c.replica[...] += 0

    @kernel()
    def read(self, c):
        c.replica[...] = c.centre + c.state[STATE]

    @kernel(writes=("centre", "state"), gradient=True, push=True)
    def add(self, c):
        c.centre[...] += 1
        c.state[STATE] += 1

    @kernel(gradient=True, push=True)
    def add_undeclared(self, c):
        c.centre[...] += 1
        c.state[STATE] += 1

    @kernel(gradient=True, push=True, racy=True)
    def add_racy(self, c):
        c.centre[...] += 1
        c.state[STATE] += 1


STATE = optim.SGD(0.1, momentum=0.9).state_names[0]


@pytest.mark.parametrize("how", ["declared", "undeclared", "twice", "racy"])
@pytest.mark.parametrize("size", [2, 4])
def test_no_change_is_lost(how, size):
    run = job(Tally(how), workers=4, epochs=1)
    before = small_model(norm=True).flat
    leader = of_ranks(size, run)[0]
    if how == "racy":  # rank 0's own lanes and its thread may change the same number at the same moment
        assert (leader.flat - before > 36).all()
        return
    np.testing.assert_allclose(leader.flat - before, 48, rtol=1e-5)
    np.testing.assert_array_equal(leader.state[f"optimizer.{STATE}"], 48)
    assert int(leader.state["sequence"]) == 48


@dataclasses.dataclass(frozen=True)
class Nosy(Rule):
    """Reads what the others have in the middle of an epoch."""

    name = "nosy"
    replicas = True

    def step(self, lane):
        yield lane.gradient("replica")
        yield lane.sweep(self.average, locked=True)

    @kernel(writes=("centre",), gradient=True, push=True)
    def average(self, c):
        c.centre[...] = c.mean(c.replicas)


def test_a_rule_that_reads_all_lanes_vectors_is_refused():
    errors = of_ranks(2, job(Nosy(), workers=2))
    assert all("reads all lanes' replicas while they wait for nobody" in str(error) for error in errors), errors


# ---- ends -----------------------------------------------------------------------------------------


def _planted(at):
    raise ValueError("planted")


def _spoil(guilty, fault, after=5):
    def look(rank, node):
        if rank not in guilty:
            return
        compute, calls = node.work.compute, [0]

        def spoilt(lane, at, buffers):
            calls[0] += 1
            return compute(lane, fault(at) if calls[0] == after else at, buffers)

        node.work.compute = spoilt

    return look


@pytest.mark.parametrize("guilty", [0, 1, 2])
@pytest.mark.parametrize("name", ["async", "ssp", "hogwild", "easgd"])
def test_an_exception_on_one_rank_ends_all(guilty, name, rng):
    after = int(rng.integers(1, 33))  # up to the last of the second epoch
    print(after)
    errors = of_ranks(3, plan(name, 3), look=_spoil({guilty}, _planted, after))
    for rank, error in enumerate(errors):
        if rank == guilty:
            assert isinstance(error, ValueError)
        else:
            assert isinstance(error, RunError)
            assert str(error) == f"rank {guilty} on here: failed: ValueError: planted"
            assert error.told == (rank != 0)


@pytest.mark.parametrize("guilty", [0, 1])
def test_a_gradient_that_is_not_finite_stops_all(guilty):
    errors = of_ranks(2, plan("async", 2), look=_spoil({guilty}, lambda at: np.full_like(at, np.nan), 1))
    assert all(type(error) is DivergedError for error in errors), errors
    expected = f"rank {guilty} on here: the gradient is not finite (loss nan) in epoch 1, step 1"
    assert {str(error) for error in errors} == {expected}


def test_another_runs_state_is_refused():
    begun = of_ranks(2, plan("async"), stop=3)[0]
    errors = of_ranks(2, plan("async", 2), state=begun.state)
    assert all(isinstance(error, CheckpointError) for error in errors)


def test_an_mpi_for_one_thread_is_refused(monkeypatch):
    monkeypatch.setattr(ThreadWorld, "serialized", False)
    errors = of_ranks(2, plan("ssp", 2))
    assert all(isinstance(error, InputError) and "MPI_THREAD_SERIALIZED" in str(error) for error in errors)


def test_more_lanes_than_images_are_refused():
    errors = of_ranks(2, plan("async", 500, batch_size=1))
    assert all(isinstance(error, InputError) and "only 240 images" in str(error) for error in errors)


def test_the_accuracy_is_that_of_one_worker():
    run = job("sync", workers=1, batch_size=20)
    model = small_model(norm=True)
    engine = InProcess(model, *data(), run)
    alone = [report.loss for epoch in range(2) for report in engine.epoch(epoch)]
    for name in ("async", "ssp", "hogwild", "easgd"):
        several = of_ranks(2, plan(name, 4, optimizer=optim.SGD(0.05 if name == "easgd" else 0.0125, momentum=0.9)))[0]
        assert np.mean(several.losses[-6:]) < np.mean(alone[-6:]) + 0.15
