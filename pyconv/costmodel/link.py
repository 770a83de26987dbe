"""Messages between processes: who times them.

The cost model is below :mod:`pyconv.parallel` in the house, and only that may start processes; it lends its measurement
here when it is imported (``import pyconv`` imports it), so that :func:`pyconv.costmodel.calibrate` can call it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..errors import RunError


@dataclass(frozen=True)
class Messages:
    """Timed messages between two processes of this machine.

    Attributes
    ----------
    bytes : sequence of int
        Size of each message.
    seconds : sequence of float
        From the sender's start to the receiver having the bytes.
    slowdown : float
        Seconds of a training step while the other process trains too, over those while it does not; at least 1.
    """

    bytes: Sequence[int]
    seconds: Sequence[float]
    slowdown: float = 1.0


_timer: Callable[[], Messages] | None = None


def provide(timer: Callable[[], Messages]) -> None:
    """Lend `timer`, which times messages between two processes."""
    global _timer
    _timer = timer


def time_messages() -> Messages:
    """Time messages between two processes.

    Raises
    ------
    RunError
        If nobody has lent the measurement.
    """
    if _timer is None:
        raise RunError("messages between processes cannot be timed: import pyconv, not pyconv.costmodel alone")
    return _timer()
