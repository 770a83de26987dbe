"""The engine of rank 0: it leads the others through epochs, and reports steps as every engine does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import numpy as np

from ..errors import DivergedError, RunError
from ..nn import Sequential
from ..parallel import Job, StepReport
from ..parallel import communicator as c
from ..parallel.engine import check_workers_state, epoch_order
from ..parallel.progress import Progress, in_figures
from ..parallel.replay import record_of
from ..parallel.worker import NotFinite
from . import rounds as r
from .desk import Ended
from .node import Node, Place
from .transfer import Collected, collect, load
from .turns import mini_batches
from .world import World

POLL_S = 1e-3  # between two looks whether the other ranks are at rest


class Leader:
    """Trains on all ranks; an Engine, at rank 0. The others :func:`~.following.follow`.

    Parameters
    ----------
    rounds : Rounds
    world : World
    model : Sequential
        Holds the result whenever the engine is at rest.
    x, labels : ndarray
        The training data.
    job : Job
        Its `workers` are the lanes of all ranks.
    threads : int
        OpenMP threads of this rank.
    interrupted : callable
        ``interrupted(number)``: another rank has received that signal.
    describe : callable
        ``describe(job)``: one line for the start of a run.

    Raises
    ------
    InputError
        If the job cannot be run over MPI.
    """

    def __init__(
        self, rounds: r.Rounds, world: World, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job,
        threads: int, interrupted: Callable[[int], None], describe: Callable[[Job], str],
    ) -> None:  # fmt: skip
        self._rounds, self._world, self._describe = rounds, world, describe
        self._model, self._labels, self._job, self._interrupted = model, labels, job, interrupted
        self._node = Node(model, x, labels, job, world, rounds, threads, self._fetch)
        self.steps_per_epoch = self._node.steps
        store: Any = self._node.lanes  # of a store it has what Progress uses
        self._progress = Progress(store, self._node.rule.lockstep, self._count)
        self._epoch, self._last = -1, 0.0
        self._stopped = False  # the caller has closed the epoch
        self._counts: list[int] = []
        self._times = np.zeros((self._world.size, 3), np.int64)
        self._seen = self._times.copy()
        self._before = (model.backend, model.threads)
        model.backend, model.threads = self._node.job.backend, threads

    # ---- the engine -------------------------------------------------------------------------------

    def epoch(self, epoch: int, first_step: int = 0) -> Generator[StepReport, None, None]:
        """See :class:`~pyconv.parallel.Engine`."""
        node, new = self._node, epoch != self._epoch
        if new:
            self._counts = self._counts_of(epoch)
            self._progress.reset(first_step)
            self._epoch = epoch
        begun = first_step if new else int(node.lanes.words[:, c.CLOCK].min()) // c.OPS
        self._command(r.BEGIN, epoch=epoch, step=begun, what=int(new))
        node.begin(epoch, begun, new)
        self._progress.rewind(first_step)
        self._last = time.perf_counter()
        self._stopped = False
        for _ in self._lockstep() if node.rule.lockstep else self._free():
            for report in [] if self._stopped else self._reports(epoch):
                try:
                    yield report
                except GeneratorExit:
                    if self._rounds.ended:
                        raise
                    self._stopped = True
                    break
        self._rest()

    def _lockstep(self) -> Iterator[None]:
        """An epoch under a lockstep rule: from meeting to meeting; yields where steps may be done."""
        node, place = self._node, (r.BOUNDARY, 0)
        while place[0] != r.REST:
            place = computed(node)
            headers = self._meet(place)
            if place[0] == r.BOUNDARY:
                node.take(headers)
            if place[0] in (r.BOUNDARY, r.REST):
                yield
            action = r.CLOSE if self._stopped and place[0] == r.BOUNDARY else r.GO
            node.go(place, self._tell(action, headers))

    def _free(self) -> Iterator[None]:
        """An epoch under another rule: this rank's mini-batches, until all ranks are at rest; yields as that."""
        desk = self._node.desk
        for _ in self._mini_batches():
            self._node.report()
            if desk.signal:
                self._interrupted(desk.signal)
            yield
            if self._stopped and not desk.closed:
                desk.close_gate()
        yield

    def _mini_batches(self) -> Iterator[None]:
        """This rank's mini-batches, and then the time until all ranks are at rest."""
        node, desk = self._node, self._node.desk
        try:
            yield from mini_batches(node)
            while not desk.done:
                time.sleep(POLL_S)
                yield
        except Ended:
            desk.join()
            node.rest()
            self._meet((r.REST, 0))  # where the rank that cannot go on says why
            raise RunError("another rank has stopped, and does not say why") from None
        except BaseException:
            desk.end()
            with contextlib.suppress(Exception):
                desk.join()
            raise
        desk.join()
        node.rest()

    def _reports(self, epoch: int) -> Iterator[StepReport]:
        """The steps that are done and were not reported yet."""
        for images, loss, correct in self._progress.reports():
            now = time.perf_counter()
            step = epoch * self.steps_per_epoch + self._progress.reported
            yield StepReport(step, images, loss, now - self._last, correct)
            self._last = now

    def statistics(self) -> dict[str, Any]:
        """See :class:`~pyconv.parallel.Engine`; `wait_s` is what ranks wait for each other and for messages."""
        compute, update, wait = (self._times - self._seen).mean(axis=0) / 1e9
        self._seen = self._times.copy()
        return {
            "compute_s": float(compute),
            "communication_s": float(update + wait),
            "wait_s": float(wait),
            **in_figures(self._progress.take_staleness()),
            "restarts": 0,
        }

    @property
    def waited_s(self) -> float:
        """Seconds for which ranks have waited so far, as they have said last; their mean."""
        if self._node.rule.lockstep:
            return float(self._times[:, 2].mean()) / 1e9
        return (self._node.waited_ns + sum(self._node.desk.waited_ns.values())) / self._world.size / 1e9

    def state(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.Engine`; as a parameter server of as many workers gives it."""
        lanes = self._node.lanes
        found = self._collect(everything=True)
        state = {
            "workers": np.array(self._job.workers),
            "epoch": np.array(self._epoch),
            "sequence": np.array(lanes.sequence),
            "clock": lanes.words[:, c.CLOCK].copy(),
            "turn": lanes.words[:, c.TURN].copy(),
            "buffers": found.buffers,
            **self._progress.state(),
            **{f"optimizer.{name}": vector.copy() for name, vector in lanes.whole_state.items()},
            **{f"worker_optimizer.{name}": vectors for name, vectors in found.replica_state.items()},
        }
        if lanes.replicas:
            state["centre"], state["replicas"] = lanes.centre.copy(), found.replicas
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """See :class:`~pyconv.parallel.Engine`; a parameter server's of as many workers will do."""
        mine = self.state()
        check_workers_state(state, mine, self._job.workers)
        self._epoch = int(state["epoch"])
        self._progress.load_state(state)
        centre = state.get("centre")
        self._node.lanes.centre[...] = self._model.trained.gather(self._model.flat) if centre is None else centre
        self._node.lanes.sequence = int(state["sequence"])
        self._command(r.LOAD)
        load(self._node.lanes, self._world, state)
        if self._epoch >= 0:
            self._counts = self._counts_of(self._epoch)

    def record(self) -> dict[str, np.ndarray]:
        """See :class:`~pyconv.parallel.server.ParameterServer`."""
        return record_of(self._node.lanes)

    def describe(self) -> str:
        """See :class:`~pyconv.parallel.Engine`."""
        return self._describe(self._node.job)

    def close(self) -> None:
        """See :class:`~pyconv.parallel.Engine`; the session ends the other ranks' part."""
        self._model.backend, self._model.threads = self._before
        self._node.close()

    # ---- rounds -----------------------------------------------------------------------------------

    def _meet(self, place: Place) -> np.ndarray:
        """Every rank's header, when all have come to `place`; until then, ranks that lack something are served."""
        began = time.monotonic_ns()
        while True:
            headers = self._headers(self._node.header(place))
            if not (headers[:, r.KIND] == r.FETCH).any():
                self._node.waiting(began)
                return headers
            self._serve(headers)

    def _headers(self, header: np.ndarray) -> np.ndarray:
        headers = self._rounds.collect(header)
        for signal in headers[1:, r.SIGNAL]:
            if signal:
                self._interrupted(int(signal))
        if headers[0, r.KIND] != r.SESSION:
            moved = headers[:, r.COMPUTE] > 0
            self._times[moved] = headers[moved][:, [r.COMPUTE, r.UPDATE, r.WAIT]]
        return headers

    def _serve(self, headers: np.ndarray) -> None:
        needs = [int(each[r.NEEDS]) if each[r.KIND] == r.FETCH else 0 for each in headers]
        self._node.lanes.serve(self._rounds.tell(r.SERVE, needs=needs).needs)

    def _fetch(self, needs: int) -> None:
        self._serve(self._headers(self._rounds.header(r.FETCH, needs=needs)))

    def _tell(self, action: int, headers: np.ndarray) -> r.Verdict:
        changed = int(np.bitwise_or.reduce(headers[:, r.CHANGED]))
        overlap = action == r.GO and bool(headers[:, r.OVERLAPS].all())
        needs = [int(need) for need in headers[:, r.NEEDS]]
        return self._rounds.tell(action, what=changed, needs=needs, overlap=overlap)

    def _command(self, action: int, **words: Any) -> None:
        """Tell the other ranks, which are at rest, what to do next."""
        self._meet((r.REST, 0))
        self._rounds.tell(action, **words)

    # ---- at rest ----------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Bring the model to what the lanes have come to."""
        self._progress.look()  # after the caller has closed the epoch, some mini-batches were still finished
        found, model, lanes = self._collect(everything=False), self._model, self._node.lanes
        if model.trained.whole:
            self._node.rule.result(lanes, model.flat)
        else:
            result = np.empty_like(lanes.centre)
            self._node.rule.result(lanes, result)
            model.trained.scatter(result, model.flat)
        self._node.release()
        if found.buffers.size:
            spans = model.trained_buffers
            spans.scatter(np.mean([spans.gather(each) for each in found.buffers], axis=0), model.flat_buffers)

    def _collect(self, everything: bool) -> Collected:
        self._command(r.COLLECT, what=int(everything))
        return collect(self._node.lanes, self._world, everything)

    def _counts_of(self, epoch: int) -> list[int]:
        order = epoch_order(self._labels, self._job, epoch, self._model.least_batch)
        spans = [order.span(step, lane) for step in range(order.steps) for lane in range(order.workers)]
        return [last - first for first, last in spans]

    def _count(self, unit: int) -> int:
        return self._counts[unit]


def computed(node: Node) -> Place:
    """Let the lanes advance; a gradient that is not finite ends the run, and the error names the step.

    Raises
    ------
    DivergedError
    """
    try:
        return node.advance()
    except NotFinite as error:
        raise DivergedError(f"{error} in {node.where}") from None
