"""The protocol of the store, as a model: any interleaving of its smallest moves, with deaths anywhere between them.

Many lanes run in this one process, as the generators that worker processes drive. A schedule that hypothesis
chooses says who
moves next and who dies; a death leaves a half-written chunk behind. Whatever the schedule, the run ends, every
mini-batch
is used exactly once, and the numbers are those of an undisturbed run or of the replay of its order.
"""

from __future__ import annotations

import functools
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyconv import optim
from pyconv.parallel import program as programs
from pyconv.parallel import store as s
from pyconv.parallel.kernels import kernels, undo_vectors
from pyconv.parallel.replay import replay_pushes
from pyconv.parallel.rules import RULES, rule_for

pytestmark = pytest.mark.timeout(120)

LANES, STEPS, N, CHUNK, ALIGN = 3, 4, 11, 4, 2
OPTIMIZER = optim.SGD(0.1, momentum=0.9)
OPTIONS = {"local": {"sync_every": 2}, "ssp": {"staleness": 1}, "easgd": {"sync_every": 2}}
SHARED = ("async-shared", "ssp-shared", "hogwild-shared")
CASES = (*RULES, *SHARED)  # with a state of the optimizer for each lane, and for all


@pytest.fixture(autouse=True)
def _small_chunks():
    with mock.patch.object(s, "CHUNK", CHUNK), mock.patch.object(programs, "ALIGN", ALIGN):
        yield


