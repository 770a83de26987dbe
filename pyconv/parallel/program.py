"""Carrying out a rule's script: what is done once stays done, whoever dies in between.

A program is a generator that runs one lane through one epoch. It yields ``None`` between any two changes of
shared words, and a :class:`Wait` where it has to wait; a worker process drives the programs of its lanes, and
the model test drives many of them in one process, interleaves them as it likes and lets them die wherever they
yield.

Lockstep rules: a lane's clock counts the actions done. After a restart the script of the step is run again and
what the clock has counted is skipped; an action in progress is either harmless to repeat or a transaction that
knows where it was.

The other rules: a mini-batch is claimed, and used when the sweep that takes its gradient is complete. If the
lane dies before that sweep has begun, the mini-batch is free again; if it dies after, the parent completes the
sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from . import store as s
from . import sweep
from .lane import Everyone, Gradient, Lane, NotAhead, Sweep

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .rules import Rule

ALIGN = 16  # elements: shares end on a cache line


class Wait:
    """Something to wait for."""

    def ready(self) -> bool:
        """Whether it has come true."""
        raise InputError("a wait of no kind")

    def block(self, seconds: float, spin: float) -> None:
        """Sleep until it may have come true, at most so long; spin for the first moment."""
        raise InputError("a wait of no kind")


@dataclass
class Reached(Wait):
    """Every lane's word is at least `value`."""

    store: s.Store
    value: int

    def ready(self) -> bool:
        return self.store.reached(s.ARRIVED, self.value)

    def block(self, seconds: float, spin: float) -> None:
        self.store.wait_reached(s.ARRIVED, self.value, seconds, spin)


@dataclass
class AtBoundary(Wait):
    """As :class:`Reached`, but where nothing of the mini-batch has been done yet: a closed gate ends the wait too."""

    store: s.Store
    value: int
    step: int | None  # of a lockstep rule: the gate decides

    def ready(self) -> bool:
        return self.passed() or self.store.closed

    def passed(self) -> bool:
        """Whether the lane may go on."""
        if self.step is not None:
            return self.store.pass_gate(self.step)
        return self.store.reached(s.ARRIVED, self.value)

    def block(self, seconds: float, spin: float) -> None:
        self.store.wait_reached(s.ARRIVED, self.value, seconds, spin)


@dataclass
class Locked(Wait):
    """The centre's lock is this lane's; looking takes it."""

    store: s.Store
    lane: int
    seen: int = 0

    def ready(self) -> bool:
        self.seen = self.store.head(s.LOCK_EVENT)
        return self.store.try_lock(self.lane)

    def block(self, seconds: float, spin: float) -> None:
        s.atomics.sleep_on(self.store.words, s.LOCK_EVENT, self.seen, seconds)


Program = Generator["Wait | None", None, None]
Attempt = Generator["Wait | None", None, bool]  # gives whether it was stopped before anything had been done


@dataclass
class Work:
    """What programs need besides the store.

    Attributes
    ----------
    rule : Rule
    optimizer : Optimizer
    rate : callable
        ``rate(step)``: learning rate of the 0-based global step.
    counts : callable
        ``counts(step)``: images of each lane in the 0-based step of the epoch, ``(W,)``.
    compute : callable
        ``compute(lane, at, buffers)``: write the gradient of the lane's mini-batch at the parameters `at` into
        its slot, update the running statistics `buffers` in place, and return the mean loss.
    note : callable
        ``note(lane, what, began)``: a kernel named `what` has run since `began` (monotonic ns).
    """

    rule: Rule
    optimizer: Optimizer
    rate: Callable[[int], float]
    counts: Callable[[int], Sequence[int]]
    compute: Callable[[Lane, np.ndarray, np.ndarray], float]
    note: Callable[[int, str, int], None] = lambda lane, what, began: None


