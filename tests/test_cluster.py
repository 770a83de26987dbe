"""A cluster's protocol, on ranks that are threads of this process: the same bits as one machine, and common ends.

tests/test_cluster_mpi.py runs it on MPI.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import itertools
import logging
import re
import signal
import subprocess
import time
import tomllib

import numpy as np
import pytest
from cluster_threads import on_ranks, with_sessions
from parallel_runs import MajorityVote, data, job, small_model

import pyconv
from pyconv import nn, optim, runlog
from pyconv.cluster import flow, helper, launch, link, rounds, wire
from pyconv.cluster.following import Follower
from pyconv.cluster.hosts import GONE_LOOKS, STOPPED_LOOKS, Here, Hosts, status
from pyconv.cluster.spread import Spread
from pyconv.errors import CheckpointError, DivergedError, InputError, RunError
from pyconv.loop import fitting
from pyconv.parallel import Rule
from pyconv.parallel.kernels import kernel
from pyconv.parallel.server import ParameterServer

pytestmark = pytest.mark.timeout(120)


STATE = optim.SGD(0.1, momentum=0.9).state_names[0]


@dataclasses.dataclass(frozen=True)
class Roundabout(Rule):
    """A user's rule that uses everything: whole vectors, the shared state, several meetings a step."""

    name = "roundabout"
    lockstep = True
    replicas = True
    replica_state = True

    def step(self, lane):
        yield lane.everyone()
        yield lane.gradient("replica")
        yield lane.sweep(self.descend)
        yield lane.everyone()
        yield lane.sweep(self.average, share=True)
        yield lane.everyone()
        if lane.step % 3 == 1:
            yield lane.sweep(self.towards_all)
        else:
            yield lane.sweep(self.take)

    def finish(self, lane):
        yield lane.everyone()
        yield lane.sweep(self.take)

    @kernel(writes=("replica", "replica_state"), gradient=True)
    def descend(self, c):
        c.optimise(c.replica, c.gradient, c.replica_state)

    @kernel(writes=("centre", "state"))
    def average(self, c):
        mean = c.mean(c.replicas)
        c.state[STATE][...] = 0.5 * c.state[STATE] + mean
        c.centre[...] = mean

    @kernel(writes=("replica",))
    def towards_all(self, c):
        c.replica[...] = c.centre - 0.1 * c.mean(c.gradients)

    @kernel(writes=("replica",))
    def take(self, c):
        c.replica[...] = c.centre + 0.01 * c.state[STATE]


RULES = {
    "sync": "sync",
    "sync-clipped": "sync",
    "local": "local",
    "local-3": "local",
    "local-0": "local",
    "majority": MajorityVote(0.01),
    "roundabout": Roundabout(),
}


#: Those whose steps begin with a gradient that all wait for.
OVERLAPPED = {"sync", "sync-clipped", "majority"}


def plan(name, lanes, **settings):
    options = {"local-3": {"sync_every": 3}, "local-0": {"sync_every": 0}}.get(name, {})
    if name == "sync-clipped":
        settings["clip_norm"] = 0.3
    return job(RULES[name], workers=lanes, options=options, **settings)


@dataclasses.dataclass
class Result:
    flat: np.ndarray
    buffers: np.ndarray
    losses: list
    state: dict
    sent: int


def of_machine(plan, state=None, flat=None, stop=None, first=0, norm=True):
    """Train on one machine as a cluster trains."""
    model = small_model(norm=norm)
    if flat is not None:
        model.flat[...], model.flat_buffers[...] = flat
    x, y = data()
    engine = ParameterServer(model, x, y, plan)
    try:
        losses, last = _epochs(engine, plan, state, stop, first)
        return Result(model.flat.copy(), model.flat_buffers.copy(), losses, last, 0)
    finally:
        engine.close()


def of_ranks(size, plan, state=None, flat=None, stop=None, first=0, norm=True):
    """Train on ranks; returns the result of each."""

    def body(session):
        model = small_model(norm=norm)
        if flat is not None and session.leads:
            model.flat[...], model.flat_buffers[...] = flat
        x, y = data()
        session.prepare(plan)
        losses, last = [], {}
        if session.leads:
            engine = session.engine(model, x, y, plan, lambda number: None)
            losses, last = _epochs(engine, plan, state, stop, first)
            engine.close()
            session.finish(model, [{"steps": len(losses)}])
        else:
            history = session.follow(model, x, y, plan, lambda: None)
            assert len(history) == 1
        return Result(model.flat.copy(), model.flat_buffers.copy(), losses, last, session.world.swapped)

    return on_ranks(size, body)


