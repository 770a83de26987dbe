"""The parameter server: parameters, gradients, clocks and transactions in one piece of shared memory.

A *lane* is a logical worker: its share of every step, its gradient slot, its replica and its clock. At the
start lane k belongs to worker process k; when a process dies for good, another takes its lanes over, so the
mathematics of a run does not depend on which processes carry it out.

All that decides who does what next is in 64-bit words that are read and written atomically; who writes each of
them is said beside its name. Arrays of numbers are changed only by transactions (:mod:`.sweep`) or by the one
lane that owns them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from . import _atomics as atomics
from .memory import Layout, Segment

# Elements that a transaction changes at once: so few that the saved values stay in a core's caches, so many that
# Python's microseconds for each chunk do not count.
CHUNK = 65536
OPS = 64  # a lane's clock counts the steps in units of this, and the actions done within a step in ones
NEVER = np.iinfo(np.int64).max  # a clock that nobody needs to wait for

# ---- words of the head: one cache line each, so that waiting for one does not slow down another ----
COMMAND = 0  # parent: number of the latest order; a lane that has nothing left to do under it sets its DONE to it
EPOCH = 8  # parent: the epoch that is ordered
STOP = 16  # parent: 1 when workers should exit
GATE = 24  # all: twice the number of steps that lanes may begin, plus 1 while the gate is closed (see Store.pass_gate)
EVENT = 32  # all: counted up, and its sleepers woken, when something that lanes wait for has come true
PARENT_EVENT = 40  # lanes: the same for the parent
LOCK = 48  # all: lane + 1 that may change the centre, or 0
LOCK_EVENT = 56  # all: counted up when the lock is released
SEQUENCE = 64  # lock's holder: pushes to the centre since the start of the run
HINT = 72  # all: where the search for a free mini-batch begins; only a hint
UNITS = 80  # parent: mini-batches in the epoch
HEAD = 88

# ---- words of a lane: written by its owner, and by the parent once the owner is dead --------------
OWNER = 0  # parent: the worker process that runs the lane, or -1
DONE = 1  # the latest order that the lane has nothing left to do for
CLOCK = 2  # lockstep rules: OPS * step + actions done in it; the others: TURN at the start of the epoch
ARRIVED = 3  # how far the lane has come to where it waits for others
UNIT = 4  # the mini-batch that it works on, or -1
TURN = 5  # mini-batches that it has done since the start of the run
PULLED = 6  # value of SEQUENCE when its replica was last pulled
SWEEP = 7  # number of the transaction's kernel plus 1, or 0 when there is none
POSITION = 8  # elements that the transaction has finished up to here
END = 9  # elements at which it ends
UNDO = 10  # position of the chunk of which the old values are saved; it is in progress if this equals POSITION
PUSH = 11  # number in SEQUENCE that the transaction has as a push, or 0
STEP = 12  # the optimizer's step number in it
NEXT = 13  # what TURN, or CLOCK in lockstep, will be when the transaction is done
LANE = 16  # words in all: two cache lines

# ---- words of a worker process: written by it -----------------------------------------------------
PID = 0
STATE = 1
HEARTBEAT = 2  # nanoseconds of the monotonic clock
BATCHES = 3  # gradients computed, since the process started
STARTED = 4  # nanoseconds at which the present gradient was begun, or 0
DATA_NS, COMPUTE_NS, UPDATE_NS, WAIT_NS = 5, 6, 7, 8  # where the time went
FAILED_UNIT = 9  # the mini-batch that it works on
LAST_NS = 10  # nanoseconds that the last gradient took
WORKER = 16

# ---- states of a worker process and of a mini-batch -----------------------------------------------
STARTING, READY, EXITED, ERROR, NOT_FINITE = range(5)
FREE, USED = 0, -1  # a mini-batch; otherwise it is lane + 1 that works on it

SCAN = 1024  # mini-batches that one look for a free one covers
MESSAGE = 4000  # bytes for a failing worker's last words


@dataclass(frozen=True)
class Plan:
    """Sizes of a store.

    Attributes
    ----------
    parameters, buffers : int
        Elements of the model's flat vector and of its running statistics.
    dtype : str
        Of the parameters: "float32" or "float64".
    lanes : int
        Workers.
    units : int
        Mini-batches in an epoch, over all lanes: ``steps * lanes``.
    state : tuple of str
        Names of the optimizer's state vectors.
    replicas : bool
        Whether each lane has parameters of its own,
    replica_state : bool
        and optimizer state of its own for them.
    undo : int
        Vectors that one transaction changes at most.
    events : int
        Entries of each lane's trace, 0 for none.
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

    def layout(self) -> Layout:
        """Where everything is."""
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
        layout.add("undo", (lanes, self.undo, min(CHUNK, max(n, 1))), kind)
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


