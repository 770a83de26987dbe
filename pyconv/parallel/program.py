"""Runs a rule's script for a lane, so that what is done once stays done, whichever process dies in between.

A program is a generator that runs one lane through one epoch. Between any two changes of shared words it yields
``None``, and where it has to wait, a :class:`Wait`. A worker process runs the programs of its lanes. The model test
runs many programs in one process, interleaves them in any order, and lets them die wherever they yield.

Lockstep rules: a lane's clock counts its actions. After a restart the step's script is run again, and the actions that
the clock has counted are skipped. An action that was in progress either can be repeated without harm or is a
transaction that knows how far it came.

The other rules: a lane claims a mini-batch, and finishes it when the sweep that takes its gradient is complete. If the
lane dies before that sweep begins, the mini-batch becomes free again; if it dies later, the parent completes the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..errors import InputError
from . import sweep
from .communicator import ARRIVED, CLOCK, DONE, NEVER, NEXT, OPS, PULLED, SWEEP, TURN, UNIT, Communicator
from .lane import Everyone, Gradient, Lane, NotAhead, Sweep

if TYPE_CHECKING:
    from ..optim import Optimizer
    from .rules import Rule

ALIGN = 16  # elements: a lane's share ends at the end of a cache line


class Wait:
    """Something to wait for."""

    def ready(self) -> bool:
        """Whether the wait is over."""
        raise InputError("a wait of no kind")

    def block(self, seconds: float, spin: float) -> None:
        """Sleep until the wait may be over, at most `seconds`; spin for the first `spin` seconds."""
        raise InputError("a wait of no kind")


@dataclass
class Reached(Wait):
    """Wait until a word of every lane is at least `value`."""

    shared: Communicator
    value: int

    def ready(self) -> bool:
        return self.shared.reached(ARRIVED, self.value)

    def block(self, seconds: float, spin: float) -> None:
        self.shared.wait_reached(ARRIVED, self.value, seconds, spin)


@dataclass
class AtBoundary(Wait):
    """As :class:`Reached`, at a point where nothing of the mini-batch is done yet: a closed gate ends the wait too."""

    shared: Communicator
    value: int
    step: int | None  # lockstep rules: the step that the gate must let begin

    def ready(self) -> bool:
        return self.passed() or self.shared.closed

    def passed(self) -> bool:
        """Whether the lane may go on."""
        if self.step is not None:
            return self.shared.pass_gate(self.step)
        return self.shared.reached(ARRIVED, self.value)

    def block(self, seconds: float, spin: float) -> None:
        self.shared.wait_reached(ARRIVED, self.value, seconds, spin)


@dataclass
class Locked(Wait):
    """Wait until this lane has the centre's lock; looking takes it."""

    shared: Communicator
    lane: int
    seen: int = 0

    def ready(self) -> bool:
        self.seen = self.shared.unlocks
        return self.shared.try_lock(self.lane)

    def block(self, seconds: float, spin: float) -> None:
        self.shared.wait_unlocked(self.seen, seconds)


Program = Generator["Wait | None", None, None]
Attempt = Generator["Wait | None", None, bool]  # returns whether it was stopped before anything was done


@dataclass
class Work:
    """What programs need besides the communicator: the rule, the optimizer and functions.

    Attributes
    ----------
    rule : Rule
    optimizer : Optimizer
    rate : callable
        ``rate(step)``: learning rate of the 0-based global step.
    counts : callable
        ``counts(step)``: images of each lane in the 0-based step of the epoch, ``(W,)``.
    compute : callable
        ``compute(lane, at, buffers)``: write the gradient of the lane's mini-batch, at the parameters `at`, into the
        lane's slot, update the running statistics `buffers` in place, and return the mean loss.
    note : callable
        ``note(lane, what, began)``: a kernel that timelines call `what` ran from `began` (monotonic ns) until now.
    """

    rule: Rule
    optimizer: Optimizer
    rate: Callable[[int], float]
    counts: Callable[[int], Sequence[int]]
    compute: Callable[[Lane, np.ndarray, np.ndarray], float]
    note: Callable[[int, str, int], None] = lambda lane, what, began: None