def share(parameters: int, lanes: int, lane: int) -> tuple[int, int]:
    """The stretch of the parameters that `lane` reduces and updates."""
    blocks = -(-parameters // ALIGN)
    return min(blocks * lane // lanes * ALIGN, parameters), min(blocks * (lane + 1) // lanes * ALIGN, parameters)


def program(store: s.Store, work: Work, index: int) -> Program:
    """Run lane `index` through the epoch that is ordered, from where it is."""
    lane = Lane(store, index)
    lane.epoch = store.head(s.EPOCH)
    order = store.head(s.COMMAND)
    yield from (_lockstep if work.rule.lockstep else _free)(store, work, lane)
    store.set(index, s.DONE, order)
    store.wake_parent()


# ---- lockstep -------------------------------------------------------------------------------------


def _lockstep(store: s.Store, work: Work, lane: Lane) -> Program:
    """Step by step until the end of the epoch, or until the gate is closed."""
    index = lane.index
    while True:
        lane.step, done = divmod(store.get(index, s.CLOCK), s.OPS)
        if lane.step > lane.steps:
            return
        if not done and store.closed and store.get(index, s.ARRIVED) <= s.OPS * lane.step:
            return
        script = work.rule.step(lane) if lane.step < lane.steps else work.rule.finish(lane)
        if (yield from _step(store, work, lane, script, done)):
            return
        if lane.step < lane.steps:
            unit = lane.step * lane.workers + index
            store.set(index, s.TURN, lane.epoch * lane.steps + lane.step + 1)
            store.unit_lane[unit] = index
            store.unit_time[unit] = time.monotonic_ns()
            yield None
            store.use(unit)
            yield None
        store.set(index, s.CLOCK, s.OPS * (lane.step + 1))
        yield None


def _step(store: s.Store, work: Work, lane: Lane, script: Iterator[object], done: int) -> Attempt:
    """One script; gives whether the lane was stopped before anything of it was done."""
    index, base = lane.index, s.OPS * lane.step
    actions = 0
    together = False
    for position, action in enumerate(script):
        if isinstance(action, Everyone):
            together = together or position == 0
            if not together:
                raise InputError(
                    f"update rule {work.rule.name!r} waits for everyone in a step that does not begin with everyone()"
                )
            store.arrive(index, base + actions + 1)
            yield None
            wait: Wait
            if position == 0 and not done:
                wait = boundary = AtBoundary(store, base + 1, lane.step)
                if not wait.ready():
                    yield wait
                if not boundary.passed():
                    return True
            elif not (wait := Reached(store, base + actions + 1)).ready():
                yield wait
            continue
        if actions >= done:
            yield from _act(store, work, lane, action, base + actions + 1)
            store.set(index, s.CLOCK, base + actions + 1)
            yield None
        actions += 1
    return False


def _act(store: s.Store, work: Work, lane: Lane, action: object, clock: int) -> Program:
    """Do one action of a lockstep script, after which the lane's clock is `clock`."""
    index = lane.index
    counts = np.asarray(work.counts(lane.step) if lane.step < lane.steps else [0] * lane.workers, np.float64)
    global_step = lane.epoch * lane.steps + lane.step
    if isinstance(action, Gradient):
        _gradient(store, work, lane, action, global_step, lane.step * lane.workers + index, bool(counts[index]))
        yield None
    elif isinstance(action, Sweep):
        if action.kernel.kernel.gradient and not counts[index]:  # type: ignore[attr-defined]
            return
        if action.locked:
            yield from _lock(store, index)
        began = time.monotonic_ns()
        if not store.get(index, s.SWEEP):
            n = store.plan.parameters
            part = share(n, lane.workers, index) if action.share else (0, n)
            yield from sweep.begin(
                store, work.rule, index, action.kernel, part, work.rate(global_step), global_step + 1, clock
            )
        weights = counts / max(counts.sum(), 1)
        yield from sweep.proceed(store, work.rule, index, work.optimizer, weights)
        yield from sweep.finish(store, work.rule, index, time.monotonic_ns())
        if action.locked:
            store.unlock(index)
        work.note(index, action.kernel.__name__, began)
    else:
        raise InputError(f"update rule {work.rule.name!r} yields {action!r} in a lockstep script")


# ---- lanes that choose their mini-batches ---------------------------------------------------------


def _free(store: s.Store, work: Work, lane: Lane) -> Program:
    """One mini-batch after the other until none is free, or until the gate is closed."""
    index = lane.index
    for action in work.rule.begin(lane):
        yield from _act_free(store, work, lane, action)
    while not store.closed:
        unit = store.claim(index)
        yield None
        if unit < 0:
            store.arrive(index, s.NEVER)
            store.wake()
            return
        lane.step, place = divmod(unit, lane.workers)
        if not work.counts(lane.step)[place]:
            store.use(unit)
            store.set(index, s.UNIT, -1)
            continue
        for action in work.rule.step(lane):
            if (yield from _act_free(store, work, lane, action)):
                store.free_claims(index)
                return


def _act_free(store: s.Store, work: Work, lane: Lane, action: object) -> Attempt:
    """Do one action; gives whether the lane was stopped before anything of the mini-batch was done."""
    index = lane.index
    if isinstance(action, NotAhead):
        clock = store.get(index, s.TURN) - store.get(index, s.CLOCK)
        store.arrive(index, clock)
        store.wake()
        yield None
        wait = AtBoundary(store, clock - action.by, None)
        if not wait.ready():
            yield wait
        return not wait.passed()
    if isinstance(action, Gradient):
        if action.at == "centre":
            store.set(index, s.PULLED, store.head(s.SEQUENCE))
        _gradient(store, work, lane, action, store.get(index, s.TURN), store.get(index, s.UNIT), True)
        yield None
    elif isinstance(action, Sweep):
        if action.locked:
            yield from _lock(store, index)
        began = time.monotonic_ns()
        rate = work.rate(lane.epoch * lane.steps + lane.step)
        whole = (0, store.plan.parameters)
        step = store.get(index, s.TURN) + 1
        yield from sweep.begin(store, work.rule, index, action.kernel, whole, rate, step, step)
        yield from sweep.proceed(store, work.rule, index, work.optimizer)
        yield from sweep.finish(store, work.rule, index, time.monotonic_ns())
        if action.locked:
            store.unlock(index)
        work.note(index, action.kernel.__name__, began)
    else:
        raise InputError(f"update rule {work.rule.name!r} yields {action!r}, and is not a lockstep rule")
    return False


# ---- both -----------------------------------------------------------------------------------------


def _lock(store: s.Store, index: int) -> Program:
    wait = Locked(store, index)
    if not wait.ready():
        yield wait
    yield None


def _gradient(store: s.Store, work: Work, lane: Lane, action: Gradient, turn: int, unit: int, images: bool) -> None:
    """Compute into the slot. The running statistics go from one place to another, so that repeating does no harm."""
    old, new = store.buffers[turn % 2, lane.index], store.buffers[(turn + 1) % 2, lane.index]
    new[...] = old
    if images:
        if action.at == "replica":
            assert store.replicas is not None, "the rule does not say that it uses replicas"
            at = store.replicas[lane.index]
        else:
            at = store.centre
        store.unit_loss[unit] = work.compute(lane, at, new)


def recover(store: s.Store, rule: Rule, optimizer: Optimizer, lane: int) -> tuple[int, list[int]]:
    """Bring a dead lane's part of the store to where another process can go on; the parent's move.

    Returns
    -------
    uncertain : int
        Parameters of which it cannot be known whether the last step was added to them: a racy kernel was at them.
    freed : list of int
        Mini-batches that the lane had claimed and not used.
    """
    uncertain = sweep.roll_back(store, rule, lane)
    if rule.lockstep:
        # A transaction in progress stays noted down, and locked, for whoever goes on with the lane.
        if store.get(lane, s.CLOCK) >= store.get(lane, s.NEXT):
            store.set(lane, s.SWEEP, 0)
        if not store.get(lane, s.SWEEP):
            store.unlock(lane)
        return uncertain, []
    if store.get(lane, s.SWEEP):
        for _ in sweep.proceed(store, rule, lane, optimizer):
            pass
        for _ in sweep.finish(store, rule, lane, time.monotonic_ns()):
            pass
    store.unlock(lane)
    return uncertain, store.free_claims(lane)


def drive(
    programs: dict[int, Program],
    *,
    spin: float = 0.0,
    look: Callable[[], dict[int, Program]] | None = None,
    waited: Callable[[int, int], None] = lambda lane, began: None,
) -> None:
    """Run programs to their ends, side by side; the worker process's loop.

    Parameters
    ----------
    programs : dict of int to Program
        One for each lane of this process.
    spin : float
        Seconds to spin before sleeping in a wait.
    look : callable, optional
        Called at least every tenth of a second while waiting; gives the programs of lanes that have been added.
    waited : callable, optional
        ``waited(lane, began)``: the lane has waited since `began` (monotonic ns).
    """
    waiting: dict[int, Wait] = {}
    ready = list(programs)
    while ready or waiting:
        for lane in ready:
            wait = next((item for item in programs[lane] if item is not None), None)
            if wait is not None:
                waiting[lane] = wait
        ready = [lane for lane, wait in waiting.items() if wait.ready()]
        if not ready and waiting:
            lane, wait = next(iter(waiting.items()))
            began = time.monotonic_ns()
            # With several lanes the first one's wait is slept in, and the others are looked at often.
            wait.block(0.1 if len(waiting) == 1 else 0.002, spin)
            waited(lane, began)
            if look is not None:
                added = look()
                programs.update(added)
                ready.extend(added)
        for lane in ready:
            waiting.pop(lane, None)
