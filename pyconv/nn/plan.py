"""A network as a list of steps with named values, and the plan of the memory for a pass through it.

A :class:`Graph` says which values each step reads and makes. In a chain there is one value between two steps; branches
read one value several times. A :class:`Plan` gives every array of a pass its place in one block of memory, for a batch
size, and for training or inference. Two arrays share a place if no moment needs both. The moments are the steps of the
forward pass, the loss, and the steps of the backward pass. All this is decided once, not at every training step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyconv.backends import Backend
from pyconv.errors import InputError

from .layer import Shape, Step
from .run import Key

#: Arrays begin at multiples of this many bytes, a cache line.
ALIGNMENT = 64

#: The name of the memory for normalised examples.
EXAMPLES: Key = (-1, "x")

# How another gradient is added to a value's gradient, when several steps read the value.
FIRST, INTO_OLD, INTO_NEW, INTO_OWN = range(4)


@dataclass(frozen=True)
class Node:
    """A step, with the values that it reads and makes.

    Attributes
    ----------
    step : Step
    sources : tuple of int
        Numbers of the values that it reads; several if the step is a :class:`~pyconv.nn.layer.Join`.
    target : int
        Number of the value that it makes.
    titles : tuple of (int or str, str)
        For messages: position and type of its layer, after those of the layers that this one is inside.
    """

    step: Step
    sources: tuple[int, ...]
    target: int
    titles: tuple[tuple[int | str, str], ...] = ()


@dataclass(frozen=True)
class Graph:
    """Steps in an order in which they can run. Value 0 is the input; the last node's target is the result.

    Attributes
    ----------
    nodes : tuple of Node
    shapes : tuple of tuple of int
        Shape of one example, for each value.
    bindings : list of int
        One number: how often the steps have been bound to parameters; a slice of the graph has the same list.
    """

    nodes: tuple[Node, ...]
    shapes: tuple[Shape, ...]
    bindings: list[int] = field(default_factory=lambda: [0], compare=False, repr=False)

    def bind(self, arrays: Mapping[str, Any]) -> None:
        """Give the steps their parameters and buffers from `arrays`, by full name."""
        self.bindings[0] += 1
        for node in self.nodes:
            node.step.bind(arrays)

    @property
    def steps(self) -> list[Step]:
        """The steps, in order."""
        return [node.step for node in self.nodes]

    def slice(self, first: int, last: int) -> Graph:
        """The nodes from `first` to before `last`, as a graph of their own: a stage of a pipeline.

        Raises
        ------
        InputError
            If more than one value crosses an end, since branches cannot be cut.
        """
        nodes = self.nodes[first:last]
        if not nodes:
            raise InputError(f"steps {first} to {last} of {len(self.nodes)} are none")
        made = {node.target for node in nodes}
        read = {source for node in nodes for source in node.sources} - made
        later = {source for node in self.nodes[last:] for source in node.sources} & made
        if len(read) != 1 or later - {nodes[-1].target}:
            raise InputError(f"a network cannot be cut at steps {first} and {last}: branches cross there")
        numbers = {value: number for number, value in enumerate([*read, *(node.target for node in nodes)])}
        moved = [
            Node(node.step, tuple(numbers[s] for s in node.sources), numbers[node.target], node.titles)
            for node in nodes
        ]
        return Graph(tuple(moved), tuple(self.shapes[value] for value in numbers), self.bindings)


@dataclass(eq=False)
class Block:
    """Memory that is needed from one moment to another.

    Attributes
    ----------
    size : int
        Bytes; 0 for memory that does not belong to the plan.
    start, end : int
        The first and the last moment at which it is needed.
    foreign : bool
        Whether it belongs to the caller, and must not be overwritten.
    exact : bool
        Whether a backward pass will read its numbers.
    offset : int
        Where it begins, once :func:`lay_out` has placed it.
    """

    size: int
    start: int
    end: int
    foreign: bool = False
    exact: bool = False
    offset: int = 0

    def needed(self, moment: int) -> None:
        """Keep it at least until `moment`."""
        self.end = max(self.end, moment)


@dataclass(frozen=True)
class Forward:
    """One step of the forward pass; `owned`: whether it may overwrite its input."""

    node: Node
    owned: bool


@dataclass(frozen=True)
class Backward:
    """One step of the backward pass.

    Attributes
    ----------
    node : Node
    wanted : tuple of bool
        Which of the sources' gradients are needed.
    copied : bool
        Whether the step gets a copy of its gradient, because it overwrites it and another step reads it too.
    added : tuple of int
        How each source's gradient is combined with the one that is there already.
    """

    node: Node
    wanted: tuple[bool, ...]
    copied: bool
    added: tuple[int, ...]


@dataclass
class Plan:
    """The steps of a pass, and where each array lies in one block of memory.

    Attributes
    ----------
    forward, backward : list
    places : dict of (index, name) to (int, tuple of int, dtype)
        Offset in bytes, shape and dtype of each array.
    nbytes : int
        The size of the block.
    """

    forward: list[Forward] = field(default_factory=list)
    backward: list[Backward] = field(default_factory=list)
    places: dict[Key, tuple[int, Shape, np.dtype]] = field(default_factory=dict)
    nbytes: int = 0


def plan(
    graph: Graph, n: int, ops: Backend, dtype: np.dtype, *, training: bool, owned: bool, input_grad: bool = False
) -> Plan:
    """Plan the passes of a batch.

    Parameters
    ----------
    graph : Graph
    n : int
        Examples in the batch.
    ops : Backend
        The backend that will compute it.
    dtype : dtype
        The network's.
    training : bool
        Whether a backward pass follows.
    owned : bool
        Whether the input is in the plan's memory, under :data:`EXAMPLES`, and may be overwritten.
    input_grad : bool
        Whether the backward pass computes the input's gradient.

    Returns
    -------
    Plan
    """
    planner = _Planner(graph, n, ops, dtype, training, owned, input_grad)
    planner.forward()
    if training:
        planner.backward()
    return planner.finished()


class _Planner:
    """Follows the passes with blocks in the place of arrays, to find out when each is needed."""

    def __init__(
        self, graph: Graph, n: int, ops: Backend, dtype: np.dtype, training: bool, owned: bool, input_grad: bool
    ) -> None:
        self._graph, self._n, self._ops, self._dtype, self._training = graph, n, ops, dtype, training
        self._plan = Plan()
        self._blocks: dict[Key, tuple[Block, Shape, np.dtype]] = {}
        self._last = 2 * len(graph.nodes) + 2
        self._needs = {0: input_grad}  # by value, whether its gradient is needed
        for node in graph.nodes:
            self._needs[node.target] = node.step.trainable or any(self._needs[source] for source in node.sources)
        shape = graph.shapes[0]
        first = self._new(EXAMPLES, shape, 0, 0) if owned else Block(0, 0, 0, foreign=True)
        self._values: dict[int, tuple[Block, ...]] = {0: (first,)}

    def _new(self, key: Key, shape: Shape, start: int, end: int, dtype: np.dtype | None = None) -> Block:
        dtype = self._dtype if dtype is None else dtype
        block = Block(self._n * math.prod(shape) * dtype.itemsize, start, end)
        self._blocks[key] = block, (self._n, *shape), dtype
        return block

    def forward(self) -> None:
        readers = [source for node in self._graph.nodes for source in node.sources]
        left = {value: readers.count(value) for value in self._values | {n.target: () for n in self._graph.nodes}}
        for position, node in enumerate(self._graph.nodes):
            now, then = position + 1, self._last - position - 1
            step, kept = node.step, self._training and self._needs[node.target]
            sources = [block for source in node.sources for block in self._values[source]]
            for source in node.sources:
                left[source] -= 1
            for block in sources:
                block.needed(now)
            free = not any(count and set(self._values.get(value, ())) & set(sources) for value, count in left.items())
            may = step.over or (step.over_in_inference and not self._training)
            over = may and free and not any(block.foreign or block.exact for block in sources)
            shares = True if over else step.shares(self._training)
            made = [] if shares is False else sources
            if shares is not True:
                made = [*made, self._new((step.index, "y"), self._graph.shapes[node.target], now, now)]
            self._values[node.target] = tuple(made)
            for block in made:
                block.needed(now)
            if kept and step.keeps_input:
                _keep(sources, then, exact=True)
            if kept and step.keeps_output:
                _keep(made, then, exact=step.keeps_output == "values")
            for want in step.buffers(self._graph.shapes[node.sources[0]], self._training, self._ops):
                start, end = (then, then) if want.span == "backward" else (now, now)
                self._new(
                    (step.index, want.name), want.shape, start, then if want.span == "pass" and kept else end,
                    want.dtype,
                )  # fmt: skip
            self._plan.forward.append(Forward(node, over))
        for block in self._values[self._graph.nodes[-1].target]:
            block.needed(self._last if self._training else len(self._graph.nodes) + 1)  # the caller may read the result

    def backward(self) -> None:
        nodes = self._graph.nodes
        grads: dict[int, tuple[Block, ...]] = {nodes[-1].target: (Block(0, 0, 0),)}
        for position in range(len(nodes) - 1, -1, -1):
            node, now = nodes[position], self._last - position - 1
            if not self._needs[node.target]:
                continue
            step, given = node.step, grads.pop(node.target)
            for block in given:
                block.needed(now)
            wanted = tuple(self._needs[source] for source in node.sources)
            copied = step.grad_over and _shared(given, grads.values())
            if copied:
                given = (self._new((step.index, "dy"), self._graph.shapes[node.target], now, now),)
            added = []
            for place, source in enumerate(node.sources):
                if not wanted[place]:
                    added.append(FIRST)
                    continue
                made = () if step.grad_shares is False else given
                if step.grad_shares is not True:
                    key = (step.index, f"dx{place}" if place else "dx")
                    made = (*made, self._new(key, self._graph.shapes[source], now, now))
                added.append(self._met(node, place, now, made, grads))
            self._plan.backward.append(Backward(node, wanted, copied, tuple(added)))
        for block in grads.get(0, ()):
            block.needed(self._last)

    def _met(
        self, node: Node, place: int, now: int, made: tuple[Block, ...], grads: dict[int, tuple[Block, ...]]
    ) -> int:
        """How a gradient is combined with the one that its value has already."""
        source = node.sources[place]
        for block in made:
            block.needed(now)
        old = grads.pop(source, None)
        if old is None:
            grads[source] = made
            return FIRST
        for block in old:
            block.needed(now)
        others = grads.values()
        if not _shared(old, others):
            grads[source] = old
            return INTO_OLD
        if not _shared(made, others):
            grads[source] = made
            return INTO_NEW
        grads[source] = (self._new((node.step.index, f"sum{place}"), self._graph.shapes[source], now, now),)
        return INTO_OWN

    def finished(self) -> Plan:
        done = self._plan
        done.nbytes = lay_out(block for block, _, _ in self._blocks.values())
        done.places = {key: (block.offset, shape, dtype) for key, (block, shape, dtype) in self._blocks.items()}
        return done


def _keep(blocks: Iterable[Block], moment: int, *, exact: bool) -> None:
    for block in blocks:
        block.needed(moment)
        block.exact = block.exact or exact


def _shared(blocks: Sequence[Block], others: Iterable[tuple[Block, ...]]) -> bool:
    mine = set(blocks)
    return any(mine & set(other) for other in others)


def lay_out(blocks: Iterable[Block]) -> int:
    """Give every block an offset, the largest block first, so that no two blocks of one moment overlap.

    Returns
    -------
    int
        Bytes of the whole memory.

    References
    ----------
    Pisarchyk and Lee, "Efficient memory management for deep neural net inference" (2020): greedy by size.
    """
    placed: list[Block] = []
    total = 0
    for block in sorted((block for block in blocks if block.size), key=lambda block: -block.size):
        size, offset = _aligned(block.size), 0
        for other in placed:  # in the order of offsets
            if other.end < block.start or block.end < other.start:
                continue
            if offset + size <= other.offset:
                break
            offset = max(offset, other.offset + _aligned(other.size))
        block.offset = offset
        placed.append(block)
        placed.sort(key=lambda block: block.offset)
        total = max(total, offset + size)
    return total


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
