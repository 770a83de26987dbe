"""Communicator: the interface through which the workers of a run meet, and the words that describe each lane.

A rule's script, the programs that run it (:mod:`.program`), their transactions (:mod:`.sweep`) and the parent's moves
(:mod:`.parent`) use a :class:`Communicator` for everything that another worker may see or change. One communicator is
shared memory (:class:`.store.Store`); the model test has another, in plain Python. One for messages between machines
would have the same methods: each process would keep the words and vectors of its own lanes,
:meth:`~Communicator.everyones` would exchange parts of vectors, and the rest would be small messages.

A *lane* is a logical worker: its share of every step, its gradient, its replica and its words. The words say how far
the lane has come. They outlive the lane's process, so that another process can go on from there.
"""

from __future__ import annotations

from typing import Literal, Protocol, runtime_checkable

import numpy as np

# Elements that a transaction changes at once. They are few enough that the saved values stay in a core's caches, and so
# many that Python's microseconds for each chunk do not matter.
CHUNK = 65536
OPS = 64  # CLOCK of a lane counts a step as this many, and an action within a step as 1
NEVER = np.iinfo(np.int64).max  # a clock that is ahead of all others: nobody waits for it

# ---- words of a lane: written by its owner, and by the parent once the owner is dead --------------
OWNER = 0  # parent: the worker process that runs the lane, or -1
DONE = 1  # the latest order under which the lane has nothing left to do
CLOCK = 2  # lockstep rules: OPS * step + actions done in it; the others: TURN at the start of the epoch
ARRIVED = 3  # how far the lane has come, for the lanes that wait for it
UNIT = 4  # the mini-batch that it works on, or -1
TURN = 5  # mini-batches that it has done since the start of the run
PULLED = 6  # number of pushes to the centre when its replica was last pulled
SWEEP = 7  # 1 + number of the kernel of the transaction that is in progress, or 0 if there is none
POSITION = 8  # the transaction has changed all elements before this one
END = 9  # the element before which it ends
UNDO = 10  # first element of the chunk whose old values are saved; the chunk is in progress if this equals POSITION
PUSH = 11  # the transaction's number in the order of pushes, or 0 if it is no push
STEP = 12  # the optimizer's step number in the transaction
NEXT = 13  # what TURN, or CLOCK in lockstep, will be when the transaction is done
LANE = 16  # words in all: two cache lines

#: Vectors of which each lane has one, and which all lanes may read.
Everyones = Literal["gradients", "replicas"]


