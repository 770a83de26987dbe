"""Arranges the nodes of a network from another library's file as a chain with forks and joins."""

from __future__ import annotations

from dataclasses import dataclass

from pyconv.errors import CheckpointError

from .item import Item

#: How deeply forks may be nested.
DEEPEST = 32


@dataclass
class Fork:
    """Branches that begin at one value and end in a join.

    Attributes
    ----------
    join : Item
        "add" or "concat".
    branches : list
        For each branch, the chain of its items and forks; empty if the value itself is joined.
    """

    join: Item
    branches: list[list[Item | Fork]]


Chain = list[Item | Fork]


def chain_to(last: Item | None) -> Chain:
    """The items, in order, that compute the value of `last` from the network's input.

    Raises
    ------
    CheckpointError
        If branches share more than the value at which they begin.
    """
    order = _in_order(last)
    nearest = _dominators(order)
    seen: set[Item] = set()

    def between(start: Item | None, item: Item | None, depth: int) -> Chain:
        chain: Chain = []
        while item is not start:
            assert item is not None
            if item in seen or depth > DEEPEST:
                raise CheckpointError(
                    f"{item.title}: its value goes to several branches that do not meet again in one place; "
                    "only branches that meet again, also nested (as in ResNet, SqueezeNet, Inception), can be read"
                )
            seen.add(item)
            if len(item.inputs) == 1:
                chain.append(item)
                item = item.inputs[0]
                continue
            fork = nearest[item]
            chain.append(Fork(item, [between(fork, each, depth + 1) for each in item.inputs]))
            item = fork
        chain.reverse()
        return chain

    return between(None, last, 0)


def _in_order(last: Item | None) -> list[Item]:
    """The items that `last` needs, each after the items that it takes."""
    order: list[Item] = []
    done: set[Item] = set()
    waiting: list[tuple[Item | None, bool]] = [(last, False)]
    while waiting:
        item, ready = waiting.pop()
        if item is None or item in done:
            continue
        if ready:
            done.add(item)
            order.append(item)
            continue
        waiting.append((item, True))
        waiting.extend((each, False) for each in item.inputs)
    return order


def _dominators(order: list[Item]) -> dict[Item, Item | None]:
    """For each item, the nearest item (or None for the input) through which every path to it leads."""
    nearest: dict[Item, Item | None] = {}
    depth: dict[Item | None, int] = {None: 0}
    for item in order:
        found = item.inputs[0]
        for other in item.inputs[1:]:
            while found is not other:
                if depth[found] >= depth[other]:
                    assert found is not None
                    found = nearest[found]
                else:
                    assert other is not None
                    other = nearest[other]
        nearest[item], depth[item] = found, depth[found] + 1
    return nearest
