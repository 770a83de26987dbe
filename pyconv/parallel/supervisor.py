"""Supervisor: starts the workers, notices within seconds when one is gone or stuck, and replaces or drops it.

It is a thread of the parent, so that it also watches while the main thread validates, draws or runs a user's code.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import runlog
from ..errors import DivergedError, InputError, PyconvError, WorkerError
from . import communicator as c
from . import guard, parent
from . import store as s
from .logs import WorkerLog
from .memory import Segment
from .pace import Paces, Reading, of_the_others
from .program import recover
from .room import MORE_MEMORY, MORE_PROCESSES, why_not_started
from .rules import Rule
from .running import RunningTime
from .sending import EXIT_UNREADABLE
from .together import Together
from .worker import PARENTS_SIGNALS, Setup, main

if TYPE_CHECKING:
    from ..optim import Optimizer

_log = runlog.logger("pyconv.parallel")

LOOK_S = 0.25  # seconds between two looks at heartbeats; a death is noticed at once
STOPPED_S = 2.0  # a process in the stopped state is lost after so long without a heartbeat
SILENT_S = 30.0  # a process in any state is lost after so long without a heartbeat
START_S = 120.0  # a process is lost if it has not begun its work after so long
STUCK_S, STUCK = 120.0, 100.0  # it is lost after so long in one mini-batch, if that is so many times the others' median
LAST_WORDS = 16384  # bytes: the stacks of a few threads
ATTEMPTS = 3  # after so many deaths of a worker without a finished mini-batch in between, the run ends
SHORT_OF_MEMORY, SHORT_BATCHES = "for lack of memory", 100  # after such deaths it must finish so many: one always fits

#: Variables from which numerical libraries learn, when they are loaded, how many threads to start.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


_starting = threading.Lock()  # only one run of this process at a time: it sets variables of the whole process


@dataclass
class Member:
    """A worker process, and what is remembered about the worker after the process's death."""

    process: BaseProcess
    log: WorkerLog
    started: float
    batches: int = 0  # mini-batches that this worker had done when its process was started
    attempts: int = 0
    silent_since: float | None = None
    named_slow: bool = False


