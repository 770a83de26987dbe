"""A discrete-event simulation of data-parallel training on many nodes: stragglers, queues, limited bandwidth.

It goes on where the equations of :mod:`.equations` end.

Workers are on nodes. Inside a node they share memory. A network connects the nodes with the parameter server: every
message takes t_s to start, and the server's link passes one message at a time, at t_b seconds a byte, in each
direction. A gradient's time is drawn anew for each step from a log-normal distribution; now and then a straggler takes
a multiple.

A worker does what its update rule's script says, as in training. everyone() waits for all; a gradient takes its time; a
kernel in which the optimizer steps takes an update's time. A share is averaged between the nodes. A sweep over all
parameters that changes the centre is an exchange with the server, which answers with the parameters, so a pull by
itself sends nothing; during a locked sweep nobody else uses the server. All else happens in a node's memory, in no
time.

Needs SimPy: ``pip install '.[simulate]'`` in the source folder.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import InputError, needed, shown
from ..parallel.lane import Action, Everyone, Gradient, Lane, NotAhead, Sweep
from ..parallel.rules import Rule, rule_for
from ..values import all_of, flag, integer, items, real
from .checks import at_least_one, counts, not_negative, plain, positive
from .rules import between_meetings, with_options

MOST_WORKERS = 1 << 16


@dataclass(frozen=True)
class Cluster:
    """The simulated machines.

    Attributes
    ----------
    gradient_s : float
        Mean seconds of one gradient of one worker.
    parameter_bytes : float
        Bytes of the parameters, and of a gradient.
    update_s : float
        Seconds of one update of all parameters.
    t_s, t_b : float
        Seconds to start a message between nodes, and seconds a byte on a node's link.
    workers_per_node : int
        Workers on a node. Under rules that meet, they add up in shared memory first, so one message leaves the node.
    spread : float
        Standard deviation of a gradient's time over its mean (log-normal).
    straggler_share, straggler_factor : float
        Share of the gradients that are stragglers, and how many times as long these take.
    shuffle_s : float
        Seconds in which a worker brings an epoch's examples into their order, at the beginning of each epoch. Every
        worker does it for itself, O(k N) in all (:func:`.shuffle_time`).
    tree : bool
        Whether synchronous rules average in ``⌈log2⌉`` rounds between the nodes, as the paper's Algorithm 4 does,
        rather than through the server's link.
    """

    gradient_s: float
    parameter_bytes: float
    update_s: float = 0.0
    t_s: float = 50e-6
    t_b: float = 8e-10
    workers_per_node: int = 1
    spread: float = 0.0
    straggler_share: float = 0.0
    straggler_factor: float = 1.0
    tree: bool = False
    shuffle_s: float = 0.0

    def __post_init__(self) -> None:
        positive(gradient_s=self.gradient_s)
        names = ("parameter_bytes", "update_s", "t_s", "t_b", "spread", "shuffle_s")
        not_negative(**{name: getattr(self, name) for name in names})
        counts(workers_per_node=self.workers_per_node)
        at_least_one(straggler_factor=self.straggler_factor)
        real(self.straggler_share, "straggler_share", minimum=0, maximum=1)
        flag(self.tree, "tree")


@dataclass(frozen=True)
class Simulated:
    """The result of a simulation.

    Attributes
    ----------
    workers, update
        The setting.
    steps_per_s : float
        Gradients a second over all workers.
    speedup : float
        Relative to one worker alone on its node, which sends nothing.
    busy_share : float
        Share of the workers' time that they compute gradients.
    staleness : float
        Mean number of others' updates between a worker's reading of the parameters and its own update.
    every : int
        Steps of a worker between meetings, or between exchanges with the server.
    """

    workers: int
    update: str
    steps_per_s: float
    speedup: float
    busy_share: float
    staleness: float
    every: int


@plain
def simulate(
    cluster: Cluster, workers: int, update: str | Rule = "sync", *, steps: int = 30, every: int | None = None,
    epoch: int | None = None, staleness: int | None = None, seed: int = 0,
) -> Simulated:  # fmt: skip
    """Simulate some steps of parallel training.

    Parameters
    ----------
    cluster : Cluster
        The machines.
    workers : int
        1 to 65,536; nodes are filled one after the other.
    update : str or Rule
        The update rule: its name, or one of your own.
    steps : int
        Steps of each worker; a few more if the last ones would have no meeting.
    every : int, optional
        Steps of a worker between meetings, for rules with the option ``sync_every`` (``local``, ``easgd``); by default
        that option's own value, as in training.
    epoch : int, optional
        Steps of an epoch, which the workers share: how often they shuffle, and, without `every`, how often they meet
        under ``local`` by name (the paper's Algorithm 4, ``--sync-every 0``). By default the whole run is one epoch.
    staleness : int, optional
        Steps that a worker may be ahead of the slowest, for rules with that option (``ssp``).
    seed : int
        The same seed gives the same run.

    Returns
    -------
    Simulated

    Raises
    ------
    BackendUnavailable
        If SimPy is not installed.
    InputError
        If a number is out of its range.
    UnknownNameError
        If the update rule is not known.
    """
    rule = rule_for(update)
    if not isinstance(cluster, Cluster):
        raise InputError(f"cluster must be a Cluster, not {shown(cluster)}")
    integer(workers, "workers", minimum=1, maximum=MOST_WORKERS)
    counts(steps=steps)
    counts(**{name: value for name, value in (("every", every), ("epoch", epoch)) if value is not None})
    for name, value in (("staleness", staleness), ("seed", seed)):
        if value is not None:
            integer(value, name, minimum=0)
    with needed("the simulation needs SimPy", extra="simulate"):
        import simpy
    shared = steps if epoch is None else math.ceil(epoch / workers)
    if every is None:
        by_epoch = epoch is not None and isinstance(update, str) and type(rule).finish is not Rule.finish
        every = int(min(shared if by_epoch else between_meetings(rule, shared), steps))
    between = min(every, steps) if "sync_every" in rule.options() else 1
    rule = with_options(rule, sync_every=between, **({} if staleness is None else {"staleness": staleness}))
    steps = between * math.ceil(steps / between)
    run = _Run(
        simpy, cluster, workers, rule, steps, between, steps if epoch is None else shared, np.random.default_rng(seed)
    )
    return run.play()


@dataclass
class _Run:
    simpy: Any
    cluster: Cluster
    workers: int
    rule: Rule
    steps: int
    every: int
    epoch: int  # steps of a worker
    rng: np.random.Generator
    waiting: list[Any] = field(default_factory=list)
    computed: float = 0.0
    version: int = 0
    stale: list[int] = field(default_factory=list)

    def play(self) -> Simulated:
        self.env = self.simpy.Environment()
        self.up = self.simpy.Resource(self.env)  # the server's link, for messages that come in
        self.down = self.simpy.Resource(self.env)  # and for messages that go out
        self.server = self.simpy.Resource(self.env)  # updates of the shared parameters, one at a time
        self.nodes = math.ceil(self.workers / self.cluster.workers_per_node)
        self.clocks = [0] * self.workers
        self.read = [0] * self.workers  # by worker, the version of the parameters at which its gradient is computed
        self.held: list[tuple[int, int, Any]] = []  # workers that wait until all clocks have reached a value
        for worker in range(self.workers):
            self.env.process(self.worker(worker))
        self.env.run()
        c = self.cluster
        rate = self.workers * self.steps / self.env.now
        alone = self.mean_gradient() + c.update_s + c.shuffle_s / (self.workers * self.epoch)
        return Simulated(
            self.workers,
            self.rule.name,
            rate,
            rate * alone,
            self.computed / (self.workers * self.env.now),
            float(np.mean(self.stale)) if self.stale else 0.0,
            self.every,
        )

    def mean_gradient(self) -> float:
        c = self.cluster
        return c.gradient_s * (1 + c.straggler_share * (c.straggler_factor - 1))

    def gradient(self) -> float:
        """The seconds of a gradient, drawn at random."""
        c = self.cluster
        seconds = c.gradient_s
        if c.spread > 0:
            sigma = math.sqrt(math.log1p(c.spread**2))
            seconds *= float(self.rng.lognormal(-sigma * sigma / 2, sigma))
        if c.straggler_share and self.rng.random() < c.straggler_share:
            seconds *= c.straggler_factor
        return seconds

    def worker(self, me: int) -> Generator[Any, Any, None]:
        """One worker's steps. The run is one long epoch of the script, with as many shuffles as its epochs need."""
        lane = Lane(me, self.workers, self.steps, lambda: self.clocks[me])
        for lane.step in range(self.steps):
            if lane.step % self.epoch == 0 and self.cluster.shuffle_s:
                # an epoch that the run does not finish counts in proportion
                begun = min(1.0, (self.steps - lane.step) / self.epoch)
                yield self.env.timeout(begun * self.cluster.shuffle_s)
            before = self.clocks[me]
            for action in self.rule.step(lane):
                yield from self.act(me, action)
            self.clocks[me] = before + 1  # if no kernel has done so
            self.release()
        lane.step = self.steps
        if self.rule.lockstep:
            for action in self.rule.finish(lane):
                yield from self.act(me, action)

    def act(self, me: int, action: Action) -> Generator[Any, Any, None]:
        """One action of the script. A worker that is alone only computes and updates."""
        if isinstance(action, Gradient):
            self.read[me] = self.version
            seconds = self.gradient()
            self.computed += seconds
            yield self.env.timeout(seconds)
        elif isinstance(action, Sweep):
            yield from self.sweep(me, action)
            if action.declared.gradient and not self.rule.lockstep:
                self.clocks[me] += 1
        elif isinstance(action, Everyone):
            yield from self.meet()
        elif isinstance(action, NotAhead):
            yield from self.not_ahead(me, action.by)

    def sweep(self, me: int, action: Sweep) -> Generator[Any, Any, None]:
        """Run a kernel."""
        kernel = action.declared
        update_s = self.cluster.update_s if kernel.optimises else 0.0
        if self.workers == 1:
            if kernel.optimises:
                yield self.env.timeout(update_s)
        elif action.share:
            yield from self.average(update_s)
        elif kernel.changes_centre:
            yield from self.exchange(me, locked=action.locked)
        elif kernel.optimises:
            yield self.env.timeout(update_s)

    def exchange(self, me: int, *, locked: bool) -> Generator[Any, Any, None]:
        """Push to the server and pull from it; without a lock, updates do not wait for each other."""
        c = self.cluster
        yield from self.send(self.up)
        if locked:
            with self.server.request() as turn:
                yield turn
                yield self.env.timeout(c.update_s)
        else:
            yield self.env.timeout(c.update_s)
        self.stale.append(self.version - self.read[me])
        self.version += 1
        yield from self.send(self.down)

    def send(self, link: Any) -> Generator[Any, Any, None]:
        """Send all parameters over the server's link; on the server's own node nothing is sent."""
        c = self.cluster
        if self.nodes == 1:
            return
        yield self.env.timeout(c.t_s)
        with link.request() as turn:
            yield turn
            yield self.env.timeout(c.t_b * c.parameter_bytes)

    def meet(self) -> Generator[Any, Any, None]:
        """Wait until all workers are here."""
        event = self.env.event()
        self.waiting.append(event)
        if len(self.waiting) == self.workers:
            together, self.waiting = self.waiting, []
            for other in together:
                other.succeed()
        yield event

    def average(self, update_s: float) -> Generator[Any, Any, None]:
        """Bring all gradients together, and the parameters back to all."""
        c = self.cluster
        if self.nodes > 1:
            if c.tree:
                rounds = 2 * math.ceil(math.log2(self.nodes))
                yield self.env.timeout(rounds * (c.t_s + c.t_b * c.parameter_bytes))
            else:  # the server's link passes the nodes' messages one after the other, in and then out
                yield self.env.timeout(2 * (c.t_s + self.nodes * c.t_b * c.parameter_bytes))
        yield self.env.timeout(update_s / self.workers)

    def not_ahead(self, me: int, by: int) -> Generator[Any, Any, None]:
        """Hold a worker that is too far ahead of the slowest, until it no longer is."""
        while self.clocks[me] - min(self.clocks) > by:
            event = self.env.event()
            heapq.heappush(self.held, (self.clocks[me] - by, me, event))
            yield event

    def release(self) -> None:
        """Let workers go on that are no longer too far ahead."""
        if not self.held:
            return
        slowest = min(self.clocks)
        while self.held and self.held[0][0] <= slowest:
            heapq.heappop(self.held)[2].succeed()


def curve(cluster: Cluster, update: str | Rule, workers: list[int], **options: int) -> list[Simulated]:
    """Simulate each number of workers.

    Parameters
    ----------
    cluster, update
        As in :func:`simulate`.
    workers : list of int
        Numbers of workers.
    **options : int
        Further arguments of :func:`simulate`: steps, every, epoch, staleness, seed.

    Returns
    -------
    list of Simulated
        One for each number.
    """
    return [simulate(cluster, count, update, **options) for count in items(workers, "workers", "numbers of workers")]


def bend(points: list[Simulated], share: float = 0.5) -> int | None:
    """Where a curve bends: the first number of workers at which the speed-up is below a share of the ideal one.

    Parameters
    ----------
    points : list of Simulated
        By increasing numbers of workers.
    share : float
        Of the ideal speed-up, which is the number of workers.

    Returns
    -------
    int or None
        The number of workers; None if the curve does not bend so far.
    """
    points = list(all_of(points, "points", Simulated, "results of simulate()"))
    share = real(share, "share", minimum=0)
    return next((point.workers for point in points if point.speedup < share * point.workers), None)