def _epochs(engine, plan, state, stop, first):
    """Do all steps from `first` on; up to `stop`, if that is given."""
    if state is not None:
        engine.load_state(state)
    losses = []
    # If the last reported step was the last of an epoch, the epoch's end is still to be done.
    for epoch in range(max(first - 1, 0) // engine.steps_per_epoch, plan.epochs):
        begin = max(first - epoch * engine.steps_per_epoch, 0)
        with contextlib.closing(engine.epoch(epoch, begin)) as steps:
            for report in steps:
                losses.append(report.loss)
                assert report.step == first + len(losses)
                if stop is not None and first + len(losses) == stop:
                    break
        if stop is not None and first + len(losses) == stop:
            break
    return losses, engine.state()


def assert_same(one, other):
    np.testing.assert_array_equal(one.flat, other.flat)
    np.testing.assert_array_equal(one.buffers, other.buffers)
    assert one.losses == other.losses
    assert one.state.keys() == other.state.keys()
    for name, value in one.state.items():
        np.testing.assert_array_equal(value, other.state[name], err_msg=name)


@functools.cache
def undisturbed(name, lanes=4):
    """A whole run on one machine."""
    return of_machine(plan(name, lanes))


@pytest.mark.covering("name", "size", most=2)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_any_ranks_give_the_bits_of_one_machine(name, size):
    _check_bits(size, plan(name, 4), undisturbed(name))


@pytest.mark.slow
def test_lanes_that_ranks_do_not_share_evenly_and_another_optimizer():
    run = plan("sync", 5, optimizer=optim.Adam(1e-3))
    _check_bits(3, run, of_machine(run))


def _small_pieces(monkeypatch, rng):
    """Let vectors of small networks travel in many pieces; returns a list that gets each turn's pieces."""
    monkeypatch.setattr(flow, "FIRST_BYTES", 8 * int(rng.integers(5, 30)))
    monkeypatch.setattr(flow, "MOST_BYTES", 8 * int(rng.integers(20, 90)))
    monkeypatch.setattr(flow, "WINDOW", int(rng.integers(1, 9)))
    began, begin = [], flow.Flow.begin
    monkeypatch.setattr(flow.Flow, "begin", lambda self: (began.append(len(self._ways)), begin(self)))
    return began


@pytest.mark.covering("name", "size", "overlap", most=2)
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("size", [2, 3, 4])
@pytest.mark.parametrize("overlap", [True, False])
def test_pieces_that_travel_while_steps_are_computed_give_the_same_bits(name, size, overlap, monkeypatch, rng):
    began = _small_pieces(monkeypatch, rng)
    _check_bits(size, plan(name, 4, overlap=overlap), undisturbed(name))
    assert bool(began) == (overlap and name in OVERLAPPED)


def test_what_travels_in_which_step(monkeypatch, rng):
    began = _small_pieces(monkeypatch, rng)
    of_ranks(2, plan("sync", 4, epochs=1), norm=False)
    # On each rank, in 12 steps: gradients once all know what ranks need, and parameters once a step has changed them.
    assert len(began) == 2 * (10 + 11)


def test_a_network_of_float64_with_branches_and_few_images_in_the_last_step(monkeypatch, rng):
    _small_pieces(monkeypatch, rng)
    layers = [
        nn.Conv2D(3, 3, padding="same", activation="relu"),
        nn.Residual([nn.Conv2D(3, 3, padding="same"), nn.BatchNorm()], shortcut=[nn.Conv2D(3, 1)]),
        nn.Parallel([[nn.Conv2D(2, 1)], [nn.Conv2D(3, 3, padding="same", activation="relu")], []]),
        nn.Flatten(),
        nn.Dense(3),
    ]
    x, y = data(4 * 5 * 3 + 2)  # in the last step two of four workers have none

    def model():
        return nn.Sequential(layers, input_shape=(6, 6, 1), seed=2, dtype="float64")

    run, alone = plan("sync", 4), model()
    engine = ParameterServer(alone, x, y, run)
    try:
        _epochs(engine, run, None, None, 0)
    finally:
        engine.close()

    def body(session):
        mine = model()
        session.prepare(run)
        if session.leads:
            engine = session.engine(mine, x, y, run, lambda number: None)
            _epochs(engine, run, None, None, 0)
            session.finish(mine, [])
        else:
            session.follow(mine, x, y, run, lambda: None)
        return mine.flat

    for flat in on_ranks(3, body):
        np.testing.assert_array_equal(flat, alone.flat)


def _check_bits(size, run, machine):
    leader, *others = of_ranks(size, run)
    assert_same(leader, machine)
    for other in others:
        np.testing.assert_array_equal(other.flat, machine.flat)
        np.testing.assert_array_equal(other.buffers, machine.buffers)


@pytest.mark.covering("name", most=1)
@pytest.mark.parametrize("name", RULES)
def test_a_run_goes_on_from_any_step_on_other_ranks_or_on_one_machine(name, rng):
    run, whole = plan(name, 4), undisturbed(name)
    stop = int(rng.integers(1, len(whole.losses)))
    print(f"stops after step {stop}")

    def check(begun, goes_on):
        assert begun.losses == whole.losses[:stop]
        rest = goes_on(run, begun.state, (begun.flat, begun.buffers), None, stop)
        assert rest.losses == whole.losses[stop:]
        np.testing.assert_array_equal(rest.flat, whole.flat)
        np.testing.assert_array_equal(rest.buffers, whole.buffers)

    on_three = of_ranks(3, run, stop=stop)[0]
    check(on_three, lambda *rest: of_ranks(2, *rest)[0])
    if name == "local-3":
        check(on_three, of_machine)
        check(of_machine(run, stop=stop), lambda *rest: of_ranks(3, *rest)[0])


def test_sync_sends_each_gradient_and_parameter_once():
    run = plan("sync", 4, epochs=1)
    steps, size = 12, 4
    sent = [each.sent for each in of_ranks(size, run, norm=False)]
    n = small_model().flat.nbytes
    # Each rank sends the parts of its gradient that belong to other ranks, and its part of the centre to each of them.
    least = steps * n * (size - 1) / size * 2
    for rank, bytes_sent in enumerate(sent):
        extra = 10 * n if rank == 0 else 3 * n  # the protocol's messages, the run's state at its end, and the result
        assert 0.8 * least < bytes_sent < 1.3 * least + extra, (rank, bytes_sent, least)


@pytest.mark.parametrize(("name", "averages"), [("local-3", 4), ("local-0", 1)])
def test_local_sends_parameters_only_when_they_are_averaged(name, averages):
    size = 4
    one, three = (
        sum(each.sent for each in of_ranks(size, plan(name, size, epochs=epochs), norm=False)) for epochs in (1, 3)
    )
    n = small_model().flat.nbytes * (size - 1)
    # An average is a stretch of each replica to each rank, and back; at an epoch's end rank 0 gets what it lacks.
    epoch = averages * 2 * n + n
    assert epoch <= (three - one) / 2 < 1.1 * epoch, "the rest are the rounds' words"


def test_a_tiny_model_has_ranks_with_nothing_to_reduce():
    spread = Spread(10, 4, 3)
    assert [spread.stretch(rank) for rank in range(3)] == [slice(0, 0), slice(0, 0), slice(0, 10)]
    assert [list(spread.lanes_of(rank)) for rank in range(3)] == [[0], [1], [2, 3]]


@pytest.mark.parametrize(("lanes", "ranks", "n"), [(4, 4, 1000), (7, 3, 999), (9, 2, 16), (64, 5, 12345)])
def test_stretches_make_up_the_whole(lanes, ranks, n):
    spread = Spread(n, lanes, ranks)
    assert [lane for rank in range(ranks) for lane in spread.lanes_of(rank)] == list(range(lanes))
    ends = [(spread.stretch(rank).start, spread.stretch(rank).stop) for rank in range(ranks)]
    assert ends[0][0] == 0 and ends[-1][1] == n
    assert all(before[1] == after[0] for before, after in itertools.pairwise(ends))
    assert spread.most == max(len(spread.lanes_of(rank)) for rank in range(ranks))


# ---- ends -----------------------------------------------------------------------------------------


def _failing(size, guilty, fault, name="sync", at=5, each=None):
    """Train on ranks; on the rank `guilty`, ``fault(model)`` is called in the gradient number `at`.

    Or ``each(session, node)`` is called on each before.
    """
    run = plan(name, size)

    def body(session):
        model = small_model()
        x, y = data()
        session.prepare(run)
        if session.leads:
            engine = session.engine(model, x, y, run, lambda number: None)
            node = engine._node
        else:
            follower = Follower(session.rounds, session.world, model, x, y, run, 1)
            node = follower._node
        if each is not None:
            each(session, node)
        if session.rank in guilty:
            compute, calls = node.work.compute, [0]

            def spoilt(lane, where, buffers):
                calls[0] += 1
                if calls[0] == at:
                    where = fault(where)
                return compute(lane, where, buffers)

            node.work.compute = spoilt
        if session.leads:
            return _epochs(engine, run, None, None, 0)
        return follower.follow()

    return on_ranks(size, body)


def _planted(where):
    raise ValueError("planted")


@pytest.mark.parametrize("guilty", [0, 1, 2])
@pytest.mark.parametrize("name", ["sync", "local-0"])
def test_an_exception_on_one_rank_ends_all(guilty, name, monkeypatch, rng):
    _small_pieces(monkeypatch, rng)
    errors = _failing(3, {guilty}, _planted, name)
    for rank, error in enumerate(errors):
        if rank == guilty:
            assert isinstance(error, ValueError)
        else:
            assert isinstance(error, RunError)
            assert str(error) == f"rank {guilty} on here: failed: ValueError: planted"
            assert error.told == (rank != 0)


@pytest.mark.parametrize("guilty", [0, 2])
@pytest.mark.parametrize("forward", [True, False])
def test_a_fault_within_a_pass_leaves_nothing_on_its_way(guilty, forward, monkeypatch, rng):
    _small_pieces(monkeypatch, rng)
    meetings, at = [], int(rng.integers(10, 40))
    print(f"in call {at}")

    def fault(session, node):
        meetings.append(session.world._meeting)
        if session.rank == guilty:
            name = "before_forward" if forward else "after_backward"
            hook, calls = getattr(node.model, name), itertools.count()

            def planted(step):
                if next(calls) == at:
                    raise ValueError("planted")
                hook(step)

            setattr(node.model, name, planted)

    errors = _failing(3, (), None, each=fault)
    assert all("planted" in str(error) for error in errors)
    boxes = [box for (_, _, tag), box in meetings[0].boxes.items() if tag]
    assert boxes and not any(box.busy for box in boxes)


@pytest.mark.parametrize("guilty", [{0}, {2}, {1, 2}])
def test_a_gradient_that_is_not_finite_stops_all_in_the_same_step(guilty, monkeypatch, rng):
    _small_pieces(monkeypatch, rng)
    errors = _failing(3, guilty, lambda where: np.full_like(where, np.nan))
    assert all(type(error) is DivergedError for error in errors)
    first = min(guilty)
    expected = f"rank {first} on here: the gradient is not finite (loss nan) in epoch 1, step 5"
    assert {str(error) for error in errors} == {expected}


@pytest.mark.parametrize("guilty", [0, 1, 2])
@pytest.mark.parametrize("second", [RuntimeError, KeyboardInterrupt])
def test_a_second_error_while_the_first_is_told_ends_all_at_once(guilty, second, capsys):
    def each(session, node):
        if session.rank != guilty:
            return
        logs = session.rounds.logs

        def failing():
            if session.world._limit is not None:  # while the error is told
                raise second("the second one")
            return logs()

        session.rounds.logs = failing

    began = time.monotonic()
    errors = _failing(3, {guilty}, _planted, each=each)
    assert time.monotonic() - began < 10
    assert all(type(error).__name__ == "Aborted" for error in errors)
    said = capsys.readouterr().err
    assert said == f"pyconv: error: rank {guilty} on here: failed: ValueError: planted\n"


def test_an_error_that_cannot_be_printed_ends_all_too():
    class Silent(Exception):
        def __str__(self):
            raise RuntimeError("no text")

    def planted(where):
        raise Silent

    errors = _failing(2, {1}, planted)
    assert isinstance(errors[1], Silent)
    assert str(errors[0]) == "rank 1 on here: failed: Silent: "


def test_a_failure_while_messages_are_brought_to_an_end_ends_all_at_once(monkeypatch, rng, capsys):
    _small_pieces(monkeypatch, rng)

    def each(session, node):
        if session.rank == 2:
            session.rounds.settle = lambda: 1 / 0

    began = time.monotonic()
    errors = _failing(3, {1}, _planted, each=each)
    assert time.monotonic() - began < 10
    assert any(type(error).__name__ == "Aborted" for error in errors)
    assert capsys.readouterr().err == "pyconv: error: rank 1 on here: failed: ValueError: planted\n"


def test_a_worker_that_fails_cannot_be_left_out_over_mpi():
    def body(session):
        session.prepare(plan("sync", 2, on_worker_failure="drop"))

    errors = on_ranks(2, body)
    assert all(isinstance(error, InputError) for error in errors)
    assert {str(error).partition(":")[0] for error in errors} == {"on_worker_failure drop is not there over MPI"}
    assert on_ranks(2, lambda session: session.prepare(plan("sync", 2, on_worker_failure="abort"))) == [None, None]


def test_what_all_refuse_is_said_plainly():
    def body(session):
        raise InputError("no such thing")

    assert {str(error) for error in on_ranks(3, body)} == {"no such thing"}


def test_what_one_refuses_is_said_with_its_name():
    def body(session):
        if session.rank == 1:
            raise InputError("no such file")
        session.agree({"seed": 1})

    errors = on_ranks(3, body)
    assert {str(error) for error in errors} == {"rank 1 on here: no such file"}
    assert all(isinstance(error, InputError) for error in errors)
    assert [error.told for error in errors] == [False, True, True]


def test_ranks_with_other_arguments_are_refused():
    errors = on_ranks(3, lambda session: session.agree({"seed": 1, "lr": 0.1 if session.rank < 2 else 0.2}))
    assert all(isinstance(error, InputError) for error in errors)
    assert all("rank 2 on here was given another lr (0.2) than rank 0 on here (0.1)" in str(each) for each in errors)


def test_ranks_at_different_places_end():
    def body(session):
        if session.rank == 1:
            session.end()
        else:
            session._round(rounds.REST)

    assert all("the ranks do different things" in str(error) for error in on_ranks(2, body))


def test_a_rank_that_the_others_do_not_come_to_gives_up(monkeypatch, capsys):
    monkeypatch.setattr(rounds, "PATIENCE_S", 0.2)

    def body(session):
        if session.rank == 0:
            raise InputError("planted")
        time.sleep(1.0)
        session.end()

    on_ranks(2, body)
    assert capsys.readouterr().err == "pyconv: error: rank 0 on here: planted\n"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 1}, "cannot be continued on 2 ranks"),
        ({"workers": 500, "batch_size": 1}, "only 240 images"),
        ({"on_worker_failure": "hope"}, "hope"),
    ],
)
def test_what_is_not_there_is_refused(settings, message):
    run = job(**{"update": "sync", "workers": 2, **settings})

    def body(session):
        session.prepare(run)
        if session.leads:
            session.engine(small_model(), *data(), run, lambda number: None)
        else:
            session.follow(small_model(), *data(), run, lambda: None)

    for error in on_ranks(2, body):
        assert isinstance(error, InputError)
        assert message in str(error)


