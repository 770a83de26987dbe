"""Writes layers in a row as nodes of an ONNX graph, and branches as several rows whose results are joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pyconv.errors import InputError

from ..branches import Branches, Parallel, Residual
from ..layer import Layer, Shape, in_layer
from .graph import Graph
from .layers import WRITERS, Arrays

_BRANCHES = (Residual, Parallel)


def write_chain(graph: Graph, layers: Sequence[Layer], way: str, shape: Shape, arrays: Arrays) -> Shape:
    """Add the nodes of layers, which begin at the graph's newest result.

    Parameters
    ----------
    graph : Graph
    layers : sequence of Layer
    way : str
        The path in front of the layers' positions in the names of their parameters.
    shape : tuple of int
        Of one example before them.
    arrays : mapping of str to ndarray
        Parameters and buffers by name.

    Returns
    -------
    tuple of int
        Of one example after them.

    Raises
    ------
    InputError
        If a layer has no form in ONNX; the message names it.
    """
    for position, layer in enumerate(layers):
        kind, name = type(layer), f"{way}{position}"
        if kind in _BRANCHES:
            assert isinstance(layer, Branches)
            _branches(graph, layer, name, shape, arrays)
        elif kind in WRITERS:
            WRITERS[kind](graph, layer, name, shape, arrays)
        else:  # a subclass may compute something different from its parent
            known = ", ".join(each.__name__ for each in (*WRITERS, *_BRANCHES))
            error = InputError(f"{kind.__name__} has no form in ONNX; those that have: {known}")
            raise in_layer(name, kind.__name__, error)
        shape = layer.output_shape(shape)
    return shape


def _branches(graph: Graph, layer: Branches, name: str, shape: Shape, arrays: Arrays) -> None:
    start, before = graph.value, graph.pending
    ends = []
    for way, inner in layer.chains():
        graph.value, graph.pending = start, before
        write_chain(graph, inner, f"{name}.{way}", shape, arrays)
        ends.append((graph.value, graph.pending))
    beside = isinstance(layer, Parallel) and layer.join == "concat"
    orders = {pending for _, pending in ends}
    if len(orders) > 1 or (beside and orders != {None}):  # branches flattened in different orders: all get pyconv's
        ends = [_in_pyconvs_order(graph, value, pending, f"{name}.{k}.") for k, (value, pending) in enumerate(ends)]
    (graph.value, graph.pending), *rest = ends
    others = [value for value, _ in rest]
    if beside and others:
        graph.add("Concat", f"{name}.concat", *others, axis=1)
    elif not beside:
        for number, other in enumerate(others):
            graph.add("Add", f"{name}.add{number or ''}", other)


def _in_pyconvs_order(graph: Graph, value: str, pending: Shape | None, name: str) -> tuple[str, None]:
    """A value whose vectors are in NHWC order."""
    graph.value, graph.pending = value, pending
    reorder(graph, name)
    return graph.value, None


def reorder(graph: Graph, name: str) -> None:
    """Reorder vectors that were flattened in NCHW to NHWC order."""
    if graph.pending is None:
        return
    h, w, c = graph.pending
    places = np.arange(h * w * c).reshape(c, h, w).transpose(1, 2, 0).ravel()
    graph.add("Gather", f"{name}to_nhwc", graph.constant(f"{name}places", places.astype(np.int64)), axis=1)
    graph.pending = None
