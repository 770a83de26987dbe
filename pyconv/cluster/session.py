"""Session: a process's part in a cluster. It knows all ranks, checks that they agree, and ends them together."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .. import runlog
from ..errors import InputError, Interrupted, PyconvError, RunError, shown
from ..nn import Sequential
from ..parallel import Engine, Job
from ..parallel.choose import ON_FAILURE
from ..values import choice
from . import mpi
from . import rounds as r
from .beside import end_waiting_launcher
from .held import HeldSignals
from .hosts import Here, Hosts
from .joining import PROGRAM_S
from .launch import launched
from .link import measured, pairs
from .losses import Losses
from .nameless import unname
from .siblings import siblings
from .watch import Watch, watch
from .wire import WIRES
from .world import World

CHOICES = ("auto", "mpi", "off")
SPLITS = ("filters", "rows")
START_ALIKE = "start all ranks with the same, or with --cluster off to train on each by itself"
SECOND_S = 3.0  # seconds for one rank to report that another has died, before the other ranks do so too

_log = runlog.logger("pyconv.cluster")


class Session:
    """One rank's view of all ranks.

    Parameters
    ----------
    world : World
    places : sequence of Here
        Of all ranks.
    library : str
        MPI's name and version.
    watch : Watch, optional
        Its connections to other hosts.

    Attributes
    ----------
    rank, size : int
    leads : bool
        Whether this is rank 0, which has the terminal and the run folder.
    waited_s : callable
        ``waited_s()``: at rank 0, for how many seconds ranks have waited in the run so far; their mean.
    """

    def __init__(self, world: Any, places: Sequence[Here], library: str, watch: Watch | None = None) -> None:
        self.world, self.library = world, library
        self.rank, self.size = world.rank, world.size
        self.leads = self.rank == 0
        self.hosts = Hosts(places, self.rank)
        self._losses = Losses(self.hosts, watch or Watch(), self.rank)
        self.rounds = r.Rounds(world, self.hosts.names)
        self.waited_s: Callable[[], float] = lambda: 0.0
        self._depth = self._traced_at = 0
        self._records: list[dict[str, Any]] = []
        self.rounds.logs, self.rounds.heard = self._taken, self._heard
        self._lost_at: float | None = None
        world.lost = self._look
        self._signals = HeldSignals(self.rounds)

    # ---- together ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Within it, an error that ends one rank's work ends all ranks' work; other ranks' log records go to rank 0."""
        if not self._depth:
            self.rounds.ended = False
            self._signals.hold()
        self._depth += 1
        try:
            with contextlib.nullcontext() if self.leads or self._depth > 1 else runlog.heard_by(_Collector(self)):
                yield
        except SystemExit:  # --help
            if self._depth == 1:
                self._round(r.LEAVING)
            raise
        except BaseException as error:
            try:
                self.rounds.fail(error)
            except (PyconvError, Interrupted) as agreed:
                agreed.told = not self.leads
                raise
        finally:
            self._end_trace()
            self._depth -= 1
            if not self._depth:
                self._signals.release()

    def _round(self, kind: int, text: bytes = b"") -> None:
        if self.leads:
            self.rounds.collect(self.rounds.header(kind), text)
            self.rounds.tell(r.GO)
        else:
            self.rounds.ask(self.rounds.header(kind), text)

    def end(self) -> None:
        """Tell the other ranks that this one has finished its work, and wait until all have."""
        self._round(r.LEAVING)

    def of_leader(self, make: Callable[[], Any]) -> Any:
        """The result of `make` at rank 0, on all ranks; JSON must be able to hold it."""
        if not self.leads:
            return json.loads(self.rounds.ask(self.rounds.header(r.SESSION)).text)
        made = make()
        self.rounds.collect(self.rounds.header(r.SESSION))
        self.rounds.tell(r.GO, text=json.dumps(made).encode())
        return made

    def agree(self, facts: Mapping[str, Any], *, own: Any = None, remedy: str = START_ALIKE) -> list[Any]:
        """Check that all ranks have the same facts, and tell each of them what is each rank's own.

        Parameters
        ----------
        facts : mapping of str to object
            By name; compared as JSON or as text.
        own : object, optional
            What may differ; JSON must be able to hold it.
        remedy : str
            What to do about a difference, for the error.

        Returns
        -------
        list of object
            Each rank's own.

        Raises
        ------
        InputError
            If the facts differ; all ranks raise it. It names the first difference.
        """
        data = json.dumps([facts, own], default=str).encode()
        header = self.rounds.header(r.SESSION)
        if not self.leads:
            told: list[Any] = json.loads(self.rounds.ask(header, data).text)
            return told
        self.rounds.collect(header, data)
        texts = [json.loads(text) for text in self.rounds.texts()]
        mine = texts[0][0]
        for name, (theirs, _) in zip(self.hosts.names, texts):
            for fact in {**mine, **theirs}:
                if theirs.get(fact) != mine.get(fact):
                    raise InputError(
                        f"{name} was given another {fact} ({shown(theirs.get(fact))}) than {self.hosts.names[0]} "
                        f"({shown(mine.get(fact))}); {remedy}"
                    )
        owns = [each for _, each in texts]
        self.rounds.tell(r.GO, text=json.dumps(owns).encode())
        return owns

    # ---- a run ------------------------------------------------------------------------------------

    def engine(
        self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, interrupted: Callable[[int], None]
    ) -> Engine:
        """The engine of a run on all ranks, for rank 0."""
        from . import runs  # not at the top: pyconv can be imported without the compiled modules

        bound = self.hosts.bound()
        for line in [*([] if bound is None else [bound]), *self._losses.unwatched()]:
            _log.warning("%s", line)
        threads, world = self.threads(job.threads_per_worker), self._begin(job)
        made: Any = runs.leader(
            self.rounds, world, model, x, labels, job, threads, interrupted, self.hosts, self.library
        )
        self.waited_s = lambda: made.waited_s
        engine: Engine = made
        return engine

    def follow(
        self, model: Sequential, x: np.ndarray, labels: np.ndarray, job: Job, signals: Callable[[], str | None]
    ) -> list[dict[str, Any]]:
        """Do another rank's part of the run; returns the history, and leaves the result in the model.

        Parameters
        ----------
        model, x, labels, job
            As at rank 0.
        signals : callable
            ``signals()``: name of a signal that this rank has received, or None.
        """
        from . import runs

        self.rounds.signalled = lambda: _number(signals())
        try:
            threads, world = self.threads(job.threads_per_worker), self._begin(job)
            return runs.follow(self.rounds, world, model, x, labels, job, threads)
        finally:
            self.rounds.signalled = lambda: 0

    def _begin(self, job: Job) -> World:
        """The world of a run; if the run keeps a timeline, it is one that notes what it does, in rounds too."""
        if isinstance(self.world, mpi.MPIWorld):
            self.world.patience.allowed = self.hosts.room(self.threads(job.threads_per_worker))
        if job.trace is not None:
            from .tracing import Trace

            self.rounds.trace = trace = Trace(self.world, job, self.hosts.names)
            self.rounds.world, self._traced_at = trace.world, self._depth
        return self.rounds.world

    def _end_trace(self) -> None:
        """At the end of what the run is within, after an error too: close the timeline."""
        if self.rounds.trace is not None and self._depth == self._traced_at:
            self.rounds.trace.close()
            self.rounds.trace, self.rounds.world = None, self.world

    def finish(self, model: Sequential, history: list[dict[str, Any]]) -> None:
        """As rank 0, end the run: send the other ranks the model and the history."""
        self.rounds.collect(self.rounds.header(r.REST))
        self.rounds.tell(r.FINISH, text=json.dumps(history).encode())
        ranks = range(1, self.size)
        self.rounds.world.swap([(rank, each) for rank in ranks for each in (model.flat, model.flat_buffers)], [])

    def lanes(self, workers: int | None) -> int:
        """Workers of all ranks together.

        Parameters
        ----------
        workers : int or None
            Of each rank; None if the cost model would have to choose.

        Raises
        ------
        InputError
            If that is so.
        """
        if workers is None:
            raise InputError("workers auto is not there over MPI: give the number of each rank's workers")
        return workers * self.size

    def one_worker(self, workers: int | None) -> int:
        """Workers of a network that is split over all ranks: one.

        Raises
        ------
        InputError
            If the user wants several.
        """
        if workers not in (None, 1):
            raise InputError(f"a network that is split over the ranks is one worker, not {workers}: leave workers out")
        return 1

    def prepare(self, job: Job) -> None:
        """Tell the rounds how long headers are; all ranks must know it before one of them can fail alone.

        Raises
        ------
        InputError
            If the job splits the network, and asks for a wire that is for whole ones. If it asks that a failed worker
            be left out.
        """
        if choice(job.on_worker_failure, "reaction to a worker's failure", ON_FAILURE) == "drop":
            raise InputError(
                "on_worker_failure drop is not there over MPI: a rank's workers are one process, and its failure ends "
                "the run; take abort, or restart with python -m pyconv.cluster, which starts ranks again"
            )
        if job.wire != WIRES[0] and (job.stages is not None or job.split is not None):
            raise InputError(f"wire {job.wire} is for whole networks: leave it out where a network is split")
        self.rounds.most = -(-job.workers // self.size)

    def threads(self, asked: int | None) -> int:
        """OpenMP threads of this rank."""
        return self.hosts.threads(asked)

    # ---- logs -------------------------------------------------------------------------------------

    def say(self, record: logging.LogRecord) -> None:
        """Keep a log record for rank 0."""
        text = f"[rank {self.rank}] {record.getMessage()}"
        self._records.append({"name": record.name, "level": record.levelno, "text": text, "created": record.created})

    def _taken(self) -> bytes:
        records, self._records = self._records, []
        return json.dumps(records).encode() if records else b""

    def _heard(self, rank: int, data: bytes) -> None:
        for each in json.loads(data):
            record = logging.LogRecord(each["name"], each["level"], __file__, 0, each["text"], None, None)
            record.created = each["created"]
            vars(record)["other_rank"] = rank
            runlog.deliver(record)

    # ---- death ------------------------------------------------------------------------------------

    def _look(self) -> None:
        """Called while this rank waits: if another rank has died, report it once, and end all ranks."""
        found = self._losses.look()
        if found is None:
            return
        what, speaks = found
        now = time.monotonic()
        self._lost_at = self._lost_at or now
        if speaks or now - self._lost_at > SECOND_S:
            if self._losses.unreachable:
                end_waiting_launcher()
            self.rounds.give_up(RunError(f"{what}; continue the run with --resume"))


class _Collector(logging.Handler):
    def __init__(self, session: Session) -> None:
        super().__init__(logging.WARNING)
        self._session = session

    def emit(self, record: logging.LogRecord) -> None:
        if "other_rank" not in vars(record):  # ranks that are threads of one process hear rank 0 tell it
            self._session.say(record)


def _number(name: str | None) -> int:
    return 0 if name is None else int(signal.Signals[name])


_session: Session | None = None


def session(cluster: str = "auto", patience: float = PROGRAM_S) -> Session | None:
    """This process's session, or None if it trains by itself.

    Parameters
    ----------
    cluster : {"auto", "mpi", "off"}
        "auto": a session where a launcher has started several processes, or the program itself uses MPI with several
        ranks. "mpi": a session, or an error. "off": none.
    patience : float
        Seconds for all ranks to come to MPI's start; this process then ends.

    Raises
    ------
    InputError
        If the processes cannot find each other: mpi4py is missing, or each is a world of one rank.
    """
    global _session
    if choice(cluster, "cluster", CHOICES) == "off":
        return None
    if _session is not None:
        return _session
    launch = launched()
    if cluster == "auto" and launch is None and not mpi.is_initialized():
        return None
    try:
        world = mpi.MPIWorld(patience)
        if world.size > 1:
            places = [Here(**each) for each in world.everybody(Here.now().record())]
            unname()
            made = Session(world, places, world.version, watch(places, world.rank, world.everybody))
            made.hosts.check()
            world.patience.allowed = made.hosts.room(made.threads(None))
            _session = made
            return made
        if launch is not None:
            raise InputError(
                f"{launch.size} processes were started, and each finds itself alone in {world.version}: start them "
                f"with the mpiexec that belongs to it, or with srun --mpi={mpi.slurm_plugin(world.version)}; "
                "--cluster off trains in each by itself"
            )
        if cluster == "mpi":
            raise InputError(
                "cluster mpi: this is the only rank; start several, as with: mpiexec -n 4 python -m pyconv.train"
            )
    except InputError as error:
        near = siblings()
        error.told = near is not None and not near.first  # all on a host say the same
        raise
    return None


def about() -> dict[str, str]:
    """What there is to say of MPI, for ``python -m pyconv.info``; all ranks call it, and measure the links."""
    try:
        ranks = session()
        if ranks is not None:
            ways = {
                name: str(measured(ranks.world, other))
                for name, other in pairs(ranks.hosts.places).items()
                if ranks.rank in (0, other)
            }
            return {"library": ranks.library, "ranks": f"{ranks.size}: {ranks.hosts.on_hosts()}", **ways}
        return {"library": mpi.version(mpi.library(finalize=False)), "ranks": "1: no launcher has started others"}
    except InputError as error:
        return {"library": f"not usable: {error}"}
