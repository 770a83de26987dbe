"""A rank's part of the computing: its lanes' programs, one after the other, up to where all ranks meet."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Iterator

import numpy as np

from ..backends import get
from ..errors import InputError, RunError
from ..nn import Sequential
from ..parallel import Job, parent
from ..parallel import communicator as c
from ..parallel import store as s
from ..parallel.lane import Action, Everyone, Gradient, Lane
from ..parallel.program import AtBoundary, Program, Reached, Wait, Work, program
from ..parallel.worker import Trainer, describe_model, make_model
from . import rounds as r
from .desk import Desk
from .free import FreeLanes
from .jobs import check
from .lanes import Lanes
from .overlap import Overlap
from .shards import Shard
from .tracing import TapeRecorder
from .world import World

#: Actions that are done when lanes meet after the gradient, in a step that can be overlapped.
AFTER_GRADIENT = 2

Place = tuple[int, int]
"""Where lanes are: a kind, and the step or clock."""

Spot = tuple[int, int, tuple[Action, ...]]
"""Where lanes are in the script: a kind, actions that are done in the step, and the step's actions. At a spot, lanes
need the same from each other in every step."""


class Node:
    """The lanes of one rank; those of a lockstep rule are driven here, others by :func:`~.turns.mini_batches`.

    Parameters
    ----------
    model : Sequential
        Read.
    x : (N, H, W, C) ndarray or Shard
    labels : (N,) int64 ndarray
    job : Job
        Its `workers` are the lanes of all ranks.
    world : World
    rounds : Rounds
    threads : int
        OpenMP threads, for each lane in its turn.
    fetch : callable
        ``fetch(needs)``: a round in which the others send what this rank needs.

    Raises
    ------
    InputError
        If the job cannot be run over MPI.
    """

    def __init__(
        self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, world: World, rounds: r.Rounds,
        threads: int, fetch: Callable[[int], None],
    ) -> None:  # fmt: skip
        self.job, self.rule, self._rounds = dataclasses.replace(job, backend=get(job.backend).name), job.rule, rounds
        check(self.job, world.size, len(x), model.least_batch)
        if not (self.rule.lockstep or world.serialized):
            raise InputError(
                f"update {self.rule.name!r} needs an MPI that a second thread may call (MPI_THREAD_SERIALIZED), and "
                "this one, as it was started, is for one: take sync or local"
            )
        self._world = world
        self._fetch, self._learned = fetch, dict[Spot, int]()
        self._spot: Spot = (r.REST, 0, ())
        self._told: dict[Spot, list[int]] = {}  # what each rank needed when all were last at a spot
        self._shard = x if isinstance(x, Shard) else None
        self._arranged = -1  # the epoch for which the shard is arranged
        self.steps = -(-len(x) // (job.batch_size * job.workers))
        plan = s.Plan(
            parameters=model.trained.count,
            buffers=model.flat_buffers.size,
            dtype=model.dtype.name,
            lanes=job.workers,
            units=self.steps * job.workers,
            state=tuple(job.optimizer.state_names),
            replicas=self.rule.replicas,
            replica_state=self.rule.replica_state,
            clip=(job.clip_norm or 0.0) if self.rule.clips_mean else 0.0,
        )
        if self.rule.lockstep:
            self.lanes = Lanes(plan, world, self._need)
        else:
            signalled = lambda: rounds.signalled()  # noqa: E731  # which is set later
            self.lanes = FreeLanes(plan, world, fetch, self.rule, signalled, self.waiting)
        lanes = self.lanes
        model.trained.gather(model.flat, lanes.centre)
        for lane in lanes.own:
            lanes.buffers[lane][...] = model.flat_buffers
            if lanes.replicas:
                lanes.replicas[lane][...] = lanes.centre
        rounds.most = lanes.spread.most
        self.model = made = make_model(copy.deepcopy(describe_model(model)), self.job.backend, threads)
        self._words = np.zeros(s.WORKER, np.int64)
        store: s.Store = lanes  # type: ignore[assignment]  # of a store it has what a trainer uses
        recorder = TapeRecorder(world.tape, lambda lane: lanes.get(lane, c.TURN))
        self._trainer = Trainer(made, x, labels, self.job, self.rule, store, self._words, recorder)
        self.work = Work(
            self.rule,
            job.optimizer,
            self._trainer.rate,
            self._trainer.counts,
            self._compute,
            self._trainer.note,
        )
        self._overlap: Overlap | None = None
        # A clipped gradient is not what the backward pass has written; a frozen layer's is left out of the vector.
        written = not job.clip_norm or self.rule.clips_mean
        if self.job.overlap and job.micro_batches == 1 and self.rule.lockstep and written and made.trained.whole:
            self._overlap = Overlap(made, self.lanes, world, job.wire == "float16")
            world.idle, rounds.settle = self._overlap.look, self._overlap.settle
        if job.wire != "exact" and not self._overlaps(0):
            raise InputError(
                f"wire {job.wire} is for what travels while steps are computed: under update sync or a rule like it, "
                "with overlap, and without frozen layers or micro-batches"
            )
        self.programs: dict[int, Program] = {}
        self._waits: dict[int, Wait] = {}
        self._from: dict[int, int] = {}  # the step from which on each lane has computed in this session
        self.waited_ns = 0
        if rounds.trace is not None and isinstance(lanes, FreeLanes) and isinstance(lanes.desk, Desk):
            lanes.desk.heard = rounds.trace.hear

    # ---- epochs -----------------------------------------------------------------------------------

    def begin(self, epoch: int, begun: int, new: bool) -> None:
        """Begin an epoch after its first `begun` steps, or go on with it."""
        lanes = self.lanes
        if new:
            parent.new_epoch(lanes, self.rule, epoch, begun)
        lanes.resume(epoch, begun)
        if self._overlap is not None:
            self._overlap.reset()
            if new:
                self._overlap.new_epoch()
        self._arrange(epoch)
        parent.order(lanes)
        self._from = {lane: lanes.get(lane, c.CLOCK) // c.OPS for lane in lanes.own}
        self.programs = {lane: program(lanes, self.work, lane) for lane in lanes.own}
        self._waits.clear()

    def _arrange(self, epoch: int) -> None:
        """If each rank holds a part of the images only, exchange them: this epoch's images of its lanes come here."""
        if self._shard is None or epoch == self._arranged:
            return
        order, holders = self._trainer.order(), self.lanes.spread.holders
        owner = np.empty(len(self._shard), np.uint16)
        owner[order.order] = np.repeat(np.tile(holders, order.steps), self._spans)
        self._shard.arrange(owner)
        self._arranged = epoch

    @functools.cached_property
    def _spans(self) -> list[int]:
        """Images of each lane's share in each step, which are the same in every epoch."""
        order = self._trainer.order()
        return [count for step in range(order.steps) for count in self._trainer.counts(step)]

    def advance(self) -> Place:
        """Run the lanes, one after the other, to where they need the other ranks.

        Returns
        -------
        (kind, value)
            ``BOUNDARY`` and the step that may begin, ``ARRIVED`` and the clock of an everyone(), or ``REST``.

        Raises
        ------
        RunError
            If the lanes come to different places.
        """
        places = {self._advance(lane) for lane in self.lanes.own}
        self.turn_of(None)
        if len(places) > 1:
            raise RunError(f"the script of update rule {self.rule.name!r} does not wait for everyone in every lane")
        return places.pop()

    def turn_of(self, lane: int | None) -> None:
        """Note whose turn it is to compute, for a timeline."""
        if self._world.tape is not None:
            self._world.tape.lane = lane

    def _advance(self, lane: int) -> Place:
        self.turn_of(lane)
        lanes = self.lanes
        while True:
            wait = self._waits.get(lane)
            if wait is not None:
                if not wait.ready():
                    return (r.BOUNDARY, lanes.begun) if isinstance(wait, AtBoundary) else self._clock(wait)
                del self._waits[lane]
            elif self._pauses(lane):
                return r.BOUNDARY, lanes.begun
            try:
                found = next(self.programs[lane])
            except StopIteration:
                return r.REST, 0
            if found is not None:
                self._waits[lane] = found

    def _clock(self, wait: Wait) -> Place:
        assert isinstance(wait, Reached)
        return r.ARRIVED, wait.value

    def _pauses(self, lane: int) -> bool:
        """Whether the lane is before a step that does not begin with everyone(). Ranks meet there nevertheless, so that
        all of them do the step, or none does."""
        step, done = divmod(self.lanes.get(lane, c.CLOCK), c.OPS)
        if done or step < self.lanes.begun or step > self.steps or self.lanes.closed:
            return False
        return not isinstance(next(self._script(lane, step), None), Everyone)

    def _script(self, lane: int, step: int) -> Iterator[Action]:
        """The lane's script of a step of the epoch, or of the epoch's end."""
        at = Lane(lane, self.lanes.lanes, self.steps, lambda: self.lanes.get(lane, c.TURN))
        at.step, at.epoch = step, self.lanes.epoch
        return iter(self.rule.step(at) if step < self.steps else self.rule.finish(at))

    def _spot_of(self, place: Place) -> Spot:
        """Where in the script a place is."""
        kind, value = place
        if kind not in (r.BOUNDARY, r.ARRIVED):
            return kind, 0, ()
        step, done = divmod(value, c.OPS) if kind == r.ARRIVED else (value, 0)
        return kind, done, tuple(self._script(self.lanes.own[0], step))

    def _overlaps(self, step: int) -> bool:
        """Whether what a step makes can travel while this rank computes it: the step begins with a gradient."""
        if self._overlap is None or step >= self.steps:
            return False
        firsts = (tuple(itertools.islice(self._script(lane, step), 3)) for lane in self.lanes.own)
        return all(tuple(map(type, first)) == (Everyone, Gradient, Everyone) for first in firsts)

    def _compute(self, lane: Lane, at: np.ndarray, buffers: np.ndarray) -> float:
        """See :class:`~pyconv.parallel.program.Work`."""
        with contextlib.nullcontext() if self._overlap is None else self._overlap.computing(lane.index):
            return self._trainer.compute(lane, at, buffers)

    def go(self, place: Place, verdict: r.Verdict) -> None:
        """Let the lanes go on from `place`, to which all ranks have come, or stop them there."""
        kind, value = place
        self.lanes.met(value if kind == r.ARRIVED else c.OPS * self.lanes.begun + 1)
        if kind == r.BOUNDARY and verdict.action == r.CLOSE:
            self.lanes.close_gate()
        elif kind == r.BOUNDARY:
            self.lanes.begun += 1
        self._spot = self._spot_of(place)
        self._told[self._spot] = verdict.needs
        needs, overlap, began = verdict.needs, self._overlap, time.monotonic_ns()
        if overlap is not None and overlap.going:
            overlap.finish()
            needs = overlap.rest(needs)
        self.lanes.serve(needs, verdict.what, verdict.overlap)
        if overlap is not None and verdict.what and not verdict.overlap:
            overlap.reset()
        if overlap is not None and verdict.overlap:
            after = self._spot_of((r.ARRIVED, c.OPS * value + AFTER_GRADIENT))
            overlap.begin(self._told.get(after, [0] * len(needs)), bool(verdict.what))
        self.waiting(began)

    def release(self) -> None:
        """Free memory that only steps need."""
        self.lanes.release()
        if self._overlap is not None:
            self._overlap.forget()

    def close(self) -> None:
        """End this node's part in what ranks do while they wait.

        Where a step was given up, messages may be on their way: they are brought to an end when all ranks meet.
        """
        if self._overlap is not None and not self._overlap.going:
            self._world.idle = self._rounds.settle = lambda: None

    def _need(self, needs: int) -> None:
        """Get what a lane lacks from the other ranks, now and from now on at this place of the script."""
        if self._spot[0] != r.REST:
            self._learned[self._spot] = self._learned.get(self._spot, 0) | needs
        self._fetch(needs)

    # ---- rules that wait for nobody ---------------------------------------------------------------

    @property
    def desk(self) -> Desk:
        """What all lanes share; rank 0's, under a rule that is not lockstep."""
        assert isinstance(self.lanes, FreeLanes) and isinstance(self.lanes.desk, Desk)
        return self.lanes.desk

    def report(self) -> None:
        """Between two mini-batches: bring what this rank has noted for a timeline to rank 0, if it is time."""
        if self._rounds.trace is not None:
            assert isinstance(self.lanes, FreeLanes)
            self._rounds.trace.between(self.lanes.desk)

    def rest(self, failed: bool = False) -> None:
        """This rank has nothing left to do in the epoch, or cannot go on."""
        assert isinstance(self.lanes, FreeLanes)
        self.lanes.rest(failed)

    # ---- what the others hear ---------------------------------------------------------------------

    def header(self, place: Place) -> np.ndarray:
        """The header of this rank at a place."""
        kind, value = place
        needs = self._learned.get(self._spot_of(place), 0)
        header = self._rounds.header(kind, value, needs=needs, changed=self.lanes.changed)
        words = self._words
        within = 0 if self._overlap is None else self._overlap.waited_ns
        header[r.COMPUTE] = words[s.DATA_NS] + words[s.COMPUTE_NS] - within
        header[r.UPDATE], header[r.WAIT] = words[s.UPDATE_NS], self.waited_ns + within
        header[r.OVERLAPS] = kind == r.BOUNDARY and self._overlaps(value)
        if kind == r.BOUNDARY:
            losses, correct = header[r.HEAD :].reshape(2, -1)
            correct[:] = -1
            for index, lane in enumerate(self.lanes.own):
                if value > self._from[lane]:
                    unit = (value - 1) * self.lanes.lanes + lane
                    losses[index : index + 1].view(np.float64)[:] = self.lanes.unit_loss[unit]
                    correct[index] = self.lanes.unit_correct[unit]
        return header

    def take(self, headers: np.ndarray) -> None:
        """Rank 0: note what all lanes have done in the step before the one that they are at."""
        value, lanes = int(headers[0, r.VALUE]), self.lanes
        if not value:
            return
        for rank, header in enumerate(headers):
            losses, correct = header[r.HEAD :].reshape(2, -1)
            for index, lane in enumerate(lanes.spread.lanes_of(rank)):
                if correct[index] >= 0:
                    unit = (value - 1) * lanes.lanes + lane
                    lanes.unit_loss[unit] = losses[index : index + 1].view(np.float64)[0]
                    lanes.unit_correct[unit] = correct[index]
        lanes.unit_states[(value - 1) * lanes.lanes : value * lanes.lanes] = s.USED

    def waiting(self, since: int) -> int:
        """Note that this rank has waited for the others since then (monotonic ns); returns how long in all."""
        self.waited_ns += time.monotonic_ns() - since
        return self.waited_ns

    @property
    def where(self) -> str:
        """The step that is computed, as people count."""
        lanes, begun = self.lanes, self.lanes.begun
        if not self.rule.lockstep:
            begun = int(self._words[s.FAILED_UNIT]) // lanes.lanes + 1
        return f"epoch {lanes.epoch + 1}, step {lanes.epoch * self.steps + begun}"
