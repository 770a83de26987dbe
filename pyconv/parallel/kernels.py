"""Kernels: the methods of an update rule that change numbers, and what they declare about it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from .rules import Rule


class Kernel(NamedTuple):
    """What :func:`kernel` declares."""

    writes: tuple[str, ...]
    gradient: bool
    push: bool
    pull: bool
    racy: bool


def kernel(
    *,
    writes: tuple[str, ...] = (),
    gradient: bool = False,
    push: bool = False,
    pull: bool = False,
    racy: bool = False,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare a rule's method to be a kernel: it changes one :class:`Chunk` of the numbers.

    Parameters
    ----------
    writes : tuple of {"centre", "state", "replica", "replica_state"}
        What it changes in place. Leave out what is only overwritten with values that do not depend on the old ones:
        repeating it does no harm.
    gradient : bool
        It uses this lane's own gradient: once it has run, the lane's mini-batch is done.
    push : bool
        It brings a gradient to the centre: it gets a number in the order of pushes.
    pull : bool
        It brings the replica up to date with the centre.
    racy : bool
        Others may change the same numbers at the same time: a chunk that a death interrupts is then not repeated.

    Returns
    -------
    callable
        The decorator, which gives the method back.
    """

    def declare(method: Callable[..., None]) -> Callable[..., None]:
        method.kernel = Kernel(writes, gradient, push, pull, racy)  # type: ignore[attr-defined]
        return method

    return declare


def undo_vectors(rule: Rule, state: int) -> int:
    """How many vectors the greediest of the rule's kernels changes, with so many of optimizer state."""
    sizes = {"centre": 1, "replica": 1, "state": state, "replica_state": state}
    return max((sum(sizes[name] for name in each.kernel.writes) for each in kernels(rule)), default=0)


def kernels(rule: Rule) -> list[Any]:
    """The rule's kernels, in an order that all processes agree on: a transaction names its kernel by this number."""
    found = []
    for name in sorted(dir(type(rule))):
        if hasattr(getattr(type(rule), name), "kernel"):
            found.append(getattr(rule, name))
    return found
