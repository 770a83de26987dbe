"""Rounds: how ranks agree on what comes next.

A round has two halves: every rank tells rank 0, the leader, at which place it is, and the leader tells all ranks what
to do. Ranks meet nowhere else, and between the two halves a rank does nothing. So a rank that cannot go on only says so
in its next round: then all ranks end in that round, with the same error. After the leader's decision come messages that
all ranks know of (:mod:`.lanes`, :mod:`.transfer`).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from ..errors import PyconvError, RunError
from . import failures
from .world import World

if TYPE_CHECKING:
    from .tracing import Trace

PATIENCE_S = 5.0  # seconds that a failed rank waits for all others to come to the round
ANY = (Exception, KeyboardInterrupt, SystemExit)  # what a second error may be
FORWARD_S = 0.5  # seconds for the launcher to forward what a rank has written; after an abort MPICH forwards nothing

# ---- where a rank is ------------------------------------------------------------------------------
SESSION, REST, BOUNDARY, ARRIVED, FETCH, FAILED, LEAVING = range(7)
PLACES = ("between runs", "at rest", "before a step", "within a step", "within a sweep", "failed", "leaving")

# ---- what the leader says -------------------------------------------------------------------------
GO, CLOSE, SERVE, FAIL, BEGIN, COLLECT, LOAD, FINISH = range(8)

# ---- words of a header ----------------------------------------------------------------------------
KIND, VALUE, NEEDS, CHANGED, TEXT, LOGS, SIGNAL, COMPUTE, UPDATE, WAIT, OVERLAPS = range(11)
TAPE = 13  # whether the rank keeps a timeline; pipelines have words of their own before
HEAD = 16  # then, for each lane, a loss (its bits) and a number of correct images

# ---- words of a verdict ---------------------------------------------------------------------------
ACTION, EPOCH, STEP, WHAT, WORDS, OVERLAP, TRACED = range(7)
VERDICT = 8  # then the needs of each rank


@dataclass
class Verdict:
    """What the leader says.

    Attributes
    ----------
    action : int
    epoch, step, what : int
        For a BEGIN: the epoch, its first step, and 1 if it is a new epoch. For a GO or SERVE, `what` says what changed.
    needs : list of int
        What each rank needs from the others.
    text : bytes
    overlap : bool
        For a GO before a step: what it makes travels while it is computed (:mod:`.overlap`). For a FAIL: such a step
        was begun.
    traced : bool
        Whether rank 0 then takes over what ranks have noted for a timeline.
    """

    action: int
    epoch: int = 0
    step: int = 0
    what: int = 0
    needs: list[int] = field(default_factory=list)
    text: bytes = b""
    overlap: bool = False
    traced: bool = False


class Rounds:
    """The rounds of a world.

    Parameters
    ----------
    world : World
    names : list of str
        Each rank's name, as ``"rank 2 on node-b"``.

    Attributes
    ----------
    ended : bool
        Whether all ranks have been told that the run cannot go on; each then ends by itself.
    most : int
        Lanes of the rank that has the most of them.
    busy : int
        Above 0 while this rank is where an exception would leave the others waiting.
    relieved : callable
        ``relieved()``: called when that is over.
    logs : callable
        ``logs()``: takes this rank's log records, as bytes, to send them to rank 0.
    heard : callable
        ``heard(rank, data)``: on rank 0, called with another rank's log records.
    signalled : callable
        ``signalled()``: the number of a signal that this rank has received, or 0.
    settle : callable
        ``settle()``: called on all ranks when the run cannot go on and messages may be on their way.
    trace : Trace or None
        This rank's part in the run's timeline, if there is one on all ranks.
    """

    def __init__(self, world: World, names: list[str]) -> None:
        self.world, self.names = world, names
        self.most = 0
        self.logs: Callable[[], bytes] = lambda: b""
        self.heard: Callable[[int, bytes], None] = lambda rank, data: None
        self.signalled: Callable[[], int] = lambda: 0
        self.settle: Callable[[], None] = lambda: None
        self.trace: Trace | None = None
        self.ended = False
        self.busy = 0
        self.relieved: Callable[[], None] = lambda: None
        self._overlaps = False  # rank 0: what the step makes travels while it is computed
        self._owes = False  # rank 0 has done the first half of a round, and not the second
        self._taped = False  # all ranks keep a timeline
        self._said: list[bytes] = []  # the texts that came with headers, by rank

    @property
    def leads(self) -> bool:
        """Whether this rank is the leader."""
        return self.world.rank == 0

    # ---- the two halves ---------------------------------------------------------------------------

    def header(self, kind: int, value: int = 0, **words: int) -> np.ndarray:
        """A header, ``(HEAD + 2 most,)`` int64."""
        made = np.zeros(HEAD + 2 * self.most, np.int64)
        made[KIND], made[VALUE] = kind, value
        made[NEEDS], made[CHANGED] = words.get("needs", 0), words.get("changed", 0)
        made[SIGNAL], made[TAPE] = self.signalled(), self.trace is not None
        return made

    @contextlib.contextmanager
    def whole(self) -> Iterator[None]:
        """Within it, signals are held back."""
        self.busy += 1
        try:
            yield
        finally:
            self.busy -= 1
        if not self.busy:
            self.relieved()

    def _bring(self, header: np.ndarray, text: bytes) -> np.ndarray:
        """The first half: bring headers, and the texts and logs that they announce, to the leader."""
        logs = self.logs()
        header[TEXT], header[LOGS] = len(text), len(logs)
        headers = self.world.gather(header)
        if not self.leads:
            self.world.swap([(0, _bytes(each)) for each in (text, logs)], [])
            return headers
        self._owes, self._taped = True, bool(headers[:, TAPE].all())
        texts = [np.empty(int(each[TEXT]), np.uint8) for each in headers]
        said = [np.empty(int(each[LOGS]), np.uint8) for each in headers]
        self.world.swap([], [(rank, part) for rank in range(1, len(headers)) for part in (texts[rank], said[rank])])
        texts[0] = _bytes(text)
        self._said = [each.tobytes() for each in texts]
        for rank, data in enumerate(said):
            if rank and data.size:
                self.heard(rank, data.tobytes())
        return headers

    def tell(
        self, action: int, *, epoch: int = 0, step: int = 0, what: int = 0, needs: list[int] | None = None,
        text: bytes = b"", overlap: bool = False,
    ) -> Verdict:  # fmt: skip
        """The second half, of the leader."""
        size = self.world.size
        if action == FAIL:
            overlap = self._overlaps
        elif action == GO:
            self._overlaps = overlap
        traced = self._taped and self.trace is not None and self.trace.due(last=action in (FAIL, FINISH))
        verdict = Verdict(action, epoch, step, what, needs or [0] * size, text, overlap, traced)
        words = [action, epoch, step, what, len(text), int(overlap), int(traced), 0, *verdict.needs]
        with self.whole():
            self.world.broadcast(np.array(words, np.int64))
            self._owes = False
            if text:
                self.world.swap([(rank, _bytes(text)) for rank in range(1, size)], [])
            if action != FAIL:
                self._bring_trace(verdict)
        return verdict

    def _bring_trace(self, verdict: Verdict) -> None:
        if verdict.traced and self.trace is not None:
            self.trace.bring(last=verdict.action in (FAIL, FINISH))

    # ---- whole rounds -----------------------------------------------------------------------------

    def collect(self, header: np.ndarray, text: bytes = b"") -> np.ndarray:
        """As the leader, collect every rank's header, ``(size, words)``; a :meth:`tell` must follow.

        Raises
        ------
        PyconvError
            If a rank cannot go on, or ranks are at different places; all ranks raise it.
        """
        with self.whole():
            headers = self._bring(header, text)
        kinds = headers[:, KIND]
        if (kinds == FAILED).any():
            self._fail_by(headers)
        if not (kinds == FETCH).any() and (headers[:, : VALUE + 1] != headers[0, : VALUE + 1]).any():
            other = int(np.flatnonzero((headers[:, : VALUE + 1] != headers[0, : VALUE + 1]).any(axis=1))[0])
            here, there = (f"{PLACES[int(each[KIND])]} ({int(each[VALUE])})" for each in headers[[0, other]])
            self._fail(
                "RunError", f"the ranks do different things: {self.names[other]} is {there}, {self.names[0]} {here}"
            )
        return headers

    def texts(self) -> list[bytes]:
        """The texts that came with the headers of the last :meth:`collect`, by rank."""
        return self._said

    def ask(self, header: np.ndarray, text: bytes = b"") -> Verdict:
        """As another rank, say at which place it is, and receive what to do.

        Raises
        ------
        PyconvError
            If the ranks do not go on.
        """
        with self.whole():
            self._bring(header, text)
            words = np.zeros(VERDICT + self.world.size, np.int64)
            self.world.broadcast(words)
            data = np.empty(int(words[WORDS]), np.uint8)
            self.world.swap([], [(0, data)])
            action, epoch, step, what = words[[ACTION, EPOCH, STEP, WHAT]].tolist()
            overlap, traced = words[[OVERLAP, TRACED]].astype(bool).tolist()
            verdict = Verdict(action, epoch, step, what, words[VERDICT:].tolist(), data.tobytes(), overlap, traced)
            if verdict.action == FAIL:
                self.ended = True
                error = failures.read(verdict.text)
                self._settle(verdict, error)
                raise error
            self._bring_trace(verdict)
        return verdict

    # ---- the end of a run that cannot go on -------------------------------------------------------

    def fail(self, error: BaseException) -> NoReturn:
        """End the run on all ranks, because this one cannot go on after `error`.

        If the others do not come to the round in time, because one of them hangs or computes for long, all processes
        are ended.
        """
        if self.ended:
            raise error
        self.world.hurry(PATIENCE_S)
        try:
            if self.leads:
                data = failures.written(error)
                if not self._owes:
                    headers = self._bring(self.header(FAILED), data)
                    self._fail_by(headers, error)
                self._fail(**json.loads(data), own=error)
            else:
                self.ask(self.header(FAILED), failures.written(error))
            raise RunError("the ranks go on without this one")
        except TimeoutError:
            self.give_up(failures.read(failures.written(error), f"{self.names[self.world.rank]}: "))
        except PyconvError as agreed:
            self._end_by(agreed, error)
        except ANY:
            if self.ended:  # it is the error that all know of
                raise
            # A second error, such as another Ctrl-C, came before the others were told of the first.
            self.give_up(failures.read(failures.written(error), f"{self.names[self.world.rank]}: "))
        finally:
            self.world.hurry(None)

    def give_up(self, error: BaseException) -> NoReturn:
        """Print the error, and end all processes at once."""
        if sys.stderr is not None:
            sys.stderr.write(f"pyconv: error: {error}\n")
            sys.stderr.flush()
            time.sleep(FORWARD_S)
        status = int(getattr(error, "exit_status", 1))
        self.world.abort(status)
        os._exit(status)

    def _fail_by(self, headers: np.ndarray, own: BaseException | None = None) -> NoReturn:
        """End the run with the error of the first rank that has failed; if all failed alike, without a rank's name."""
        failed = np.flatnonzero(headers[:, KIND] == FAILED)
        first = int(failed[0])
        found = json.loads(self._said[first])
        if (len(failed) < len(headers) or len(set(self._said)) > 1) and found["kind"] != "Interrupted":
            found["text"] = f"{self.names[first]}: {found['text']}"
        self._fail(found["kind"], found["text"], own if first == 0 else None)

    def _fail(self, kind: str, text: str, own: BaseException | None = None) -> NoReturn:
        verdict = self.tell(FAIL, text=json.dumps({"kind": kind, "text": text}).encode())
        self.ended = True
        error = failures.made(kind, text)
        self._settle(verdict, error)
        self._end_by(error, own)

    def _settle(self, verdict: Verdict, error: BaseException) -> None:
        """Bring what is on its way to an end; if that takes too long, end all processes."""
        if not (verdict.overlap or verdict.traced):
            return
        self.world.hurry(PATIENCE_S)
        try:
            if verdict.overlap:
                self.settle()
            self._bring_trace(verdict)
        except ANY:  # it took too long, or this rank cannot even do that
            self.give_up(error)
        finally:
            self.world.hurry(None)

    def _end_by(self, agreed: BaseException, own: BaseException | None) -> NoReturn:
        """Raise the error that all ranks raise; if it is this rank's own and a bug, with its traceback."""
        if own is not None and not isinstance(own, (PyconvError, KeyboardInterrupt)):
            raise own
        raise agreed from own


def _bytes(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)