@dataclasses.dataclass(frozen=True)
class Locking(MajorityVote):
    """A lockstep rule that locks the centre."""

    def step(self, lane):
        yield lane.everyone()
        yield lane.gradient("centre")
        yield lane.everyone()
        yield lane.sweep(self.vote, locked=True)


def test_a_rule_that_locks_is_refused():
    run = job(Locking(0.01), workers=2)

    def body(session):
        session.prepare(run)
        if session.leads:
            return _epochs(session.engine(small_model(), *data(), run, lambda number: None), run, None, None, 0)
        return session.follow(small_model(), *data(), run, lambda: None)

    assert all("locked=True are not there over MPI" in str(error) for error in on_ranks(2, body))


def test_another_runs_state_is_refused():
    begun = of_ranks(2, plan("sync", 4), stop=3)[0]
    errors = of_ranks(2, plan("sync", 2), begun.state)
    assert all(isinstance(error, CheckpointError) for error in errors)
    assert "is of 4 workers, this run has 2" in str(errors[0])


@pytest.mark.parametrize("update", ["sync", "async"])
def test_another_ranks_signal_is_heard(update):
    run = job(update, workers=2)
    heard = []

    def body(session):
        session.prepare(run)
        if session.leads:
            engine = session.engine(small_model(), *data(), run, heard.append)
            _epochs(engine, run, None, 3, 0)
            session.finish(small_model(), [])
        else:
            session.follow(small_model(), *data(), run, lambda: "SIGTERM")

    assert not [each for each in on_ranks(2, body) if each is not None]
    assert set(heard) == {15}