class Simulation:
    """A store, its lanes and a parent, moved by hand."""

    def __init__(self, name: str, epochs: int = 1) -> None:
        name, _, shared = name.partition("-")
        self.rule = rule_for(name, {**OPTIONS.get(name, {}), **({"shared_state": True} if shared else {})})
        rng = np.random.default_rng(7)
        self.targets = rng.normal(size=(STEPS * LANES, N)).astype(np.float32)
        names = OPTIMIZER.state_names
        self.store = s.Store(
            s.Plan(
                parameters=N,
                buffers=1,
                dtype="float32",
                lanes=LANES,
                units=STEPS * LANES,
                state=names,
                replicas=self.rule.replicas,
                replica_state=self.rule.replica_state,
                undo=undo_vectors(self.rule, len(names)),
            )
        )
        self.start = rng.normal(size=N).astype(np.float32)
        self.store.centre[:] = self.start
        if self.store.replicas is not None:
            self.store.replicas[:] = self.start
        self.counts = [[5] * LANES for _ in range(STEPS - 1)] + [[5, 0, 3]]
        self.work = programs.Work(
            self.rule, OPTIMIZER, lambda step: 0.1 / (1 + step), lambda step: self.counts[step], self.compute
        )
        self.killed_racy = False
        self.done_by: list[int] = []

    def gradient(self, unit: int, at: np.ndarray) -> np.ndarray:
        return (at - self.targets[unit]) * np.float32(0.5)

    def compute(self, lane, at, buffers) -> float:
        unit = lane.step * LANES + lane.index if self.rule.lockstep else self.store.get(lane.index, s.UNIT)
        self.store.gradients[lane.index] = self.gradient(unit, at)
        buffers += 1
        return 1.0

    def order(self, epoch: int) -> None:
        """What the parent does at the start of an epoch."""
        store = self.store
        store.set_head(s.EPOCH, epoch)
        store.set_head(s.UNITS, STEPS * LANES)
        store.unit_states[:] = s.FREE
        store.unit_push[:] = 0
        for lane in range(LANES):
            store.set(lane, s.CLOCK, 0 if self.rule.lockstep else store.get(lane, s.TURN))
        self.command()

    def command(self) -> None:
        store = self.store
        for lane in range(LANES):
            if store.get(lane, s.OWNER) >= 0:
                store.set(lane, s.ARRIVED, 0)
        store.set_head(s.GATE, 0)
        store.set_head(s.COMMAND, store.head(s.COMMAND) + 1)
        self.running = {
            lane: programs.program(store, self.work, lane) for lane in range(LANES) if store.get(lane, s.OWNER) >= 0
        }
        self.waiting: dict[int, programs.Wait] = {}

    def move(self, lane: int) -> bool:
        """Let a lane make its next move; False if it cannot."""
        if lane not in self.running:
            return False
        if lane in self.waiting:
            if not self.waiting[lane].ready():
                return False
            del self.waiting[lane]
        try:
            wait = next(self.running[lane])
        except StopIteration:
            del self.running[lane]
            return True
        if wait is not None:
            self.waiting[lane] = wait
        return True

    def die(self, lane: int, drop: bool = False) -> None:
        """Kill a lane's process wherever it is; the parent brings the store in order and starts another, or none."""
        store, rule = self.store, self.rule
        self.running.pop(lane, None)
        self.waiting.pop(lane, None)
        sweeping = store.get(lane, s.SWEEP)
        if sweeping and store.get(lane, s.UNDO) == store.get(lane, s.POSITION):
            self._scribble(lane, kernels(rule)[sweeping - 1].kernel)
        else:
            store.gradients[lane] = np.nan if rule.lockstep is False and not sweeping else store.gradients[lane]
        uncertain, freed = programs.recover(store, rule, OPTIMIZER, lane)
        self.killed_racy |= bool(uncertain)
        if drop and not rule.lockstep:
            store.set(lane, s.OWNER, -1)
            store.set(lane, s.DONE, s.NEVER)
            store.set(lane, s.ARRIVED, s.NEVER)
            if freed:
                for other in range(LANES):
                    if store.get(other, s.OWNER) >= 0 and other not in self.running:
                        self.running[other] = programs.program(store, self.work, other)
        elif store.get(lane, s.DONE) < store.head(s.COMMAND):
            self.running[lane] = programs.program(store, self.work, lane)

    def _scribble(self, lane: int, declared) -> None:
        """Leave the chunk in progress half written, as a kill in the middle of a kernel does."""
        store = self.store
        start = store.get(lane, s.POSITION)
        half = slice(start, min(start + CHUNK, store.get(lane, s.END), start + 2))
        if declared.racy:
            return
        for name in declared.writes:
            if name == "centre":
                store.centre[half] = np.nan
            elif name == "state":
                for vector in store.state.values():
                    vector[half] = np.nan
            elif name == "replica":
                store.replicas[lane, half] = np.nan
            else:
                for vectors in store.replica_state.values():
                    vectors[lane, half] = np.nan

    def finish(self) -> None:
        """Let everyone move in turn until all are done."""
        for _ in range(3000):
            if not self.running:
                return
            moved = [self.move(lane) for lane in range(LANES)]
            assert any(moved), f"nobody can move: {self.waiting}"
        raise AssertionError("the lanes do not come to an end")

    def result(self) -> np.ndarray:
        out = np.empty(N, np.float32)
        self.rule.result(self.store, out)
        return out


@functools.cache
def undisturbed(name: str) -> np.ndarray:
    run = Simulation(name)
    run.order(0)
    run.finish()
    return run.result()


