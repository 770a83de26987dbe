"""Meeting: how a function that all ranks call alike begins, in a cluster and in a single process."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from .session import Session
from .world import Message

REMEDY = "all ranks must give the same, but for the rows that they have"


class _Alone:
    """A world of one rank, where no launcher has started several."""

    rank, size = 0, 1

    def swap(self, sends: Sequence[Message], receives: Sequence[Message]) -> None:
        """There is nobody to exchange anything with."""


def world_of(ranks: Session | None) -> Any:
    """The world of a session; of one rank without a session."""
    return _Alone() if ranks is None else ranks.world


def together(ranks: Session | None) -> contextlib.AbstractContextManager[None]:
    """Within it, an error that ends one rank's work ends all ranks' work."""
    return contextlib.nullcontext() if ranks is None else ranks.together()