def test_what_the_leader_knows_all_know():
    def body(session):
        return session.of_leader(lambda: {"rank": session.rank, "text": "é" * 5000})

    assert on_ranks(3, body) == [{"rank": 0, "text": "é" * 5000}] * 3


def test_other_ranks_records_arrive_with_their_rank(caplog):
    log = runlog.logger("pyconv.test")

    def body(session):
        if session.rank == 1:  # threads share the logging handlers, so only one rank logs
            log.warning("all is %s", "well")
        session.end()

    on_ranks(2, body)
    assert "[rank 1] all is well" in caplog.messages


# ---- where the ranks are --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, None),
        ({"PMI_SIZE": "4", "PMI_RANK": "2"}, (4, 2)),
        ({"OMPI_COMM_WORLD_SIZE": "3", "OMPI_COMM_WORLD_RANK": "1"}, (3, 1)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, None),  # a batch script
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, (4, 3)),
        ({"PMI_SIZE": "1", "PMI_RANK": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "0"}, None),
        ({"PMI_SIZE": "many", "PMI_RANK": "0"}, None),
    ],
)
def test_launchers_say_how_many_were_started(environment, expected):
    found = launch.launched(environment)
    assert (found and (found.size, found.rank)) == expected


def _place(host="a", cpus="f", usable=4, machine=4, version="1"):
    return Here(host, -1, "-", cpus, usable, machine, {"pyconv": version})