def check(run: Simulation) -> None:
    """All that must hold at the end, whatever has happened."""
    name = run.rule.name
    store = run.store
    assert (store.unit_states == s.USED).all()
    assert store.head(s.LOCK) == 0
    assert np.isfinite(run.result()).all()
    if run.rule.lockstep:
        np.testing.assert_array_equal(run.result(), undisturbed(name))
    images = np.ravel(run.counts) > 0
    if name in ("async", "ssp"):
        units = np.flatnonzero(store.unit_push > 0)
        assert (np.isin(np.arange(len(images)), units) == images).all()
        units = units[np.argsort(store.unit_push[units])]
        assert store.unit_push[units].tolist() == list(range(1, len(units) + 1))
        columns = {"lane": store.unit_lane, "push": store.unit_push, "pulled": store.unit_pulled}
        record = {"unit": units, **{what: column[units] for what, column in columns.items()}}
        again = run.start.copy()
        states = [OPTIMIZER.init(N) for _ in range(LANES if run.rule.replica_state else 1)]
        replayed = states if run.rule.replica_state else states[0]
        replay_pushes(record, again, replayed, OPTIMIZER, run.gradient, lambda unit, _: 0.1 / (1 + unit // LANES))
        np.testing.assert_array_equal(run.result(), again)
        for lane, state in enumerate(states):
            for name, vector in state.items():
                mine = store.replica_state[name][lane] if run.rule.replica_state else store.state[name]
                np.testing.assert_array_equal(mine, vector)
    if not run.rule.lockstep:
        # Each mini-batch was one lane's turn, and each turn is in the running statistics exactly once.
        turns = [store.get(lane, s.TURN) for lane in range(LANES)]
        assert sum(turns) == images.sum()
        assert [store.buffers[turn % 2, lane, 0] for lane, turn in enumerate(turns)] == turns


# Who moves, and how often; (lane, -1): dies; (lane, -2): dies and is not replaced; (_, 0): the gate closes and opens.
moves = st.lists(st.tuples(st.integers(0, LANES - 1), st.integers(-2, 25)), max_size=60)


@pytest.mark.parametrize("name", CASES)
@settings(max_examples=120, deadline=None)
@given(schedule=moves)
@example(schedule=[(0, 25), (0, -1), (1, 25), (2, -2), (1, 0)])
def test_any_interleaving_with_deaths_loses_nothing_and_ends(name, schedule):
    run = Simulation(name)
    run.order(0)
    dropped: set[int] = set()
    for lane, times in schedule:
        if lane in dropped:
            continue
        if times == 0:
            run.store.close_gate()
            run.finish()
            run.command()
        elif times < 0:
            drop = times == -2 and len(dropped) < LANES - 1
            if drop and not run.rule.lockstep:
                dropped.add(lane)
            run.die(lane, drop)
        for _ in range(times):
            run.move(lane)
    run.finish()
    check(run)


@settings(max_examples=60, deadline=None)
@given(schedule=st.lists(st.integers(0, LANES - 1), max_size=300), bound=st.integers(0, 3))
def test_ssp_never_lets_anyone_get_further_ahead(schedule, bound):
    with mock.patch.dict(OPTIONS, {"ssp": {"staleness": bound}}):
        run = Simulation("ssp")
    run.order(0)
    for lane in schedule:
        run.move(lane)
        if any(run.store.get(each, s.ARRIVED) == s.NEVER for each in range(LANES)):
            break
        done = [run.store.get(each, s.TURN) for each in range(LANES)]
        assert max(done) - min(done) <= bound + 1
    run.finish()


@pytest.mark.parametrize("name", CASES)
def test_a_death_at_every_single_move_loses_nothing(name):
    deaths = 0
    while True:
        run = Simulation(name)
        run.order(0)
        for move in range(deaths):
            run.move(move % LANES)
        if not run.running:
            break
        run.die(deaths % LANES)
        run.finish()
        check(run)
        deaths += 1
    assert deaths > 50


@pytest.mark.parametrize("optimizer", optim.OPTIMIZERS)
@pytest.mark.parametrize("name", CASES)
def test_every_optimizer_survives_deaths_under_every_rule(name, optimizer):
    plan = optim.by_name(optimizer, lr=0.01)
    with mock.patch.object(sys.modules[__name__], "OPTIMIZER", plan):
        undisturbed.cache_clear()
        for deaths in range(0, 200, 17):
            run = Simulation(name)
            run.order(0)
            for move in range(deaths):
                run.move(move % LANES)
            run.die(deaths % LANES)
            run.finish()
            check(run)
            moved = np.abs(run.result() - run.start)
            assert (moved > 0).all(), "every parameter has been stepped"
    undisturbed.cache_clear()
