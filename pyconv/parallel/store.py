"""Store: the communicator in shared memory: parameters, gradients, clocks and transactions of all lanes.

Worker processes on one machine use it (:mod:`.communicator` is the interface). At the start lane k belongs to worker
process k. When a process dies for good, another takes its lanes over, so the mathematics of a run does not depend on
which processes run it.

64-bit words, read and written atomically, decide who does what next; beside each word's name stands who writes it.
Arrays of numbers are changed only by transactions (:mod:`.sweep`) or by the one lane that owns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _atomics as atomics
from . import communicator
from .communicator import (
    ARRIVED,
    LANE,
    OPS,
    OWNER,
    UNDO,
    UNIT,
    Communicator,
    Everyones,
)
from .memory import Layout, Segment

# ---- words of the head: one cache line each, so that waiting for one does not slow down another ----
COMMAND = 0  # parent: number of the latest order; a lane with nothing left to do under it sets its DONE to this number
EPOCH = 8  # parent: the epoch that is ordered
STOP = 16  # parent: 1 when workers should exit
GATE = 24  # all: twice the number of steps that lanes may begin, plus 1 while the gate is closed (see Store.pass_gate)
EVENT = 32  # all: counted up when something that lanes wait for has happened; lanes sleep on it
PARENT_EVENT = 40  # lanes: counted up when something that the parent waits for has happened
LOCK = 48  # all: 1 + number of the lane that may change the centre, or 0
LOCK_EVENT = 56  # all: counted up when the lock is released
SEQUENCE = 64  # lock's holder: pushes to the centre since the start of the run
HINT = 72  # all: where to begin the search for a free mini-batch
UNITS = 80  # parent: mini-batches in the epoch
HEAD = 88

# ---- words of a worker process: written by it -----------------------------------------------------
PID = 0
STATE = 1
HEARTBEAT = 2  # nanoseconds of the monotonic clock
BATCHES = 3  # gradients computed since the process started
STARTED = 4  # when the current gradient was begun, in nanoseconds, or 0
DATA_NS, COMPUTE_NS, UPDATE_NS, WAIT_NS = 5, 6, 7, 8  # nanoseconds spent on each
FAILED_UNIT = 9  # the mini-batch that it works on
LAST_NS = 10  # nanoseconds that the last gradient took
WORKER = 16

# ---- states of a worker process and of a mini-batch -----------------------------------------------
STARTING, READY, EXITED, ERROR, NOT_FINITE = range(5)
FREE, USED = 0, -1  # a mini-batch; any other value is 1 + number of the lane that works on it

SCAN = 1024  # mini-batches in which one look searches for a free one
MESSAGE = 4000  # most bytes of a failing worker's last words


@dataclass(frozen=True)
class Plan:
    """The sizes of a store.

    Attributes
    ----------
    parameters, buffers : int
        Elements of the model's flat vector and of its running statistics.
    dtype : str
        Of the parameters: "float32" or "float64".
    lanes : int
        Number of lanes: the workers at the start.
    units : int
        Mini-batches in an epoch, over all lanes: ``steps * lanes``.
    state : tuple of str
        Names of the optimizer's state vectors.
    replicas : bool
        Whether each lane has parameters of its own,
    replica_state : bool
        and optimizer state of its own for them.
    undo : int
        Most vectors that one transaction changes.
    events : int
        Entries of each lane's timeline, 0 for none.
    clip : float
        Largest norm of the mean of all gradients, 0 for no limit.
    """

    parameters: int
    buffers: int
    dtype: str
    lanes: int
    units: int
    state: tuple[str, ...]
    replicas: bool = False
    replica_state: bool = False
    undo: int = 1
    events: int = 0
    clip: float = 0.0

    def layout(self) -> Layout:
        """The positions of all arrays in the segment."""
        n, lanes, kind = self.parameters, self.lanes, self.dtype
        layout = Layout()
        layout.add("words", (HEAD + lanes * (LANE + WORKER) + self.units,), np.int64)
        layout.add("rates", (lanes, 8), np.float64)
        layout.add("messages", (lanes, MESSAGE), np.uint8)
        for name in ("unit_lane", "unit_push", "unit_pulled", "unit_time"):
            layout.add(name, (self.units,), np.int64)
        layout.add("unit_loss", (self.units,), np.float64)
        layout.add("unit_correct", (self.units,), np.int64)
        layout.add("centre", (n,), kind)
        layout.add("buffers", (2, lanes, self.buffers), kind)
        layout.add("gradients", (lanes, n), kind)
        layout.add("undo", (lanes, self.undo, min(communicator.CHUNK, max(n, 1))), kind)
        for name in self.state:
            layout.add(f"state.{name}", (n,), kind)
        if self.replicas:
            layout.add("replicas", (lanes, n), kind)
        if self.replica_state:
            for name in self.state:
                layout.add(f"replica_state.{name}", (lanes, n), kind)
        if self.events:
            layout.add("events", (lanes, self.events, 4), np.int64)
            layout.add("event_counts", (lanes, 8), np.int64)
        return layout


class Store(Communicator):
    """The arrays and words of a parameter server, and the operations that the protocol consists of.

    Parameters
    ----------
    plan : Plan
        The sizes.
    segment : Segment, optional
        The memory, if another process has made it; by default new memory.

    Attributes
    ----------
    centre : (n,) ndarray
        The parameters that all share.
    state : dict of str to (n,) ndarray
        The optimizer's state for them.
    gradients : (lanes, n) ndarray
        Each lane's slot.
    replicas : (lanes, n) ndarray or None
        Each lane's own parameters, if the rule has them; `replica_state` is the optimizer's state for them.
    buffers : (2, lanes, m) ndarray
        Each lane's running statistics after an even and after an odd number of mini-batches. The new ones are written
        beside the last ones, so that a repeated mini-batch starts from the same numbers.
    unit_lane, unit_push, unit_pulled, unit_time : (units,) int64 ndarray
        Which lane did each mini-batch of the epoch, as which push, how many pushes it had pulled, when (monotonic ns).
    unit_loss : (units,) float64 ndarray
        Mean loss of each mini-batch.
    unit_correct : (units,) int64 ndarray
        Images of each mini-batch whose largest logit was their label's.

    Raises
    ------
    SharedMemoryError
        If there is not enough shared memory.
    """

    def __init__(self, plan: Plan, segment: Segment | None = None) -> None:
        self.plan = plan
        self.clip = plan.clip
        self.lanes, self.parameters = plan.lanes, plan.parameters
        self.steps = plan.units // plan.lanes
        layout = plan.layout()
        self.segment = segment or Segment(layout.size, f"the parameter server of {plan.lanes} workers")
        arrays = layout.arrays(self.segment)
        self.words: np.ndarray = arrays["words"]
        self._lanes = HEAD
        self._workers = HEAD + plan.lanes * LANE
        self._units = HEAD + plan.lanes * (LANE + WORKER)
        self.unit_states = self.words[self._units :]
        self.rates: np.ndarray = arrays["rates"]
        self.messages: np.ndarray = arrays["messages"]
        self.unit_lane, self.unit_push = arrays["unit_lane"], arrays["unit_push"]
        self.unit_pulled, self.unit_time = arrays["unit_pulled"], arrays["unit_time"]
        self.unit_loss: np.ndarray = arrays["unit_loss"]
        self.unit_correct: np.ndarray = arrays["unit_correct"]
        self.centre: np.ndarray = arrays["centre"]
        self.buffers: np.ndarray = arrays["buffers"]
        self.gradients: np.ndarray = arrays["gradients"]
        self.undo: np.ndarray = arrays["undo"]
        self.state = {name: arrays[f"state.{name}"] for name in plan.state}
        self.replicas: np.ndarray | None = arrays.get("replicas")
        self.replica_state = {
            name: arrays[f"replica_state.{name}"] for name in plan.state if f"replica_state.{name}" in arrays
        }
        self.events: np.ndarray | None = arrays.get("events")
        self.event_counts: np.ndarray | None = arrays.get("event_counts")
        if segment is None:
            for lane in range(plan.lanes):
                self.set(lane, OWNER, lane)
                self.set(lane, UNIT, -1)
                self.set(lane, UNDO, -1)

    # ---- words ------------------------------------------------------------------------------------

    def head(self, word: int) -> int:
        """A word of the head."""
        return atomics.load(self.words, word)

    def set_head(self, word: int, value: int) -> None:
        """Write a word of the head."""
        atomics.store(self.words, word, value)

    def get(self, lane: int, word: int) -> int:
        """A word of a lane."""
        return atomics.load(self.words, self._lanes + lane * LANE + word)

    def set(self, lane: int, word: int, value: int) -> None:
        """Write a word of a lane."""
        atomics.store(self.words, self._lanes + lane * LANE + word, value)

    def column(self, word: int) -> np.ndarray:
        """One word of all lanes, as an array view."""
        return self.words[self._lanes : self._workers].reshape(-1, LANE)[:, word]

    @property
    def epoch(self) -> int:
        return self.head(EPOCH)

    @property
    def order(self) -> int:
        return self.head(COMMAND)

    @property
    def pushes(self) -> int:
        return self.head(SEQUENCE)

    def worker(self, index: int) -> np.ndarray:
        """The words of a worker process. Only that process writes them, and no decision depends on their order."""
        start = self._workers + index * WORKER
        return self.words[start : start + WORKER]

    # ---- vectors ----------------------------------------------------------------------------------

    def rate(self, lane: int) -> float:
        return float(self.rates[lane, 0])

    def set_rate(self, lane: int, rate: float) -> None:
        self.rates[lane, 0] = rate

    def gradient(self, lane: int) -> np.ndarray:
        gradient: np.ndarray = self.gradients[lane]
        return gradient

    def replica(self, lane: int) -> np.ndarray:
        assert self.replicas is not None, "the rule does not say that it uses replicas"
        replica: np.ndarray = self.replicas[lane]
        return replica

    def own_state(self, lane: int) -> dict[str, np.ndarray]:
        return {name: vectors[lane] for name, vectors in self.replica_state.items()}

    def running(self, lane: int, turn: int) -> np.ndarray:
        running: np.ndarray = self.buffers[turn % 2, lane]
        return running

    def saved(self, lane: int) -> np.ndarray:
        saved: np.ndarray = self.undo[lane]
        return saved

    def everyones(self, what: Everyones, part: slice) -> np.ndarray:
        vectors: np.ndarray | None = self.gradients if what == "gradients" else self.replicas
        assert vectors is not None, "the rule does not say that it uses replicas"
        return vectors[:, part]

    # ---- waiting ----------------------------------------------------------------------------------

    def reached(self, word: int, value: int) -> bool:
        """Whether this word is at least `value` in every lane."""
        return atomics.all_reached(self.words, self._lanes + word, LANE, self.plan.lanes, value)

    def wait_reached(self, word: int, value: int, seconds: float, spin: float = 0.0) -> bool:
        """Wait for :meth:`reached`, at most `seconds`; returns whether it came true."""
        first = self._lanes + word
        return atomics.wait_reached(self.words, first, LANE, self.plan.lanes, value, EVENT, seconds, spin)

    def wake(self) -> None:
        """Let every waiting lane look at the words again."""
        atomics.wake(self.words, EVENT)

    def wake_parent(self) -> None:
        """Let the parent look at the words again."""
        atomics.wake(self.words, PARENT_EVENT)

    def arrive(self, lane: int, value: int) -> None:
        """Note that `lane` has come to `value`; the last lane to arrive wakes the others."""
        if self.get(lane, ARRIVED) < value:
            self.set(lane, ARRIVED, value)
        if self.reached(ARRIVED, value):
            self.wake()

    # ---- the gate: it lets either all lanes begin a step together, or none -------------------------

    def pass_gate(self, step: int) -> bool:
        """Whether a lane that has arrived at `step` may begin it; the lane that arrives last opens the gate for all.

        One word holds both the number of steps that may begin and whether the gate is closed. So closing and opening
        happen in one order: after :meth:`close_gate`, either all lanes will do the step or none will.
        """
        allowed = 2 * (step + 1)
        while True:
            gate = self.head(GATE)
            if gate >= allowed:
                return True
            if gate & 1 or not self.reached(ARRIVED, OPS * step + 1):
                return False
            if atomics.cas(self.words, GATE, gate, allowed):
                self.wake()
                return True

    @property
    def closed(self) -> bool:
        """Whether lanes should stop at the next place from which they can go on later."""
        return bool(self.head(GATE) & 1)

    def close_gate(self) -> None:
        """Let no further step begin."""
        while not (gate := self.head(GATE)) & 1:
            atomics.cas(self.words, GATE, gate, gate | 1)
        self.wake()

    # ---- the centre's lock; if its holder dies, the lane's next process can take it over ----------

    def try_lock(self, lane: int) -> bool:
        """Take the centre's lock if it is free; also true if `lane` has it already."""
        return atomics.cas(self.words, LOCK, 0, lane + 1) or self.head(LOCK) == lane + 1

    def unlock(self, lane: int) -> None:
        """Release the lock if `lane` has it."""
        if atomics.cas(self.words, LOCK, lane + 1, 0):
            atomics.wake(self.words, LOCK_EVENT)

    @property
    def unlocks(self) -> int:
        return self.head(LOCK_EVENT)

    def wait_unlocked(self, unlocks: int, seconds: float) -> None:
        atomics.sleep_on(self.words, LOCK_EVENT, unlocks, seconds)

    # ---- the order of pushes ----------------------------------------------------------------------

    def count_push(self) -> int:
        # One atomic addition. If the lane dies right after it, no push has this number.
        return 1 + atomics.add(self.words, SEQUENCE, 1)

    def pushed(self, push: int) -> None:
        self.set_head(SEQUENCE, push)

    # ---- mini-batches that lanes choose themselves ------------------------------------------------

    def claim(self, lane: int) -> int:
        """Take the next free mini-batch for `lane`; -1 if none is free."""
        hint = self.head(HINT)
        # From the hint on; then from the start, since the parent may have freed earlier ones after the hint was raised.
        for begin in (hint, 0):
            for start in range(begin, self.head(UNITS), SCAN):
                stop = min(start + SCAN, self.head(UNITS))
                for unit in (start + np.flatnonzero(self.unit_states[start:stop] == FREE)).tolist():
                    if atomics.cas(self.words, self._units + unit, FREE, lane + 1):
                        self.set(lane, UNIT, unit)
                        self.set_head(HINT, unit)
                        return unit
        return -1

    def claimed(self, unit: int, lane: int) -> bool:
        return bool(self.unit_states[unit] == lane + 1)

    def use(self, unit: int) -> None:
        """Note that a mini-batch is finished."""
        atomics.store(self.words, self._units + unit, USED)

    def free_claims(self, lane: int) -> list[int]:
        """Free the mini-batches that a dead lane had claimed and not finished; called by the parent."""
        claimed = np.flatnonzero(self.unit_states[: self.head(UNITS)] == lane + 1).tolist()
        for unit in claimed:
            atomics.store(self.words, self._units + unit, FREE)
        self.set(lane, UNIT, -1)
        return claimed

    def note_loss(self, unit: int, loss: float) -> None:
        self.unit_loss[unit] = loss

    def note_unit(self, unit: int, lane: int, time: int, push: int = 0, pulled: int = 0) -> None:
        self.unit_push[unit] = push
        self.unit_pulled[unit] = pulled
        self.unit_lane[unit] = lane
        self.unit_time[unit] = time

    # ---- the parent's orders ----------------------------------------------------------------------

    def begin(self, epoch: int, done: int) -> None:
        for table in (self.unit_push, self.unit_pulled, self.unit_time, self.unit_loss, self.unit_correct):
            table[:] = 0
        self.unit_states[:] = FREE
        self.unit_states[:done] = USED
        self.set_head(EPOCH, epoch)
        self.set_head(UNITS, self.plan.units)
        self.set_head(HINT, 0)
        self.set_head(GATE, self.head(GATE) & 1)  # the steps that the gate let begin were those of the last epoch

    def go(self) -> None:
        self.set_head(GATE, 0)
        self.set_head(COMMAND, self.head(COMMAND) + 1)

    # ---- last words -------------------------------------------------------------------------------

    def leave_message(self, worker: int, text: str) -> None:
        """Write down, for the parent, why a worker fails."""
        data = text.encode(errors="replace")[: MESSAGE - 1]
        self.messages[worker, : len(data) + 1] = np.frombuffer(data + b"\0", np.uint8)

    def message(self, worker: int) -> str:
        """What the worker wrote with :meth:`leave_message`."""
        data: Any = self.messages[worker].tobytes()
        return data.partition(b"\0")[0].decode(errors="replace")