class Store:
    """The arrays and words of a parameter server, and the moves that the protocol is made of.

    Parameters
    ----------
    plan : Plan
        Its sizes.
    segment : Segment, optional
        The memory, where another process has made it; a fresh one by default.

    Attributes
    ----------
    centre : (n,) ndarray
        The parameters that all share.
    state : dict of str to (n,) ndarray
        The optimizer's state for them.
    gradients : (lanes, n) ndarray
        Each lane's slot.
    replicas : (lanes, n) ndarray or None
        Each lane's own parameters, where the rule has them, with `replica_state`.
    buffers : (2, lanes, m) ndarray
        Each lane's running statistics, after an even and after an odd number of mini-batches: the next are written
        beside the last, so that a mini-batch that is repeated starts from the same.
    unit_lane, unit_push, unit_pulled, unit_time : (units,) int64 ndarray
        Who did each mini-batch of the epoch, as which push, at parameters of which age, and when (monotonic ns).
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
        """One word of all lanes, as an array that follows them."""
        return self.words[self._lanes : self._workers].reshape(-1, LANE)[:, word]

    def worker(self, index: int) -> np.ndarray:
        """The words of a worker process: only it writes them, and nothing is decided by their order."""
        start = self._workers + index * WORKER
        return self.words[start : start + WORKER]

    # ---- waiting ----------------------------------------------------------------------------------

    def reached(self, word: int, value: int) -> bool:
        """Whether that word of every lane is at least `value`."""
        return atomics.all_reached(self.words, self._lanes + word, LANE, self.plan.lanes, value)

    def wait_reached(self, word: int, value: int, seconds: float, spin: float = 0.0) -> bool:
        """Wait for :meth:`reached`, at most so long; tells whether it came true."""
        first = self._lanes + word
        return atomics.wait_reached(self.words, first, LANE, self.plan.lanes, value, EVENT, seconds, spin)

    def wake(self) -> None:
        """Let every waiting lane look again."""
        atomics.wake(self.words, EVENT)

    def wake_parent(self) -> None:
        """Let the parent look again."""
        atomics.wake(self.words, PARENT_EVENT)

    def arrive(self, lane: int, value: int) -> None:
        """Say that `lane` has come to `value`, and wake the others if it was the last."""
        if self.get(lane, ARRIVED) < value:
            self.set(lane, ARRIVED, value)
        if self.reached(ARRIVED, value):
            self.wake()

    # ---- the gate: a step that lanes do together is begun by all of them or by none ---------------

    def pass_gate(self, step: int) -> bool:
        """Whether `step` may be begun by a lane that has arrived at it; whoever arrives last opens it for all.

        The steps that may be begun and whether the gate is closed are one word, so that closing and opening have one
        order: after :meth:`close_gate`, either all lanes will do the step or none will.
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
        """Whether lanes should stop where they can go on later."""
        return bool(self.head(GATE) & 1)

    def close_gate(self) -> None:
        """Let no further step begin."""
        while not (gate := self.head(GATE)) & 1:
            atomics.cas(self.words, GATE, gate, gate | 1)
        self.wake()

    def open_gate(self) -> None:
        """Let steps begin again."""
        while (gate := self.head(GATE)) & 1:
            atomics.cas(self.words, GATE, gate, gate & ~1)
        self.wake()

    # ---- the centre's lock, which a dead lane's heir can take over --------------------------------

    def try_lock(self, lane: int) -> bool:
        """Take the centre's lock if it is free or is `lane`'s already."""
        return atomics.cas(self.words, LOCK, 0, lane + 1) or self.head(LOCK) == lane + 1

    def unlock(self, lane: int) -> None:
        """Release the lock if `lane` has it."""
        if atomics.cas(self.words, LOCK, lane + 1, 0):
            atomics.wake(self.words, LOCK_EVENT)

    # ---- mini-batches that lanes choose themselves ------------------------------------------------

    def claim(self, lane: int) -> int:
        """Take the next free mini-batch for `lane`; -1 when none is free."""
        hint = self.head(HINT)
        # From the hint on; then from the start, as the parent may have freed earlier ones while the hint was raised.
        for begin in (hint, 0):
            for start in range(begin, self.head(UNITS), SCAN):
                stop = min(start + SCAN, self.head(UNITS))
                for unit in (start + np.flatnonzero(self.unit_states[start:stop] == FREE)).tolist():
                    if atomics.cas(self.words, self._units + unit, FREE, lane + 1):
                        self.set(lane, UNIT, unit)
                        self.set_head(HINT, unit)
                        return unit
        return -1

    def use(self, unit: int) -> None:
        """Say that a mini-batch has been used."""
        atomics.store(self.words, self._units + unit, USED)

    def free_claims(self, lane: int) -> list[int]:
        """Give back the mini-batches that a dead lane has claimed and not used; the parent's move."""
        claimed = np.flatnonzero(self.unit_states[: self.head(UNITS)] == lane + 1).tolist()
        for unit in claimed:
            atomics.store(self.words, self._units + unit, FREE)
        self.set(lane, UNIT, -1)
        return claimed

    # ---- last words -------------------------------------------------------------------------------

    def leave_message(self, worker: int, text: str) -> None:
        """Write down why a worker fails, for the parent."""
        data = text.encode(errors="replace")[: MESSAGE - 1]
        self.messages[worker, : len(data) + 1] = np.frombuffer(data + b"\0", np.uint8)

    def message(self, worker: int) -> str:
        """What the worker left."""
        data: Any = self.messages[worker].tobytes()
        return data.partition(b"\0")[0].decode(errors="replace")