def test_ranks_on_a_host_share_its_cpus():
    places = [_place(), _place(), _place("b"), _place("b", cpus="f0")]
    assert [Hosts(places, rank).threads(None) for rank in range(4)] == [2, 2, 4, 4]
    assert Hosts(places, 0).threads(3) == 3
    assert Hosts(places, 0).on_hosts() == "2 on a, 2 on b"


def test_a_binding_to_one_cpu_is_named():
    assert Hosts([_place(machine=16), _place(machine=16)], 0).bound() is None
    bound = Hosts([_place(cpus="100", usable=1, machine=16), _place(cpus="200", usable=1, machine=16)], 0).bound()
    assert "bound to one of 16 CPUs" in bound
    assert Hosts([_place(cpus="1", usable=1, machine=2), _place(cpus="2", usable=1, machine=2)], 0).bound() is None


def _becomes(process, state):
    while status(process.pid)[0] != state:
        time.sleep(0.01)


def test_a_lost_rank_is_reported_once():
    sleepers = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    try:
        places = [dataclasses.replace(_place(), process=each.pid, started=status(each.pid)[1]) for each in sleepers]
        ranks = Hosts([*places, _place()], 2)
        assert ranks.lost() is None
        sleepers[1].send_signal(signal.SIGSTOP)
        _becomes(sleepers[1], "T")
        said = [ranks.lost() for _ in range(STOPPED_LOOKS)]
        assert said[:-1] == [None] * (STOPPED_LOOKS - 1)
        assert "was stopped" in said[-1]
        assert not ranks.speaks()  # rank 0 does
        sleepers[0].kill()
        _becomes(sleepers[0], "Z")
        spoke = []
        for _ in range(GONE_LOOKS):
            spoke.append(ranks.speaks())
            assert "killed by SIGKILL" in ranks.lost()
        assert not any(spoke)  # rank 0 may have reported it, and ended for that reason
        assert ranks.speaks()
    finally:
        for each in sleepers:
            each.kill()
            each.wait()