class Supervisor:
    """Starts, watches, replaces and ends worker processes.

    Parameters
    ----------
    store : Store
    rule : Rule
    optimizer : Optimizer
    policy : {"restart", "drop", "abort"}
        What to do when a worker dies.
    setup : callable
        ``setup(index, log, last_words)``: the Setup of worker `index`, with the sending end of its log and the memory
        for its last words.
    threads : int
        Threads of each worker.
    where : callable
        ``where(unit)``: a mini-batch in words, such as "epoch 1, step 3".
    on_event : callable
        ``on_event(lane, text)``: adds an event to the timeline.

    Attributes
    ----------
    restarts : int
        Processes that were started to replace another.
    failure : PyconvError or None
        Why the run cannot go on.
    """

    def __init__(
        self,
        store: s.Store,
        rule: Rule,
        optimizer: Optimizer,
        policy: str,
        setup: Callable[[int, WorkerLog, Segment], Setup],
        threads: int,
        where: Callable[[int], str],
        on_event: Callable[[int, str], None],
    ) -> None:
        self.restarts = 0
        self.failure: PyconvError | None = None
        self._store, self._rule, self._optimizer, self._policy = store, rule, optimizer, policy
        self._setup, self._threads, self._where, self._on_event = setup, threads, where, on_event
        self._members: dict[int, Member] = {}
        # Made once: a restart must not depend on memory that another program may have taken by then.
        self._last_words = [Segment(LAST_WORDS, "the last words of a worker") for _ in range(store.plan.lanes)]
        self._not_finite: set[tuple[int, int]] = set()
        self._diverging = Together()
        self._paces = Paces()
        self._kills = _out_of_memory_kills()
        self._time = RunningTime(time.monotonic())
        self._ending = threading.Event()
        self._started = threading.Event()
        self._watched = threading.Event()  # set when the watch is over
        self._left = threading.Event()  # set when no worker is left
        self._thread = threading.Thread(target=self._run, name="pyconv-supervisor", daemon=True)

    # ---- for the main thread ----------------------------------------------------------------------

    def start(self) -> None:
        """Start the processes; returns when all have been started (they may not have begun their work)."""
        try:
            self._thread.start()
        except RuntimeError as error:
            raise InputError(f"workers cannot be started: {why_not_started(error)}") from None
        self._started.wait()
        self.check()

    def check(self) -> None:
        """Raise the error that ended the run, if there is one."""
        if self.failure is not None:
            raise self.failure

    def pids(self) -> list[int]:
        """Process ids of the workers that exist."""
        members = list(self._members.values())  # a copy: the watching thread may change them in the meantime
        return [member.process.pid for member in members if member.process.pid is not None]

    def end(self, grace_s: float) -> None:
        """Tell the workers to stop, kill those that have not stopped after `grace_s`, and wait until all are gone."""
        self._ending.set()  # first, because a worker that leaves when it is told to is not lost
        self._store.set_head(s.STOP, 1)
        self._store.close_gate()
        elsewhere = self._thread.ident is not None and self._thread is not threading.current_thread()
        if elsewhere:
            self._watched.wait()
        deadline = time.monotonic() + grace_s
        for member in self._members.values():
            member.process.join(max(0.0, deadline - time.monotonic()))
        for member in self._members.values():
            _kill(member)
        self._members.clear()
        self._left.set()
        if elsewhere:
            self._thread.join()
        # These refer to the engine and its memory: without them both are freed at once, not by the garbage collector.
        del self._setup, self._where, self._on_event, self._last_words

    # ---- the watching thread ----------------------------------------------------------------------

    def _run(self) -> None:
        # New processes inherit the mask: a Ctrl-C that comes before a worker ignores it does not end the worker.
        signal.pthread_sigmask(signal.SIG_BLOCK, PARENTS_SIGNALS)
        try:
            self._start_many(list(range(self._store.plan.lanes)))
        except PyconvError as error:
            self._fail(error)
        except BaseException as error:  # nothing has been written yet, so this is status 2
            self._fail(InputError(f"workers cannot be started: {why_not_started(error)}"))
        self._started.set()
        while not self._ending.is_set() and self.failure is None:
            try:
                self._watch()
            except Exception as error:
                _log.exception("the supervisor failed")
                self._fail(WorkerError(f"the supervisor of the workers failed: {error}"))
        self._tell_of_diverging()
        self._watched.set()
        # The kernel kills the workers when the thread that started them ends: so wait until they have left by
        # themselves.
        self._left.wait()

    def _watch(self) -> None:
        sentinels = {member.process.sentinel: index for index, member in self._members.items()}
        for sentinel in wait_for_any(list(sentinels), timeout=LOOK_S):
            if self._ending.is_set():
                return
            index = sentinels[sentinel]  # type: ignore[index]
            self._members[index].process.join()
            self._lost(index, self._cause_of_death(index))
            if self.failure is not None:
                return
        self._look(time.monotonic())

    def _look(self, now: float) -> None:
        """Look for workers that exist and do not work."""
        self._time.look(now)
        if self._diverging.due(now):
            self._tell_of_diverging()
        for index, member in list(self._members.items()):
            words = self._store.worker(index)
            if words[s.STATE] == s.STARTING:
                silent, limit = self._time.since(member.started), START_S
            else:
                silent, limit = self._time.since(words[s.HEARTBEAT] / 1e9), SILENT_S
            state = _process_state(member.process.pid)
            if state == "T":
                # The process may have been stopped at any time since its last heartbeat: count from when it was
                # noticed.
                member.silent_since = member.silent_since or now
                if self._time.since(member.silent_since) >= STOPPED_S and silent > STOPPED_S:
                    _kill(member)
                    self._lost(index, "was stopped by a signal (SIGSTOP or SIGTSTP) and did not go on")
                    return
                continue
            member.silent_since = None
            if silent > limit and state != "t":
                _kill(member)
                self._lost(index, f"did not answer for {silent:.0f} s")
                return
        self._look_for_slow(now)

    def _look_for_slow(self, now: float) -> None:
        """Name a worker that takes many times as long as the others; replace one that is stuck."""
        readings = self._paces.fair(now, {index: self._reading(index) for index in self._members})
        for index, reading in readings.items():
            median = of_the_others({who: each.last_s for who, each in readings.items()}, index)
            if median is not None and reading.running_s > max(STUCK_S, STUCK * median):
                _kill(self._members[index])
                self._lost(
                    index, f"has been at one mini-batch for {reading.running_s:.0f} s and does not come to an end"
                )
                return
        for index, (took, others_took) in self._paces.slow(now, readings).items():
            member = self._members[index]
            if not member.named_slow:
                member.named_slow = True
                together = "all wait for it" if self._rule.lockstep else "the others go on"
                self._tell(
                    index,
                    f"is slow: {_duration(took)} for a mini-batch, where the others take {_duration(others_took)}; "
                    f"{together}",
                )

    def _reading(self, index: int) -> Reading:
        words, batches = self._store.worker(index), self._members[index].batches
        started = int(words[s.STARTED])
        return Reading(
            batches=int(words[s.BATCHES]),
            work_s=int(words[s.DATA_NS] + words[s.COMPUTE_NS]) / 1e9,
            last_s=int(words[s.LAST_NS]) / 1e9,
            running_s=self._time.since(started / 1e9) if started else 0.0,
            warm=int(words[s.BATCHES]) > batches + 1,
        )

    # ---- what to do about a death -----------------------------------------------------------------

    def _cause_of_death(self, index: int) -> str:
        """Why the process of a worker has ended, in words that follow "worker 2"."""
        member = self._members[index]
        status = member.process.exitcode
        words = self._store.worker(index)
        message = self._store.message(index)
        if status == guard.EXIT_UNGUARDED:
            return "found no main guard"
        if message:
            where = self._where(int(words[s.FAILED_UNIT]))
            return f"failed in {where}: {message}"
        if status == -signal.SIGINT and words[s.STATE] == s.STARTING:
            return f"was ended by a library that the system refuses a thread, as OpenBLAS does; {MORE_PROCESSES}"
        if status is not None and status < 0:
            where = f" in {self._where(int(words[s.FAILED_UNIT]))}" if words[s.BATCHES] else ""
            return f"was killed by {self._signal(-status)}{where}"
        if words[s.STATE] == s.STARTING:
            return f"could not start: its process ended with status {status} before any work"
        return f"left with exit status {status}"

    def _signal(self, number: int) -> str:
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        if number == signal.SIGSEGV:
            return f"{name}, a segmentation fault"
        if number == signal.SIGKILL:
            kills = _out_of_memory_kills()
            memory, self._kills = kills > self._kills, kills
            return f"{name}, by the kernel {SHORT_OF_MEMORY}" if memory else name
        return name

    def _lost(self, index: int, cause: str) -> None:
        """A worker is dead: repair the store, say so, and do what the policy says."""
        member = self._members.pop(index)
        self._close_log(member)
        if stacks := _stacks(self._last_words[index]):
            _log.error("[worker %d] %s", index, stacks)
        words = self._store.worker(index)
        state, unit = int(words[s.STATE]), int(words[s.FAILED_UNIT])
        pid = member.process.pid
        lanes = np.flatnonzero(self._store.column(c.OWNER) == index).tolist()
        uncertain = 0
        freed: list[int] = []
        for lane in lanes:
            lost, units = recover(self._store, self._rule, self._optimizer, lane)
            uncertain += lost
            freed += units
        self._store.wake()
        words[s.STARTED] = 0
        short = SHORT_OF_MEMORY in cause
        progressed = int(words[s.BATCHES]) > member.batches + (state == s.NOT_FINITE) + SHORT_BATCHES * short
        member.attempts = 0 if progressed else member.attempts + 1
        self._on_event(lanes[0] if lanes else index, f"worker {index} {cause}")
        if uncertain:
            cause += f"; of {uncertain} parameters it is not known whether its last step was added"
        if member.process.exitcode == guard.EXIT_UNGUARDED:
            self._fail(InputError(guard.MESSAGE))
        elif member.process.exitcode == EXIT_UNREADABLE:
            kind = WorkerError if self.restarts else InputError
            self._fail(
                kind(
                    f"worker processes cannot take part: {self._store.message(index)}; define what is of your own at "
                    "the top level of a module (a .py file), outside of its main guard, and import it from there"
                )
            )
        elif member.process.exitcode == 1 and state == s.STARTING:
            self._fail(
                WorkerError(
                    f"worker {index} (pid {pid}) could not start: it failed while it imported the main program (see "
                    'its traceback); put what the program alone is to do under: if __name__ == "__main__":'
                )
            )
        elif state == s.NOT_FINITE and self._twice_not_finite(unit):
            self._fail(
                DivergedError(f"{self._store.message(index)} in {self._where(unit)}, and again when it was repeated")
            )
        elif self._policy == "abort":
            self._fail(WorkerError(f"worker {index} (pid {pid}) {cause}; the run is aborted, as asked"))
        elif member.attempts >= ATTEMPTS:
            advice = f"; {MORE_MEMORY}" if short else ""
            self._fail(WorkerError(f"worker {index} (pid {pid}) {cause}, for the {ATTEMPTS}rd time; giving up{advice}"))
        elif self._policy == "drop" and not self._members:
            self._fail(WorkerError(f"worker {index} (pid {pid}) {cause}; no worker is left"))
        elif self._policy == "drop":
            self._tell(index, f"(pid {pid}) {cause}; going on with {len(self._members)} workers")
            parent.hand_over(self._store, self._rule, lanes, self._members, bool(freed))
        else:
            if state == s.NOT_FINITE:
                self._diverging.add(index, f"(pid {pid}) {cause}", time.monotonic())
            else:
                self._tell(index, f"(pid {pid}) {cause}; a new process takes its place")
            self.restarts += 1
            try:
                self._start_many([index], attempts=member.attempts)
            except (OSError, RuntimeError) as error:
                self._fail(
                    WorkerError(f"worker {index} (pid {pid}) {cause}, and no other can start: {why_not_started(error)}")
                )

    def _twice_not_finite(self, unit: int) -> bool:
        """Whether that mini-batch has given NaN before; a fault of one process would not repeat itself."""
        key = (self._store.head(s.EPOCH), unit)
        seen = key in self._not_finite
        self._not_finite.add(key)
        return seen

    def _tell(self, index: int, text: str) -> None:
        _log.warning("worker %d %s", index, text)
        self._store.wake_parent()

    def _tell_of_diverging(self) -> None:
        text = self._diverging.take(self._store.plan.lanes)
        if text is not None:
            _log.warning("%s", text)
            self._store.wake_parent()

    def _fail(self, error: PyconvError) -> None:
        """End the run with this error."""
        self._tell_of_diverging()
        self.failure = error
        for member in self._members.values():
            _kill(member)
        self._store.wake_parent()

    # ---- processes --------------------------------------------------------------------------------

    def _start_many(self, indices: list[int], attempts: int = 0) -> None:
        with _starting:
            self._start_with_variables(indices, attempts)

    def _start_with_variables(self, indices: list[int], attempts: int) -> None:
        context = multiprocessing.get_context("spawn")
        before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
        os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(self._threads)))
        try:
            for index in indices:
                words = self._store.worker(index)
                words[s.STATE] = s.STARTING
                words[s.STARTED] = 0
                self._store.messages[index, 0] = 0
                log, last_words = WorkerLog(index), self._last_words[index]
                last_words.array((LAST_WORDS,), np.uint8)[:] = 0
                process = context.Process(
                    target=main, args=(self._setup(index, log, last_words),), name=f"pyconv-worker-{index}", daemon=True
                )
                try:
                    process.start()
                except BaseException:
                    log.sender.close()
                    log.end()
                    raise
                log.sender.close()
                _go_first(process.pid)
                self._members[index] = Member(
                    process, log, time.monotonic(), batches=int(words[s.BATCHES]), attempts=attempts
                )
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def _close_log(self, member: Member) -> None:
        member.log.end()


def _stacks(last_words: Segment) -> str:
    """What the interpreter of a killed worker wrote: the stacks of its threads, without its list of modules."""
    text = last_words.array((LAST_WORDS,), np.uint8).tobytes().partition(b"\0")[0].decode(errors="replace")
    return text.partition("\nExtension modules:")[0].rstrip()


def _go_first(pid: int | None) -> None:
    """If memory runs out, let the kernel end this process before the parent, which can report what happened."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("1000")  # even if the parent holds more memory


def _kill(member: Member) -> None:
    """End the process, whatever it is doing, and wait for it."""
    if member.process.is_alive():
        member.process.kill()
    member.process.join()
    member.log.end()


def _duration(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _process_state(pid: int | None) -> str:
    """State of a process in the kernel's letters: "T" is stopped, "t" is traced by a debugger; "" if unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return text.rpartition(")")[2].split()[0]


def _out_of_memory_kills() -> int:
    """How many processes the kernel has killed for lack of memory since it was started."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)
