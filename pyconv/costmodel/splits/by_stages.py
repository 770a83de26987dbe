"""A step of a pipeline: a network's layers cut into stages, whose times are the sums of their layers'."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ... import nn
from ..profile import Profile, results
from .piped import Piped, StageWork


def step(
    model: nn.Sequential, profile: Profile, cut: Sequence[int], micro_batches: int, *, schedule: str = "1f1b",
    replicas: int = 1, cpus: int | None = None, t_a: float = 0.0,
) -> Piped:  # fmt: skip
    """A step of `replicas` pipelines.

    Parameters
    ----------
    model : Sequential
    profile : Profile
        Of a micro-batch of the whole network.
    cut : sequence of int
        The first layer of each stage but the first.
    micro_batches : int
        Of a step.
    schedule : {"1f1b", "gpipe"}
    replicas : int
    cpus : int, optional
        CPUs that all ranks share; by default each has its own.
    t_a : float
        Seconds to add a byte of one vector to another: each micro-batch's gradient is weighted, and added.

    Returns
    -------
    Piped
    """
    times, sizes = profile.of_layers(), results(model)
    bounds = [0, *cut, len(model.layers)]
    total = max(1, model.flat.size)
    stages = []
    for number, (first, last) in enumerate(pairwise(bounds)):
        own = times[first:last]
        parameters = sum(
            view.size for name, view in model.parameters.items() if first <= int(name.partition(".")[0]) < last
        )
        size = float(parameters * model.flat.itemsize)
        stages.append(
            StageWork(
                sum(forward for forward, _ in own) + (profile.aside_s if number == 0 else 0.0),
                sum(back for _, back in own) + (2 * t_a * size if micro_batches > 1 else 0.0),
                float(profile.batch * sizes[last]) if last < len(model.layers) else 0.0,
                size,
                profile.update_s * parameters / total,
            )
        )
    return Piped(tuple(stages), micro_batches, schedule, replicas, cpus)
