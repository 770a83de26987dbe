"""A step of a network that is split by filters and units, as :mod:`pyconv.cluster.filters` does it.

For each convolution and dense layer, with B images and p ranks:

forward    its result of B images comes to all ranks                                   gather of the result
           (with a max pool that is computed with it, the pooled result and the
           places of its maxima)
backward   the parts of its input's gradient are added up, if that is needed           sum of the input
           (with groups of channels they lie side by side: gather of the input)

Gradients of weights do not travel. A rank computes its share of these layers' filters, and all of the others. After an
epoch, rank 0 gets the others' weights.
"""

from __future__ import annotations

import math

from ... import nn
from ...backends import get as get_backend
from ...cluster.filters.parts import shares, split_weights
from ...nn.conv import ConvStep, _index_dtype
from ...nn.layer import Layer, Shape
from ..profile import Profile
from .phases import Phase, Phases, alone


def phases(
    model: nn.Sequential, profile: Profile, ranks: int, part_s: float | None = None, *, backend: str = "auto"
) -> Phases:
    """A step of the network on so many ranks.

    Parameters
    ----------
    model : Sequential
    profile : Profile
        Of the whole network on one rank.
    ranks : int
    part_s : float, optional
        Seconds in which a rank computes its part of a step, with the update, if that was measured; else its share of
        the profile's.
    backend : str

    Returns
    -------
    Phases
    """
    if ranks == 1:
        return alone(profile, part_s)
    times, batch = profile.of_layers(), profile.batch
    forward = [Phase(profile.aside_s, "meet")]
    backward: list[Phase] = []
    pooled = _pooled(model, batch, backend)
    inner = _inner(model)
    for number in range(len(model.layers)):
        ahead, back = times[number] if number < len(times) else (0.0, 0.0)
        share, moves_on, moves_back = 1.0, list[Phase](), list[Phase]()
        for index, layer, shape, trained in inner.get(number, ()):
            own, on, returned = _layer(model, index, layer, shape, trained, ranks, batch)
            share = min(share, own)
            moves_on += [Phase(0.0, "gather", size) for size in pooled.get(str(index), on)]
            moves_back += returned
        forward += [Phase(share * ahead), *moves_on]
        backward = [Phase(share * back), *moves_back, *backward]
    return Phases(ranks, [*forward, *backward, Phase(profile.update_s)]).tidy(part_s)


def parameters_of_others(model: nn.Sequential, ranks: int) -> float:
    """Bytes of the weights that rank 0 gets from the others after an epoch."""
    groups, total = split_weights(model), 0.0
    for name, view in model.parameters.items():
        if name in groups:
            first = shares(view.shape[-1], groups[name], ranks)[0]
            total += view.nbytes * (1 - (first.stop - first.start) / view.shape[-1])
    return total


def _layer(
    model: nn.Sequential, index: int | str, layer: Layer, shape: Shape, trained: bool, ranks: int, batch: int
) -> tuple[float, list[float], list[Phase]]:
    """A leaf's share of the filters, the bytes that are gathered forward, and what moves in the backward pass."""
    itemsize = batch * model.flat.itemsize
    size, result = itemsize * math.prod(shape), float(itemsize * math.prod(layer.output_shape(shape)))
    if isinstance(layer, nn.SeparableConv2D):
        deep, point = layer.parts(shape)
        between = float(itemsize * math.prod(deep.output_shape(shape)))
        back = [Phase(0.0, "sum", between)] + ([Phase(0.0, "gather", float(size))] if trained else [])
        return _share(point.filters, 1, ranks), [between, result], back
    if isinstance(layer, nn.Conv2D):
        move = "sum" if layer.groups == 1 else "gather"
        return _share(layer.filters, layer.groups, ranks), [result], [Phase(0.0, move, size)] if trained else []
    if isinstance(layer, nn.Dense):
        return _share(layer.units, 1, ranks), [result], [Phase(0.0, "sum", size)] if trained else []
    return 1.0, [], []


def _share(filters: int, groups: int, ranks: int) -> float:
    """The largest share of the filters that a rank has."""
    return max(part.stop - part.start for part in shares(filters, groups, ranks)) / filters


def _inner(model: nn.Sequential) -> dict[int, list[tuple[int | str, Layer, Shape, bool]]]:
    """By layer of the network, the layers that are in it, or itself; in order."""
    found: dict[int, list[tuple[int | str, Layer, Shape, bool]]] = {}
    for each in model.leaves():
        if not each[1].chains():
            found.setdefault(int(str(each[0]).partition(".")[0]), []).append(each)
    return found


def _pooled(model: nn.Sequential, batch: int, backend: str) -> dict[str, list[float]]:
    """By convolution that is computed with a max pool: the bytes of the places of its maxima, and of its result."""
    found: dict[str, list[float]] = {}
    shapes = {str(index): shape for index, _, shape, _ in model.leaves()}
    ops = get_backend(backend)
    for step in model.steps:
        if isinstance(step, ConvStep):
            pool = step.geometry(1, shapes[str(step.index)])[1]
            if pool is not None:
                numbers = batch * math.prod(pool.output_shape[1:])
                sizes = (_index_dtype(ops, pool).itemsize, model.flat.itemsize)
                found[str(step.index)] = [float(numbers * size) for size in sizes]
    return found