def test_other_versions_are_refused():
    with pytest.raises(InputError, match=r"rank 1 on b has pyconv 2, rank 0 on a has 1"):
        Hosts([_place(), _place("b", version="2")], 0).check()


def test_a_link_is_measured_between_two_ranks(monkeypatch):
    monkeypatch.setattr(link, "PINGS", 9)

    def body(session):
        if session.rank == 1:
            return None  # which has no part in it
        swap = session.world.swap

        def slow(sends, receives):
            if sends:
                time.sleep(0.002 + sum(array.nbytes for _, array in sends) / 1e8)
            swap(sends, receives)

        monkeypatch.setattr(session.world, "swap", slow)
        return link.measured(session.world, 2)

    for way in on_ranks(3, body)[::2]:
        assert 0.002 <= way.latency_s < 0.1
        assert 1e6 < way.bytes_per_s < link.LARGE / (0.002 + link.LARGE / 1e8)
    assert str(link.Link(1.234e-4, 1.2345e9)) == "1,234 MB/s, 123 microseconds"


def test_links_are_measured_to_a_neighbour_and_to_some_other_hosts():
    places = [_place(host) for host in "aabbcdef"]
    assert link.pairs(places) == {"link within a": 1, "link to b": 2, "link to c": 4, "link to d": 5}
    assert link.pairs(places[1:4]) == {"link to b": 1}


# ---- the whole of fit() ---------------------------------------------------------------------------


@pytest.fixture
def fit_on_ranks(monkeypatch):
    """``fit_on_ranks(size, **settings)``: fit() on ranks; returns each rank's history or error, and its model."""
    play = with_sessions(monkeypatch, fitting)

    def run(size, **settings):
        def body(session):
            model = small_model(norm=True)
            if callable(settings.get("each")):
                model = settings["each"](session, model) or model
            given = {name: value for name, value in settings.items() if name != "each"}
            history = pyconv.fit(model, *data(), epochs=2, batch_size=5, progress="off", **given)
            return history, model

        return play(size, body)

    return run


def _numbers(history):
    return [(line["train_loss"], line["train_accuracy"], line["val_accuracy"], line["workers"]) for line in history]


def test_fit_gives_the_history_and_model_of_one_machine_to_all(fit_on_ranks, tmp_path):
    settings = {
        "validation": data(60),
        "augment": {"flip": True},
        "clip_norm": 1.0,
        "label_smoothing": 0.1,
        "freeze": [2],
    }
    results = fit_on_ranks(2, workers=2, out=tmp_path / "a", **settings)
    model = small_model(norm=True)
    history = pyconv.fit(model, *data(), epochs=2, batch_size=5, progress="off", workers=4, **settings)
    assert re.search(r"epoch 2/2 .* images/s .* \d+ % waiting", (tmp_path / "a" / "log.txt").read_text())
    for theirs, their_model in results:
        assert _numbers(theirs) == _numbers(history)
        np.testing.assert_array_equal(their_model.flat, model.flat)
        np.testing.assert_array_equal(their_model.flat_buffers, model.flat_buffers)
    assert tomllib.loads((tmp_path / "a" / "config.toml").read_text())["training"]["ranks"] == 2