def share(parameters: int, lanes: int, lane: int) -> tuple[int, int]:
    """The part of the parameters that `lane` averages and updates, from start to stop."""
    blocks = -(-parameters // ALIGN)
    return min(blocks * lane // lanes * ALIGN, parameters), min(blocks * (lane + 1) // lanes * ALIGN, parameters)


def program(shared: Communicator, work: Work, index: int) -> Program:
    """Run lane `index` through the current epoch, from where it is."""
    lane = Lane(index, shared.lanes, shared.steps, lambda: shared.get(index, TURN))
    lane.epoch = shared.epoch
    order = shared.order
    yield from (_lockstep if work.rule.lockstep else _free)(shared, work, lane)
    shared.set(index, DONE, order)
    shared.wake_parent()


# ---- lockstep -------------------------------------------------------------------------------------


def _lockstep(shared: Communicator, work: Work, lane: Lane) -> Program:
    """Do step after step until the end of the epoch, or until the gate is closed."""
    index = lane.index
    while True:
        lane.step, done = divmod(shared.get(index, CLOCK), OPS)
        if lane.step > lane.steps:
            return
        if not done and shared.closed and shared.get(index, ARRIVED) <= OPS * lane.step:
            return
        script = work.rule.step(lane) if lane.step < lane.steps else work.rule.finish(lane)
        if (yield from _step(shared, work, lane, script, done)):
            return
        if lane.step < lane.steps:
            unit = lane.step * lane.workers + index
            shared.set(index, TURN, lane.epoch * lane.steps + lane.step + 1)
            shared.note_unit(unit, index, time.monotonic_ns())
            yield None
            shared.use(unit)
            yield None
        shared.set(index, CLOCK, OPS * (lane.step + 1))
        yield None


def _step(shared: Communicator, work: Work, lane: Lane, script: Iterator[object], done: int) -> Attempt:
    """Run the script of one step; returns whether the lane was stopped before anything of it was done."""
    index, base = lane.index, OPS * lane.step
    actions = 0
    together = False
    for position, action in enumerate(script):
        if isinstance(action, Everyone):
            together = together or position == 0
            if not together:
                raise InputError(
                    f"update rule {work.rule.name!r} waits for everyone in a step that does not begin with everyone()"
                )
            shared.arrive(index, base + actions + 1)
            yield None
            wait: Wait
            if position == 0 and not done:
                wait = boundary = AtBoundary(shared, base + 1, lane.step)
                if not wait.ready():
                    yield wait
                if not boundary.passed():
                    return True
            elif not (wait := Reached(shared, base + actions + 1)).ready():
                yield wait
            continue
        if actions >= done:
            yield from _act(shared, work, lane, action, base + actions + 1)
            shared.set(index, CLOCK, base + actions + 1)
            yield None
        actions += 1
    return False


def _act(shared: Communicator, work: Work, lane: Lane, action: object, clock: int) -> Program:
    """Do one action of a lockstep script; afterwards the lane's clock is `clock`."""
    index = lane.index
    counts = np.asarray(work.counts(lane.step) if lane.step < lane.steps else [0] * lane.workers, np.float64)
    global_step = lane.epoch * lane.steps + lane.step
    if isinstance(action, Gradient):
        _gradient(shared, work, lane, action, global_step, lane.step * lane.workers + index, bool(counts[index]))
        yield None
    elif isinstance(action, Sweep):
        if action.declared.gradient and not counts[index]:
            return
        if action.locked:
            yield from _lock(shared, index)
        began = time.monotonic_ns()
        if not shared.get(index, SWEEP):
            n = shared.parameters
            part = share(n, lane.workers, index) if action.share else (0, n)
            yield from sweep.begin(
                shared, work.rule, index, action.kernel, part, work.rate(global_step), global_step + 1, clock
            )
        weights = counts / max(counts.sum(), 1)
        yield from sweep.proceed(shared, work.rule, index, work.optimizer, weights)
        yield from sweep.finish(shared, work.rule, index, time.monotonic_ns())
        if action.locked:
            shared.unlock(index)
        work.note(index, action.declared.event, began)
    else:
        raise InputError(f"update rule {work.rule.name!r} yields {action!r} in a lockstep script")


# ---- lanes that choose their mini-batches ---------------------------------------------------------


def _free(shared: Communicator, work: Work, lane: Lane) -> Program:
    """Do one mini-batch after the other until none is free, or until the gate is closed."""
    index = lane.index
    for action in work.rule.begin(lane):
        yield from _act_free(shared, work, lane, action)
    while not shared.closed:
        unit = shared.claim(index)
        yield None
        if unit < 0:
            shared.arrive(index, NEVER)
            shared.wake()
            return
        lane.step, place = divmod(unit, lane.workers)
        if not work.counts(lane.step)[place]:
            shared.use(unit)
            shared.set(index, UNIT, -1)
            continue
        for action in work.rule.step(lane):
            if (yield from _act_free(shared, work, lane, action)):
                shared.free_claims(index)
                return


def _act_free(shared: Communicator, work: Work, lane: Lane, action: object) -> Attempt:
    """Do one action; returns whether the lane was stopped before anything of the mini-batch was done."""
    index = lane.index
    if isinstance(action, NotAhead):
        clock = shared.get(index, TURN) - shared.get(index, CLOCK)
        shared.arrive(index, clock)
        shared.wake()
        yield None
        wait = AtBoundary(shared, clock - action.by, None)
        if not wait.ready():
            yield wait
        return not wait.passed()
    if isinstance(action, Gradient):
        if action.at == "centre":
            shared.set(index, PULLED, shared.pushes)
        _gradient(shared, work, lane, action, shared.get(index, TURN), shared.get(index, UNIT), True)
        yield None
    elif isinstance(action, Sweep):
        if action.locked:
            yield from _lock(shared, index)
        began = time.monotonic_ns()
        rate = work.rate(lane.epoch * lane.steps + lane.step)
        whole = (0, shared.parameters)
        step = shared.get(index, TURN) + 1
        yield from sweep.begin(shared, work.rule, index, action.kernel, whole, rate, step, step)
        yield from sweep.proceed(shared, work.rule, index, work.optimizer)
        yield from sweep.finish(shared, work.rule, index, time.monotonic_ns())
        if action.locked:
            shared.unlock(index)
        work.note(index, action.declared.event, began)
    else:
        raise InputError(f"update rule {work.rule.name!r} yields {action!r}, and is not a lockstep rule")
    return False


# ---- both -----------------------------------------------------------------------------------------


def _lock(shared: Communicator, index: int) -> Program:
    wait = Locked(shared, index)
    if not wait.ready():
        yield wait
    yield None


def _gradient(
    shared: Communicator, work: Work, lane: Lane, action: Gradient, turn: int, unit: int, images: bool
) -> None:
    """Compute the gradient into the slot. Running statistics are written beside the old ones, so it can be repeated."""
    old, new = shared.running(lane.index, turn), shared.running(lane.index, turn + 1)
    new[...] = old
    if images:
        at = shared.replica(lane.index) if action.at == "replica" else shared.centre
        shared.note_loss(unit, work.compute(lane, at, new))


def recover(shared: Communicator, rule: Rule, optimizer: Optimizer, lane: int) -> tuple[int, list[int]]:
    """Bring a dead lane to a state from which another process can go on; called by the parent.

    Returns
    -------
    uncertain : int
        Parameters of which it is not known whether the last step was added: a racy kernel was changing them.
    freed : list of int
        Mini-batches that the lane had claimed and not finished.
    """
    uncertain = sweep.roll_back(shared, rule, lane)
    if rule.lockstep:
        # A transaction in progress stays noted and locked for the process that goes on with the lane.
        if shared.get(lane, CLOCK) >= shared.get(lane, NEXT):
            shared.set(lane, SWEEP, 0)
        if not shared.get(lane, SWEEP):
            shared.unlock(lane)
        return uncertain, []
    if shared.get(lane, SWEEP):
        for _ in sweep.proceed(shared, rule, lane, optimizer):
            pass
        for _ in sweep.finish(shared, rule, lane, time.monotonic_ns()):
            pass
    shared.unlock(lane)
    return uncertain, shared.free_claims(lane)


def drive(
    programs: dict[int, Program],
    *,
    spin: float = 0.0,
    look: Callable[[], dict[int, Program]] | None = None,
    waited: Callable[[int, int], None] = lambda lane, began: None,
) -> None:
    """Run programs side by side until all have ended; this is the worker process's loop.

    Parameters
    ----------
    programs : dict of int to Program
        One program for each lane of this process.
    spin : float
        Seconds to spin in a wait before sleeping.
    look : callable, optional
        Called at least every tenth of a second while waiting; returns the programs of added lanes.
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
            # With several lanes this sleeps in the first one's wait, and looks at the others often.
            wait.block(0.1 if len(waiting) == 1 else 0.002, spin)
            waited(lane, began)
            if look is not None:
                added = look()
                programs.update(added)
                ready.extend(added)
        for lane in ready:
            waiting.pop(lane, None)
