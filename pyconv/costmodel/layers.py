"""The estimated time of each layer, and the cut of a network into stages of a pipeline that follows from it."""

from __future__ import annotations

import functools
import math

from .. import nn
from ..backends import get as get_backend
from ..nn.part import borders, check_stages
from ..values import integer
from .calibration import Calibration, calibrate, calibration_of
from .checks import network
from .network import layer_seconds

_Cut = tuple[float, int, tuple[int, ...]]
"""Seconds of the slowest stage, numbers of an image that pass between stages, and the cut."""


@functools.cache
def _here(backend: str) -> Calibration:
    """The constants of a backend here, without messages; measured once a process."""
    return calibrate(backend, seconds=0.01, messages=False)


def cut(
    model: nn.Sequential, stages: int, batch: int = 64, *, backend: str = "auto", threads: int = 1,
    calibration: Calibration | None = None,
) -> tuple[int, ...]:  # fmt: skip
    """Cut a network into stages of a pipeline, so that the slowest stage is as fast as it can be.

    Parameters
    ----------
    model : Sequential
    stages : int
    batch : int
        Images of a micro-batch.
    backend : str
        Where the stages compute.
    threads : int
        Threads of each.
    calibration : Calibration, optional
        Constants of the machine; by default the backend's, measured once a process, which takes some seconds.

    Returns
    -------
    tuple of int
        The first layer of each stage but the first. Of several cuts that are as good, one over which the fewest numbers
        pass.

    Raises
    ------
    InputError
        If the network cannot be cut into so many stages.
    """
    network(model)
    stages = integer(stages, "stages", minimum=1)
    places = list(borders(model))
    check_stages(model, stages)
    if stages == 1:
        return ()
    if len(places) == stages + 1:
        return tuple(places[1:-1])
    known = _here(get_backend(backend).name) if calibration is None else calibration_of(calibration)
    each = layer_seconds(model, batch, known, backend=backend, threads=threads)
    numbers = {0: 0, len(model.layers): 0}
    shape = model.input_shape
    for layer, settings in enumerate(model.layers):
        numbers[layer] = math.prod(shape)
        shape = tuple(settings.output_shape(shape))
    # best[s][p] is the best cut of the layers before places[p] into s + 1 stages
    best: list[dict[int, _Cut]] = [{p: (sum(each[: places[p]]), 0, ()) for p in range(1, len(places))}]
    for _ in range(1, stages):
        found: dict[int, _Cut] = {}
        for end in range(len(best) + 1, len(places)):
            found[end] = min(
                (
                    max(slowest, sum(each[places[p] : places[end]])),
                    passed + numbers[places[p]],
                    (*before, places[p]),
                )
                for p, (slowest, passed, before) in best[-1].items()
                if p < end
            )
        best.append(found)
    return best[-1][len(places) - 1][2]