def test_a_callback_stops_all_and_the_run_goes_on_elsewhere(fit_on_ranks, tmp_path, rng):
    stop, update = int(rng.integers(1, 23)), str(rng.choice(["sync", "local"]))
    print(stop, update)
    whole = fit_on_ranks(2, workers=2, update=update)[0]
    stopped = fit_on_ranks(
        4, update=update, out=tmp_path / "a", on_step=lambda step: step["step"] == stop, checkpoint_every=0.01
    )
    assert not any(isinstance(each, BaseException) for each in stopped), stopped
    history, model = fit_on_ranks(3, update=update, out=tmp_path / "a", resume=True)[2]
    assert _numbers(history) == _numbers(whole[0])
    np.testing.assert_array_equal(model.flat, whole[1].flat)
    log = (tmp_path / "a" / "log.txt").read_text()
    assert "ranks were 4 and are 3 from here on; the 4 workers and their numbers stay the same" in log


def test_what_a_callback_raises_ends_all(fit_on_ranks, tmp_path):
    def raises(step):
        if step["step"] == 5:
            raise LookupError("planted")

    leader, *others = fit_on_ranks(3, on_step=raises, out=tmp_path / "a")
    assert "planted" in str(leader)
    assert {type(each) for each in others} == {RunError}
    assert all("planted" in str(each) and each.told for each in others)
    assert (tmp_path / "a" / "checkpoint" / "last.safetensors").exists()


