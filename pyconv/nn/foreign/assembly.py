"""Makes a network of a chain of items."""

from __future__ import annotations

import numpy as np

from pyconv.errors import CheckpointError

from ..branches import Parallel, Residual
from ..dense import Flatten
from ..layer import Layer, Shape
from ..sequential import Sequential
from .item import Item
from .structure import Chain, Fork, chain_to
from .tidy import take_normalization, tidy


def assembled(last: Item | None, input_shape: Shape, dtype: str) -> Sequential:
    """The network that computes the value of `last` from its input.

    Parameters
    ----------
    last : Item or None
        None is the input.
    input_shape : tuple of int
        The shape of one example: ``(H, W, C)`` or ``(features,)``.
    dtype : "float32" or "float64"

    Returns
    -------
    Sequential
        It has no softmax at its end; what is first done to each channel of the input is its normalisation.

    Raises
    ------
    CheckpointError
        If an item cannot become a layer there; the message names it.
    """
    chain = chain_to(last)
    if chain and isinstance(chain[-1], Item) and chain[-1].kind == "softmax":
        chain.pop()
    normalization, chain = take_normalization(chain)
    entries = tidy(chain)
    if last is not None and len(last.shape) == 3 and last.shape[:2] == (1, 1) and entries:
        entries = tidy([*entries, Item("the end", (), "layer", last.shape[2:], Flatten())])
    if not entries:
        raise CheckpointError("computes nothing that a network could learn")
    layers, values = _layers(entries, "")
    model = Sequential(layers, input_shape, dtype=dtype)
    places = {**model.parameters, **model.buffers}
    for name, array in values.items():
        places[name][...] = array
    model.normalization = normalization
    return model


def _layers(entries: Chain, prefix: str) -> tuple[list[Layer], dict[str, np.ndarray]]:
    """The layers of a chain, and their parameters and buffers by full name."""
    layers: list[Layer] = []
    values: dict[str, np.ndarray] = {}
    for position, entry in enumerate(entries):
        way = f"{prefix}{position}."
        if isinstance(entry, Fork):
            layer, found = _branches(entry, way)
        else:
            assert entry.layer is not None
            layer, found = entry.layer, {f"{way}{name}": array for name, array in entry.values.items()}
        layers.append(layer)
        values |= found
    return layers, values


def _branches(fork: Fork, way: str) -> tuple[Layer, dict[str, np.ndarray]]:
    """The layer of a fork: a residual one where two branches are added up, the longer one first."""
    branches = fork.branches
    if fork.join.kind == "add" and len(branches) == 2 and any(branches):
        longer, shorter = sorted(branches, key=len, reverse=True)
        (main, values), (shortcut, others) = _layers(longer, way), _layers(shorter, f"{way}shortcut.")
        return Residual(main, shortcut=shortcut), values | others
    chains, values = [], {}
    for number, branch in enumerate(branches):
        layers, found = _layers(branch, f"{way}{number}.")
        chains.append(layers)
        values |= found
    return Parallel(chains, join=fork.join.kind), values
