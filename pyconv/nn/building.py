"""Makes the graph of steps that computes a network's layers; branches are laid out one after the other, then joined."""

from __future__ import annotations

from collections.abc import Sequence

from .layer import Layer, Shape, Step
from .plan import Graph, Node

#: Position and type of a layer, and of the layers that it is inside.
Titles = tuple[tuple[int | str, str], ...]


def graph_of(layers: Sequence[Layer], input_shape: Shape) -> Graph:
    """New steps that compute layers in a row, fused where possible, and the values between them.

    Parameters
    ----------
    layers : sequence of Layer
        Layers that fit together.
    input_shape : tuple of int
        Of one example.

    Returns
    -------
    Graph
    """
    builder = _Builder(input_shape)
    builder.chain(layers, 0, "", ())
    return Graph(tuple(builder.nodes), tuple(builder.shapes))


class _Builder:
    def __init__(self, input_shape: Shape) -> None:
        self.nodes: list[Node] = []
        self.shapes = [input_shape]

    def chain(self, layers: Sequence[Layer], source: int, way: str, outer: Titles) -> int:
        """Add steps for layers in a row, which read the value `source`; returns the number of their result.

        `way` is the path in front of inner layers' positions, such as ``"3.shortcut."``; `outer` are the layers around.
        """
        position, local = 0, way.partition(".")[2] if way else ""
        while position < len(layers):
            layer, shape = layers[position], self.shapes[source]
            index = f"{way}{position}" if way else position
            titles = (*outer, (f"{local}{position}" if way else position, type(layer).__name__))
            rest = layers[position + 1 :]
            chains = layer.chains()
            step: Step
            if chains:
                ends = [self.chain(inner, source, f"{index}.{name}", titles) for name, inner in chains]
                step, sources = layer.meeting(index, rest), tuple(ends)
            else:
                step, sources = layer.step(index, shape, rest), (source,)
            for fused in layers[position : position + step.layers]:
                shape = tuple(fused.output_shape(shape))
            position += step.layers
            self.shapes.append(shape)
            source = len(self.shapes) - 1
            self.nodes.append(Node(step, sources, source, titles))
        return source