def test_a_folder_that_is_taken_and_a_file_of_rank_0_are_refused_by_all(fit_on_ranks, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.toml").write_text("")
    errors = fit_on_ranks(2, out=tmp_path / "a")
    assert all(isinstance(each, InputError) and "holds a run already" in str(each) for each in errors)


def test_ranks_with_another_network_or_data_are_refused(fit_on_ranks, tmp_path):
    def other(session, model):
        if session.rank == 1:
            model.flat[0] += 1

    errors = fit_on_ranks(2, each=other, out=tmp_path / "a")
    assert all("rank 1 on here was given another network" in str(each) for each in errors)
    assert not (tmp_path / "a").exists()


def test_more_ranks_than_workers_of_the_run_are_refused(fit_on_ranks, tmp_path):
    fit_on_ranks(2, out=tmp_path / "a")
    errors = fit_on_ranks(3, out=tmp_path / "a", resume=True)
    assert all("a run of 2 workers cannot be continued on 3 ranks" in str(each) for each in errors), errors


def test_workers_auto_is_refused(fit_on_ranks):
    errors = fit_on_ranks(2, workers="auto")
    assert all(isinstance(each, InputError) and "workers auto is not there over MPI" in str(each) for each in errors)


def test_rank_0_tells_what_others_warn_of_and_nobody_sends_that_to_it_again():
    class Lines(logging.Handler):
        def emit(self, record):
            told.append(record.getMessage())

    def body(session):
        session.agree({})
        if session.rank == 1:
            runlog.logger("pyconv.training").warning("planted")
        for _ in range(6):
            session.agree({})

    told = []
    with runlog.heard_by(Lines()):
        assert on_ranks(3, body) == [None] * 3
    # These ranks are threads of one process, so both of the others hear the one warning.
    assert set(told) <= {"planted", "[rank 1] planted", "[rank 2] planted"} and "[rank 1] planted" in told
    assert len(told) == 3


# ---- the thread that looks after messages ---------------------------------------------------------


class _Looked:
    """Something to look after; it fails at the look with a certain number."""

    def __init__(self, fails=0):
        self.looks, self.within, self.fails = 0, False, fails
        self.helper = helper.Helper(self.look)

    def look(self):
        assert not self.within, "the thread looks while the turn is taken"
        self.looks += 1
        if self.looks == self.fails:
            raise LookupError("planted")

    def until(self, looks):
        end = time.monotonic() + 20
        while self.looks < looks:
            assert time.monotonic() < end
            time.sleep(0.001)


def test_the_helper_looks_between_begin_and_end_and_keeps_out_of_a_turn():
    looked = _Looked()
    looked.helper.begin()
    looked.until(3)
    for _ in range(20):
        with looked.helper.turn:
            looked.within = True
            time.sleep(0.001)
            looked.within = False
    looked.helper.end()
    after = looked.looks
    time.sleep(0.02)
    assert looked.looks == after
    looked.helper.begin()
    looked.until(after + 2)
    looked.helper.end()


def test_what_a_look_raises_is_raised_at_the_end():
    looked = _Looked(fails=2)
    looked.helper.begin()
    looked.until(2)
    with pytest.raises(LookupError, match="planted"):
        looked.helper.end()
    looked.helper.end()


def test_the_helpers_thread_ends_with_what_it_helps(monkeypatch):
    monkeypatch.setattr(helper, "GONE_S", 0.01)
    looked = _Looked()
    looked.helper.begin()
    looked.until(1)
    looked.helper.end()
    thread = looked.helper._thread
    del looked
    gc.collect()
    thread.join(20)
    assert not thread.is_alive()


# ---- float16 on the wire --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-41, 1e-20, 1e-6, 1.0, 1e5, 1e30])
def test_float16_and_what_it_leaves_are_the_number(dtype, scale, rng):
    numbers = (rng.standard_normal(int(rng.integers(1, 999))) * scale).astype(dtype)
    left, piece, found = numbers.copy(), wire.room(numbers.size), np.empty_like(numbers)
    wire.write(left, piece)
    wire.read(piece, found)
    largest = np.abs(numbers).max()
    assert np.abs(found - numbers).max() <= 2.0**-11 * largest
    np.testing.assert_allclose(found + left, numbers, rtol=0, atol=2 * np.spacing(largest))


def test_zeros_nothing_and_what_is_not_finite_travel_as_float16():
    for numbers in (np.zeros(3, np.float32), np.empty(0, np.float32)):
        piece, found = wire.room(numbers.size), np.ones_like(numbers)
        wire.write(numbers.copy(), piece)
        wire.read(piece, found)
        np.testing.assert_array_equal(found, numbers)
    bad = np.array([1, np.nan, np.inf], np.float32)
    piece, found = wire.room(3), np.empty_like(bad)
    wire.write(bad.copy(), piece)
    wire.read(piece, found)
    np.testing.assert_array_equal(found, bad)


@pytest.mark.parametrize("name", ["sync", "sync-clipped", "majority"])
@pytest.mark.parametrize("size", [2, 4])
def test_float16_trains_as_exact_numbers_do(name, size, monkeypatch, rng):
    _small_pieces(monkeypatch, rng)
    exact = undisturbed(name)
    runs = [of_ranks(size, plan(name, 4, wire="float16")) for _ in range(2)]
    for leader, *others in runs:
        for other in others:
            np.testing.assert_array_equal(other.flat, leader.flat)
            np.testing.assert_array_equal(other.buffers, leader.buffers)
    np.testing.assert_array_equal(runs[0][0].flat, runs[1][0].flat)  # every run gives the same
    moved = np.linalg.norm(exact.flat - small_model(norm=True).flat)
    off = np.linalg.norm(runs[0][0].flat - exact.flat)
    print(f"{off / moved:.1e} of the way")
    assert off > 0
    if name != "majority":  # votes by sign jump
        assert off < 2e-2 * moved
    np.testing.assert_allclose(runs[0][0].losses, exact.losses, rtol=0.05, atol=0.02)


def test_what_float16_leaves_is_sent_later(monkeypatch, rng):
    """What was received in all follows the sum of the gradients, however small beside the largest a number is."""
    left, total, received = np.zeros(64, np.float32), np.zeros(64), np.zeros(64)
    gradient = rng.standard_normal(64).astype(np.float32) * np.logspace(-8, 0, 64).astype(np.float32)
    piece, found = wire.room(64), np.empty(64, np.float32)
    for _ in range(2000):
        left += gradient
        total += gradient
        wire.write(left, piece)
        wire.read(piece, found)
        received += found
    np.testing.assert_allclose(received, total, rtol=0, atol=float(np.abs(gradient).max()) * 2.0**-10)


def test_float16_halves_what_is_sent():
    sent = {how: sum(each.sent for each in of_ranks(2, plan("sync", 2, epochs=1, wire=how))) for how in wire.WIRES}
    assert sent["float16"] < 0.75 * sent["exact"]  # the first steps, and the protocol's own messages, stay


def test_float16_is_for_whole_networks(fit_on_ranks):
    errors = fit_on_ranks(2, wire="float16", split="filters")
    assert all(isinstance(each, InputError) and "wire float16 is for whole networks" in str(each) for each in errors)


@pytest.mark.parametrize("settings", [{"overlap": False}, {"update": "local"}, {"freeze": [2]}])
def test_float16_needs_something_that_travels_while_steps_are_computed(settings, fit_on_ranks):
    errors = fit_on_ranks(2, wire="float16", **settings)
    assert all(isinstance(each, InputError) and "wire float16 is for" in str(each) for each in errors), errors
