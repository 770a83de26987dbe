"""Which filters of a convolution and which units of a dense layer a rank has, and the parameters that are with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...nn import Conv2D, Dense, SeparableConv2D, Sequential
from ..halo import pieces
from ..rows import evenly, spans
from ..world import Message, World


def shares(filters: int, groups: int, ranks: int) -> list[slice]:
    """The filters of each rank, as evenly as whole groups allow; some may have none.

    Parameters
    ----------
    filters : int
        Of the layer; or its units.
    groups : int
        Of its channels; 1 if each filter sees all of them.
    ranks : int
    """
    if groups == 1:
        return [slice(part.start, part.stop) for part in spans(evenly(filters, ranks))]
    each = filters // groups
    return [slice(part.start * each, part.stop * each) for part in spans(evenly(groups, ranks))]


class Parameters:
    """The numbers of the parameters that one rank alone keeps up to date: the weights of its filters and units.

    Biases, and all that other layers have, are the same on all ranks.

    Parameters
    ----------
    model : Sequential
    ranks : int
    """

    def __init__(self, model: Sequential, ranks: int) -> None:
        owned: list[list[np.ndarray]] = [[] for _ in range(ranks)]
        groups, start = split_weights(model), 0
        for name, view in model.parameters.items():
            if name in groups:
                places = np.arange(start, start + view.size).reshape(view.shape)
                for own, part in zip(owned, shares(view.shape[-1], groups[name], ranks)):
                    own.append(places[..., part].reshape(-1))
            start += view.size
        self._owned = [np.concatenate([np.zeros(0, np.int64), *own]) for own in owned]

    def of(self, rank: int) -> np.ndarray:
        """Places in a vector of all parameters, ``(n,)`` int64."""
        return self._owned[rank]

    def bring(self, world: World, vectors: Sequence[np.ndarray]) -> None:
        """Bring every rank's numbers to rank 0, which writes them into its vectors; all ranks call it.

        Parameters
        ----------
        world : World
        vectors : sequence of (n,) ndarray
            Of all parameters: these, and the optimizer's state.
        """
        if world.rank:
            own = self.of(world.rank)
            sent = [np.ascontiguousarray(vector[own]) for vector in vectors]
            world.swap([(0, piece) for each in sent for piece in pieces(each)], [])
            return
        came: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        receives: list[Message] = []
        for rank in range(1, world.size):
            places = self.of(rank)
            for vector in vectors:
                numbers = np.empty(places.size, vector.dtype)
                came.append((vector, places, numbers))
                receives += [(rank, piece) for piece in pieces(numbers)]
        world.swap([], receives)
        for vector, places, numbers in came:
            vector[places] = numbers


def split_weights(model: Sequential) -> Mapping[str, int]:
    """The names of the weights that are split, and the groups of their layers."""
    found: dict[str, int] = {}
    for index, layer, shape, _ in model.leaves():
        if isinstance(layer, SeparableConv2D):
            found |= {f"{index}.depthwise": shape[-1], f"{index}.pointwise": 1}
        elif isinstance(layer, Conv2D):
            found[f"{index}.weight"] = layer.groups
        elif isinstance(layer, Dense):
            found[f"{index}.weight"] = 1
    return found
