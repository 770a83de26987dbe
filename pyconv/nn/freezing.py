"""Frozen layers: which ones a user means, and where the trained parameters are in the flat vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyconv.errors import InputError, unknown_name
from pyconv.values import integer, items, sequence

from .layer import Parameter, layer_of
from .plan import Graph

if TYPE_CHECKING:
    from .architecture import Architecture

#: All layers but the last one that has parameters.
BODY = "body"

#: The type of :func:`pyconv.fit`'s argument `freeze`.
Layers = int | str | Iterable[int | str]


def ways(layers: Any, architecture: Architecture) -> tuple[str, ...]:
    """The layers with parameters that a user means by `layers`, in the network's order.

    Parameters
    ----------
    layers : int, str, or iterable of them
        A position; the path to a layer inside another, such as ``"3.shortcut.0"``; a kind of layer, such as
        ``"BatchNorm"``; or ``"body"``. A layer that holds others stands for all of them.
    architecture : Architecture

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        If there is no such layer, none of them has parameters, or nothing is left to train.
    """
    all_ways = [(str(index), type(layer).__name__) for index, layer, _, _ in architecture.leaves()]
    trained = list(dict.fromkeys(map(layer_of, architecture.parameters)))
    single = isinstance(layers, (int, str, np.integer))
    asked = (layers,) if single else sequence(layers)
    if asked is None:
        asked = items(layers, "freeze", "layers' numbers or names")
    named: set[str] = set()
    for one in asked:
        named |= _named(one, all_ways, trained, len(architecture.layers))
    found = tuple(way for way in trained if way in named)
    if asked and not found:
        raise InputError("freeze names no layer that has parameters: leave it out, or name others")
    if found and len(found) == len(trained):
        raise InputError("freeze leaves nothing to train: leave out a layer that has parameters, such as the last")
    return found


def _named(one: Any, all_ways: list[tuple[str, str]], trained: list[str], count: int) -> set[str]:
    """The paths to the layers that one number or name stands for."""
    if not isinstance(one, str):
        one = str(integer(one, "a layer in freeze", minimum=0, maximum=count - 1))
    if one == BODY:
        return set(trained[:-1])
    tops = {way for way, kind in all_ways if one in (kind, way)} or {one}
    found = {way for way, _ in all_ways if any(way == top or way.startswith(f"{top}.") for top in tops)}
    if not found:
        kinds = dict.fromkeys(kind for _, kind in all_ways)
        raise unknown_name("layer in freeze", one, [BODY, *kinds, *(way for way, _ in all_ways)])
    return found


@dataclass(frozen=True)
class Spans:
    """Stretches of a flat vector.

    Attributes
    ----------
    size : int
        Numbers in the whole vector.
    spans : tuple of (int, int)
        Start and end of each, in order.
    """

    size: int
    spans: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, parameters: Mapping[str, Parameter], frozen: Collection[str]) -> Spans:
        """The spans of the `parameters` whose layer is not `frozen`.

        Parameters
        ----------
        parameters : mapping of str to Parameter
            A network's, in the order in which they are in the vector.
        frozen : collection of str
            Paths to layers.

        Returns
        -------
        Spans
        """
        spans: list[tuple[int, int]] = []
        start = 0
        for name, parameter in parameters.items():
            end = start + parameter.size
            if layer_of(name) not in frozen:
                if spans and spans[-1][1] == start:
                    spans[-1] = spans[-1][0], end
                else:
                    spans.append((start, end))
            start = end
        return cls(start, tuple(spans))

    @property
    def count(self) -> int:
        """How many numbers all spans have."""
        return sum(end - start for start, end in self.spans)

    @property
    def whole(self) -> bool:
        """Whether the spans are the whole vector."""
        return self.count == self.size

    @property
    def rest(self) -> Spans:
        """The spans of everything else."""
        edges = [0, *(edge for span in self.spans for edge in span), self.size]
        pairs = zip(edges[::2], edges[1::2], strict=True)
        return Spans(self.size, tuple(pair for pair in pairs if pair[0] < pair[1]))

    def gather(self, vector: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """The numbers of `vector` in these spans, one after the other.

        Parameters
        ----------
        vector : (size,) ndarray
        out : (count,) ndarray, optional
            The array for the result.

        Returns
        -------
        (count,) ndarray
        """
        if out is None:
            out = np.empty(self.count, vector.dtype)
        place = 0
        for start, end in self.spans:
            out[place : place + end - start] = vector[start:end]
            place += end - start
        return out

    def scatter(self, values: np.ndarray, vector: np.ndarray) -> None:
        """The reverse of :meth:`gather`: write `values` to these spans of `vector`.

        Parameters
        ----------
        values : (count,) ndarray
        vector : (size,) ndarray
            The rest of it does not change.
        """
        place = 0
        for start, end in self.spans:
            vector[start:end] = values[place : place + end - start]
            place += end - start


def freeze_steps(graph: Graph, frozen: Collection[str]) -> None:
    """Tell the steps of a network which of them are frozen, by the paths to their layers."""
    for node in graph.nodes:
        node.step.frozen = str(node.step.index) in frozen
