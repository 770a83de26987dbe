"""A discrete-event simulation of data-parallel training on many nodes: stragglers, queues, limited bandwidth.

Where the closed form ends, this goes on.

Workers sit on nodes. Inside a node they share memory; between nodes and the parameter server runs a network in which
every message takes t_s to start, and the server's link passes one message at a time at t_b seconds a byte, in each
direction. A gradient's time is drawn anew for each step: log-normal around its mean, and now and then a straggler is
slower by a factor.

Needs SimPy: ``pip install '.[simulate]'`` in the source folder.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import BackendUnavailable, InputError, install_line, shown
from ..values import choice, flag, integer, real
from .checks import at_least_one, counts, not_negative, plain, positive
from .rules import EVERY

UPDATES = ("sync", "async", "ssp", "hogwild", "local", "easgd")
HINT = f"the simulation needs SimPy: {install_line('simulate')}"


@dataclass(frozen=True)
class Cluster:
    """Machines, as the simulation sees them.

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
        Workers of a node. Rules that meet add up in shared memory first, so that one message leaves the node.
    spread : float
        Standard deviation of a gradient's time over its mean (log-normal).
    straggler_share, straggler_factor : float
        Share of the gradients that are slower, and by how much.
    shuffle_s : float
        Seconds in which a worker brings an epoch's examples into their order, at the beginning of each; every worker
        does it for itself, O(k N) in all (:func:`.shuffle_time`).
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
    """What came out.

    Attributes
    ----------
    workers, update
        Of the run.
    steps_per_s : float
        Gradients a second over all workers.
    speedup : float
        Over one worker alone on its node, which sends nothing.
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
    cluster: Cluster, workers: int, update: str = "sync", *, steps: int = 30, every: int | None = None,
    epoch: int | None = None, staleness: int = 3, seed: int = 0,
) -> Simulated:  # fmt: skip
    """Play some steps of parallel training.

    Parameters
    ----------
    cluster : Cluster
        The machines.
    workers : int
        1 to 1024 and more; nodes are filled one after the other.
    update : str
        Update rule.
    steps : int
        Of each worker; a few more where the last would have no meeting.
    every : int, optional
        Steps of a worker between meetings, for ``local`` and ``easgd``; by default 1, as in training.
    epoch : int, optional
        Steps of an epoch that the workers share: how often they shuffle, and, where `every` is not given, meet under
        ``local`` (the paper's Algorithm 4, ``--sync-every 0``). By default the whole run is one epoch.
    staleness : int
        For ``ssp``: steps that a worker may be ahead of the slowest.
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
    choice(update, "update rule", UPDATES)
    if not isinstance(cluster, Cluster):
        raise InputError(f"cluster must be a Cluster, not {shown(cluster)}")
    counts(workers=workers, steps=steps)
    counts(**{name: value for name, value in (("every", every), ("epoch", epoch)) if value is not None})
    for name, value in (("staleness", staleness), ("seed", seed)):
        integer(value, name, minimum=0)
    try:
        import simpy
    except ModuleNotFoundError:
        raise BackendUnavailable(HINT) from None
    between = _between_meetings(workers, update, steps, every, epoch)
    steps = between * math.ceil(steps / between)
    shared = steps if epoch is None else math.ceil(epoch / workers)
    run = _Run(simpy, cluster, workers, update, steps, between, staleness, shared, np.random.default_rng(seed))
    return run.play()


def _between_meetings(workers: int, update: str, steps: int, every: int | None, epoch: int | None) -> int:
    """Steps of a worker from one meeting to the next, at most those of the run."""
    if update not in EVERY:
        return 1
    chosen = EVERY[update] if every is None else every
    if every is None and update == "local" and epoch is not None:
        chosen = math.ceil(epoch / workers)
    return int(min(chosen, steps))


@dataclass
class _Run:
    simpy: Any
    cluster: Cluster
    workers: int
    update: str
    steps: int
    every: int
    bound: int
    epoch: int  # steps of a worker
    rng: np.random.Generator
    waiting: list[Any] = field(default_factory=list)
    computed: float = 0.0
    version: int = 0
    stale: list[int] = field(default_factory=list)

    def play(self) -> Simulated:
        self.env = self.simpy.Environment()
        self.up = self.simpy.Resource(self.env)  # the server's link: what comes in
        self.down = self.simpy.Resource(self.env)  # and what goes out
        self.server = self.simpy.Resource(self.env)  # updates of shared parameters, one at a time
        self.nodes = math.ceil(self.workers / self.cluster.workers_per_node)
        self.clocks = [0] * self.workers
        self.held: list[tuple[int, int, Any]] = []
        for worker in range(self.workers):
            self.env.process(self.worker(worker))
        self.env.run()
        c = self.cluster
        rate = self.workers * self.steps / self.env.now
        alone = self.mean_gradient() + c.update_s + c.shuffle_s / (self.workers * self.epoch)
        return Simulated(
            self.workers,
            self.update,
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
        """Seconds of a gradient, drawn."""
        c = self.cluster
        seconds = c.gradient_s
        if c.spread > 0:
            sigma = math.sqrt(math.log1p(c.spread**2))
            seconds *= float(self.rng.lognormal(-sigma * sigma / 2, sigma))
        if c.straggler_share and self.rng.random() < c.straggler_share:
            seconds *= c.straggler_factor
        return seconds

    def worker(self, me: int) -> Generator[Any, Any, None]:
        """One worker's steps."""
        for step in range(self.steps):
            if step % self.epoch == 0 and self.cluster.shuffle_s:
                begun = min(1.0, (self.steps - step) / self.epoch)  # of an epoch that the run does not end, its share
                yield self.env.timeout(begun * self.cluster.shuffle_s)
            if self.update == "ssp":
                yield from self.not_ahead(me)
            read = self.version
            seconds = self.gradient()
            self.computed += seconds
            yield self.env.timeout(seconds)
            yield from self.share(me, step, read)
            self.clocks[me] += 1
            if self.update == "ssp":
                self.release()

    def share(self, me: int, step: int, read: int) -> Generator[Any, Any, None]:
        """What the update rule does with a gradient."""
        c = self.cluster
        if self.workers == 1:
            yield self.env.timeout(c.update_s)
        elif self.update == "sync":
            yield from self.meet(c.update_s)
        elif self.update == "local":
            yield self.env.timeout(c.update_s)
            if (step + 1) % self.every == 0:
                yield from self.meet(0.0)
        elif self.update == "easgd":
            yield self.env.timeout(c.update_s)
            if (step + 1) % self.every == 0:
                yield from self.exchange(me, read)
        else:
            yield from self.exchange(me, read)

    def exchange(self, me: int, read: int) -> Generator[Any, Any, None]:
        """Push to the server and pull from it; ``hogwild`` does not wait for others' updates."""
        c = self.cluster
        yield from self.send(self.up)
        if self.update == "hogwild":
            yield self.env.timeout(c.update_s)
        else:
            with self.server.request() as turn:
                yield turn
                yield self.env.timeout(c.update_s)
        self.stale.append(self.version - read)
        self.version += 1
        yield from self.send(self.down)

    def send(self, link: Any) -> Generator[Any, Any, None]:
        """A message of all parameters over the server's link; on the server's own node there is none."""
        c = self.cluster
        if self.nodes == 1:
            return
        yield self.env.timeout(c.t_s)
        with link.request() as turn:
            yield turn
            yield self.env.timeout(c.t_b * c.parameter_bytes)

    def meet(self, update_s: float) -> Generator[Any, Any, None]:
        """Wait for all; the last to come sets the exchange off, and all go on when it is done."""
        event = self.env.event()
        self.waiting.append(event)
        if len(self.waiting) == self.workers:
            together, self.waiting = self.waiting, []
            yield from self.average(update_s)
            for other in together:
                other.succeed()
        yield event

    def average(self, update_s: float) -> Generator[Any, Any, None]:
        """Bring all gradients together and the parameters back to all."""
        c = self.cluster
        if self.nodes > 1:
            if c.tree:
                rounds = 2 * math.ceil(math.log2(self.nodes))
                yield self.env.timeout(rounds * (c.t_s + c.t_b * c.parameter_bytes))
            else:  # the server's link passes the nodes' messages one after the other, in and then out
                yield self.env.timeout(2 * (c.t_s + self.nodes * c.t_b * c.parameter_bytes))
        yield self.env.timeout(update_s / self.workers)

    def not_ahead(self, me: int) -> Generator[Any, Any, None]:
        """Hold a worker that is too far ahead of the slowest."""
        while self.clocks[me] - min(self.clocks) > self.bound:
            event = self.env.event()
            heapq.heappush(self.held, (self.clocks[me], me, event))
            yield event

    def release(self) -> None:
        """Let go of those who are no longer too far ahead."""
        slowest = min(self.clocks)
        while self.held and self.held[0][0] - slowest <= self.bound:
            heapq.heappop(self.held)[2].succeed()


def curve(cluster: Cluster, update: str, workers: list[int], **options: int) -> list[Simulated]:
    """Simulate each number of workers.

    Parameters
    ----------
    cluster, update
        As in :func:`simulate`.
    workers : list of int
        Numbers of workers.
    **options : int
        Of :func:`simulate`: steps, every, epoch, staleness, seed.

    Returns
    -------
    list of Simulated
        One for each number.
    """
    return [simulate(cluster, count, update, **options) for count in workers]


def bend(points: list[Simulated], share: float = 0.5) -> int | None:
    """Where a curve bends: the first number of workers at which the speed-up is below a share of the ideal one.

    Parameters
    ----------
    points : list of Simulated
        By increasing numbers of workers.
    share : float
        Of the number of workers.

    Returns
    -------
    int or None
        The number of workers; None if the curve does not bend so far.
    """
    return next((point.workers for point in points if point.speedup < share * point.workers), None)