@runtime_checkable
class Communicator(Protocol):
    """How the lanes of a run, and the run's parent process, see each other.

    Attributes
    ----------
    lanes, steps, parameters : int
        Logical workers, global steps of an epoch, elements of the model's flat vector.
    centre : (n,) ndarray
        The shared parameters; they are what :meth:`.Rule.result` gives at the end of an epoch, unless a rule differs.
    state : dict of str to (n,) ndarray
        The optimizer's state for them.
    epoch, order : int
        Number of the current epoch, and of the parent's latest order to go on with it.
    pushes : int
        Gradients that were added to the centre since the start of the run.
    clip : float
        Largest norm of the mean of all gradients, 0 for no limit.
    """

    lanes: int
    steps: int
    parameters: int
    centre: np.ndarray
    state: dict[str, np.ndarray]
    clip: float = 0.0

    @property
    def epoch(self) -> int: ...

    @property
    def order(self) -> int: ...

    @property
    def pushes(self) -> int: ...

    # ---- a lane's own words and vectors -----------------------------------------------------------

    def get(self, lane: int, word: int) -> int:
        """A word of a lane."""
        ...

    def set(self, lane: int, word: int, value: int) -> None:
        """Write a word of a lane."""
        ...

    def rate(self, lane: int) -> float:
        """Learning rate of the lane's transaction."""
        ...

    def set_rate(self, lane: int, rate: float) -> None:
        """Write the learning rate of the lane's transaction."""
        ...

    def gradient(self, lane: int) -> np.ndarray:
        """The lane's gradient, ``(n,)``."""
        ...

    def replica(self, lane: int) -> np.ndarray:
        """The lane's own parameters, ``(n,)``, if the rule has them."""
        ...

    def own_state(self, lane: int) -> dict[str, np.ndarray]:
        """The lane's own state of the optimizer, ``(n,)`` by name, if the rule has it."""
        ...

    def running(self, lane: int, turn: int) -> np.ndarray:
        """The lane's running statistics after `turn` mini-batches; those after `turn` - 1 are kept too."""
        ...

    def saved(self, lane: int) -> np.ndarray:
        """Memory for the old values of a chunk, ``(vectors, CHUNK)``."""
        ...

    # ---- vectors of all lanes ---------------------------------------------------------------------

    def everyones(self, what: Everyones, part: slice) -> np.ndarray:
        """A part of every lane's gradient or replica, ``(lanes, m)`` in the order of the lanes; read only.

        Before a lane asks for it, all lanes must have met in an everyone() after the vectors were written.
        """
        ...

    # ---- waiting for each other -------------------------------------------------------------------

    def arrive(self, lane: int, value: int) -> None:
        """Raise the lane's word ARRIVED to `value`; the last lane to arrive wakes those that wait."""
        ...

    def reached(self, word: int, value: int) -> bool:
        """Whether this word is at least `value` in every lane."""
        ...

    def wait_reached(self, word: int, value: int, seconds: float, spin: float = 0.0) -> bool:
        """Wait for :meth:`reached`, at most `seconds`; spin first. Returns whether it came true."""
        ...

    def wake(self) -> None:
        """Let every waiting lane look at the words again."""
        ...

    def wake_parent(self) -> None:
        """Let the parent look at the words again."""
        ...

    # ---- the gate: it lets either all lanes begin a step together, or none -------------------------

    @property
    def closed(self) -> bool:
        """Whether lanes should stop at the next place from which they can go on later."""
        ...

    def pass_gate(self, step: int) -> bool:
        """Whether a lane that has arrived at `step` may begin it; the lane that arrives last opens the gate for all."""
        ...

    def close_gate(self) -> None:
        """Let no further step begin; called by the parent."""
        ...

    # ---- the centre's lock; if its holder dies, the lane's next process can take it over ----------

    def try_lock(self, lane: int) -> bool:
        """Take the centre's lock if it is free; also true if `lane` has it already."""
        ...

    def unlock(self, lane: int) -> None:
        """Release the lock if `lane` has it."""
        ...

    @property
    def unlocks(self) -> int:
        """How often the lock has been released."""
        ...

    def wait_unlocked(self, unlocks: int, seconds: float) -> None:
        """Sleep until the lock has been released more than `unlocks` times, at most `seconds`."""
        ...

    # ---- the order of pushes ----------------------------------------------------------------------

    def count_push(self) -> int:
        """Number a push that is made without the lock, atomically; the first push is 1."""
        ...

    def pushed(self, push: int) -> None:
        """Note that push number `push` is complete; its lane has the lock."""
        ...

    # ---- mini-batches -----------------------------------------------------------------------------

    def claim(self, lane: int) -> int:
        """Take the next free mini-batch for `lane`; -1 if none is free."""
        ...

    def claimed(self, unit: int, lane: int) -> bool:
        """Whether `lane` has claimed the mini-batch and has not finished it."""
        ...

    def use(self, unit: int) -> None:
        """Note that a mini-batch is finished."""
        ...

    def free_claims(self, lane: int) -> list[int]:
        """Free the mini-batches that a dead lane had claimed and not finished; called by the parent."""
        ...

    def note_loss(self, unit: int, loss: float) -> None:
        """Note the mean loss of a mini-batch."""
        ...

    def note_unit(self, unit: int, lane: int, time: int, push: int = 0, pulled: int = 0) -> None:
        """Note which lane did a mini-batch, when (monotonic ns), as which push, and after how many pushes it pulled."""
        ...

    # ---- the parent's orders ----------------------------------------------------------------------

    def begin(self, epoch: int, done: int) -> None:
        """Begin an epoch of which `done` mini-batches are done already; no lane is running."""
        ...

    def go(self) -> None:
        """Open the gate and give the next order; a lane with nothing left to do under it sets its word DONE."""
        ...
