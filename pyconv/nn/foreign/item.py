"""Item: a node of another library's file that makes a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..layer import Layer, Shape


@dataclass(eq=False)
class Item:
    """A node that makes a value: a layer, or something that tidy.py merges into a layer.

    Attributes
    ----------
    title : str
        The node in messages.
    inputs : tuple of Item or None
        The items whose values it takes; None is the network's input.
    kind : str
        "layer", "affine", "pads" (zeros), "border" (pads that are never the largest), "softmax", "add" or "concat".
    layer : Layer or None
    values : dict of str to ndarray
        Parameters and buffers of the layer in pyconv's order; for an affine, ``scale`` and ``shift``, with one number
        for each channel or feature.
    adds : bool
        Whether an affine has a shift, even if it is 0 so far: a trained bias.
    pads : tuple
        Top and bottom, left and right.
    shape : tuple of int
        The shape of one example after it, in pyconv's order.
    """

    title: str
    inputs: tuple[Item | None, ...]
    kind: str
    shape: Shape
    layer: Layer | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    adds: bool = False
    pads: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
