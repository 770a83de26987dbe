"""A step of a network that is split by rows, as :mod:`pyconv.cluster.by_rows` does it.

For layers on rows, from the first on, with B images and p ranks:

forward      each convolution or pool   the halo of a rank, B bytes of the rows that it lacks      t_s + t_b halo
             BatchNorm                  two sums of C float64                                      2 sums
             the first whole layer      all rows come to all ranks                                 gather of its input
backward     each convolution or pool   the same halo goes back, if its input's gradient is needed t_s + t_b halo
             BatchNorm                  two sums of C float64                                      2 sums
at the end   the gradient of the layers on rows is added up                                        sum of their bytes

A rank computes its share of the rows in these layers, and all of the layers behind them.
"""

from __future__ import annotations

import math
from typing import Any

from ... import nn
from ...cluster.by_rows.layers import OnRows
from ...cluster.by_rows.network import divided
from ...cluster.by_rows.norm import NormOnRows
from ...cluster.halo import Halo
from ..profile import Profile
from ..silent import SilentWorld
from .phases import Phase, Phases, alone


def middle(ranks: int) -> int:
    """A rank that has neighbours on both sides, if any has."""
    return ranks // 2


def phases(model: nn.Sequential, profile: Profile, ranks: int, part_s: float | None = None) -> Phases:
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

    Returns
    -------
    Phases

    Raises
    ------
    InputError
        If the network cannot be split so.
    """
    if ranks == 1:
        return alone(profile, part_s)
    times = profile.of_layers()
    forward = [Phase(profile.aside_s, "meet")]
    backward: list[Phase] = []
    me, itemsize, batch = middle(ranks), model.flat.itemsize, profile.batch
    layers, rows, count = divided(model, SilentWorld(me, ranks))
    shape, kept = (len(rows), *model.input_shape[1:]), model.input_shape
    trained = False
    own_parameters = 0
    for number, layer in enumerate(layers):
        seconds = times[number] if number < len(times) else (0.0, 0.0)
        on_rows = number < count
        original = model.layers[number]
        whole_shape, kept = kept, tuple(original.output_shape(kept))
        local = tuple(layer.output_shape(shape))
        share = local[0] / kept[0] if on_rows and len(kept) == 3 else 1.0
        move = _move(layer, shape, batch * itemsize, whole_shape)
        forward += [Phase(0.0, *each) for each in move]
        forward.append(Phase(share * seconds[0]))
        back = [Phase(share * seconds[1])]
        if isinstance(layer, NormOnRows) and str(number) not in model.frozen:
            back += [Phase(0.0, *each) for each in move[: 2 if trained else 0]]
        elif isinstance(layer, OnRows) and on_rows and trained:
            back += [Phase(0.0, *each) for each in move]
        backward = back + backward
        parameters = sum(math.prod(each.shape) for each in original.parameters(whole_shape).values())
        trained = trained or bool(parameters)
        if on_rows:
            own_parameters += parameters
        shape = local
    end = [Phase(0.0, "sum", own_parameters * itemsize), Phase(profile.update_s)]
    return Phases(ranks, [*forward, *backward, *end]).tidy(part_s)


def _move(layer: Any, shape: tuple[int, ...], pixel: int, whole: tuple[int, ...]) -> list[tuple[str, float]]:
    """What moves before a layer: how, and bytes."""
    if isinstance(layer, NormOnRows):
        return [("sum", 8.0 * shape[-1])] * 2
    if not isinstance(layer, OnRows):
        return []
    if layer.whole:
        # What a rank lacks that has the fewest rows; of even parts each lacks (p - 1) / p.
        ranks, fewest = len(layer.halo.have), min(map(len, layer.halo.have))
        lacking = math.prod(whole[1:]) * (whole[0] - fewest)
        return [("gather", pixel * lacking * ranks / (ranks - 1))]
    return [("neighbours", float(_most_lacking(layer.halo) * pixel * math.prod(shape[1:])))]


def _most_lacking(halo: Halo) -> int:
    """Rows of the rank that lacks most; of many ranks some are looked at."""
    ranks = len(halo.have)
    return max(_lacking(halo, rank) for rank in range(0, ranks, max(1, ranks // 32)))


def _lacking(halo: Halo, rank: int) -> int:
    return sum(len(rows) for _, rows in halo.messages(rank))
