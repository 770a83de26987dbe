"""A simulation of training over up to thousands of ranks, by split: stragglers, uneven ranks, queues at links.

It goes on where the equations of :mod:`.splits` end: these are for ranks that all compute as fast. Each step a rank's
computing takes a factor that is drawn anew, log-normal, and now and then a straggler's. Every rank has a clock, and
moves of messages are played one by one (:mod:`.clocks`), a pipeline pass by pass (:mod:`.splits.piped`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import nn
from ..parallel import Rule, rule_for
from ..values import integer, real
from .calibration import Calibration, calibration_of
from .checks import at_least_one, counts, network, not_negative, plain, positive
from .over_ranks import Way, images_of_step, step_of
from .rig import Rig

MOST_RANKS = 1 << 14


@dataclass(frozen=True)
class SimulatedSplit:
    """The result of a simulation.

    Attributes
    ----------
    ranks, split
        The setting.
    step_s : float
        Mean seconds of a step.
    images_per_s : float
        Over all ranks.
    speedup : float
        Relative to one rank alone, which sends nothing.
    busy_share : float
        Share of the ranks' time in which they compute.
    """

    ranks: int
    split: str
    step_s: float
    images_per_s: float
    speedup: float
    busy_share: float


@plain
def simulate_split(
    model: nn.Sequential, batch: int, ranks: int, split: str = "data", update: str | Rule = "sync", *,
    calibration: Calibration, threads: int = 1, backend: str = "auto", measure: bool = False,
    gradient_s: float | None = None, update_s: float | None = None, workers: int = 1, overlap: bool = True,
    stages: int | None = None, micro_batches: int | None = None, schedule: str = "1f1b",
    cut: Sequence[int] | None = None, steps: int = 20, spread: float = 0.0, straggler_share: float = 0.0,
    straggler_factor: float = 1.0, seed: int = 0,
) -> SimulatedSplit:  # fmt: skip
    """Simulate some steps of training over the ranks of a cluster.

    Parameters
    ----------
    model : Sequential
        The network; its parameters stay as they are.
    batch : int
        Images of one worker's step.
    ranks : int
        1 to 16,384.
    split : {"data", "rows", "filters", "pipeline"}
        As in :func:`.predict`.
    update : str or Rule
        The update rule; another than "sync" for split data only.
    calibration : Calibration
        Constants of the machine, and of messages between ranks.
    threads, backend, measure, gradient_s, update_s, workers, overlap, stages, micro_batches, schedule, cut
        As in :func:`.predict`; without `measure` and `gradient_s` the network's times are estimated.
    steps : int
        Steps to simulate.
    spread : float
        Standard deviation of a rank's computing in a step over its mean (log-normal).
    straggler_share, straggler_factor : float
        Share of the ranks' steps that are stragglers, and how many times as long these compute.
    seed : int
        The same seed gives the same run.

    Returns
    -------
    SimulatedSplit

    Raises
    ------
    InputError
        If a number is out of its range, or the network cannot be split so.
    UnknownNameError
        If the split, rule or backend is not known.
    """
    network(model)
    counts(batch=batch, threads=threads)
    integer(ranks, "ranks", minimum=1, maximum=MOST_RANKS)
    counts(steps=steps)
    integer(seed, "seed", minimum=0)
    not_negative(spread=spread)
    at_least_one(straggler_factor=straggler_factor)
    real(straggler_share, "straggler_share", minimum=0, maximum=1)
    if gradient_s is not None:
        positive(gradient_s=gradient_s)
    if update_s is not None:
        not_negative(update_s=update_s)
    rule = rule_for(update)
    way = Way(ranks, split, workers, overlap, stages, micro_batches, schedule, cut).checked(rule, batch)
    rig = Rig(
        model, calibration_of(calibration), backend=backend, threads=threads, measure=measure, gradient_s=gradient_s,
        update_s=update_s,
    )  # fmt: skip
    images = images_of_step(way, batch)
    step = step_of(rig, batch, rule, way, images * steps, batch)
    rng, clocks = np.random.default_rng(seed), rig.links.clocks(way.ranks)
    for _ in range(steps):
        step.play(clocks, _factors(rng, way.ranks, spread, straggler_share, straggler_factor))
    taken = float(clocks.now.max())
    rate = images * steps / taken
    profile = rig.profile(batch if way.micro_batches is None else batch // way.micro_batches, batch)
    alone_s = (way.micro_batches or 1) * profile.gradient_s + profile.update_s
    alone_s *= 1 + straggler_share * (straggler_factor - 1)
    return SimulatedSplit(
        way.ranks, way.split, taken / steps, rate, rate * alone_s / batch, clocks.computed / (way.ranks * taken)
    )


def _factors(rng: np.random.Generator, ranks: int, spread: float, share: float, factor: float) -> np.ndarray:
    """How many times as long each rank computes."""
    made = np.ones(ranks)
    if spread > 0:
        sigma = math.sqrt(math.log1p(spread**2))
        made = rng.lognormal(-sigma * sigma / 2, sigma, ranks)
    if share:
        made = np.where(rng.random(ranks) < share, factor * made, made)
    return made
