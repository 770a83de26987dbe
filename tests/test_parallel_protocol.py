"""A model of the workers' protocol: its smallest moves in any order, with deaths between any two moves.

Many lanes run in this one process, as the generators that worker processes run, and the parent's moves are those of
the engine. A schedule that Hypothesis chooses says which lane moves next and which dies; a death leaves a half-written
chunk behind. Whatever the schedule, the run ends, every mini-batch is used exactly once, and the numbers are those of
an undisturbed run, or of the same pushes in their order. The lanes meet in the shared memory of training, or in a
communicator of plain Python, which shows how little a communicator needs to do.
"""

from __future__ import annotations

import functools
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from quick import examples

from pyconv import optim
from pyconv.parallel import communicator as c
from pyconv.parallel import parent
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
CASES = (*RULES, *SHARED)  # with optimizer state for each lane, and with one for all lanes


@pytest.fixture(autouse=True)
def _small_chunks():
    with mock.patch.object(c, "CHUNK", CHUNK), mock.patch.object(programs, "ALIGN", ALIGN):
        yield


class Plain(c.Communicator):
    """A communicator in plain Python for lanes that take turns, so that every move is atomic."""

    def __init__(self, plan: s.Plan) -> None:
        kind, n = np.dtype(plan.dtype), plan.parameters
        self.lanes, self.parameters, self.steps = plan.lanes, n, plan.units // plan.lanes
        self.centre = np.zeros(n, kind)
        self.state = {name: np.zeros(n, kind) for name in plan.state}
        self.gradients = [np.zeros(n, kind) for _ in range(plan.lanes)]  # an array for each lane
        self.replicas = [np.zeros(n, kind) for _ in range(plan.lanes)] if plan.replicas else None
        names = plan.state if plan.replica_state else ()
        self.replica_state = {name: [np.zeros(n, kind) for _ in range(plan.lanes)] for name in names}
        self.buffers = np.zeros((2, plan.lanes, plan.buffers), kind)
        self.undo = np.zeros((plan.lanes, plan.undo, c.CHUNK), kind)
        self.words = [dict.fromkeys(range(c.LANE), 0) for _ in range(plan.lanes)]
        for lane, words in enumerate(self.words):
            words.update({c.OWNER: lane, c.UNIT: -1, c.UNDO: -1})
        self.rates = [0.0] * plan.lanes
        self._epoch = self._order = self._pushes = self._unlocks = self.allowed = self.hint = 0
        self._closed, self.holder = False, None
        self.unit_states = np.zeros(plan.units, int)
        self.losses, self.notes = {}, {}

    epoch = property(lambda self: self._epoch)
    order = property(lambda self: self._order)
    pushes = property(lambda self: self._pushes)
    unlocks = property(lambda self: self._unlocks)
    closed = property(lambda self: self._closed)

    def get(self, lane, word):
        return self.words[lane][word]

    def set(self, lane, word, value):
        self.words[lane][word] = int(value)

    def rate(self, lane):
        return self.rates[lane]

    def set_rate(self, lane, rate):
        self.rates[lane] = rate

    def gradient(self, lane):
        return self.gradients[lane]

    def replica(self, lane):
        return self.replicas[lane]

    def own_state(self, lane):
        return {name: vectors[lane] for name, vectors in self.replica_state.items()}

    def running(self, lane, turn):
        return self.buffers[turn % 2, lane]

    def saved(self, lane):
        return self.undo[lane]

    def everyones(self, what, part):
        return np.stack([vector[part] for vector in getattr(self, what)])  # a copy, as from a message

    def arrive(self, lane, value):
        self.words[lane][c.ARRIVED] = max(self.words[lane][c.ARRIVED], value)

    def reached(self, word, value):
        return all(words[word] >= value for words in self.words)

    def wait_reached(self, word, value, seconds, spin=0.0):
        return self.reached(word, value)

    def wake(self):
        pass

    def wake_parent(self):
        pass

    def pass_gate(self, step):
        if self.allowed <= step and not self._closed and self.reached(c.ARRIVED, c.OPS * step + 1):
            self.allowed = step + 1
        return self.allowed > step

    def close_gate(self):
        self._closed = True

    def try_lock(self, lane):
        self.holder = lane if self.holder is None else self.holder
        return self.holder == lane

    def unlock(self, lane):
        if self.holder == lane:
            self.holder = None
            self._unlocks += 1

    def wait_unlocked(self, unlocks, seconds):
        pass

    def count_push(self):
        self._pushes += 1
        return self._pushes

    def pushed(self, push):
        self._pushes = push

    def claim(self, lane):
        free = np.flatnonzero(self.unit_states == s.FREE)
        if not free.size:
            return -1
        self.hint = int(min(free[free >= self.hint], default=free[0]))  # the store searches in this order
        self.unit_states[self.hint] = lane + 1
        self.set(lane, c.UNIT, self.hint)
        return self.hint

    def claimed(self, unit, lane):
        return self.unit_states[unit] == lane + 1

    def use(self, unit):
        self.unit_states[unit] = s.USED

    def free_claims(self, lane):
        freed = np.flatnonzero(self.unit_states == lane + 1)
        self.unit_states[freed] = s.FREE
        self.set(lane, c.UNIT, -1)
        return freed.tolist()

    def note_loss(self, unit, loss):
        self.losses[unit] = loss

    def note_unit(self, unit, lane, time, push=0, pulled=0):
        self.notes[unit] = (lane, push, pulled)

    def begin(self, epoch, done):
        self._epoch, self.allowed, self.hint = epoch, 0, 0
        self.notes.clear()
        self.unit_states[:] = s.FREE
        self.unit_states[:done] = s.USED

    def go(self):
        self._closed, self.allowed = False, 0
        self._order += 1


