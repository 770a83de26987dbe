"""The decorator ``kernel``: it marks the methods of an update rule that change numbers, and declares what they do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

#: What a timeline calls a kernel.
Event = Literal["push", "pull", "update"]


class Kernel(NamedTuple):
    """The declaration that :func:`kernel` attaches to a method."""

    writes: tuple[str, ...]
    gradient: bool
    push: bool
    pull: bool
    racy: bool
    event: Event

    @property
    def changes_centre(self) -> bool:
        """Whether it changes the shared parameters in place."""
        return self.push or "centre" in self.writes

    @property
    def optimises(self) -> bool:
        """Whether the optimizer does a step in it: it uses the lane's gradient, or changes the optimizer's state."""
        return self.gradient or self.push or not {"state", "replica_state"}.isdisjoint(self.writes)


def kernel(
    *,
    writes: tuple[str, ...] = (),
    gradient: bool = False,
    push: bool = False,
    pull: bool = False,
    racy: bool = False,
    event: Event | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declare that a method of a rule is a kernel: it changes one :class:`Chunk` of the parameters.

    Parameters
    ----------
    writes : tuple of {"centre", "state", "replica", "replica_state"}
        What it changes in place. Leave out what it only overwrites with values that do not depend on the old ones: to
        repeat that does no harm.
    gradient : bool
        It uses this lane's own gradient; when it is complete, so is the lane's mini-batch.
    push : bool
        It brings a gradient to the centre, and gets a number in the order of pushes.
    pull : bool
        It copies the centre to the replica.
    racy : bool
        Others may change the same numbers at the same time. If a death interrupts a chunk, it is not repeated then.
    event : {"push", "pull", "update"}, optional
        Its name in a timeline (``--trace``); by default what `push` and `pull` say, or else "update".

    Returns
    -------
    callable
        The decorator; it returns the method itself.
    """

    shown: Event = event or ("push" if push else "pull" if pull else "update")

    def declare(method: Callable[..., None]) -> Callable[..., None]:
        method.kernel = Kernel(writes, gradient, push, pull, racy, shown)  # type: ignore[attr-defined]
        return method

    return declare


def undo_vectors(rule: object, state: int) -> int:
    """The largest number of vectors that one of the rule's kernels changes; the optimizer's state counts as `state`."""
    sizes = {"centre": 1, "replica": 1, "state": state, "replica_state": state}
    return max((sum(sizes[name] for name in each.kernel.writes) for each in kernels(rule)), default=0)


def kernels(rule: object) -> list[Any]:
    """The rule's kernels in an order that is the same in all processes: a transaction names its kernel by number."""
    kind: Any = type(rule)
    return [getattr(rule, name) for name in _names(kind)]


@functools.cache
def _names(kind: Any) -> list[str]:
    return [name for name in sorted(dir(kind)) if hasattr(getattr(kind, name), "kernel")]