class Simulation:
    """A communicator, its lanes and a parent, moved by hand."""

    def __init__(self, name: str, communicator: type[c.Communicator] = s.Store) -> None:
        name, _, shared = name.partition("-")
        self.rule = rule_for(name, {**OPTIONS.get(name, {}), **({"shared_state": True} if shared else {})})
        rng = np.random.default_rng(7)
        self.targets = rng.normal(size=(STEPS * LANES, N)).astype(np.float32)
        names = OPTIMIZER.state_names
        self.store = communicator(
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
        for lane in range(LANES if self.rule.replicas else 0):
            self.store.replica(lane)[:] = self.start
        self.counts = [[5] * LANES for _ in range(STEPS - 1)] + [[5, 0, 3]]
        self.work = programs.Work(
            self.rule, OPTIMIZER, lambda step: 0.1 / (1 + step), lambda step: self.counts[step], self.compute
        )
        self.killed_racy = False
        self.done_by: list[int] = []

    def gradient(self, unit: int, at: np.ndarray) -> np.ndarray:
        return (at - self.targets[unit]) * np.float32(0.5)

    def compute(self, lane, at, buffers) -> float:
        unit = lane.step * LANES + lane.index if self.rule.lockstep else self.store.get(lane.index, c.UNIT)
        self.store.gradient(lane.index)[:] = self.gradient(unit, at)
        buffers += 1
        return 1.0

    def order(self, epoch: int) -> None:
        """The parent's part at the start of an epoch."""
        parent.new_epoch(self.store, self.rule, epoch)
        self.command()

    def command(self) -> None:
        """The parent's part when the lanes are to go on."""
        store = self.store
        parent.order(store)
        self.running = {
            lane: programs.program(store, self.work, lane) for lane in range(LANES) if store.get(lane, c.OWNER) >= 0
        }
        self.waiting: dict[int, programs.Wait] = {}

    def move(self, lane: int) -> bool:
        """Make a lane's next move; returns False if it cannot move."""
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
        """Kill a lane's process at any point; the parent repairs the store and starts another process, or none."""
        store, rule = self.store, self.rule
        self.running.pop(lane, None)
        self.waiting.pop(lane, None)
        sweeping = store.get(lane, c.SWEEP)
        if sweeping and store.get(lane, c.UNDO) == store.get(lane, c.POSITION):
            self._scribble(lane, kernels(rule)[sweeping - 1].kernel)
        else:
            store.gradient(lane)[:] = np.nan if rule.lockstep is False and not sweeping else store.gradient(lane)
        uncertain, freed = programs.recover(store, rule, OPTIMIZER, lane)
        self.killed_racy |= bool(uncertain)
        if drop and not rule.lockstep:
            heirs = [other for other in range(LANES) if other != lane and store.get(other, c.OWNER) >= 0]
            parent.hand_over(store, rule, [lane], heirs, bool(freed))
            for other in heirs:  # as a worker process looks for lanes that have work
                if other not in self.running and store.get(other, c.DONE) < store.order:
                    self.running[other] = programs.program(store, self.work, other)
        elif store.get(lane, c.DONE) < store.order:
            self.running[lane] = programs.program(store, self.work, lane)

    def _scribble(self, lane: int, declared) -> None:
        """Leave the chunk in progress half written, as a kill in the middle of a kernel does."""
        store = self.store
        start = store.get(lane, c.POSITION)
        half = slice(start, min(start + CHUNK, store.get(lane, c.END), start + 2))
        if declared.racy:
            return
        for name in declared.writes:
            if name == "centre":
                store.centre[half] = np.nan
            elif name == "state":
                for vector in store.state.values():
                    vector[half] = np.nan
            elif name == "replica":
                store.replica(lane)[half] = np.nan
            else:
                for vector in store.own_state(lane).values():
                    vector[half] = np.nan

    def finish(self) -> None:
        """Let all lanes move in turn until all are done."""
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
    """Check everything that must be true at the end, whatever has happened."""
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
        turns = [store.get(lane, c.TURN) for lane in range(LANES)]
        assert sum(turns) == images.sum()
        assert [store.buffers[turn % 2, lane, 0] for lane, turn in enumerate(turns)] == turns


# (lane, n): the lane moves n times; (lane, -1): it dies; (lane, -2): it dies and is not replaced; (_, 0): the gate
# closes and opens.
moves = st.lists(st.tuples(st.integers(0, LANES - 1), st.integers(-2, 25)), max_size=60)


@pytest.mark.parametrize("name", CASES)
@examples(120)
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


@examples(60)
@given(schedule=st.lists(st.integers(0, LANES - 1), max_size=300), bound=st.integers(0, 3))
def test_ssp_never_lets_anyone_get_further_ahead(schedule, bound):
    with mock.patch.dict(OPTIONS, {"ssp": {"staleness": bound}}):
        run = Simulation("ssp")
    run.order(0)
    for lane in schedule:
        run.move(lane)
        if any(run.store.get(each, c.ARRIVED) == c.NEVER for each in range(LANES)):
            break
        done = [run.store.get(each, c.TURN) for each in range(LANES)]
        assert max(done) - min(done) <= bound + 1
    run.finish()


@pytest.mark.covering("name", most=2)
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


@pytest.mark.parametrize("name", CASES)
def test_another_communicator_carries_a_run_to_the_same_bits(name):
    for deaths in range(0, 200, 37):
        runs = [Simulation(name, communicator) for communicator in (s.Store, Plain)]
        for run in runs:
            run.order(0)
            for move in range(deaths):
                run.move(move % LANES)
            run.die(deaths % LANES, drop=deaths % 2 == 1)
            run.store.close_gate()
            run.finish()
            run.command()
            run.finish()
        shared, plain = runs
        np.testing.assert_array_equal(shared.result(), plain.result())
        assert (plain.store.unit_states == s.USED).all() and plain.store.holder is None
        for unit, (lane, push, pulled) in plain.store.notes.items():
            noted = (shared.store.unit_lane, shared.store.unit_push, shared.store.unit_pulled)
            assert [column[unit] for column in noted] == [lane, push, pulled]
        for lane in range(LANES):
            assert [shared.store.get(lane, word) for word in (c.TURN, c.CLOCK, c.DONE)] == [
                plain.store.get(lane, word) for word in (c.TURN, c.CLOCK, c.DONE)
            ]


@pytest.mark.covering("name", "optimizer")
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
